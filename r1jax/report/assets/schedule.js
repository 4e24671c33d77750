// The schedule as a picture: stages from left to right where there is room, else one below the other with rails.

// A name in at most two lines of the width of a node.
function wrapped(name, most = 15) {
  if (name.length <= most) return [name];
  const parts = name.split(/(?<=[_-])/);
  const lines = [""];
  for (const part of parts) {
    if (lines[lines.length - 1].length + part.length > most && lines[lines.length - 1]) lines.push("");
    lines[lines.length - 1] += part;
  }
  const clip = line => (line.length > most ? `${line.slice(0, most - 1)}…` : line);
  return lines.length > 2 ? [clip(lines[0]), clip(lines.slice(1).join(""))] : lines.map(clip);
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
    ? [
        svg(
          "text",
          { x: x + 12, y: y + height / 2 + 4 },
          lines[0].length > 24 ? `${lines[0].slice(0, 23)}…` : lines[0],
        ),
        svg(
          "text",
          { class: "small", x: x + width - 10, y: y + height / 2 + 4, "text-anchor": "end" },
          figureOf(stage),
        ),
      ]
    : [...lines, figureOf(stage)].map((line, i) =>
        svg(
          "text",
          {
            class: i === lines.length ? "small" : "",
            x: x + width / 2,
            y: y + height / 2 + 4 + (i - lines.length / 2) * 15,
            "text-anchor": "middle",
          },
          line,
        ),
      );
  return svg(
    "g",
    {
      class: `node ${kindOf(stage)}${stage.state === "finished" ? "" : " open"}`,
      role: "button",
      "aria-controls": "stage-panel",
      "aria-label": `${stage.name}: ${KIND_OF_CLASS[stage.class] || stage.class}, ${figureOf(stage)}`,
      "data-stage": stage.name,
    },
    svg("rect", { class: "ring", x: x - 4, y: y - 4, width: width + 8, height: height + 8, rx: 11 }),
    nodeShape(kindOf(stage), x, y, width, height),
    texts,
  );
}

const tip = (x, y, kind) => svg("path", { class: `tip ${kind}`, d: `M${x} ${y}l-7 -4v8z` });

function drawWide(stages, edges, width) {
  const { items, layers } = layered(stages.length, edges);
  const height = arrange(layers) + 8;
  const pitch = width / layers.length,
    node = Math.min(pitch - 24, 132),
    tall = 58;
  const X = item => item.layer * pitch + 4;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Schedule of stages" });
  for (const edge of edges) {
    // Several edges into a stage arrive a little apart.
    const into = edges.filter(other => other.to === edge.to);
    into.sort((a, b) => a.via[a.via.length - 2].y - b.via[b.via.length - 2].y);
    const aside = (into.indexOf(edge) - (into.length - 1) / 2) * 9;
    let line = "",
      x = X(edge.via[0]) + node,
      y = edge.via[0].y + 4;
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
  const line = 44,
    tall = 34,
    rails = [];
  for (const edge of edges) {
    const key = `${edge.from}/${edge.kind}`;
    const rail =
      rails.find(r => r.key === key) ||
      rails[rails.push({ key, from: edge.from, to: edge.to, kind: edge.kind, edges: [] }) - 1];
    rail.to = Math.max(rail.to, edge.to);
    rail.edges.push(edge);
  }
  rails.sort((a, b) => a.to - a.from - (b.to - b.from));
  const tracks = [];
  for (const rail of rails) {
    rail.track = tracks.findIndex(track => track.every(other => other.to <= rail.from || other.from >= rail.to));
    if (rail.track < 0) rail.track = tracks.push([]) - 1;
    tracks[rail.track].push(rail);
  }
  const gap = Math.min(11, (width * 0.3) / Math.max(tracks.length, 1)),
    left = 14 + tracks.length * gap;
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${stages.length * line}`,
    role: "group",
    "aria-label": "Schedule of stages",
  });
  const Y = i => i * line + line / 2;
  for (const rail of rails) {
    const x = left - 14 - rail.track * gap;
    for (const edge of rail.edges) {
      const [start, end] = [Y(edge.from) + 6, Y(edge.to) - 5 + 4 * ["policy", "data", "reward"].indexOf(edge.kind)];
      edge.parts = [
        svg("path", {
          class: `edge ${edge.kind}`,
          d: `M${left} ${start}H${x + 5}Q${x} ${start} ${x} ${start + 5}V${end - 5}Q${x} ${end} ${x + 5} ${end}H${left - 6}`,
        }),
        tip(left, end, edge.kind),
      ];
      drawing.append(...edge.parts);
    }
  }
  const nodes = stages.map((stage, i) => drawNode(stage, left, Y(i) - tall / 2, width - left - 6, tall, true));
  drawing.append(...nodes);
  return { drawing, nodes };
}

function drawSchedule(run, onChoose) {
  const { stages } = run,
    edges = edgesOf(stages),
    holder = at("graph");
  let chosen = null,
    drawnAt = 0,
    nodes = [];
  const light = () =>
    nodes.forEach((node, i) => {
      node.classList.toggle("chosen", i === chosen);
      node.setAttribute("aria-pressed", i === chosen);
      for (const edge of edges) {
        const near = chosen === null ? false : edge.from === chosen || edge.to === chosen;
        edge.parts.forEach(part => {
          part.classList.toggle("lit", near);
          part.classList.toggle("faded", chosen !== null && !near);
        });
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
    const made =
      width / depth >= 112 || (depth < 4 && width / depth >= 96)
        ? drawWide(stages, edges, Math.min(width, depth * 190))
        : drawNarrow(stages, edges, Math.min(width, 560));
    made.drawing.style.maxWidth = `${made.drawing.viewBox.baseVal.width}px`;
    nodes = made.nodes;
    nodes.forEach((node, i) => {
      node.addEventListener("click", () => choose(i));
      node.addEventListener("keydown", event => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          choose(i);
        }
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
  const sample = (kind, text) =>
    el(
      "span",
      null,
      svg(
        "svg",
        { viewBox: "0 0 32 12", "aria-hidden": "true" },
        svg("path", { class: `edge ${kind}`, d: "M1 6H24" }),
        tip(31, 6, kind),
      ),
      text,
    );
  return el(
    "div",
    { class: "key" },
    sample("policy", "starts from, or samples from"),
    sample("data", "learns from this data"),
    sample("reward", "is rewarded by this model"),
  );
}
