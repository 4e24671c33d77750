// The schedule as a picture: stages from left to right where there is room, else one below the other with rails.

const kindOf = stage => stage.makes === "policy" ? "policy" : stage.makes === "reward model" ? "reward" : "data";
const PAPER = { RL: "reinforcement learning", SFT: "supervised fine-tuning", Pretrain: "pretraining", Rejection: "rejection sampling",
  Preferences: "preference data", RewardModel: "reward model" };

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

function figureOf(stage) {
  const f = stage.figures;
  if (stage.state === "not begun") return "not begun";
  if (stage.state === "unfinished") return stage.updates ? `at ${whole(stage.updates)}${stage.steps ? ` of ${whole(stage.steps)}` : ""}` : "unfinished";
  if (isNumber(f["pass@1"])) return percent(f["pass@1"]);
  if (isNumber(f.accuracy)) return `acc. ${percent(f.accuracy, 0)}`;
  return stage.rows ? rowsOf(stage.rows) : "finished";
}

// A name in at most two lines of the width of a node.
function wrapped(name, most = 15) {
  if (name.length <= most) return [name];
  const parts = name.split(/(?<=[_-])/);
  const lines = [""];
  for (const part of parts) {
    if (lines[lines.length - 1].length + part.length > most && lines[lines.length - 1]) lines.push("");
    lines[lines.length - 1] += part;
  }
  const clip = line => line.length > most ? `${line.slice(0, most - 1)}…` : line;
  return lines.length > 2 ? [clip(lines[0]), clip(lines.slice(1).join(""))] : lines.map(clip);
}

// Layers by the longest way from the start; an edge over several layers gets a stop in each, shared by its source.
function layered(count, edges) {
  const layer = Array(count).fill(0);
  for (let turn = 0; turn < count; turn++)
    for (const e of edges) if (e.from < e.to) layer[e.to] = Math.max(layer[e.to], layer[e.from] + 1);
  const items = layer.map((l, i) => ({ layer: l, stage: i, size: 74, before: [], after: [] }));
  const stops = new Map();
  const join = (a, b) => { if (!a.after.includes(b)) { a.after.push(b); b.before.push(a); } };
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
  layers.forEach(column => column.forEach((item, i) => { item.y = i * 74; }));
  for (let turn = 0; turn < 40; turn++) {
    const forward = turn % 2 === 0;
    for (const column of forward ? layers : [...layers].reverse()) {
      for (const item of column) {
        const near = turn < 30 ? (forward ? item.before : item.after) : [...item.before, ...item.after];
        item.wish = near.length ? near.reduce((sum, other) => sum + other.y, 0) / near.length : item.y;
      }
      column.sort((a, b) => a.wish - b.wish);
      let floor = -Infinity;
      for (const item of column) { item.y = Math.max(item.wish, floor + item.size / 2); floor = item.y + item.size / 2; }
      const shift = column.reduce((sum, item) => sum + item.y - item.wish, 0) / column.length;
      for (const item of column) item.y -= shift;
    }
  }
  const top = Math.min(...layers.flat().map(item => item.y - item.size / 2));
  layers.flat().forEach(item => { item.y -= top; });
  return Math.max(...layers.flat().map(item => item.y + item.size / 2));
}

function nodeShape(kind, x, y, width, height) {
  if (kind === "data") {
    const fold = 10;
    return svg("path", { class: "shape", d: `M${x} ${y}h${width - fold}l${fold} ${fold}v${height - fold}h${-width}z` });
  }
  const round = kind === "reward" ? height / 2 : 8;
  return svg("rect", { class: "shape", x, y, width, height, rx: Math.min(round, 22) });
}

function drawNode(stage, x, y, width, height, oneLine) {
  const lines = oneLine ? [stage.name] : wrapped(stage.name, Math.floor((width - 8) / 6.4));
  const texts = oneLine
    ? [svg("text", { x: x + 12, y: y + height / 2 + 4 }, lines[0].length > 24 ? `${lines[0].slice(0, 23)}…` : lines[0]),
       svg("text", { class: "small", x: x + width - 10, y: y + height / 2 + 4, "text-anchor": "end" }, figureOf(stage))]
    : [...lines, figureOf(stage)].map((line, i) => svg("text", { class: i === lines.length ? "small" : "", x: x + width / 2,
        y: y + height / 2 + 4 + (i - lines.length / 2) * 15, "text-anchor": "middle" }, line));
  return svg("g", { class: `node ${kindOf(stage)}${stage.state === "finished" ? "" : " open"}`, role: "button",
    "aria-controls": "stage-panel", "aria-label": `${stage.name}: ${PAPER[stage.class] || stage.class}, ${figureOf(stage)}`, "data-stage": stage.name },
  svg("rect", { class: "ring", x: x - 4, y: y - 4, width: width + 8, height: height + 8, rx: 11 }),
  nodeShape(kindOf(stage), x, y, width, height), texts);
}

