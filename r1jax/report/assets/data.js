// Data stages (statistics like DeepSeek-R1 v2 Table 5, and what was left out) and reward models.

const title = key => key.replaceAll("_", " ");
const asText = value => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
const isRecord = value => value !== null && typeof value === "object" && !Array.isArray(value);

function dataCards(run) {
  const shown = run.stages.filter(stage => kindOf(stage) !== "policy");
  if (!shown.length) return el("p", { class: "note" }, "This run makes no data and trains no reward models.");
  return shown.map(stage =>
    el(
      "article",
      { class: "card", id: `data-${stage.name}`, tabindex: "-1" },
      el("h3", null, stage.name),
      el("p", { class: "note" }, sentenceOf(run, stage)),
      stage.state !== "finished" && el("p", { class: "note" }, `This stage is ${stage.state}.`),
      kindOf(stage) === "reward" ? rewardModel(stage) : statistics(stage),
      examples(stage),
    ),
  );
}

// Whatever statistics hold: numbers become facts, a record of numbers bars, a record of records a table.
function statistics(stage) {
  if (!isRecord(stage.statistics)) return stage.rows ? el("p", null, `${rowsOf(stage.rows)}; no statistics.`) : null;
  const facts = [],
    blocks = [];
  for (const [name, value] of Object.entries(stage.statistics)) {
    if (isNumber(value) || typeof value === "string") facts.push([name, value]);
    else if (isRecord(value)) {
      const inner = Object.values(value);
      if (inner.length && inner.every(isRecord))
        blocks.push([inner.some(row => Object.keys(row).length > 3), el("h4", null, title(name)), recordTable(value)]);
      else if (inner.length && inner.every(isNumber)) {
        const entries = Object.entries(value)
          .map(([key, count]) => [title(key), count])
          .sort((a, b) => b[1] - a[1]);
        blocks.push([
          false,
          el("h4", null, title(name)),
          bars(entries, x => (Number.isInteger(x) ? whole(x) : short(x))),
        ]);
      }
    }
  }
  if (stage.rows && !facts.some(([name]) => name === "rows")) facts.unshift(["rows", stage.rows]);
  return [
    el(
      "dl",
      { class: "counts" },
      facts.map(([name, value]) =>
        el(
          "div",
          null,
          el("dt", null, title(name)),
          el("dd", null, isNumber(value) ? (Number.isInteger(value) ? whole(value) : short(value)) : value),
        ),
      ),
    ),
    el(
      "div",
      { class: "sides" },
      blocks.map(([wide, ...block]) => el("div", { class: `side${wide ? " full" : ""}` }, block)),
    ),
  ];
}

function recordTable(value) {
  const columns = [...new Set(Object.values(value).flatMap(Object.keys))].filter(key =>
    Object.values(value).some(row => isNumber(row[key])),
  );
  const cell = x => (Number.isInteger(x) ? whole(x) : short(x));
  return grid(
    ["", ...columns.map(title)],
    Object.entries(value).map(([name, row]) => [name, ...columns.map(key => cell(row[key]))]),
  );
}

function rewardModel(stage) {
  const f = stage.figures;
  if (!isNumber(f.accuracy)) return null;
  return el(
    "div",
    { class: "sides" },
    el(
      "div",
      { class: "side" },
      el(
        "div",
        { class: "figure" },
        el("b", null, percent(f.accuracy)),
        el("span", null, "held-out accuracy"),
        el("span", null, bounds(f.accuracy_interval)),
        isRecord(f.rows) &&
          Object.entries(f.rows).map(([name, n]) => el("span", null, `${whole(n)} rows ${title(name)}`)),
        isNumber(f.prompts) && el("span", null, `on ${whole(f.prompts)} prompts`),
        isNumber(f.expected_calibration_error) &&
          el("span", null, `calibration error ${percent(f.expected_calibration_error)}`),
      ),
    ),
    calibration(f.calibration),
  );
}

