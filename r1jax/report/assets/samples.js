// The browser of samples: filters and the list they leave, and the "aha" moments.

const PAGE = 80; // entries of the list drawn at a time

// One entry of the list per response, or per group of equal ones.
function entriesOf(samples) {
  const found = [];
  for (const exam of samples.exams)
    for (const r of exam.responses)
      found.push({ kind: "exam", stage: exam.stage, problem: exam.problem, exam, mark: r.score, ...r });
  for (const r of samples.rollouts) found.push({ kind: "rollout", count: 1, mark: r.reward, ...r });
  return found;
}

function sampleBrowser(run) {
  const { samples } = run,
    entries = entriesOf(samples);
  if (!entries.length)
    return {
      node: el("p", { class: "note" }, "No stage has answered an exam yet, and no rollout was saved."),
      only: () => {},
    };
  reflective = new RegExp(
    `(?<![A-Za-z])(?:${run.words.english.join("|")})(?![A-Za-z])|${run.words.chinese.join("|")}`,
    "gi",
  );
  const problems = samples.problems;
  entries.forEach(e => {
    e.asked = problems[e.problem];
    e.found = `${e.asked.question}\n${e.text}`.toLowerCase();
  });
  const inputs = filterInputs(entries, samples);
  const list = el("ul", { class: "list card", role: "listbox", tabindex: "0", "aria-label": "Responses" });
  const detail = el("div", { class: "card" });
  const count = el("p", { class: "note", role: "status" });
  const state = { shown: [], drawn: 0, chosen: 0 };

  const choose = i => {
    if (i < 0 || i >= state.shown.length) return;
    while (i >= state.drawn) drawMore();
    state.chosen = i;
    [...list.children].forEach((item, j) => item.setAttribute("aria-selected", j === i));
    list.setAttribute("aria-activedescendant", `entry-${i}`);
    const item = list.children[i];
    if (item.offsetTop < list.scrollTop) list.scrollTop = item.offsetTop;
    if (item.offsetTop + item.offsetHeight > list.scrollTop + list.clientHeight)
      list.scrollTop = item.offsetTop + item.offsetHeight - list.clientHeight;
    fill(detail, sideBySide(run, state.shown[i]));
  };
  const drawMore = () => {
    const from = state.drawn;
    state.drawn = Math.min(from + PAGE, state.shown.length);
    list.append(...state.shown.slice(from, state.drawn).map((e, i) => listItem(e, from + i, choose)));
  };
  const refresh = () => {
    state.shown = entries.filter(inputs.matches);
    state.drawn = 0;
    fill(list);
    list.scrollTop = 0;
    drawMore();
    const many = state.shown.reduce((sum, e) => sum + e.count, 0);
    count.textContent = state.shown.length
      ? `${whole(many)} of ${whole(entries.reduce((sum, e) => sum + e.count, 0))} responses, equal ones together.`
      : "No response passes these filters.";
    if (state.shown.length) choose(0);
    else {
      list.removeAttribute("aria-activedescendant");
      fill(detail, el("p", { class: "note" }, "Nothing to show."));
    }
  };
  list.addEventListener("scroll", () => {
    if (list.scrollTop + list.clientHeight > list.scrollHeight - 200 && state.drawn < state.shown.length) drawMore();
  });
  list.addEventListener("keydown", event => {
    const to = {
      ArrowDown: state.chosen + 1,
      ArrowUp: state.chosen - 1,
      PageDown: Math.min(state.chosen + 10, state.shown.length - 1),
      PageUp: Math.max(state.chosen - 10, 0),
      Home: 0,
      End: state.shown.length - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      choose(to);
    }
  });
  inputs.node.addEventListener("input", refresh);
  const open = moment => {
    inputs.set({ stage: moment.stage, aha: true });
    refresh();
    const i = state.shown.findIndex(e => e.problem === moment.problem && e.text === moment.text);
    choose(i >= 0 ? i : state.shown.findIndex(e => e.problem === moment.problem));
    list.focus();
  };
  const node = [
    ahaMoments(run, open),
    el("h3", null, "All samples"),
    inputs.node,
    count,
    el("div", { class: "panes" }, list, detail),
    keptNote(samples),
  ];
  inputs.set({ stage: run.headline ? run.headline.last : "" });
  refresh();
  return {
    node,
    only: stage => {
      inputs.set({ stage });
      refresh();
    },
  };
}

function listItem(entry, i, choose) {
  const verdict = entry.right === true ? ["right", "✓"] : entry.right === false ? ["wrong", "✗"] : ["", "·"];
  const facts = [
    entry.count > 1 && `${entry.count}×`,
    entry.stage,
    entry.kind === "rollout" && `update ${whole(entry.update)}`,
    isNumber(entry.mark) && `${entry.kind === "rollout" ? "reward" : "score"} ${short(entry.mark)}`,
    isNumber(entry.tokens) && `${whole(entry.tokens)} tokens`,
    entry.aha && "aha",
  ];
  return el(
    "li",
    { role: "option", id: `entry-${i}`, "aria-selected": "false", onclick: () => choose(i) },
    el(
      "span",
      { class: "q" },
      el(
        "span",
        {
          class: `state ${verdict[0] === "right" ? "good" : verdict[0] === "wrong" ? "bad" : "unknown"}`,
          "aria-label": verdict[0],
        },
        `${verdict[1]} `,
      ),
      entry.asked.question,
    ),
    el("small", null, facts.filter(Boolean).join(" · ")),
  );
}