const tip = (x, y, kind) => svg("path", { class: `tip ${kind}`, d: `M${x} ${y}l-7 -4v8z` });

function drawWide(stages, edges, width) {
  const { items, layers } = layered(stages.length, edges);
  const height = arrange(layers) + 8;
  const pitch = width / layers.length, node = Math.min(pitch - 24, 132), tall = 58;
  const X = item => item.layer * pitch + 4;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Schedule of stages" });
  for (const edge of edges) {
    // Several edges into a stage arrive a little apart.
    const into = edges.filter(other => other.to === edge.to);
    into.sort((a, b) => a.via[a.via.length - 2].y - b.via[b.via.length - 2].y);
    const aside = (into.indexOf(edge) - (into.length - 1) / 2) * 9;
    let line = "", x = X(edge.via[0]) + node, y = edge.via[0].y + 4;
    edge.via.slice(1).forEach((item, i) => {
      const end = i === edge.via.length - 2;
      const [toX, toY] = [X(item) - (end ? 7 : 0), item.y + 4 + (end ? aside : 0)];
      const half = (toX - x) / 2;
      line += `${line ? "" : `M${x} ${y}`}C${x + half} ${y} ${toX - half} ${toY} ${toX} ${toY}`;
      if (!end) line += `H${toX + node}`;
      [x, y] = end ? [toX, toY] : [toX + node, toY];
    });
    edge.parts = [svg("path", { class: `edge ${edge.kind}`, d: line }), tip(x + 7, y, edge.kind)];
    drawing.append(...edge.parts);
  }
  const nodes = stages.map((stage, i) => drawNode(stage, X(items[i]), items[i].y + 4 - tall / 2, node, tall, false));
  drawing.append(...nodes);
  return { drawing, nodes };
}

