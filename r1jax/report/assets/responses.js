// A response with its structure, and the same prompt in two stages side by side.

const TAGS = /(<\/?think>|<\/?answer>|<\|[^|<>\n]{1,40}\|>)/;
let reflective = null; // a pattern of the reflective words, once the run is read

// The structure of a response as elements: tags small, the thought dimmed, the answer bold.
function structured(text) {
  const holder = el("div", { class: "text", dir: "auto" }),
    pieces = text.split(TAGS),
    ends = pieces.indexOf("</think>");
  let inside = holder; // the element that text goes into
  const enter = kind => {
    inside = el("span", { class: kind });
    holder.append(inside);
  };
  if (ends >= 0 && !pieces.slice(0, ends).includes("<think>")) enter("thought"); // the prompt had begun the thought
  for (const piece of pieces) {
    const tag = /^<(\/?)(think|answer)>$/.exec(piece);
    if (tag && !tag[1]) enter(tag[2] === "think" ? "thought" : "given");
    if (TAGS.test(piece)) inside.append(el("span", { class: "tag" }, piece));
    else inside.append(...(inside.className === "thought" ? highlighted(piece) : [piece]));
    if (tag && tag[1]) inside = holder;
  }
  return holder;
}

function highlighted(text) {
  if (!reflective) return [text];
  const parts = [];
  let done = 0;
  for (const match of text.matchAll(reflective)) {
    parts.push(text.slice(done, match.index), el("mark", null, match[0]));
    done = match.index + match[0].length;
  }
  return [...parts, text.slice(done)];
}

// The chosen response and the same prompt in another stage.
function sideBySide(run, entry) {
  const p = entry.asked,
    exams = run.samples.exams.filter(exam => exam.problem === entry.problem);
  const facts = [p.suite, p.domain, p.language, isNumber(p.level) && `level ${p.level}`, p.id]
    .filter(Boolean)
    .join(" · ");
  const question = [
    el("p", { class: "note" }, facts),
    el("div", { class: "text" }, el("b", null, p.question)),
    p.answer && el("p", null, "Gold answer: ", el("b", { class: "mono" }, String(p.answer))),
  ];
  if (entry.kind === "rollout") return [question, rolloutView(entry), exams.length > 0 && compare(run, exams, entry)];
  return [question, compare(run, exams, entry)];
}

function compare(run, exams, entry) {
  const names = exams.map(exam => exam.stage);
  const own = Math.max(0, names.indexOf(entry.stage));
  const other = counterpart(run, names, own);
  const side = (chosen, label) => {
    const body = el("div");
    const draw = () => fill(body, examView(exams[select.selectedIndex], entry));
    const select = el(
      "select",
      { "aria-label": label, onchange: draw },
      names.map(name => el("option", null, name)),
    );
    select.selectedIndex = chosen;
    draw();
    return el("div", { class: "side" }, select, body);
  };
  const [before, after] = own <= other ? [own, other] : [other, own];
  return el(
    "div",
    { class: "sides", style: { marginTop: ".6rem" } },
    names.length > 1 ? [side(before, "before"), side(after, "after")] : side(own, "stage"),
  );
}

// What a stage is compared with: the one it starts from; the first one with the run's last.
function counterpart(run, names, own) {
  const parent = names.indexOf(run.stages.find(stage => stage.name === names[own]).start_from);
  if (parent >= 0) return parent;
  const last = run.headline ? names.indexOf(run.headline.last) : -1;
  return last >= 0 && last !== own ? last : own === 0 ? names.length - 1 : 0;
}

function examView(exam, entry) {
  const first = [...exam.responses].sort((a, b) => (b.text === entry.text) - (a.text === entry.text));
  return [
    el(
      "p",
      { class: "note" },
      `right ${whole(exam.right)} of ${whole(exam.of)} times${isNumber(exam.tokens) ? `, ${exam.tokens.toFixed(1)} tokens on average` : ""}`,
    ),
    folded(
      first.map(r =>
        responseView(r, [
          r.count > 1 && `${r.count}×`,
          isNumber(r.score) && `score ${short(r.score)}`,
          isNumber(r.tokens) && `${whole(r.tokens)} tokens`,
          r.aha && "aha moment",
        ]),
      ),
    ),
  ];
}

// The first few of many; the others unfold.
function folded(views, most = 3) {
  if (views.length <= most + 1) return views;
  return [
    views.slice(0, most),
    el("details", { class: "rest" }, el("summary", null, `${views.length - most} more`), views.slice(most)),
  ];
}

function responseView(r, facts) {
  const verdict = r.right === true ? "right" : r.right === false ? "wrong" : "";
  return el(
    "div",
    { class: `response ${verdict}` },
    el(
      "header",
      null,
      verdict && el("span", { class: `state ${verdict === "right" ? "good" : "bad"}` }, verdict),
      facts.filter(Boolean).map(fact => el("span", null, fact)),
    ),
    structured(r.text),
  );
}

function rolloutView(r) {
  const parts = Object.entries(r.rewards).map(([name, value]) => `${name} ${short(value)}`);
  return responseView(r, [
    `${r.stage}, update ${whole(r.update)}`,
    isNumber(r.reward) && `reward ${short(r.reward)}`,
    parts.length > 0 && `(${parts.join(", ")})`,
    isNumber(r.tokens) && `${whole(r.tokens)} tokens`,
    r.ended === false && "cut at the limit",
  ]);
}
