// Elements and numbers. Text of a model only ever becomes a text node.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["--blue", "--orange", "--teal", "--purple", "--pink", "--olive", "--cyan", "--red"];
const colour = i => `var(${COLOURS[i % COLOURS.length]})`;

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}
const el = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);
const at = id => document.getElementById(id);
const fill = (node, ...children) => {
  node.replaceChildren();
  return build(node, null, children);
};

// A small table: column titles, then rows whose first cell names them.
const grid = (titles, rows) =>
  el(
    "div",
    { class: "scroll" },
    el(
      "table",
      null,
      el("thead", null, el("tr", null, titles.map(title => el("th", { scope: "col" }, title)))),
      el("tbody", null, rows.map(([name, ...cells]) =>
        el("tr", null, el("th", { scope: "row" }, name), cells.map(cell => el("td", null, cell))),
      )),
    ),
  );

const isNumber = x => typeof x === "number" && Number.isFinite(x);
// A share; what is not quite 0 or 100% is not rounded to it.
function percent(x, digits = 1) {
  if (!isNumber(x)) return "–";
  const text = (100 * x).toFixed(digits);
  const reached = x !== 0 && x !== 1 && (Number(text) === 0 || Math.abs(Number(text)) === 100);
  if (!reached || digits < 1) return `${text}%`;
  return digits < 2 ? percent(x, 2) : Math.abs(x) < 0.5 ? "<0.01%" : ">99.99%";
}
const whole = x => (isNumber(x) ? Math.round(x).toLocaleString("en-US") : "–");

const rowsOf = n => (n === 1 ? "1 row" : `${whole(n)} rows`);

function short(x) {
  if (!isNumber(x)) return "–";
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size >= 10000) return whole(x);
  if (size < 0.001) return x.toExponential(1);
  return String(Number(x.toPrecision(3)));
}

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const bounds = (pair, digits) =>
  Array.isArray(pair) && pair.every(isNumber) ? `[${percent(pair[0], digits)}, ${percent(pair[1], digits)}]` : "";

// A list in which the arrow keys move the focus: buttons of tabs, nodes of the graph.
function roving(items, choose) {
  const focus = i => {
    const next = items[(i + items.length) % items.length];
    items.forEach(item => item.setAttribute("tabindex", item === next ? "0" : "-1"));
    next.focus();
    return next;
  };
  items.forEach((item, i) => {
    item.setAttribute("tabindex", i === 0 ? "0" : "-1");
    item.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const end = { Home: 0, End: items.length - 1 }[event.key];
      if (step === undefined && end === undefined) return;
      event.preventDefault();
      const next = focus(end === undefined ? i + step : end);
      if (choose) choose(items.indexOf(next));
    });
  });
}

let tabCount = 0;
// Tabs over panels: [[title, () => content]]. Everything is drawn at once, so that it can be printed and searched.
function tabs(label, entries) {
  const id = `tabs${tabCount++}`;
  const buttons = entries.map(([title], i) =>
    el("button", { role: "tab", id: `${id}-${i}`, type: "button", "aria-controls": `${id}-panel${i}` }, title),
  );
  const panels = entries.map(([title, content], i) =>
    el(
      "div",
      { role: "tabpanel", id: `${id}-panel${i}`, "aria-labelledby": `${id}-${i}` },
      el("h3", { class: "printed" }, title),
      content(),
    ),
  );
  const choose = chosen =>
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", i === chosen);
      panels[i].hidden = i !== chosen;
      button.setAttribute("tabindex", i === chosen ? "0" : "-1");
    });
  buttons.forEach((button, i) => button.addEventListener("click", () => choose(i)));
  roving(buttons, choose);
  choose(0);
  const titles = entries.map(([title]) => title);
  const show = title => {
    if (titles.includes(title)) choose(titles.indexOf(title));
  };
  return {
    node: el("div", null, el("div", { class: "tabs", role: "tablist", "aria-label": label }, buttons), panels),
    show,
  };
}
