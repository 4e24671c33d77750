"""Writes the folder of a run that never happened: every kind of stage, made up but plausible, in half a second.

  python tests/report/synthetic_run.py <folder>

The figures follow the stages of DeepSeek-R1 (v2 Table 3): reasoning leaps with
R1-Zero, cold start costs some of it and repairs the language, rejection and SFT
bring general tasks, the last RL brings what people prefer.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import random
import sys

SUITES = ("math", "code", "logic", "choice", "factual", "translation", "instructions", "helpfulness", "harmlessness")
DOMAINS = dict(zip(SUITES, ("equations", "program", "logic", "choice", "facts", "translation", "instructions",
                            "writing", "harm")))  # fmt: skip
GENERAL = SUITES[4:]
PLAIN = "Think in <think></think>, answer in <answer></answer>. User: {question} Assistant:"
CHAT = "<|user|>{question}<|assistant|>"
SAMPLES, PROBLEMS = 16, 6  # per problem; per suite


@dataclasses.dataclass
class Made:
  """One stage: its config, and for a policy how good it is."""

  config: dict
  reasoning: float = 0.0
  general: float = 0.0
  mixing: float = 0.0  # share of responses with words of the other language
  words: int = 1  # how much it thinks
  aha: float = 0.0  # share of responses that correct themselves


def optimizer(rate):
  return {"class": "Optimizer", "learning_rate": rate, "warmup": 5, "final_rate": 0.1, "weight_decay": 0.0}


def policy(kind, name, start_from, **fields):
  template = {"class": "Template", "text": PLAIN if name in ("base", "zero") else CHAT, "prefill": ""}
  return {"class": kind, "name": name, "start_from": start_from, "model": None, "template": template, **fields}


def rl(name, start_from, steps, extra=(), **fields):
  rewards = [{"class": "Accuracy", "weight": 1.0}, {"class": "Format", "weight": 1.0, "structure": "answer"}, *extra]
  sampling = {"class": "Sampling", "temperature": 1.0, "max_prompt": 48, "max_response": 128}
  alarms = {"class": "Alarms", "min_entropy": 0.01, "max_truncated": 0.5, "max_mismatch": 0.05, "max_dead_groups": 0.95,
            "max_skipped": 3}  # fmt: skip
  return policy(
    "RL", name, start_from, steps=steps, group_size=16, batch_size=256, rollout_size=512, rewards=rewards,
    sampling=sampling, alarms=alarms, optimizer=optimizer(4e-4), kl=0.001, clip_low=0.2, clip_high=0.2, **fields,
  )  # fmt: skip


def sft(name, start_from, *stages):
  data = [{"class": "Made", "stage": stage} for stage in stages]
  return policy("SFT", name, start_from, data=data, epochs=2, rows=16, length=256, optimizer=optimizer(1e-3))


def rejection(name, start_from):
  filters = [{"class": "MixedLanguage"}, {"class": "LongParagraph", "characters": 600}, {"class": "Repetition"}]
  return policy("Rejection", name, start_from, prompts=600, samples=8, keep=1, filters=filters, ratio=3.0,
                rewards=[{"class": "Accuracy", "weight": 1.0}])  # fmt: skip


def preferences(name, start_from, form):
  return policy("Preferences", name, start_from, form=form, prompts=200, samples=4, queries=4, min_delta=1.0)


def reward_model(name, start_from, data, loss, reads):
  return policy("RewardModel", name, start_from, data=[{"class": "Pairs", "stage": data}], loss=loss, reads=reads,
                held_out=0.1, epochs=1, rows=32)  # fmt: skip


def schedule():
  language = {"class": "LanguageConsistency", "weight": 1.0}
  judges = [
    {"class": "Preference", "weight": 1.0, "name": name, "stage": f"{name}_rm"} for name in ("helpful", "safety")
  ]
  general = {"class": "ByDomain", "rewards": {"writing": [judges[0]], "harm": [judges[1]]}, "other": []}
  return [
    Made(policy("Pretrain", "base", "", steps=1800, rows=16, length=128, optimizer=optimizer(3e-3)), 0.2, 0.1, 0.02, 1),
    Made(rl("zero", "base", 80), 0.82, 0.15, 0.34, 4, 0.3),
    Made(rejection("cold_start_data", "zero")),
    Made(sft("cold_start", "base", "cold_start_data"), 0.7, 0.22, 0.05, 4, 0.2),
    Made(rl("reasoning_rl", "cold_start", 60, [language]), 0.88, 0.25, 0.01, 5, 0.34),
    Made(rl("reasoning_rl_plain", "cold_start", 60), 0.9, 0.25, 0.21, 5, 0.35),
    Made(rejection("rejection", "reasoning_rl")),
    Made(sft("sft", "base", "cold_start_data", "rejection"), 0.87, 0.68, 0.01, 4, 0.3),
    Made(preferences("preferences", "sft", "pairs")),
    Made(preferences("safety_labels", "sft", "labels")),
    Made(reward_model("helpful_rm", "sft", "preferences", "pairwise", "summary")),
    Made(reward_model("safety_rm", "sft", "safety_labels", "pointwise", "response")),
    Made(rl("all_scenarios", "sft", 40, [language, general]), 0.89, 0.84, 0.01, 5, 0.33),
    Made(policy("Pretrain", "student_small_base", "", steps=900), 0.12, 0.08, 0.03, 1),
    Made(sft("student_small_sft", "student_small_base", "cold_start_data", "rejection"), 0.66, 0.6, 0.01, 4, 0.24),
    Made(rl("student_small_rl", "student_small_base", 80), 0.4, 0.1, 0.2, 3, 0.1),
  ]


def write(folder, seed=0, unfinished=(), absent=()):
  """Writes the run into `folder`; `unfinished` stages lack their end, `absent` ones are not begun."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  stages = schedule()
  model = {"class": "Model", "vocab": 512, "width": 128, "layers": 3, "hidden": 384,
           "experts": {"class": "Experts", "routed": 8, "active": 2, "shared": 1}}  # fmt: skip
  experiment = {
    "class": "Experiment", "name": "r1_tiny", "seed": seed, "model": model,
    "playground": {"class": "Playground", "domains": list(DOMAINS.values()), "languages": ["en", "zh"]},
    "stages": [made.config for made in stages],
    "evaluation": {"class": "Evaluation", "samples": SAMPLES, "majority": 8},
  }  # fmt: skip
  put(folder / "config.json", experiment)
  digest = hashlib.sha256(json.dumps(experiment, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
  done = {}
  for made in stages:
    name = made.config["name"]
    if name in absent:
      continue
    draw = random.Random(f"{seed}{name}")
    stage = WRITERS[made.config["class"]](folder / name, made, draw)
    stage["lineage"] = lineage(made.config, digest, done, seed)
    if name not in unfinished:
      done[name] = stage
      put(folder / name / "stage.json", stage)
  versions = {"r1jax": "0.1.0", "jax": "0.10.2", "numpy": "2.4.6"}
  put(folder / "results.json", {"stages": done, "config_sha256": digest, "versions": versions})
  return folder


def lineage(config, digest, done, seed):
  taken = [item["stage"] for item in (*config.get("data", ()), *leaves(config.get("rewards", ()))) if "stage" in item]
  origin = lambda name: {"stage": name, **{k: v for k, v in done.get(name, {}).items() if k.endswith("_sha256")}}
  of = lambda kind: [origin(name) for name in taken if (kind == "rm") == name.endswith("_rm")]
  parent = config["start_from"]
  return {
    "stage": config["name"], "config_sha256": digest, "stage_sha256": sha(config["name"]), "code": "r1jax 0.1.0",
    "seed": seed, "parent": origin(parent) if parent else None, "data": of("data"), "reward_models": of("rm"),
  }  # fmt: skip


def leaves(rewards):
  """The rewards of a composition, those within ByDomain too."""
  for reward in rewards:
    inner = [each for values in reward.get("rewards", {}).values() for each in values]
    yield from leaves(inner) if reward["class"] == "ByDomain" else [reward]


# ---- policies


def write_policy(folder, made, draw):
  folder.mkdir(exist_ok=True)
  config, rows, suites = made.config, [], {}
  for suite in SUITES:
    skill = made.general if suite in GENERAL else made.reasoning
    mine = [problem(suite, i, made, skill, draw) for i in range(PROBLEMS)]
    rows += mine
    suites[suite] = suite_figures(mine, suite not in GENERAL, draw)
  for suite, share in (("language", 1 - made.mixing), ("readability", 0.95 - made.mixing)):
    suites[suite] = suites["math"] | {
      "score": share,
      "interval": [share - 0.02, min(1, share + 0.02)],
      "majority": None,
    }
  lines(folder / "samples.jsonl", rows)
  write_training(folder, made, draw)
  seconds = 20 + 100 * draw.random()
  return figures(rows, made) | {"kind": config["class"], "suites": suites, "benchmarks": {}, "params_sha256":
    sha(config["name"] + "params"), "seconds": seconds, "train_seconds": 0.9 * seconds}  # fmt: skip


def problem(suite, i, made, skill, draw):
  language = ("en", "zh")[i % 2]
  a, b = 3 + i, 12 + 5 * i
  question = {"en": f"What is x in {a}x+{b}={a * 7 + b}? ({suite})", "zh": f"求{a}x+{b}={a * 7 + b}中的x。（{suite}）"}
  right = [draw.random() < skill for _ in range(SAMPLES)]
  responses = [respond(made, r, a, b, language, suite, draw) for r in right]
  scores = [
    round(draw.uniform(0.7, 1) if r else draw.uniform(0, 0.6), 4) if suite in GENERAL else float(r) for r in right
  ]
  return {
    "id": f"{suite}/{i}", "question": question[language], "answer": "7", "kind": "open" if suite in GENERAL else "number",
    "domain": DOMAINS[suite], "level": 1 + i % 3, "language": language, "suite": suite, "responses": responses,
    "correct": right, "scores": scores, "tokens": [max(3, len(text) // 3) for text in responses],
  }  # fmt: skip


def respond(made, right, a, b, language, suite, draw):
  steps = [f"{a}*{t}+{b}={a * t + b}" for t in (5, 9, 6, 8, 4)[: made.words - 1]]
  words = ["too small", "too big"] if language == "en" else ["太小", "太大"]
  if draw.random() < made.aha:
    wait = "wait, that is wrong: " if language == "en" else "等等，不对："
    steps.append(f"{a}*7={a * 7 + 1}; {wait}{a}*7={a * 7}")
  if draw.random() < made.mixing:
    steps.append("再试一次" if language == "en" else "try again with another number")
  thought = "; ".join(f"{step} {words[i % 2]}" if i < made.words - 1 else step for i, step in enumerate(steps))
  answer = "7" if right else str(draw.choice((5, 6, 8, 9)))
  thought = f"{thought}; {a}*{answer}+{b}={a * 7 + b}".lstrip("; ")
  if made.config["template"]["text"] == PLAIN:
    return f"<think>{thought}</think><answer>{answer}</answer>" + (" and more" if draw.random() > 0.9 else "")
  if suite == "helpfulness":
    return (
      "Here is a short letter.\nDear friend, the garden is green and I think of you."
      if right
      else "Letter letter letter."
    )
  closing = f"The answer is {answer}." if language == "en" else f"答案是{answer}。"
  return f"<think>{thought}</think>{closing}"


def suite_figures(rows, votes, draw):
  marks = [sum(row["scores"]) / SAMPLES for row in rows]
  score = sum(marks) / len(marks)
  half = 0.4 * math.sqrt(max(score * (1 - score), 0.01) / len(rows))
  return {
    "score": score, "interval": [max(0, score - half), min(1, score + half)],
    "majority": min(1.0, score + 0.1 * draw.random()) if votes else None,
    "tokens": mean(mean(row["tokens"]) for row in rows), "problems": len(rows), "samples": SAMPLES,
  }  # fmt: skip


def figures(rows, made):
  score = mean(mean(row["correct"]) for row in rows)
  groups = lambda key: {
    str(value): {
      "pass@1": mean(mean(row["correct"]) for row in rows if row[key] == value),
      "problems": sum(row[key] == value for row in rows),
      "response_length": mean(mean(row["tokens"]) for row in rows if row[key] == value),
    }
    for value in dict.fromkeys(row[key] for row in rows)
  }
  return {
    "pass@1": score, "pass@1_interval": [max(0, score - 0.05), min(1, score + 0.05)], "majority@8": min(1, score + 0.06),
    f"pass@{SAMPLES}": min(1, score + 0.2), "response_length": mean(mean(row["tokens"]) for row in rows),
    "reflection_rate": made.aha, "reflective_words_per_response": 2 * made.aha, "language_mixing": made.mixing,
    "foreign_share": made.mixing / 2, "self_corrections": made.aha * score,
    "per_domain": groups("domain"), "per_level": groups("level"), "per_language": groups("language"),
  }  # fmt: skip


def write_training(folder, made, draw):
  config = made.config
  steps = config.get("steps", 120)
  lines(folder / "alarms.jsonl", [])
  if config["class"] != "RL":
    rows = [{"step": i, "policy/loss": 2.5 * math.exp(-i / 30) + 0.5 + 0.05 * draw.random(), "policy/skipped": 0.0,
             "policy/gradient_norm": 0.2 + 0.1 * draw.random(), "time/step": 0.1} for i in range(steps)]  # fmt: skip
    lines(folder / "metrics.jsonl", rows)
    return
  names = [reward.get("name", reward["class"].lower()) for reward in leaves(config["rewards"])]
  lines(folder / "metrics.jsonl", [update(i, steps, made, names, draw) for i in range(steps)])
  lines(folder / "curve.jsonl", [point(i, steps, made, draw) for i in range(0, steps + 1, 10)])
  if config["name"] == "student_small_rl":
    message = "policy/entropy is 0.008, below alarms.min_entropy=0.01 nats: the policy hardly explores."
    lines(folder / "alarms.jsonl", [{"step": i, "alarm": "entropy_collapse", "message": message} for i in (70, 71, 78)])
  (folder / "rollouts").mkdir(exist_ok=True)
  for step in range(0, steps, 20):
    lines(folder / "rollouts" / f"step_{step:06d}.0.jsonl", list(rollout(step, made, names, draw)))


def update(i, steps, made, names, draw):
  done, noise = i / steps, lambda size: size * (draw.random() - 0.5)
  row = {"step": i} | {f"reward/{name}": min(1.0, 0.2 + 0.7 * done + noise(0.1)) for name in names}
  row |= {
    "reward/total": sum(row[f"reward/{name}"] for name in names), "reward/parsed": 0.7 + 0.25 * done,
    "reward/check_failures": 0.0, "reward/check_timeouts": 0.0,
    "rollout/length": 10 + 12 * made.words * done + noise(3), "rollout/truncated": 0.02 + 0.03 * done,
    "policy/kl": 0.006 * done + 0.001, "policy/entropy": 0.6 * math.exp(-4 * done) + 0.008,
    "policy/clip_fraction": max(0.0, 0.004 + noise(0.004)), "policy/gradient_norm": 0.5 + noise(0.3),
    "policy/loss": noise(0.1), "policy/skipped": 0.0, "policy/non_finite_rows": 0.0, "group/dead": 0.3 * done,
    "expert/max_violation": 0.3 + noise(0.1), "emergence/reflection_rate": 0.05 + made.aha * done,
    "emergence/self_corrections": made.aha * done, "emergence/language_mixing": made.mixing * done,
  }  # fmt: skip
  if i % 2 == 0:
    row |= {"policy/sampler_mismatch": 2e-7, "time/rollout": 3 + noise(1), "time/reward": 0.05,
            "time/rollout_tokens_per_second": 6000 + noise(800)}  # fmt: skip
  return row | {"time/train": 2 + noise(0.5), "time/step": 3.6 + noise(1)}


def point(i, steps, made, draw):
  score = 0.2 + (made.reasoning - 0.2) * (i / steps) ** 0.7
  level = lambda n: {"pass@1": max(0, score + 0.1 - 0.1 * n), "problems": 8, "response_length": 20.0}
  return {
    "step": i, "pass@1": score, "pass@1_interval": [score - 0.06, score + 0.05], "majority@8": min(1, score + 0.1),
    "pass@16": min(1, score + 0.3), "response_length": 10 + 40 * i / steps, "reflection_rate": made.aha * i / steps,
    "self_corrections": made.aha * i / steps, "language_mixing": made.mixing * i / steps,
    "per_level": {str(n): level(n) for n in (1, 2, 3)},
  }  # fmt: skip


def rollout(step, made, names, draw):
  for i in range(32):
    suite = SUITES[i % 4]
    row = problem(suite, 10 + i // 4, made, made.reasoning, draw)
    found = {name: round(draw.random(), 3) for name in names}
    keep = {key: row[key] for key in ("id", "question", "answer", "kind", "domain", "level", "language")}
    yield {"step": step} | keep | {
      "response": row["responses"][0], "tokens": row["tokens"][0], "ended": draw.random() > 0.05,
      "reward": sum(found.values()), "rewards": found,
      "statuses": {"accuracy": "right" if row["correct"][0] else "wrong"},
    }  # fmt: skip


# ---- data and reward models


def write_completions(folder, made, draw):
  folder.mkdir(exist_ok=True)
  writer, rows = dataclasses.replace(made, words=4, aha=0.3), []
  for i in range(120):
    suite = SUITES[i % len(SUITES)]
    p = problem(suite, i % 20, writer, 1.0, draw)
    keep = {key: p[key] for key in ("id", "domain", "language", "kind", "answer", "level")}
    rows.append(keep | {"prompt": p["question"], "completion": p["responses"][0], "tokens": p["tokens"][0],
                        "source": made.config["start_from"], "round": 1})  # fmt: skip
  lines(folder / "data.jsonl", rows)
  groups = {s: {"rows": 13 + i, "rounds": 1.0, "tokens": 40.0 + 7 * i} for i, s in enumerate(SUITES)}
  groups["total"] = {"rows": 120, "rounds": 1.0, "tokens": 61.3}
  reasons = {"wrong": 1480, "mixed language": 212, "long paragraph": 31, "repetition": 77, "cut": 19}
  domains = {"equations": {"acceptance": 0.21, "questions": 300, "responses": 2400, "right": 700, "accepted": 504}}
  statistics = {"groups": groups, "sources": {folder.name: 120}, "questions": 600, "responses": 4800,
                "left_out": reasons, "domains": domains}  # fmt: skip
  put(folder / "statistics.json", statistics)
  return {"kind": "Rejection", "statistics": statistics, "data_sha256": sha(folder.name + "data"), "seconds": 31.0}


def write_preferences(folder, made, draw):
  folder.mkdir(exist_ok=True)
  rows = []
  for i in range(60):
    p = problem("helpfulness", i % 12, dataclasses.replace(made, words=2), 0.5, draw)
    keep = {key: p[key] for key in ("id", "domain", "language")} | {"prompt": p["question"]}
    if made.config["form"] == "pairs":
      rows.append(keep | {"chosen": "Dear friend, all is well.", "rejected": "Letter letter letter.", "delta": 1.5,
                          "tokens_chosen": 8, "tokens_rejected": 7})  # fmt: skip
    else:
      rows.append(keep | {"response": p["responses"][0], "safe": i % 3 != 0, "tokens": p["tokens"][0]})
  lines(folder / "data.jsonl", rows)
  statistics = {
    "rows": 60,
    "left_out": {"tie": 88, "unreadable verdict": 3},
    "mean_tokens": {"chosen": 8.0, "rejected": 7.0},
  }
  put(folder / "statistics.json", statistics)
  return {"kind": "Preferences", "statistics": statistics, "data_sha256": sha(folder.name + "data"), "seconds": 22.0}


def write_reward_model(folder, made, draw):
  folder.mkdir(exist_ok=True)
  write_training(folder, made, draw)
  bins = [{"from": i / 5, "to": (i + 1) / 5, "predicted": (i + 0.5) / 5, "observed": min(1, max(0, (i + 0.5) / 5
           + 0.08 * (draw.random() - 0.5))), "count": 10 + 3 * i} for i in range(5)]  # fmt: skip
  return {
    "kind": "RewardModel", "accuracy": 0.87, "accuracy_interval": [0.8, 0.93], "calibration": bins, "prompts": 41,
    "expected_calibration_error": 0.031, "rows": {"training": 400, "held_out": 44, "too_long": 2}, "share_safe": None,
    "params_sha256": sha(folder.name + "params"), "seconds": 41.0,
  }  # fmt: skip


WRITERS = {
  "Pretrain": write_policy, "SFT": write_policy, "RL": write_policy, "Rejection": write_completions,
  "Preferences": write_preferences, "RewardModel": write_reward_model,
}  # fmt: skip


def mean(values):
  values = list(values)
  return sum(values) / len(values)


def sha(text):
  return hashlib.sha256(text.encode()).hexdigest()


def put(path, value):
  path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def lines(path, rows):
  path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
  print(write(sys.argv[1]))
