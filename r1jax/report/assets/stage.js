// A stage in full: what it is, what it was made from, how it was set.

const kindOf = stage => (stage.makes === "policy" ? "policy" : stage.makes === "reward model" ? "reward" : "data");
const KIND_OF_CLASS = {
  RL: "reinforcement learning",
  SFT: "supervised fine-tuning",
  Pretrain: "pretraining",
  Rejection: "rejection sampling",
  Preferences: "preference data",
  RewardModel: "reward model",
};

function figureOf(stage) {
  const f = stage.figures;
  if (stage.state === "not begun") return "not begun";
  if (stage.state === "unfinished")
    return stage.updates ? `at ${whole(stage.updates)}${stage.steps ? ` of ${whole(stage.steps)}` : ""}` : "unfinished";
  if (isNumber(f["pass@1"])) return percent(f["pass@1"]);
  if (isNumber(f.accuracy)) return `acc. ${percent(f.accuracy, 0)}`;
  return stage.rows ? rowsOf(stage.rows) : "finished";
}

function stagePanel(run, stage, go) {
  const f = stage.figures,
    lineage = f.lineage || {};
  const hash = value => (value ? el("span", { class: "mono" }, value) : el("span", { class: "note" }, "not recorded"));
  const made = stage.origins.map(origin => {
    const name = origin.stage || origin.file || origin.path || origin.source || "?";
    const digest = origin.params_sha256 || origin.data_sha256 || origin.sha256;
    const target = run.stages.find(other => other.name === origin.stage);
    return [
      el(
        "dt",
        null,
        target ? el("button", { class: "plain", type: "button", onclick: () => go.stage(name) }, name) : name,
      ),
      el("dd", null, isNumber(origin.rows) && `${rowsOf(origin.rows)} · `, hash(digest)),
    ];
  });
  const pair = (name, value) =>
    value === null || value === undefined || value === "" ? null : [el("dt", null, name), el("dd", null, value)];
  return [
    el("h3", null, stage.name),
    el("p", null, sentenceOf(run, stage)),
    el(
      "div",
      { class: "wide" },
      el(
        "div",
        null,
        el("h4", null, "What it is"),
        el(
          "dl",
          { class: "pairs" },
          pair(
            "state",
            stage.state === "finished"
              ? `finished in ${duration(f.seconds)}${isNumber(f.train_seconds) ? `, ${duration(f.train_seconds)} of it training` : ""}`
              : figureOf(stage),
          ),
          f.params_sha256 && pair("parameters", hash(f.params_sha256)),
          f.data_sha256 && pair("data", hash(f.data_sha256)),
          pair("code", lineage.code),
          pair("seed", lineage.seed),
          lineage.stage_sha256 && pair("config of the stage", hash(lineage.stage_sha256)),
        ),
      ),
      made.length > 0 && el("div", null, el("h4", null, "Made from"), el("dl", { class: "pairs" }, made)),
      el(
        "div",
        null,
        el("h4", null, "Settings"),
        el(
          "dl",
          { class: "pairs" },
          stage.settings.map(([name, value]) => pair(name, isNumber(value) ? short(value) : value)),
          stage.template && pair("template", el("span", { class: "mono" }, stage.template)),
        ),
      ),
    ),
    el(
      "div",
      { class: "row", style: { marginTop: ".7rem" } },
      Object.keys(stage.metrics).length > 1 &&
        el("button", { type: "button", onclick: () => go.training(stage.name) }, "Its training"),
      run.samples.stages.includes(stage.name) &&
        el("button", { type: "button", onclick: () => go.samples(stage.name) }, "Its answers"),
      kindOf(stage) !== "policy" && el("button", { type: "button", onclick: () => go.data(stage.name) }, "Its figures"),
    ),
  ];
}

function sentenceOf(run, stage) {
  const kinds = names => names.map(name => run.stages.find(other => other.name === name)).filter(Boolean);
  const data = kinds(stage.takes)
    .filter(other => kindOf(other) === "data")
    .map(other => other.name);
  const judges = kinds(stage.takes)
    .filter(other => kindOf(other) === "reward")
    .map(other => other.name);
  const asks = stage.class === "Rejection" || stage.class === "Preferences";
  const origin = stage.start_from
    ? `${asks ? "asks" : "starts from"} ${stage.start_from}`
    : "starts from random parameters";
  const parts = [
    origin,
    data.length && `learns from ${data.join(" and ")}`,
    judges.length && `is rewarded by ${judges.join(" and ")}`,
  ];
  const text = `${KIND_OF_CLASS[stage.class] || stage.class}: ${parts.filter(Boolean).join(", ")}.`;
  return text[0].toUpperCase() + text.slice(1);
}
