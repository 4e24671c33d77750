// The stage table: a row per suite, a column per policy (DeepSeek-R1 v2 Table 3).

const better = { more: (a, b) => a > b, less: (a, b) => a < b };

// Rows: {name, title, cells: {stage: {score, interval, majority, tokens, problems, samples}}, format, sense}
function tableRows(policies) {
  const groups = [];
  const collect = (title, names, cellOf, more = {}) => {
    const rows = names
      .map(name => {
        const cells = policies.map(stage => cellOf(stage, name));
        return { name, cells, format: percent, sense: "more", ...more };
      })
      .filter(row => row.cells.some(cell => cell && isNumber(cell.score)));
    if (rows.length) groups.push({ title, rows });
  };
  const keys = pick => [...new Set(policies.flatMap(stage => Object.keys(pick(stage.figures) || {})))];
  const suites = keys(f => f.suites);
  const overall = name => stage => ({
    score: stage.figures[name],
    interval: name === "pass@1" ? stage.figures["pass@1_interval"] : null,
  });
  const votes = keys(f => f).filter(name => /^(majority|pass)@\d+$/.test(name));
  for (const name of ["pass@1", ...votes.filter(name => name !== "pass@1").sort()])
    collect("Held-out problems that need reasoning", [name], overall(name));
  collect("Suites", suites, (stage, name) => (stage.figures.suites || {})[name]);
  const part = field => (stage, name) => {
    const entry = (stage.figures[field] || {})[name];
    return (
      entry && {
        score: entry["pass@1"],
        interval: entry["pass@1_interval"],
        tokens: entry.response_length,
        problems: entry.problems,
        samples: entry.samples,
        majority: majorityOf(entry),
      }
    );
  };
  collect(
    "Benchmarks",
    keys(f => f.benchmarks),
    part("benchmarks"),
  );
  if (!suites.length)
    collect(
      "Domains",
      keys(f => f.per_domain),
      part("per_domain"),
    );
  for (const [title, field] of [
    ["Levels", "per_level"],
    ["Languages", "per_language"],
  ])
    if (keys(f => f[field]).length > 1)
      collect(
        title,
        keys(f => f[field]),
        part(field),
      ); // one alone is all problems again
  const figure = (key, title, format, sense) =>
    collect("How it answers", [title], stage => ({ score: stage.figures[key] }), { format, sense });
  figure("response_length", "length, tokens", x => (isNumber(x) ? x.toFixed(1) : "–"), "");
  figure("reflection_rate", "reflective responses", percent, "");
  figure("self_corrections", "self-corrections", percent, "");
  figure("language_mixing", "mixed language", percent, "less");
  const merged = [];
  for (const group of groups) {
    const same = merged.find(other => other.title === group.title);
    if (same) same.rows.push(...group.rows);
    else merged.push(group);
  }
  return merged;
}

function majorityOf(entry) {
  const name = Object.keys(entry).find(each => each.startsWith("majority@"));
  return name ? entry[name] : null;
}

// The best of a row, and who is as good within its interval.
function ranked(row) {
  const scores = row.cells.map(cell => (cell && isNumber(cell.score) ? cell.score : null));
  const known = scores.filter(isNumber);
  if (!row.sense || known.length < 2) return { best: [], near: [] };
  const top = known.reduce((a, b) => (better[row.sense](b, a) ? b : a));
  const best = scores.map((score, i) => (score === top ? i : -1)).filter(i => i >= 0);
  if (best.length === known.length) return { best: [], near: [] };
  const near = row.cells
    .map((cell, i) => {
      const pair = cell && cell.interval;
      return Array.isArray(pair) && pair.every(isNumber) && pair[0] <= top && top <= pair[1] && !best.includes(i)
        ? i
        : -1;
    })
    .filter(i => i >= 0);
  return { best, near };
}