// One stage per line; every source has a rail on the left, from its line to the last that takes from it.
function drawNarrow(stages, edges, width) {
  const line = 44, tall = 34, rails = [];
  for (const edge of edges) {
    const key = `${edge.from}/${edge.kind}`;
    const rail = rails.find(r => r.key === key) || rails[rails.push({ key, from: edge.from, to: edge.to, kind: edge.kind, edges: [] }) - 1];
    rail.to = Math.max(rail.to, edge.to);
    rail.edges.push(edge);
  }
  rails.sort((a, b) => (a.to - a.from) - (b.to - b.from));
  const tracks = [];
  for (const rail of rails) {
    rail.track = tracks.findIndex(track => track.every(other => other.to <= rail.from || other.from >= rail.to));
    if (rail.track < 0) rail.track = tracks.push([]) - 1;
    tracks[rail.track].push(rail);
  }
  const gap = Math.min(11, width * 0.3 / Math.max(tracks.length, 1)), left = 14 + tracks.length * gap;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${stages.length * line}`, role: "group", "aria-label": "Schedule of stages" });
  const Y = i => i * line + line / 2;
  for (const rail of rails) {
    const x = left - 14 - rail.track * gap;
    for (const edge of rail.edges) {
      const [start, end] = [Y(edge.from) + 6, Y(edge.to) - 5 + 4 * ["policy", "data", "reward"].indexOf(edge.kind)];
      edge.parts = [svg("path", { class: `edge ${edge.kind}`, d: `M${left} ${start}H${x + 5}Q${x} ${start} ${x} ${start + 5}V${end - 5}Q${x} ${end} ${x + 5} ${end}H${left - 6}` }),
        tip(left, end, edge.kind)];
      drawing.append(...edge.parts);
    }
  }
  const nodes = stages.map((stage, i) => drawNode(stage, left, Y(i) - tall / 2, width - left - 6, tall, true));
  drawing.append(...nodes);
  return { drawing, nodes };
}

function drawSchedule(run, onChoose) {
  const { stages } = run, edges = edgesOf(stages), holder = at("graph");
  let chosen = null, drawnAt = 0, nodes = [];
  const light = () => nodes.forEach((node, i) => {
    node.classList.toggle("chosen", i === chosen);
    node.setAttribute("aria-pressed", i === chosen);
    for (const edge of edges) {
      const near = chosen === null ? false : edge.from === chosen || edge.to === chosen;
      edge.parts.forEach(part => { part.classList.toggle("lit", near); part.classList.toggle("faded", chosen !== null && !near); });
    }
  });
  const choose = i => {
    chosen = i;
    light();
    onChoose(stages[i]);
  };
  const draw = () => {
    const width = Math.max(300, Math.floor(holder.clientWidth));
    if (Math.abs(width - drawnAt) < 2) return;
    drawnAt = width;
    const depth = layered(stages.length, edges).layers.length;
    const made = width / depth >= 112 || depth < 4 && width / depth >= 96 ? drawWide(stages, edges, Math.min(width, depth * 190)) : drawNarrow(stages, edges, Math.min(width, 560));
    made.drawing.style.maxWidth = `${made.drawing.viewBox.baseVal.width}px`;
    nodes = made.nodes;
    nodes.forEach((node, i) => {
      node.addEventListener("click", () => choose(i));
      node.addEventListener("keydown", event => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(i); }
      });
    });
    roving(nodes);
    fill(holder, made.drawing, key());
    light();
  };
  draw();
  new ResizeObserver(draw).observe(holder);
  return { choose: name => choose(stages.findIndex(stage => stage.name === name)) };
}

function key() {
  const sample = (kind, text) => el("span", null, svg("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" },
    svg("path", { class: `edge ${kind}`, d: "M1 6H24" }), tip(31, 6, kind)), text);
  return el("div", { class: "key" }, sample("policy", "starts from, or samples from"), sample("data", "learns from this data"),
    sample("reward", "is rewarded by this model"));
}

// ---- what a stage was made from

function stagePanel(run, stage, go) {
  const f = stage.figures, lineage = f.lineage || {};
  const hash = value => value ? el("span", { class: "mono" }, value) : el("span", { class: "note" }, "not recorded");
  const made = stage.origins.map(origin => {
    const name = origin.stage || origin.file || origin.path || origin.source || "?";
    const digest = origin.params_sha256 || origin.data_sha256 || origin.sha256;
    const target = run.stages.find(other => other.name === origin.stage);
    return [el("dt", null, target ? el("button", { class: "plain", type: "button", onclick: () => go.stage(name) }, name) : name),
      el("dd", null, isNumber(origin.rows) && `${rowsOf(origin.rows)} · `, hash(digest))];
  });
  const pair = (name, value) => value === null || value === undefined || value === "" ? null : [el("dt", null, name), el("dd", null, value)];
  return [
    el("h3", null, stage.name),
    el("p", null, sentenceOf(run, stage)),
    el("div", { class: "wide" }, el("div", null, el("h4", null, "What it is"), el("dl", { class: "pairs" },
      pair("state", stage.state === "finished" ? `finished in ${duration(f.seconds)}${isNumber(f.train_seconds) ? `, ${duration(f.train_seconds)} of it training` : ""}` : figureOf(stage)),
      f.params_sha256 && pair("parameters", hash(f.params_sha256)),
      f.data_sha256 && pair("data", hash(f.data_sha256)),
      pair("code", lineage.code), pair("seed", lineage.seed),
      lineage.stage_sha256 && pair("config of the stage", hash(lineage.stage_sha256)))),
    made.length > 0 && el("div", null, el("h4", null, "Made from"), el("dl", { class: "pairs" }, made)),
    el("div", null, el("h4", null, "Settings"), el("dl", { class: "pairs" }, stage.settings.map(([name, value]) => pair(name, isNumber(value) ? short(value) : value)),
      stage.template && pair("template", el("span", { class: "mono" }, stage.template))))),
    el("div", { class: "row", style: { marginTop: ".7rem" } },
      Object.keys(stage.metrics).length > 1 && el("button", { type: "button", onclick: () => go.training(stage.name) }, "Its training"),
      run.samples.stages.includes(stage.name) && el("button", { type: "button", onclick: () => go.samples(stage.name) }, "Its answers"),
      kindOf(stage) !== "policy" && el("button", { type: "button", onclick: () => go.data(stage.name) }, "Its figures")),
  ];
}

function sentenceOf(run, stage) {
  const kinds = names => names.map(name => run.stages.find(other => other.name === name)).filter(Boolean);
  const data = kinds(stage.takes).filter(other => kindOf(other) === "data").map(other => other.name);
  const judges = kinds(stage.takes).filter(other => kindOf(other) === "reward").map(other => other.name);
  const asks = stage.class === "Rejection" || stage.class === "Preferences";
  const origin = stage.start_from ? `${asks ? "asks" : "starts from"} ${stage.start_from}` : "starts from random parameters";
  const parts = [origin, data.length && `learns from ${data.join(" and ")}`, judges.length && `is rewarded by ${judges.join(" and ")}`];
  const text = `${PAPER[stage.class] || stage.class}: ${parts.filter(Boolean).join(", ")}.`;
  return text[0].toUpperCase() + text.slice(1);
}
