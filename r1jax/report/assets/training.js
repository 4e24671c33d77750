// What was seen while stages trained: learning curves, rewards, health. A tab per stage, and one with all RL stages.

const column = (points, key) => points.map(point => point[key]);
const cell = (points, pick) =>
  points.map(point => {
    const v = pick(point);
    return isNumber(v) ? v : null;
  });
const isRL = stage => stage.class === "RL";

function metric(stage, key, name, more = {}) {
  return { name: name || key, x: stage.metrics.step || [], y: stage.metrics[key], noisy: true, ...more };
}

function trainingTabs(run) {
  const trained = run.stages.filter(stage => (stage.metrics.step || []).length || stage.curve.length);
  if (!trained.length) return { node: el("p", { class: "note" }, "No stage has written metrics yet."), show: () => {} };
  const rl = trained.filter(isRL),
    others = trained.filter(stage => !isRL(stage));
  const entries = [
    ...rl.map(stage => [stage.name, () => rlPanel(stage)]),
    ...others.map(stage => [stage.name, () => lossPanel(stage)]),
  ];
  if (rl.length > 1) entries.unshift(["All RL stages", () => comparison(rl)]);
  return tabs("Stages that were trained", entries);
}

function comparison(stages) {
  const curves = (key, pick) =>
    stages.map((stage, i) => ({
      name: stage.name,
      x: column(stage.curve, "step"),
      y: cell(stage.curve, pick || (p => p[key])),
      low: key === "pass@1" ? cell(stage.curve, p => (p["pass@1_interval"] || [])[0]) : null,
      high: key === "pass@1" ? cell(stage.curve, p => (p["pass@1_interval"] || [])[1]) : null,
      dots: true,
      colour: colour(i),
    }));
  const metrics = key => stages.map((stage, i) => metric(stage, key, stage.name, { colour: colour(i) }));
  return el(
    "div",
    { class: "wide" },
    lineChart("Held-out pass@1, with 95% intervals", curves("pass@1"), { format: percent, min: 0, max: 1 }),
    lineChart("Response length in training, tokens", metrics("rollout/length"), { min: 0 }),
    lineChart("Responses that reflect", metrics("emergence/reflection_rate"), { format: percent, min: 0 }),
    lineChart("Responses that mix languages", metrics("emergence/language_mixing"), { format: percent, min: 0 }),
    lineChart("Reward in training", metrics("reward/total")),
    lineChart("Entropy, nats per token", metrics("policy/entropy"), { min: 0 }),
  );
}

function rlPanel(stage) {
  const bucket = stage.every > 1 ? `Each point of training is the mean of ${stage.every} updates.` : null;
  return [
    el("h3", null, "Learning curves"),
    learning(stage),
    el("h3", null, "Rewards"),
    rewards(stage),
    el("h3", null, "Health"),
    alarmList(stage),
    health(stage),
    phases(stage),
    bucket && el("p", { class: "note" }, bucket),
  ];
}

function learning(stage) {
  const points = stage.curve,
    x = column(points, "step");
  const vote = points.length ? Object.keys(points[0]).find(key => key.startsWith("majority@")) : null;
  const parts = field => [...new Set(points.flatMap(point => Object.keys(point[field] || {})))];
  const by = (field, word) =>
    parts(field).map(name => ({
      name: `${word}${name}`,
      x,
      y: cell(points, p => ((p[field] || {})[name] || {})["pass@1"]),
      dots: true,
    }));
  const drawn = [
    lineChart(
      "Accuracy on held-out problems",
      [
        {
          name: "pass@1",
          x,
          y: cell(points, p => p["pass@1"]),
          low: cell(points, p => (p["pass@1_interval"] || [])[0]),
          high: cell(points, p => (p["pass@1_interval"] || [])[1]),
          dots: true,
        },
        ...(vote ? [{ name: vote, x, y: cell(points, p => p[vote]), dash: true, dots: true }] : []),
      ],
      { format: percent, min: 0, max: 1 },
    ),
    lineChart(
      "Response length, tokens",
      [
        metric(stage, "rollout/length", "training"),
        { name: "held-out", x, y: cell(points, p => p.response_length), dots: true },
      ],
      { min: 0 },
    ),
    lineChart(
      "Reflection and self-correction",
      [
        metric(stage, "emergence/reflection_rate", "reflects"),
        metric(stage, "emergence/self_corrections", "corrects itself"),
      ],
      { format: percent, min: 0 },
    ),
    parts("per_level").length > 1 &&
      lineChart("Held-out pass@1 by level", by("per_level", "level "), { format: percent, min: 0, max: 1 }),
    parts("per_domain").length > 1 &&
      parts("per_domain").length < 9 &&
      lineChart("Held-out pass@1 by domain", by("per_domain", ""), { format: percent, min: 0, max: 1 }),
    lineChart(
      "Mixed language",
      [
        metric(stage, "emergence/language_mixing", "training"),
        { name: "held-out", x, y: cell(points, p => p.language_mixing), dots: true },
      ],
      { format: percent, min: 0 },
    ),
  ].filter(Boolean);
  return drawn.length
    ? el("div", { class: "wide" }, drawn)
    : el("p", { class: "note" }, "No learning curve was drawn (evaluate_every is 0).");
}