function stageTable(run, go) {
  const policies = run.stages.filter(stage => stage.makes === "policy" && Object.keys(stage.figures).length);
  if (!policies.length) return el("p", { class: "note" }, "No policy is finished yet, so nothing has been measured.");
  const groups = tableRows(policies);
  const head = el(
    "thead",
    null,
    el(
      "tr",
      null,
      el("th", { scope: "col" }, "held-out"),
      policies.map(stage =>
        el(
          "th",
          { scope: "col" },
          el("button", { class: "plain", type: "button", onclick: () => go.stage(stage.name) }, breakable(stage.name)),
        ),
      ),
    ),
  );
  const body = el("tbody");
  for (const group of groups) {
    body.append(
      el("tr", { class: "group" }, el("th", { colspan: policies.length + 1, scope: "colgroup" }, group.title)),
    );
    for (const row of group.rows) body.append(...tableRow(row, policies));
  }
  const k = run.about.evaluation.samples;
  return [
    el(
      "p",
      { class: "lead" },
      "Scores on problems that no stage has trained on",
      k ? `, ${whole(k)} answers each` : "",
      ". ",
      el("b", null, "Bold with a dot"),
      " is the best of a row; dotted underline: the best lies within its 95% interval. Open a row for intervals.",
    ),
    el(
      "div",
      { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Stage table" },
      el(
        "table",
        {
          class: "stage-table",
          style: { minWidth: `${9 + 5.1 * policies.length}rem`, maxWidth: `${13 + 10 * policies.length}rem` },
        },
        el("caption", { class: "hidden" }, "Scores per suite and stage"),
        head,
        body,
      ),
    ),
  ];
}

const breakable = name => name.split(/(?<=[_-])/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));

function tableRow(row, policies) {
  const { best, near } = ranked(row);
  const share = row.format === percent;
  const cells = row.cells.map((cell, i) => {
    const value = cell ? cell.score : null;
    const title =
      cell && cell.interval ? `${row.name}, ${policies[i].name}: ${row.format(value)} ${bounds(cell.interval)}` : null;
    return el(
      "td",
      { class: best.includes(i) ? "best" : near.includes(i) ? "near" : null, title },
      best.includes(i) && [
        el("span", { class: "dot", "aria-hidden": "true" }, "●"),
        el("span", { class: "hidden" }, "best: "),
      ],
      el("span", { class: "value" }, row.format(value)),
      share &&
        isNumber(value) &&
        el(
          "span",
          { class: "bar", "aria-hidden": "true" },
          el("i", { style: { width: `${100 * Math.max(0, Math.min(1, value))}%` } }),
        ),
    );
  });
  const details = el("tr", { class: "details", hidden: true });
  const button = el("button", { type: "button", "aria-expanded": "false" }, row.name);
  button.addEventListener("click", () => {
    const open = details.hidden;
    if (open && !details.firstChild) fill(details, rowDetails(row, policies, best));
    details.hidden = !open;
    button.setAttribute("aria-expanded", open);
  });
  return [el("tr", { "data-row": row.name }, el("th", { scope: "row" }, button), cells), details];
}

function rowDetails(row, policies, best) {
  const lines = policies
    .map((stage, i) => ({ name: stage.name, best: best.includes(i), ...(row.cells[i] || {}) }))
    .filter(r => isNumber(r.score));
  const more = [
    ["interval", "95% interval", r => bounds(r.interval)],
    ["majority", "majority", r => percent(r.majority)],
    ["tokens", "tokens", r => (isNumber(r.tokens) ? r.tokens.toFixed(1) : "–")],
    ["problems", "problems", r => whole(r.problems)],
    ["samples", "answers each", r => whole(r.samples)],
  ].filter(([key]) => lines.some(r => r[key] !== null && r[key] !== undefined));
  return el(
    "td",
    { colspan: policies.length + 1 },
    el(
      "div",
      { class: "inner" },
      dotPlot(lines, row.format, innerWidth < 600 ? 380 : 620),
      lines.some(r => isNumber(r.majority)) &&
        el("p", { class: "note" }, "Dot: score with its 95% interval. Square: majority vote."),
      more.length > 0 &&
        grid(
          ["stage", "score", ...more.map(([, title]) => title)],
          lines.map(r => [r.name, row.format(r.score), ...more.map(([, , text]) => text(r))]),
        ),
    ),
  );
}
