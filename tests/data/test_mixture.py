"""Mixtures: exact shares, every problem once an epoch, the same row on any number of processes, resumed to the row."""

from collections import Counter
import dataclasses
import itertools
import json

from hypothesis import given, settings, strategies as st
import jax  # noqa: F401  (conftest gives its modules a mesh)
import pytest

from r1jax import config, mesh
from r1jax.data import problems as data
from r1jax.data.filters import Context, Only
from r1jax.data.generated import PlaygroundProblems
from r1jax.data.mixture import Mixed, Mixture, Part, Switched
from r1jax.data.sources import Jsonl

PLAYGROUND = config.Playground(
  domains=("arithmetic",), levels=(1, 2), mix=config.Mix(), documents=1, evaluation_problems=1
)


def of(domain, **fields):
  return PlaygroundProblems(playground=dataclasses.replace(PLAYGROUND, domains=(domain,)), **fields)


class Rows(list):
  """A source that is opened already."""

  fingerprint = "rows"


def row_of(lengths, weights, seed=0):
  return Mixed([Rows(f"{s}/{i}" for i in range(length)) for s, length in enumerate(lengths)], weights, seed)


def write(path, name, count, **columns):
  rows = [{"id": f"{name}{i}", "question": f"{name} {i}?", "answer": str(i)} | columns for i in range(count)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def take(row, count, first=0):
  return [row[i] for i in range(first, first + count)]


WEIGHTS = st.lists(st.sampled_from([0.1, 0.25, 0.3, 1, 2, 3, 0.07, 7473, 1 / 3]), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WEIGHTS, st.integers(0, 10**9))
def test_shares_are_exact_in_every_period_and_close_anywhere(weights, first):
  row = Mixed([range(10)] * len(weights), weights, 0)
  exact = [weight / sum(weights) for weight in weights]
  assert [share / row.period for share in row.shares] == pytest.approx(exact)
  for k in range(first, first + 50):
    source, before = row._source(k)
    assert abs(before - k * row.shares[source] / row.period) < len(weights)
  if row.period <= 2000:
    start = first // row.period * row.period
    counted = Counter(row._source(start + k)[0] for k in range(row.period))
    assert [counted[s] for s in range(len(weights))] == row.shares


@settings(max_examples=50, deadline=None, derandomize=True)
@given(WEIGHTS)
def test_positions_number_the_problems_of_each_source_one_by_one(weights):
  row = row_of([1] * len(weights), weights)
  seen = Counter()
  for k in range(300):
    source, nth = row._source(k)
    assert nth == seen[source]  # counted by going through, here
    seen[source] += 1
    for s, share in enumerate(row.shares):
      assert abs(seen[s] - (k + 1) * share / row.period) < len(weights)


def test_every_problem_comes_once_an_epoch_in_a_new_order_each_time():
  row = row_of([100], [1])
  epochs = [take(row, 100, first=100 * e) for e in range(4)]
  assert all(sorted(epoch) == sorted(row.sources[0]) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 4
  assert take(row_of([100], [1]), 400) == list(itertools.chain(*epochs))  # the same again
  assert take(row_of([100], [1], seed=1), 100) != epochs[0]
  # of the pairs of neighbours in one order hardly any are neighbours in another: 1 of 100 by chance
  neighbours = [set(itertools.pairwise(epoch)) for epoch in epochs]
  assert len(neighbours[0] & neighbours[1]) < 8


def test_sources_of_different_lengths_each_keep_their_epochs():
  row = row_of([3, 50, 7], [1, 2, 1])
  taken = take(row, 400)
  for source, (length, share) in enumerate(zip((3, 50, 7), (100, 200, 100))):
    mine = [name for name in taken if name.startswith(f"{source}/")]
    assert len(mine) == share
    for start in range(0, len(mine) - length + 1, length):
      assert len(set(mine[start : start + length])) == length
  assert row.epochs(400) == [100 / 3, 4.0, 100 / 7]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_parts_of_all_processes_are_the_row_without_gap_or_overlap(processes):
  row = row_of([37, 11], [3, 1])
  parts = [Part(row, 12, process, processes) for process in range(processes)]
  size = 12 // processes
  for batch in range(9):
    together = [problem for part in parts for problem in take(part, size, first=batch * size)]
    assert together == take(row, 12, first=12 * batch)
  with pytest.raises(ValueError, match="12 problems a batch cannot be split over 5 processes"):
    Part(row, 12, 0, 5)


def test_any_number_of_processes_gets_the_same_batches_and_states(tmp_path, monkeypatch):
  row = Mixture(
    sources=(
      Jsonl(path=write(tmp_path / "a.jsonl", "a", 13), weight=3),
      Jsonl(path=write(tmp_path / "b.jsonl", "b", 5)),
      PlaygroundProblems(playground=PLAYGROUND),
    )
  ).open(seed=5)
  batches, states = {}, {}
  for processes in (1, 2, 4):
    parts = []
    for process in range(processes):
      monkeypatch.setattr(mesh, "part", lambda part=(process, processes): part)
      parts.append(data.batches(row, 8))
    batches[processes] = [list(itertools.chain(*map(next, parts))) for _ in range(6)]
    states[processes] = [json.dumps(part.get_state()) for part in parts]
  assert batches[1] == batches[2] == batches[4]
  assert len({state for each in states.values() for state in each}) == 1  # so any number may go on
  ids = [p.id for batch in batches[1] for p in batch]
  assert sum(id[0] == "a" for id in ids) > 20 and len(ids) == 48


@pytest.mark.parametrize("killed_after", range(7))
def test_a_run_killed_after_any_batch_goes_on_with_the_very_next_problem(tmp_path, killed_after):
  mixture = Mixture(
    sources=(Jsonl(path=write(tmp_path / "a.jsonl", "a", 9)), PlaygroundProblems(playground=PLAYGROUND, weight=0.5)),
    filters=(),
  )
  whole = data.batches(mixture.open(seed=1), 6)
  expected = [next(whole) for _ in range(9)]
  killed = data.batches(mixture.open(seed=1), 6)
  for _ in range(killed_after):
    next(killed)
  state = json.loads(json.dumps(killed.get_state()))
  resumed = data.batches(mixture.open(seed=1), 6)
  resumed.set_state(state)
  assert [next(resumed) for _ in range(9 - killed_after)] == expected[killed_after:]


def test_other_data_or_another_seed_are_not_resumed(tmp_path):
  path = tmp_path / "a.jsonl"
  mixture = Mixture(sources=(Jsonl(path=write(path, "a", 9)),))
  state = data.batches(mixture.open(seed=1), 4).get_state()
  data.batches(mixture.open(seed=1), 4).set_state(state)
  two = Mixture(sources=(Jsonl(path=str(path)), PlaygroundProblems(playground=PLAYGROUND)))
  others = [mixture.open(seed=2), two.open(seed=1)]
  write(path, "a", 8)
  for other in [*others, mixture.open(seed=1)]:
    with pytest.raises(ValueError, match="are not those this run was begun with"):
      data.batches(other, 4).set_state(state)


def test_the_filters_of_a_mixture_apply_to_every_source_after_its_own(tmp_path):
  rows = [Jsonl(path=write(tmp_path / f"{n}.jsonl", n, 4, level=level)) for n, level in (("a", 1), ("b", 2))]
  with pytest.raises(
    ValueError, match=r"b.jsonl: no problem is left of 4 rows: 4 are dropped by only \(the first for level 2\)"
  ):
    Mixture(sources=tuple(rows), filters=(Only(levels=(1,)),)).open(0)
  assert len(Mixture(sources=tuple(rows), filters=(Only(levels=(1, 2)),)).open(0).sources[1]) == 4


def test_an_id_in_two_sources_is_told_and_a_name_tells_them_apart(tmp_path):
  first, second = (write(tmp_path / f"{n}.jsonl", "x", 3) for n in "ab")
  with pytest.raises(ValueError, match="3 ids, 'x0' among them, are in both .*a.jsonl and .*b.jsonl; give one"):
    Mixture(sources=(Jsonl(path=first), Jsonl(path=second))).open(0)
  row = Mixture(sources=(Jsonl(path=first), Jsonl(path=second, name="b"))).open(0)
  assert {p.id for p in take(row, 6)} == {"x0", "x1", "x2", "b/x0", "b/x1", "b/x2"}


def test_a_mixture_of_nothing_is_refused():
  with pytest.raises(ValueError, match="sources is empty"):
    Mixture(sources=()).open(0)
  one = Jsonl(path="a.jsonl")
  with pytest.raises(ValueError, match=r"Mixture.sources=Jsonl\(.* must be a tuple, as \(Jsonl\("):
    Mixture(sources=one).validate()
  with pytest.raises(ValueError, match=r"Mixture.filters=Only\(.* must be a tuple"):
    Mixture(sources=(one,), filters=Only()).validate()
  with pytest.raises(ValueError, match="Mixture.sources holds 'a.jsonl', which cannot be used there"):
    Mixture(sources=("a.jsonl",)).validate()
  with pytest.raises(ValueError, match="weight=-1 must be above 0"):
    Mixture(sources=(PlaygroundProblems(playground=PLAYGROUND, weight=-1),)).validate()


def test_the_playground_is_asked_in_the_order_of_its_problems():
  batches = data.problem_batches(PLAYGROUND, 3, 4)
  source = PlaygroundProblems(playground=PLAYGROUND, seed=3).open()
  assert [next(batches), next(batches)] == [take(source, 4), take(source, 4, first=4)]


def test_a_switched_row_is_the_first_up_to_the_position_and_the_other_from_it_on():
  first, later = (of(domain).open(Context(seed=3)) for domain in ("arithmetic", "logic"))
  row = Switched(first, later, 5)
  assert [row[i].id for i in range(10)] == [(first if i < 5 else later)[i].id for i in range(10)]
  assert [row[i].domain for i in (4, 5)] == ["arithmetic", "logic"]
  assert Switched(first, later, 6).fingerprint != row.fingerprint != Switched(later, first, 5).fingerprint


def test_the_playground_follows_the_seed_of_the_run_unless_it_has_one():
  ids = lambda source, seed: [source.open(Context(seed=seed))[i].id for i in range(8)]
  free, fixed = of("arithmetic"), of("arithmetic", seed=7)
  assert ids(free, 1) != ids(free, 2) and ids(fixed, 1) == ids(fixed, 2) == ids(free, 7)
