// Puts the page together.

function overview(run) {
  const cards = [
    el("div", { class: "card" }, el("h2", null, "What was run"), whatWasRun(run)),
    el("div", { class: "card" }, el("h2", null, "What came out"), outcome(run)),
  ];
  const sign = { good: "✓", warning: "⚠", bad: "✗", unknown: "?" },
    word = { good: "fine", warning: "look", bad: "wrong", unknown: "unknown" };
  cards.push(
    el(
      "div",
      { class: "card" },
      el("h2", null, "Is it sound?"),
      el("p", { class: "answer" }, verdict(run.checks)),
      el(
        "ul",
        { class: "checks" },
        run.checks.map(c =>
          el(
            "li",
            null,
            el("span", { class: `state ${c.state}`, role: "img", "aria-label": word[c.state] }, sign[c.state]),
            el("span", null, el("b", null, `${c.title}: `), c.detail),
          ),
        ),
      ),
    ),
  );
  const notes =
    run.notes.length > 0 &&
    el(
      "div",
      { class: "card", style: { marginTop: ".8rem" } },
      el("h2", null, "What is missing"),
      el(
        "ul",
        null,
        run.notes.map(note => el("li", null, note)),
      ),
    );
  return [el("div", { class: "wide" }, cards), changes(run), notes];
}

// What every stage did to the suites: the story of the run in a line per policy.
function changes(run) {
  if (!run.changes.length) return null;
  const named = name => run.stages.find(stage => stage.name === name);
  const moves = (suites, sign, state, word) =>
    suites.length > 0 &&
    el(
      "p",
      null,
      el("span", { class: `state ${state}`, role: "img", "aria-label": word }, `${sign} `),
      suites.map(([suite, before, after], i) => [
        i > 0 && ", ",
        el("span", { class: "move" }, `${suite} `, el("b", null, `${percent(before)} → ${percent(after)}`)),
      ]),
    );
  return el(
    "div",
    { class: "card", style: { marginTop: ".8rem" } },
    el("h2", null, "What each stage changed"),
    el(
      "p",
      { class: "note" },
      "Against the stage before it that it was made from; only what lies outside of both 95% intervals.",
    ),
    el(
      "ol",
      { class: "story" },
      run.changes.map(({ stage, before, suites }) =>
        el(
          "li",
          null,
          el("p", null, el("b", null, stage), ` · ${KIND_OF_CLASS[named(stage).class] || named(stage).class}, after ${before}`),
          moves(suites.filter(([, was, is]) => is > was), "▲", "good", "rose"),
          moves(suites.filter(([, was, is]) => is < was), "▼", "bad", "fell"),
          suites.length === 0 && el("p", { class: "note" }, "No suite moved beyond chance."),
        ),
      ),
    ),
  );
}

function whatWasRun(run) {
  const { about, stages } = run,
    counts = new Map();
  stages.forEach(stage =>
    counts.set(
      KIND_OF_CLASS[stage.class] || stage.class,
      (counts.get(KIND_OF_CLASS[stage.class] || stage.class) || 0) + 1,
    ),
  );
  const done = stages.filter(stage => stage.state === "finished").length;
  const problems = new Set(run.samples.exams.map(exam => exam.problem)).size && run.samples.kept.of_problems;
  const facts = [
    [
      "stages",
      `${done === stages.length ? "" : `${done} finished of `}${stages.length}: ${[...counts].map(([name, n]) => (n > 1 ? `${name} (${n})` : name)).join(", ")}`,
    ],
    ["model", about.model],
    ["questions", about.world],
    [
      "exam",
      problems ? `${whole(problems)} held-out problems, ${whole(run.samples.kept.of_samples)} answers each` : "",
    ],
    ["took", `${duration(about.seconds)} in finished stages`],
    ["began", about.began],
    ["last stage", about.ended],
    ["seed", about.seed],
    ["code", about.code.join(", ")],
    ["config", el("span", { class: "mono" }, about.config_sha256)],
  ];
  return el(
    "dl",
    { class: "pairs" },
    facts
      .filter(([, value]) => value !== null && value !== "" && value !== undefined)
      .map(([name, value]) => [el("dt", null, name), el("dd", null, value)]),
  );
}

function verdict(checks) {
  const count = state => checks.filter(c => c.state === state).length;
  const [bad, warn, open] = [count("bad"), count("warning"), count("unknown")];
  const words = [bad && `${bad} wrong`, warn && `${warn} to look at`, open && `${open} unknown`].filter(Boolean);
  return words.length
    ? `${count("good")} of ${checks.length} checks are fine; ${words.join(", ")}.`
    : `All ${checks.length} checks are fine.`;
}

