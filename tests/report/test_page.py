"""The page of a run in headless Chromium: it shows what lies in the folder, obeys mouse and keyboard, and is safe."""

import base64
import html.parser
import json
import re
import shutil

import pytest

from r1jax.report import __main__ as command, collect, figures, page
from tests.report import synthetic_run
from tests.report.browser import Browser, executable

HOSTILE = (
  "</script><script>window.pwned=1</script>",
  "<img src=x onerror='window.pwned=1'>",
  "<!--<script>",
  "\u2028\u2029 \u202e gnitirw \ud800 \x00\x1b &lt;b&gt; ${window.pwned=1} {{DATA}}",
  "</think></think><answer><think>" + "<answer>" * 200,
  "<|assistant|>" + "x" * 3000,
)


@pytest.fixture(scope="module")
def browser():
  if executable() is None:
    pytest.skip("no Chromium on the PATH; install one, or name it in R1JAX_CHROMIUM")
  with Browser() as opened:
    yield opened


@pytest.fixture(scope="module")
def undrawn():
  """The paper's figures have tests of their own."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(figures, "draw", lambda run, folder: [folder / "zero_accuracy.svg"])
    yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, undrawn):
  return page.write(synthetic_run.write(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture(scope="module")
def wide(browser, whole):
  return browser.open(whole)


@pytest.fixture(scope="module")
def phone(browser, whole):
  return browser.open(whole, 360, 740)


def texts(page, selector):
  return page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")


class Script(html.parser.HTMLParser):
  """The contents of the script elements, as a parser of HTML sees them."""

  def __init__(self, text):
    super().__init__()
    self.scripts, self.inside = [], False
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.inside = tag == "script"
    if self.inside:
      self.scripts.append("")

  def handle_endtag(self, tag):
    self.inside = self.inside and tag != "script"

  def handle_data(self, data):
    if self.inside:
      self.scripts[-1] += data


# ---- the file


def test_the_file_holds_the_run_and_needs_nothing_else(whole):
  text = whole.read_text()
  data, script = Script(text).scripts
  run = json.loads(data)
  fresh = collect.collect(whole.parents[1])
  run["about"].pop("made"), fresh["about"].pop("made")
  assert run == json.loads(json.dumps(fresh)) | {"figures": ["zero_accuracy.svg"]}
  rest = text.replace(data, "")
  assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(""", rest)
  assert "innerHTML" not in script and "insertAdjacentHTML" not in script and "document.write" not in script
  assert len(text) < 3e6


def test_hostile_text_leaves_the_data_as_one_script_element():
  run = {"about": {"name": HOSTILE[0]}, "texts": [*HOSTILE, "]]>", "<SCRIPT", "\x0b\r\n"]}
  text = page.page(run)
  text.encode()  # UTF-8 holds it
  data, _ = Script(text).scripts
  assert json.loads(data) == run
  assert "<title>&lt;/script&gt;" in text


def test_a_small_limit_makes_a_small_file(whole, tmp_path):
  run = shutil.copytree(whole.parents[1], tmp_path / "run")
  assert page.write(run, megabytes=0.05).stat().st_size < whole.stat().st_size - 700_000