function filterInputs(entries, samples) {
  const values = pick => [...new Set(entries.map(pick).filter(v => v !== null && v !== undefined && v !== ""))];
  const select = (name, options) =>
    el(
      "select",
      { "data-filter": name },
      el("option", { value: "" }, "all"),
      options.map(v => el("option", { value: v }, String(v))),
    );
  const box = {
    stage: select(
      "stage",
      values(e => e.stage),
    ),
    suite: select(
      "suite",
      values(e => e.asked.suite),
    ),
    domain: select(
      "domain",
      values(e => e.asked.domain),
    ),
    language: select(
      "language",
      values(e => e.asked.language),
    ),
    level: select(
      "level",
      values(e => e.asked.level),
    ),
    verdict: el(
      "select",
      { "data-filter": "verdict" },
      [
        ["", "all"],
        ["right", "right"],
        ["wrong", "wrong"],
      ].map(([v, t]) => el("option", { value: v }, t)),
    ),
    kind: el(
      "select",
      { "data-filter": "kind" },
      [
        ["", "all"],
        ["exam", "exam"],
        ["rollout", "training"],
      ].map(([v, t]) => el("option", { value: v }, t)),
    ),
    low: el("input", { type: "number", step: "any", "aria-label": "at least", placeholder: "from" }),
    high: el("input", { type: "number", step: "any", "aria-label": "at most", placeholder: "to" }),
    text: el("input", { type: "search", placeholder: "in question or response", "data-filter": "text" }),
    aha: el("input", { type: "checkbox", "data-filter": "aha" }),
  };
  const field = (name, node) => el("label", null, name, node);
  const several = name => box[name].options.length > 2;
  const node = el(
    "form",
    { class: "filters", role: "search", "aria-label": "Filters", onsubmit: event => event.preventDefault() },
    field("stage", box.stage),
    several("suite") && field("suite", box.suite),
    several("domain") && field("domain", box.domain),
    several("language") && field("language", box.language),
    several("level") && field("level", box.level),
    field("right or wrong", box.verdict),
    samples.rollouts.length > 0 && field("written in", box.kind),
    el("label", null, "score or reward", el("span", { class: "range" }, box.low, box.high)),
    el("label", { class: "double" }, "text", box.text),
    el("label", { class: "tick" }, box.aha, "aha moments only"),
  );
  const same = (name, value) => !box[name].value || box[name].value === String(value);
  const matches = e =>
    same("stage", e.stage) &&
    same("suite", e.asked.suite) &&
    same("domain", e.asked.domain) &&
    same("language", e.asked.language) &&
    same("level", e.asked.level) &&
    same("kind", e.kind) &&
    (!box.verdict.value || e.right === (box.verdict.value === "right")) &&
    (box.low.value === "" || (isNumber(e.mark) && e.mark >= Number(box.low.value))) &&
    (box.high.value === "" || (isNumber(e.mark) && e.mark <= Number(box.high.value))) &&
    (!box.text.value || e.found.includes(box.text.value.toLowerCase())) &&
    (!box.aha.checked || e.aha === true);
  const set = ({ stage = "", aha = false }) => {
    for (const input of Object.values(box)) if (input.type !== "checkbox") input.value = "";
    box.stage.value = stage;
    box.aha.checked = aha;
  };
  return { node, matches, set };
}

function ahaMoments(run, open) {
  const { samples } = run,
    counted = Object.entries(samples.counted).filter(([, c]) => c.responses);
  if (!counted.length) return null;
  const shares = counted.map(([name, c]) => [name, c.aha / c.responses]);
  if (!samples.aha.length)
    return [
      el("h3", null, "Aha moments"),
      el("p", { class: "note" }, `None in ${whole(counted.reduce((sum, [, c]) => sum + c.responses, 0))} responses.`),
    ];
  const seen = new Set();
  const best = samples.aha.filter(m => !seen.has(m.problem) && seen.add(m.problem)).slice(0, 6);
  return [
    el("h3", null, "Aha moments"),
    el(
      "p",
      { class: "lead" },
      "A wrong attempt is noticed with a reflective word and turned into the right answer. " +
        "Found by rule in all responses of the exams; here the clearest of every stage.",
    ),
    el(
      "div",
      { class: "aha" },
      best.map(m =>
        el(
          "div",
          { class: "card" },
          el("p", { class: "note" }, `${m.stage}${isNumber(m.tokens) ? ` · ${whole(m.tokens)} tokens` : ""}`),
          el("div", { class: "text" }, el("b", null, samples.problems[m.problem].question)),
          structured(m.text),
          el("button", { type: "button", onclick: () => open(m) }, "Before and after"),
        ),
      ),
    ),
    el("div", { class: "card" }, el("h4", null, "Share of responses that correct themselves"), bars(shares, percent)),
  ];
}

function keptNote(samples) {
  const k = samples.kept,
    parts = [];
  if (k.per_problem < k.of_samples)
    parts.push(`${whole(k.per_problem)} of ${whole(k.of_samples)} responses per problem and stage, at equal distances`);
  if (k.problems < k.of_problems)
    parts.push(`${whole(k.problems)} of ${whole(k.of_problems)} problems, at equal distances`);
  if (k.rollouts < k.of_rollouts) parts.push(`${whole(k.rollouts)} of ${whole(k.of_rollouts)} completions of training`);
  return el(
    "p",
    { class: "note" },
    parts.length
      ? `To keep this file small it holds ${parts.join("; ")}. The counts of right answers and of aha moments are ` +
          "over all. All responses are in samples.jsonl of each stage."
      : "This page holds every response of the exams.",
  );
}