function outcome(run) {
  const h = run.headline;
  if (!h) return el("p", { class: "answer" }, "No policy is finished yet.");
  const named = name => run.stages.find(stage => stage.name === name);
  const [first, last] = [named(h.first).figures, named(h.last).figures];
  const same = h.first === h.last;
  const figure = (name, key, format, note) =>
    isNumber(last[key]) &&
    el(
      "div",
      { class: "figure" },
      el("b", null, format(last[key])),
      el("span", null, name),
      !same && isNumber(first[key]) && el("span", null, `${h.first}: ${format(first[key])}`),
      note && el("span", null, note),
    );
  const policies = run.stages
    .filter(stage => isNumber(stage.figures["pass@1"]))
    .map(stage => ({
      name: stage.name,
      score: stage.figures["pass@1"],
      interval: stage.figures["pass@1_interval"],
      best: stage.name === h.last,
    }));
  const vote = Object.keys(last).find(key => key.startsWith("majority@"));
  return [
    el(
      "p",
      { class: "answer" },
      same
        ? `${h.last} answers ${percent(last["pass@1"])} of the held-out reasoning problems right.`
        : `${h.last} answers ${percent(last["pass@1"])} of the held-out reasoning problems right, ${h.first} ${percent(first["pass@1"])}.`,
    ),
    el(
      "div",
      { class: "figures" },
      figure("pass@1", "pass@1", percent, bounds(last["pass@1_interval"])),
      vote && figure(vote, vote, percent),
      figure("tokens per answer", "response_length", x => x.toFixed(1)),
      figure("answers that reflect", "reflection_rate", percent),
      figure("self-corrections", "self_corrections", percent),
      figure("mixed language", "language_mixing", percent),
    ),
    policies.length > 2 && [el("h4", null, "pass@1 of every policy"), dotPlot(policies, percent, 400)],
    el(
      "p",
      { class: "note" },
      `Figures of ${h.last}, the stage that most others lead to. `,
      el("a", { href: "#stages" }, "All stages"),
    ),
  ];
}

// One part of the page; a fault in it is told there and leaves the others.
function part(id, draw, otherwise) {
  try {
    return draw(at(id));
  } catch (fault) {
    console.error(fault);
    fill(at(id), el("p", { class: "card" }, `This part could not be drawn: ${fault.message}`));
    return otherwise;
  }
}

function main() {
  const run = JSON.parse(at("run").textContent);
  const { about } = run;
  at("name").textContent = about.name;
  fill(
    at("facts"),
    `${about.began} · ${duration(about.seconds)} · ${about.code.join(", ")} · config `,
    el("span", { class: "mono" }, about.config_sha256.slice(0, 12)),
  );
  part("overview", node => fill(node, overview(run)));
  const show = id => {
    at(id).scrollIntoView({ block: "start" });
    at(id).focus({ preventScroll: true });
  };
  const go = {};
  const training = part(
    "training-tabs",
    node => {
      const made = trainingTabs(run);
      fill(node, made.node);
      return made;
    },
    { show: () => {} },
  );
  const samples = part(
    "browser",
    node => {
      const made = sampleBrowser(run);
      fill(node, made.node);
      return made;
    },
    { only: () => {} },
  );
  const graph = part(
    "graph",
    () => drawSchedule(run, stage => part("stage-panel", node => fill(node, stagePanel(run, stage, go)))),
    { choose: () => {} },
  );
  go.stage = name => {
    graph.choose(name);
    show("stage-panel");
  };
  go.training = name => {
    training.show(name);
    at("training").scrollIntoView({ block: "start" });
  };
  go.samples = name => {
    samples.only(name);
    at("samples").scrollIntoView({ block: "start" });
  };
  go.data = name => show(`data-${name}`);
  fill(at("stage-panel"), el("p", { class: "note" }, "No stage is chosen."));
  part("stage-table", node => fill(node, stageTable(run, go)));
  part("data-cards", node => fill(node, dataCards(run)));
  fill(
    at("foot"),
    el(
      "p",
      null,
      `Made by r1jax from the folder ${about.folder} on ${about.made}. Config ${about.config_sha256}. `,
      Object.entries(about.versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
      ".",
    ),
    run.figures.length > 0 &&
      el(
        "p",
        null,
        "Figures beside this file, also as PNG: ",
        run.figures
          .filter(name => name.endsWith(".svg"))
          .map((name, i) => [i > 0 && ", ", el("a", { href: encodeURIComponent(name) }, name.slice(0, -4))]),
      ),
  );
}

main();