const NO_REWARD = ["reward/total", "reward/check_failures", "reward/check_timeouts", "reward/parsed"];

function rewards(stage) {
  const names = Object.keys(stage.metrics).filter(key => key.startsWith("reward/") && !NO_REWARD.includes(key));
  const checks = ["reward/check_failures", "reward/check_timeouts"].filter(key => (stage.totals[key] || {}).sum);
  return el(
    "div",
    { class: "wide" },
    lineChart(
      "Reward per component, unweighted",
      names.map(key => metric(stage, key, key.slice(7))),
    ),
    lineChart("Total reward", [metric(stage, "reward/total", "total")]),
    lineChart("Answers that could be read", [metric(stage, "reward/parsed", "read")], { format: percent, max: 1 }),
    checks.length > 0 &&
      lineChart(
        "Checks that failed or were killed",
        checks.map(key => metric(stage, key, key.slice(13))),
      ),
  );
}

const HEALTH = [
  ["policy/kl", "KL to the reference, nats", short, { min: 0 }],
  ["policy/entropy", "Entropy, nats per token", short, { min: 0, below: true }],
  ["policy/clip_fraction", "Tokens clipped", percent, { min: 0 }],
  ["group/dead", "Groups without spread", percent, { min: 0 }],
  ["rollout/truncated", "Responses cut at the limit", percent, { min: 0 }],
  ["policy/sampler_mismatch", "Sampler against trainer, nats", short, { min: 0 }],
  ["expert/max_violation", "Load of the fullest expert above the mean", percent, { min: 0 }],
  ["expert/unused", "Experts that no token went to", percent, { min: 0 }],
  ["expert/agreement", "Replayed experts that the router would choose now", percent, { max: 1 }],
  ["policy/gradient_norm", "Gradient norm", short, { min: 0 }],
  ["time/rollout_tokens_per_second", "Tokens per second in rollouts", whole, { min: 0 }],
];

function health(stage) {
  return el(
    "div",
    { class: "grid" },
    HEALTH.map(
      ([key, title, format, { min, below }]) =>
        stage.metrics[key] &&
        lineChart(title, [metric(stage, key, "", { name: "" })], {
          format,
          min,
          limit: key in stage.limits ? { value: stage.limits[key], below } : null,
        }),
    ),
  );
}

function alarmList(stage) {
  if (!stage.alarms.length)
    return el("p", { class: "note" }, el("span", { class: "state good" }, "✓ "), "No alarm was raised.");
  return el(
    "ul",
    null,
    stage.alarms.map(a =>
      el(
        "li",
        null,
        el("span", { class: "state warning" }, "⚠ "),
        el("b", null, a.alarm),
        ` ${a.count === 1 ? `at update ${a.first}` : `${a.count} times, updates ${a.first} to ${a.last}`}: ${a.message}`,
      ),
    ),
  );
}

function phases(stage) {
  const spent = Object.entries(stage.totals)
    .filter(([key]) => /^time\/(?!step$|.*per_second$)/.test(key))
    .map(([key, t]) => [key.slice(5), t.sum]);
  return spent.length
    ? [
        el("h4", null, "Seconds per phase"),
        el(
          "div",
          { class: "card" },
          bars(
            spent.sort((a, b) => b[1] - a[1]),
            duration,
          ),
        ),
      ]
    : null;
}

function lossPanel(stage) {
  const known = new Set([
    "policy/skipped",
    "policy/non_finite_rows",
    "policy/weight",
    "expert/max_violation",
    "policy/gradient_norm",
    "step",
  ]);
  const keys = Object.keys(stage.metrics).filter(key => !known.has(key) && !key.startsWith("time/"));
  return [
    el(
      "div",
      { class: "wide" },
      keys.map(key =>
        lineChart(/(^|\/)loss$/.test(key) ? "Loss, nats per token" : key, [metric(stage, key, "", { name: "" })]),
      ),
      HEALTH.filter(
        ([key]) => ["policy/gradient_norm", "expert/max_violation"].includes(key) && stage.metrics[key],
      ).map(([key, title, format]) => lineChart(title, [metric(stage, key, "", { name: "" })], { format, min: 0 })),
    ),
    alarmList(stage),
    stage.every > 1 && el("p", { class: "note" }, `Each point is the mean of ${stage.every} updates.`),
  ];
}
