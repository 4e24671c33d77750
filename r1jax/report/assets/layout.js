// Where the stages of the picture lie: layers from left to right, and heights that keep what belongs together close.

// Edges by position: weights from start_from, data and reward models from what the config names.
function edgesOf(stages) {
  const place = new Map(stages.map((stage, i) => [stage.name, i]));
  const found = [];
  stages.forEach((stage, to) => {
    if (place.has(stage.start_from)) found.push({ from: place.get(stage.start_from), to, kind: "policy" });
    for (const name of stage.takes) {
      if (!place.has(name)) continue;
      const kind = kindOf(stages[place.get(name)]);
      if (!found.some(edge => edge.from === place.get(name) && edge.to === to && edge.kind === kind))
        found.push({ from: place.get(name), to, kind });
    }
  });
  return found;
}

// Layers by the longest way from the start; an edge over several layers gets a stop in each, shared by its source.
function layered(count, edges) {
  const layer = Array(count).fill(0);
  for (let turn = 0; turn < count; turn++)
    for (const e of edges) if (e.from < e.to) layer[e.to] = Math.max(layer[e.to], layer[e.from] + 1);
  const items = layer.map((l, i) => ({ layer: l, stage: i, size: 74, before: [], after: [] }));
  const stops = new Map();
  const join = (a, b) => {
    if (!a.after.includes(b)) {
      a.after.push(b);
      b.before.push(a);
    }
  };
  for (const edge of edges) {
    edge.via = [items[edge.from]];
    for (let l = layer[edge.from] + 1; l < layer[edge.to]; l++) {
      const key = `${edge.from}/${edge.kind}/${l}`;
      if (!stops.has(key)) {
        stops.set(key, { layer: l, size: 20, before: [], after: [] });
        items.push(stops.get(key));
      }
      edge.via.push(stops.get(key));
    }
    edge.via.push(items[edge.to]);
    edge.via.slice(1).forEach((item, i) => join(edge.via[i], item));
  }
  const layers = [];
  for (const item of items) (layers[item.layer] ||= []).push(item);
  return { items, layers };
}

// Heights: every item near the middle of its neighbours, none on top of another.
function arrange(layers) {
  layers.forEach(column =>
    column.forEach((item, i) => {
      item.y = i * 74;
    }),
  );
  for (let turn = 0; turn < 40; turn++) {
    const forward = turn % 2 === 0;
    for (const column of forward ? layers : [...layers].reverse()) {
      for (const item of column) {
        const near = turn < 30 ? (forward ? item.before : item.after) : [...item.before, ...item.after];
        item.wish = near.length ? near.reduce((sum, other) => sum + other.y, 0) / near.length : item.y;
      }
      column.sort((a, b) => a.wish - b.wish);
      let floor = -Infinity;
      for (const item of column) {
        item.y = Math.max(item.wish, floor + item.size / 2);
        floor = item.y + item.size / 2;
      }
      const shift = column.reduce((sum, item) => sum + item.y - item.wish, 0) / column.length;
      for (const item of column) item.y -= shift;
    }
  }
  const top = Math.min(...layers.flat().map(item => item.y - item.size / 2));
  layers.flat().forEach(item => {
    item.y -= top;
  });
  return Math.max(...layers.flat().map(item => item.y + item.size / 2));
}