// Predicted against observed shares: on the diagonal a probability means what it says.
function calibration(bins) {
  const known = (Array.isArray(bins) ? bins : []).filter(
    bin => isRecord(bin) && isNumber(bin.predicted) && isNumber(bin.observed),
  );
  if (!known.length) return el("p", { class: "note" }, "No calibration was recorded.");
  const size = 260,
    pad = 52,
    X = v => pad + v * (size - pad - 10),
    Y = v => 10 + (1 - v) * (size - pad + 4);
  const most = Math.max(...known.map(bin => bin.count || 1));
  return el(
    "figure",
    { class: "chart", style: { maxWidth: "20rem" } },
    el("figcaption", null, "Calibration"),
    svg(
      "svg",
      {
        viewBox: `0 0 ${size} ${size}`,
        role: "img",
        "aria-label": `Calibration: ${known.map(bin => `predicted ${percent(bin.predicted)}, observed ${percent(bin.observed)}, ${whole(bin.count)} cases`).join("; ")}`,
      },
      [0, 0.5, 1].map(v => [
        svg("line", { class: "gridline", x1: X(0), x2: X(1), y1: Y(v), y2: Y(v) }),
        svg("text", { class: "axis", x: pad - 5, y: Y(v) + 4, "text-anchor": "end" }, percent(v, 0)),
        svg("text", { class: "axis", x: X(v), y: size - 18, "text-anchor": v === 1 ? "end" : "middle" }, percent(v, 0)),
      ]),
      svg("line", { class: "cursor", x1: X(0), y1: Y(0), x2: X(1), y2: Y(1), "stroke-dasharray": "4 4" }),
      svg("path", {
        d: path(known.map(bin => [X(bin.predicted), Y(bin.observed)])),
        fill: "none",
        stroke: "var(--purple)",
        "stroke-width": 1.5,
      }),
      known.map(bin =>
        svg(
          "circle",
          {
            cx: X(bin.predicted),
            cy: Y(bin.observed),
            r: 2.5 + 4 * Math.sqrt((bin.count || 1) / most),
            fill: "var(--purple)",
            opacity: 0.8,
          },
          svg(
            "title",
            null,
            `predicted ${percent(bin.predicted)}, observed ${percent(bin.observed)}, ${whole(bin.count)} cases`,
          ),
        ),
      ),
      svg("text", { class: "axis", x: (X(0) + X(1)) / 2, y: size - 3, "text-anchor": "middle" }, "predicted"),
      svg(
        "text",
        { class: "axis", x: 12, y: Y(0.5), "text-anchor": "middle", transform: `rotate(-90 12 ${Y(0.5)})` },
        "observed",
      ),
    ),
  );
}

function examples(stage) {
  if (!stage.examples.length) return null;
  const asked = row =>
    el(
      "p",
      null,
      el("span", { class: "note" }, [row.domain, row.language].filter(Boolean).join(" · "), " "),
      el("span", { class: "text" }, asText(row.prompt ?? row.question ?? "")),
    );
  const answer = (text, head, state) =>
    el("div", { class: `response ${state || ""}` }, el("header", null, head), structured(asText(text)));
  return el(
    "details",
    null,
    el("summary", null, `${stage.examples.length} of its ${rowsOf(stage.rows)}`),
    stage.examples.map(row =>
      el(
        "div",
        { class: "example" },
        asked(row),
        "chosen" in row
          ? el(
              "div",
              { class: "sides" },
              answer(row.chosen, `chosen · ${whole(row.tokens_chosen)} tokens · by ${short(row.delta)}`, "right"),
              answer(row.rejected, `rejected · ${whole(row.tokens_rejected)} tokens`, "wrong"),
            )
          : "safe" in row
            ? answer(
                row.response,
                `${row.safe ? "safe" : "unsafe"} · ${whole(row.tokens)} tokens`,
                row.safe ? "right" : "wrong",
              )
            : answer(row.completion ?? "", `${whole(row.tokens)} tokens · from ${row.source ?? "?"}`),
      ),
    ),
  );
}
