// Line charts over updates. The legend tells the values at the cursor: pointer, touch or arrow keys move it.

const WIDTH = 380,
  HEIGHT = 210,
  LEFT = 46,
  RIGHT = 10,
  TOP = 8,
  BOTTOM = 32;

function ticks(low, high, count = 4) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step)
    found.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return found;
}

// Decimals that tell ticks of a percentage apart.
const tickDigits = values =>
  values.length < 2 ? 0 : Math.max(0, Math.ceil(-Math.log10((values[1] - values[0]) * 100) - 1e-9));

function smooth(values, reach) {
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).filter(isNumber);
    return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
  });
}

// A path through the points that are there; a gap of one or two updates (rows without the number) is bridged.
const path = points =>
  points
    .filter(([, y]) => isNumber(y))
    .map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`)
    .join("");

// series: [{name, x, y, low, high, dash, noisy, dots, colour}]; options: format, min, max, limit, xLabel, note
function lineChart(title, series, options = {}) {
  series = series.filter(s => s.y && s.y.some(isNumber)).map((s, i) => ({ colour: colour(i), ...s }));
  if (!series.length) return null;
  const format = options.format || short;
  const xs = [...new Set(series.flatMap(s => s.x.filter((_, i) => isNumber(s.y[i]))))].sort((a, b) => a - b);
  const values = series.flatMap(s => [...s.y, ...(s.low || []), ...(s.high || [])]).filter(isNumber);
  let low = options.min ?? Math.min(...values),
    high = options.max ?? Math.max(...values);
  if (options.limit && options.limit.value <= high + 2 * (high - low || 1)) {
    low = Math.min(low, options.limit.value);
    high = Math.max(high, options.limit.value * 1.05);
  }
  if (high - low < 1e-12) high = low + (Math.abs(low) || 1);
  const yTicks = ticks(low, high),
    digits = tickDigits(yTicks);
  if (options.max === undefined) high = Math.max(high, high + (high - low) * 0.04);
  const [first, last] = [xs[0], xs[xs.length - 1]];
  const X = x => LEFT + (last > first ? (x - first) / (last - first) : 0.5) * (WIDTH - LEFT - RIGHT);
  const Y = y => TOP + (1 - (y - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);

  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "slider",
    tabindex: "0",
    "aria-label": title,
    "aria-valuemin": first,
    "aria-valuemax": last,
    "aria-orientation": "horizontal",
  });
  yTicks.forEach(v =>
    drawing.append(
      svg("line", { class: "gridline", x1: LEFT, x2: WIDTH - RIGHT, y1: Y(v), y2: Y(v) }),
      svg("text", { class: "axis", x: LEFT - 5, y: Y(v) + 4, "text-anchor": "end" }, format(v, digits)),
    ),
  );
  ticks(first, last, 4)
    .filter(v => Number.isInteger(v))
    .forEach(v =>
      drawing.append(svg("text", { class: "axis", x: X(v), y: HEIGHT - 17, "text-anchor": "middle" }, whole(v))),
    );
  drawing.append(
    svg(
      "text",
      { class: "axis", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "text-anchor": "middle" },
      options.xLabel || "updates",
    ),
  );
  if (options.limit && options.limit.value <= high && options.limit.value >= low)
    drawing.append(
      svg("line", {
        class: "limit",
        x1: LEFT,
        x2: WIDTH - RIGHT,
        y1: Y(options.limit.value),
        y2: Y(options.limit.value),
      }),
    );
  for (const s of series) {
    if (s.low) {
      const there = s.x.map((x, i) => [x, s.low[i], s.high[i]]).filter(p => isNumber(p[1]) && isNumber(p[2]));
      const line = [...there.map(p => [p[0], p[2]]), ...there.reverse().map(p => [p[0], p[1]])];
      drawing.append(svg("path", { d: path(line.map(([x, y]) => [X(x), Y(y)])) + "Z", fill: s.colour, opacity: 0.16 }));
    }
    const draw = (y, more) =>
      drawing.append(
        svg("path", {
          d: path(s.x.map((x, i) => [X(x), isNumber(y[i]) ? Y(y[i]) : null])),
          fill: "none",
          stroke: s.colour,
          "stroke-linejoin": "round",
          ...more,
        }),
      );
    if (s.noisy && s.y.length > 20) draw(s.y, { "stroke-width": 1, opacity: 0.35 });
    draw(s.noisy && s.y.length > 20 ? smooth(s.y, Math.ceil(s.y.length / 20)) : s.y, {
      "stroke-width": 2,
      "stroke-dasharray": s.dash ? "6 4" : null,
    });
    if (s.dots || xs.length === 1)
      s.x.forEach(
        (x, i) =>
          isNumber(s.y[i]) && drawing.append(svg("circle", { cx: X(x), cy: Y(s.y[i]), r: 2.6, fill: s.colour })),
      );
  }
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  drawing.append(cursor);
  const shown = series.map(s => el("b"));
  const where = el("span");
  const legend = el(
    "div",
    { class: "legend" },
    where,
    series.map((s, i) =>
      el(
        "span",
        null,
        el("i", { class: s.dash ? "dash" : "", style: { borderColor: s.colour } }),
        `${s.name} `,
        shown[i],
      ),
    ),
    options.limit &&
      el(
        "span",
        null,
        el("i", { class: "dash", style: { borderColor: "var(--red)" } }),
        `alarm ${options.limit.below ? "below" : "above"} ${format(options.limit.value)}`,
      ),
  );
  let position = xs.length - 1;
  const move = (to, visible) => {
    position = Math.max(0, Math.min(xs.length - 1, to));
    const x = xs[position];
    build(cursor, { x1: X(x), x2: X(x), visibility: visible ? "visible" : "hidden" }, []);
    const parts = series.map((s, i) => {
      const text = valueAt(s, x, format);
      shown[i].textContent = text;
      return `${s.name} ${text}`;
    });
    where.textContent = visible ? `at ${whole(x)}:` : "";
    drawing.setAttribute("aria-valuenow", x);
    drawing.setAttribute("aria-valuetext", `${options.xLabel || "updates"} ${whole(x)}: ${parts.join(", ")}`);
  };
  const follow = event => {
    const box = drawing.getBoundingClientRect();
    const x =
      first + ((((event.clientX - box.left) * WIDTH) / box.width - LEFT) / (WIDTH - LEFT - RIGHT)) * (last - first);
    move(
      xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0),
      true,
    );
  };
  drawing.addEventListener("pointermove", follow);
  drawing.addEventListener("pointerdown", follow);
  drawing.addEventListener("pointerleave", () => move(xs.length - 1, false));
  drawing.addEventListener("blur", () => move(xs.length - 1, false));
  drawing.addEventListener("keydown", event => {
    const step = {
      ArrowRight: 1,
      ArrowUp: 1,
      ArrowLeft: -1,
      ArrowDown: -1,
      PageUp: 10,
      PageDown: -10,
      Home: -1e9,
      End: 1e9,
    }[event.key];
    if (step) {
      event.preventDefault();
      move(position + step, true);
    }
  });
  move(xs.length - 1, false);
  return el(
    "figure",
    { class: "chart card" },
    el("figcaption", null, title),
    legend,
    drawing,
    options.note && el("p", { class: "note" }, options.note),
  );
}

// The value at x, or the last one before it where a series has none there.
function valueAt(series, x, format) {
  let found = -1;
  series.x.forEach((v, i) => {
    if (v <= x && isNumber(series.y[i])) found = i;
  });
  if (found < 0) return "–";
  const band =
    series.low && isNumber(series.low[found]) ? ` [${format(series.low[found])}, ${format(series.high[found])}]` : "";
  return format(series.y[found]) + band;
}

// Horizontal bars: [[name, value]].
function bars(entries, format = whole) {
  const most = Math.max(...entries.map(([, value]) => value), 1e-12);
  return el(
    "div",
    { class: "bars" },
    entries.map(([name, value]) => [
      el("span", null, name),
      el("span", { class: "bar" }, el("i", { style: { width: `${Math.max(0, (100 * value) / most)}%` } })),
      el("span", null, format(value)),
    ]),
  );
}

// One line per stage: the score as a dot with its interval. rows: [{name, score, interval, majority, best}]
function dotPlot(rows, format, width = 620) {
  const line = 22,
    left = width < 500 ? 132 : 150,
    right = 56,
    letters = Math.floor((left - 8) / 6.3),
    height = rows.length * line + 22;
  const all = rows.flatMap(r => [r.score, r.majority, ...(r.interval || [])]).filter(isNumber);
  let low = Math.min(...all),
    high = Math.max(...all);
  const pad = (high - low) * 0.05 || 0.05;
  [low, high] = [low - pad, high + pad];
  const X = v => left + ((v - low) / (high - low)) * (width - left - right);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": rows.map(r => `${r.name} ${format(r.score)} ${bounds(r.interval)}`).join("; "),
  });
  const marks = ticks(low, high, width / 130),
    digits = tickDigits(marks);
  marks
    .filter(v => v >= low && v <= high)
    .forEach(v =>
      drawing.append(
        svg("line", { class: "gridline", x1: X(v), x2: X(v), y1: 0, y2: height - 20 }),
        svg("text", { class: "axis", x: X(v), y: height - 5, "text-anchor": "middle" }, format(v, digits)),
      ),
    );
  rows.forEach((r, i) => {
    const y = i * line + 12;
    drawing.append(
      svg(
        "text",
        { x: left - 8, y: y + 4, "text-anchor": "end" },
        r.name.length > letters ? `${r.name.slice(0, letters - 1)}…` : r.name,
      ),
    );
    if (r.interval && r.interval.every(isNumber))
      drawing.append(
        svg("line", {
          x1: X(r.interval[0]),
          x2: X(r.interval[1]),
          y1: y,
          y2: y,
          stroke: "var(--blue)",
          "stroke-width": 3,
          opacity: 0.4,
          "stroke-linecap": "round",
        }),
      );
    if (isNumber(r.majority))
      drawing.append(
        svg("rect", {
          x: X(r.majority) - 3.5,
          y: y - 3.5,
          width: 7,
          height: 7,
          fill: "none",
          stroke: "var(--orange)",
          "stroke-width": 1.6,
        }),
      );
    if (isNumber(r.score))
      drawing.append(
        svg("circle", { cx: X(r.score), cy: y, r: r.best ? 5.5 : 4, fill: r.best ? "var(--teal)" : "var(--blue)" }),
        svg("text", { x: width - right + 8, y: y + 4 }, format(r.score)),
      );
  });
  return el("div", { class: "dots" }, drawing);
}