def test_the_command_tells_where_the_page_is_and_a_mistake_in_a_sentence(whole, tmp_path, capsys):
  command.main([str(whole.parents[1]), "--megabytes=1"])
  assert capsys.readouterr().out.strip() == str(whole)
  with pytest.raises(SystemExit) as stopped:
    command.main([str(tmp_path)])
  assert stopped.value.code == 2
  assert capsys.readouterr().err == (
    f"r1jax: {tmp_path} is not the folder of a run: config.json is missing; name the --workdir of a run.\n"
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(page, "write", lambda *_: (tmp_path / "no/such/folder").mkdir())
    with pytest.raises(SystemExit) as stopped:
      command.main([str(tmp_path)])
  assert stopped.value.code == 2 and "No such file or directory" in capsys.readouterr().err
  page.write(whole.parents[1])


# ---- what it shows


def test_the_overview_says_what_was_run_what_came_out_and_whether_it_is_sound(wide, whole):
  text = " ".join(texts(wide, "#overview")).replace("\xa0", " ")
  figures = json.loads((whole.parents[1] / "all_scenarios/stage.json").read_text())
  first = json.loads((whole.parents[1] / "base/stage.json").read_text())
  assert (
    f"all_scenarios answers {figures['pass@1']:.1%} of the held-out reasoning problems right, base {first['pass@1']:.1%}"
    in text
  )
  assert "16: pretraining (2), reinforcement learning (5)" in text
  assert "12 of 13 checks are fine; 1 to look at." in text
  assert "entropy_collapse in student_small_rl (3x)" in text
  assert texts(wide, "h1") == ["r1_tiny"]
  assert wide.evaluate("document.title") == "r1_tiny"


def test_the_overview_tells_what_each_stage_changed(wide, whole):
  changes = collect.collect(whole.parents[1])["changes"]
  shown = texts(wide, ".story li")
  assert len(shown) == len(changes) > 5
  for text, change in zip(shown, changes):
    assert text.startswith(change["stage"]) and f"after {change['before']}" in text
    rose = [suite for suite, was, now in change["suites"] if now > was]
    assert text.count("→") == len(change["suites"]) and ("▲" in text) == bool(rose)
    assert ("▼" in text) == (len(rose) < len(change["suites"]))


def test_the_schedule_has_every_stage_and_edges_that_touch_no_other(wide):
  assert texts(wide, "#graph .node text")[0] == "base"
  count = wide.evaluate("document.querySelectorAll('#graph .node').length")
  assert count == 16
  crossed = wide.evaluate("""(() => {
    const boxes = [...document.querySelectorAll('#graph .node')].map(n => [n.dataset.stage, n.querySelector('.shape').getBBox()]);
    const found = [];
    for (const [i, [name, a]] of boxes.entries()) for (const [other, b] of boxes.slice(i + 1))
      if (a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height) found.push(name + ' over ' + other);
    for (const edge of document.querySelectorAll('#graph > svg > .edge')) {
      const length = edge.getTotalLength();
      for (let s = 3; s < length - 3; s += 3) {
        const p = edge.getPointAtLength(s);
        for (const [name, b] of boxes)
          if (p.x > b.x + 1 && p.x < b.x + b.width - 1 && p.y > b.y + 1 && p.y < b.y + b.height - 1) found.push('edge through ' + name);
      }
    }
    return [...new Set(found)];
  })()""")
  assert crossed == []
  assert wide.evaluate("document.querySelectorAll('#graph > svg > .edge').length") == 23
  assert wide.evaluate("document.querySelectorAll('#graph > svg > .edge.reward').length") == 2


def test_a_stage_opens_with_its_lineage(wide, whole):
  wide.click('#graph [data-stage="all_scenarios"]')
  text = " ".join(texts(wide, "#stage-panel"))
  lineage = json.loads((whole.parents[1] / "all_scenarios/stage.json").read_text())["lineage"]
  for part in (lineage["parent"], *lineage["reward_models"]):
    assert part["params_sha256"] in text and part["stage"] in text
  assert "starts from sft, is rewarded by helpful_rm and safety_rm" in text and "max_response" in text
  wide.click("#stage-panel .plain", 0)
  assert texts(wide, "#stage-panel h3") == ["sft"]
  assert wide.evaluate("document.querySelector('#graph .chosen').dataset.stage") == "sft"


def test_the_graph_obeys_the_keyboard(wide):
  wide.evaluate("document.querySelector('#graph .node').focus()")
  wide.press("ArrowRight")
  wide.press("ArrowRight")
  wide.press("Enter")
  assert texts(wide, "#stage-panel h3") == ["cold_start_data"]
  wide.press("End")
  wide.press("Enter")
  assert texts(wide, "#stage-panel h3") == ["student_small_rl"]
  assert wide.evaluate("document.querySelectorAll('#graph .node[tabindex=\"0\"]').length") == 1


def test_the_table_marks_the_best_of_a_row_and_opens_intervals(wide, whole):
  folder = whole.parents[1]
  policies = [
    made.config["name"]
    for made in synthetic_run.schedule()
    if (folder / made.config["name"] / "samples.jsonl").exists()
  ]
  suites = [json.loads((folder / name / "stage.json").read_text())["suites"] for name in policies]
  for suite in ("math", "harmlessness", "language"):
    row = f'.stage-table tr[data-row="{suite}"] td'
    scores = [f"{each[suite]['score']:.1%}" for each in suites]
    shown = [re.search(r"[\d.]+%", cell)[0] for cell in texts(wide, row)]
    assert shown == scores
    best = max(each[suite]["score"] for each in suites)
    marked = wide.evaluate(f"[...document.querySelectorAll('{row}')].map(e => e.className === 'best')")
    assert marked == [each[suite]["score"] == best for each in suites]
  wide.click('.stage-table tr[data-row="math"] button')
  details = " ".join(texts(wide, ".stage-table .details:not([hidden])"))
  low, high = suites[1]["math"]["interval"]
  assert f"[{low:.1%}, {high:.1%}]" in details
  assert wide.evaluate("document.querySelector('tr[data-row=math] button').getAttribute('aria-expanded')") == "true"
  wide.click('.stage-table tr[data-row="math"] button')
  assert texts(wide, ".stage-table .details:not([hidden])") == []
  assert "length, tokens" in texts(wide, ".stage-table tbody th")


def test_tabs_and_charts_obey_the_keyboard(wide):
  wide.click('#training [role="tab"]', 0)
  wide.press("ArrowRight")
  chosen = '#training [role="tab"][aria-selected="true"]'
  assert texts(wide, chosen) == ["zero"]
  visible = '#training [role="tabpanel"]:not([hidden])'
  titles = texts(wide, f"{visible} figcaption")
  assert titles[0] == "Accuracy on held-out problems" and "Reward per component, unweighted" in titles
  for needed in ("KL to the reference, nats", "Groups without spread", "Tokens per second in rollouts"):
    assert needed in titles
  wide.evaluate(f"document.querySelector('{visible} svg').focus()")
  wide.press("Home")
  at = f"document.querySelector('{visible} svg').getAttribute('aria-valuetext')"
  assert wide.evaluate(at).startswith("updates 0: pass@1 20.0%")
  wide.press("ArrowRight")
  assert wide.evaluate(at).startswith("updates 10: pass@1")
  assert "at 10:" in texts(wide, f"{visible} .legend")[0]


def test_data_and_reward_models_are_told(wide):
  text = " ".join(texts(wide, "#data-rejection"))
  for part in ("mixed language", "212", "wrong", "1,480", "61.3", "12 of its 120 rows"):
    assert part in text
  assert "Calibration" in " ".join(texts(wide, "#data-helpful_rm")) and "87.0%" in " ".join(
    texts(wide, "#data-helpful_rm")
  )
  assert len(texts(wide, "#data-preferences .example")) == 12
  assert "chosen" in texts(wide, "#data-preferences .response header")[0]


# ---- the browser of samples


def choose(page, name, value):
  page.evaluate(f"""(() => {{ const e = document.querySelector('[data-filter={name}]');
    if (e.type === 'checkbox') e.checked = {json.dumps(value)}; else e.value = {json.dumps(value)};
    e.dispatchEvent(new Event('input', {{bubbles: true}})); }})()""")


def clear(page):
  for name in ("stage", "suite", "language", "verdict", "kind", "text"):
    choose(page, name, "")
  choose(page, "aha", False)


def number_shown(page):
  return int(re.match(r"([\d,]+) of", texts(page, "#browser [role=status]")[0])[1].replace(",", ""))


def test_filters_count_what_lies_in_the_files(wide, whole):
  rows = [json.loads(line) for line in (whole.parents[1] / "zero/samples.jsonl").read_text().splitlines()]
  clear(wide)
  choose(wide, "stage", "zero")
  choose(wide, "kind", "exam")
  assert number_shown(wide) == sum(len(row["responses"]) for row in rows)
  choose(wide, "verdict", "right")
  assert number_shown(wide) == sum(map(sum, (row["correct"] for row in rows)))
  choose(wide, "suite", "logic")
  choose(wide, "language", "zh")
  assert number_shown(wide) == sum(
    sum(row["correct"]) for row in rows if row["suite"] == "logic" and row["language"] == "zh"
  )
  clear(wide)
  choose(wide, "text", "再试一次")
  shown = texts(wide, "#browser .list .q")
  assert shown and number_shown(wide) > 20
  choose(wide, "text", "nobody wrote this")
  assert texts(wide, "#browser .list li") == [] and "No response passes" in texts(wide, "#browser [role=status]")[0]
  clear(wide)


def test_the_range_filters_by_score_and_reward(wide):
  clear(wide)
  choose(wide, "kind", "rollout")
  every = number_shown(wide)
  wide.evaluate("document.querySelector('.range input').focus()")
  wide.type("2.5")
  some = number_shown(wide)
  assert 0 < some < every
  rewards = [float(re.search(r"reward ([\d.]+)", text)[1]) for text in texts(wide, "#browser .list small")]
  assert min(rewards) >= 2.5
  wide.evaluate(
    "(() => {const e = document.querySelector('.range input'); e.value = ''; e.dispatchEvent(new Event('input', {bubbles: true}))})()"
  )


def test_arrow_keys_go_through_the_list_and_the_same_prompt_stands_side_by_side(wide):
  clear(wide)
  choose(wide, "stage", "zero")
  wide.evaluate("document.querySelector('.list').focus()")
  for _ in range(5):
    wide.press("ArrowDown")
  wide.press("ArrowUp")
  assert wide.evaluate("document.querySelector('.list').getAttribute('aria-activedescendant')") == "entry-4"
  assert wide.evaluate("[...document.querySelectorAll('.list li')].findIndex(e => e.ariaSelected === 'true')") == 4
  question = texts(wide, ".list li[aria-selected=true] .q")[0][2:]
  assert texts(wide, ".panes > .card .text b")[0] == question
  assert wide.evaluate("[...document.querySelectorAll('.panes .side select')].map(e => e.value)") == ["base", "zero"]
  assert all(text.startswith("right ") for text in texts(wide, ".panes .side .note"))
  in_view = """(() => { const a = document.querySelector('.list').getBoundingClientRect(),
    b = document.querySelector('.list li[aria-selected=true]').getBoundingClientRect();
    return b.top >= a.top - 1 && b.bottom <= a.bottom + 1; })()"""
  for _ in range(15):
    wide.press("ArrowDown")
  assert wide.evaluate("document.querySelector('.list').scrollTop") > 0 and wide.evaluate(in_view)
  wide.press("End")  # more of the list is drawn when it is needed
  total = wide.evaluate("document.querySelectorAll('.list li').length")
  assert total > 80
  assert wide.evaluate("document.querySelector('.list').getAttribute('aria-activedescendant')") == f"entry-{total - 1}"
  assert wide.evaluate(in_view)
  wide.press("Home")
  assert wide.evaluate("document.querySelector('.list').scrollTop") == 0


def test_the_structure_of_a_response_is_shown(wide):
  clear(wide)
  choose(wide, "stage", "zero")
  choose(wide, "verdict", "right")
  thought, given = texts(wide, ".panes .thought")[-1], texts(wide, ".panes .given")[-1]
  assert thought.startswith("<think>") and thought.endswith("</think>") and re.fullmatch(r"<answer>\d</answer>", given)
  clear(wide)
  choose(wide, "stage", "reasoning_rl")
  choose(wide, "verdict", "right")
  assert texts(wide, ".panes .thought")[-1].endswith("</think>"), "the summary is no thought"
  assert re.search(r"</think>(The answer is 7\.|答案是7。)$", texts(wide, ".panes .side:last-child .text")[0])
  choose(wide, "stage", "zero")
  assert wide.evaluate("getComputedStyle(document.querySelector('.panes .thought')).color") != wide.evaluate(
    "getComputedStyle(document.querySelector('.panes .given')).color"
  )


def test_an_aha_moment_opens_before_and_after(wide):
  cards = texts(wide, ".aha .card")
  assert len(cards) == 6
  assert any("wait" in card or "等等" in card for card in cards)
  wide.click(".aha button", 0)
  assert wide.evaluate("document.querySelector('[data-filter=aha]').checked") is True
  assert wide.evaluate("document.activeElement.className").startswith("list")
  assert len(texts(wide, ".panes .side")) == 2
  assert "aha moment" in " ".join(texts(wide, ".panes .response header"))
  assert texts(wide, ".panes mark")
  clear(wide)


# ---- everywhere


def test_nothing_complains_and_nothing_is_fetched(wide, phone):
  assert wide.complaints() == [] and phone.complaints() == []


def test_nothing_is_wider_than_a_phone(phone):
  phone.click('#graph [data-stage="all_scenarios"]')
  phone.click('.stage-table tr[data-row="math"] button')
  phone.evaluate("document.querySelectorAll('#data details').forEach(e => { e.open = true; })")
  for i in range(phone.evaluate("document.querySelectorAll('#training [role=tab]').length")):
    phone.evaluate(f"document.querySelectorAll('#training [role=tab]')[{i}].click()")
    assert phone.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
  choose(phone, "aha", True)
  phone.evaluate("document.querySelectorAll('.panes details').forEach(e => { e.open = true; })")
  assert phone.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
  inside = phone.evaluate("""[...document.querySelectorAll('#graph .node')].every(e => {
    const b = e.getBoundingClientRect(); return b.left >= 0 && b.right <= 360; })""")
  assert inside


def test_a_phone_can_tap_what_it_sees(phone):
  phone.click('#graph [data-stage="rejection"]')
  assert texts(phone, "#stage-panel h3") == ["rejection"]
  clear(phone)
  phone.click(".list li", 2)
  assert phone.evaluate("[...document.querySelectorAll('.list li')].findIndex(e => e.ariaSelected === 'true')") == 2


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(browser, whole, dark):
  """Contrast of 4.5 and more (WCAG AA) of what is written against the card or the page it stands on."""
  page = browser.open(whole, dark=dark)
  page.click('#training [role="tab"]', 1)
  low = page.evaluate("""(() => {
    const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    const behind = e => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
    const found = {};
    for (const s of ['p', '.note', '.thought', 'mark', '.given', 'td', 'thead th', '.legend', '.good', '.bad', '.warning', 'a', '.plain', '.axis', 'dt', '.figure span', '#graph .small', 'button', '[aria-selected=true]', 'summary'])
      for (const e of [...document.querySelectorAll(s)].slice(0, 40)) {
        const style = getComputedStyle(e), text = numbers(e instanceof SVGElement ? style.fill : style.color).slice(0, 3);
        const [a, b] = [light(text), light(behind(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) found[s] = (a + 0.05) / (b + 0.05);
      }
    return found;
  })()""")
  assert low == {}
  background = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (sum(map(int, re.findall(r"\d+", background))) < 150) is dark


def test_every_focus_is_visible_and_tab_goes_in_order(browser, whole):
  page = browser.open(whole)
  places = []
  for _ in range(40):
    page.press("Tab")
    seen = page.evaluate("""(() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
      const ring = e.classList.contains('node') ? getComputedStyle(e.querySelector('.ring')).stroke !== 'none' : s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
      return [e.tagName, ring, b.top + scrollY, b.width > 0]; })()""")
    assert seen[1] and seen[3], f"{seen} has no visible focus"
    places.append(seen[2])
  assert places[0] < 20 and max(places) == max(places[-3:]), "focus moves down the page"


def test_on_paper_every_panel_is_there(wide):
  wide.call("Emulation.setEmulatedMedia", media="print")
  hidden = wide.evaluate(
    "[...document.querySelectorAll('[role=tabpanel]')].filter(e => getComputedStyle(e).display === 'none').length"
  )
  tools = wide.evaluate("getComputedStyle(document.querySelector('.filters')).display")
  wide.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": "light"}])
  assert (hidden, tools) == (0, "none")
  assert base64.b64decode(wide.call("Page.printToPDF")["data"])[:5] == b"%PDF-"


# ---- other runs


def test_hostile_responses_are_shown_as_they_are(browser, tmp_path, undrawn):
  run = synthetic_run.write(tmp_path / "run", absent=[m.config["name"] for m in synthetic_run.schedule()][4:])
  rows = [json.loads(line) for line in (run / "zero/samples.jsonl").read_text().splitlines()]
  rows[0] |= {
    "responses": list(HOSTILE),
    "correct": [True] * 6,
    "scores": [1.0] * 6,
    "tokens": [9] * 6,
    "question": HOSTILE[0],
  }
  (run / "zero/samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  data = [{"prompt": text, "completion": text, "domain": text, "tokens": 1, "source": text} for text in HOSTILE]
  (run / "cold_start_data/data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
  opened = browser.open(page.write(run), 360, 740)
  choose(opened, "stage", "zero")
  opened.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
  assert opened.complaints() == []
  assert opened.evaluate("[typeof window.pwned, document.images.length, document.scripts.length]") == [
    "undefined",
    0,
    2,
  ]
  assert opened.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
  shown = texts(opened, ".panes .response .text")
  for text in HOSTILE:
    visible = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert any(s in (text, visible) for s in shown), text[:40]


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_run_that_is_not_finished_has_a_page(browser, tmp_path, undrawn, left):
  names = [made.config["name"] for made in synthetic_run.schedule()]
  run = synthetic_run.write(tmp_path / "run", unfinished=names[left : left + 1], absent=names[left + 1 :])
  (run / "results.json").unlink()
  opened = browser.open(page.write(run))
  assert opened.complaints() == []
  assert f"{left} of 16 are finished" in " ".join(texts(opened, "#overview"))
  assert "results.json is missing" in " ".join(texts(opened, "#overview"))
  assert "could not be drawn" not in " ".join(texts(opened, "main"))
  steps = synthetic_run.schedule()[left].config["steps"]
  opened.click(f'#graph [data-stage="{names[left]}"]')
  assert f"at {steps:,}" in " ".join(texts(opened, "#stage-panel"))


def test_what_is_not_quite_all_or_nothing_is_not_rounded_to_it(browser, whole, tmp_path, undrawn):
  run = shutil.copytree(whole.parents[1], tmp_path / "run")
  for name, score in (("base", 0.00002), ("zero", 0.99998), ("cold_start", 1.0), ("reasoning_rl", 0.9996)):
    figures = json.loads((run / name / "stage.json").read_text())
    figures["suites"]["math"]["score"] = score
    (run / name / "stage.json").write_text(json.dumps(figures))
  page_ = browser.open(page.write(run))
  assert texts(page_, 'tr[data-row="math"] .value')[:4] == ["<0.01%", ">99.99%", "100.0%", "99.96%"]


def test_a_run_of_odd_figures_has_a_page(browser, whole, tmp_path, undrawn):
  run = shutil.copytree(whole.parents[1], tmp_path / "run")
  odd = {"pass@1": "much", "pass@1_interval": 3, "suites": {"math": {"score": None}, "logic": 7}, "lineage": [], "per_level": [],
         "benchmarks": {"a": {"pass@1": 0.5}}, "seconds": None, "statistics": [], "calibration": [{"predicted": None}]}  # fmt: skip
  for path in run.glob("*/stage.json"):
    synthetic_run.put(path, odd)
  for path in run.glob("*/alarms.jsonl"):
    path.write_text('{"step": 1}\n{"step": 1, "alarm": "a"}\n')
  opened = browser.open(page.write(run))
  assert opened.complaints() == []
  assert "could not be drawn" not in " ".join(texts(opened, "main"))
