"""Every sequence lands whole, once, in its own segment, and rows are well filled."""

import numpy as np
import pytest

from r1jax.data.packing import lay_beside, lay_out, pack

random = np.random.default_rng(7)


def test_every_sequence_is_laid_out_whole_with_its_own_positions_segment_and_fields():
  sequences = [random.integers(1, 100, n) for n in random.integers(1, 17, 60)]
  fields = [random.normal(size=(2, len(s))).astype(np.float32) for s in sequences]
  placing = pack([len(s) for s in sequences], 16)
  tokens, positions, segments, laid = lay_out(sequences, placing, placing.rows + 2, 16, fields, count=2)
  used = np.zeros(tokens.shape, int)
  for i, sequence in enumerate(sequences):
    row, where = placing.row[i], slice(placing.offset[i], placing.offset[i] + len(sequence))
    used[row, where] += 1
    np.testing.assert_array_equal(tokens[row, where], sequence)
    np.testing.assert_array_equal(positions[row, where], np.arange(len(sequence)))
    segment = segments[row, placing.offset[i]]
    assert (np.nonzero(segments[row] == segment)[0] == np.arange(where.start, where.stop)).all() and segment > 0
    np.testing.assert_array_equal([x[row, where] for x in laid], fields[i])
  assert used.max() == 1
  for array in (tokens, positions, segments, *laid):
    assert not array[used == 0].any()


def test_rows_are_as_few_as_a_perfect_fit_allows():
  lengths = [10, 6, 9, 7, 8, 8, 16, 3, 13]
  assert pack(random.permutation(lengths), 16).rows == sum(lengths) // 16


def test_a_sequence_goes_to_the_fullest_row_that_holds_it():
  placing = pack([10, 12, 4], 16)
  assert placing.row[2] == placing.row[1] != placing.row[0]


def test_random_lengths_fill_the_rows_to_95_percent():
  lengths = random.integers(20, 129, 500)
  assert lengths.sum() / (pack(lengths, 256).rows * 256) > 0.95


def test_nothing_is_packed_into_no_rows():
  placing = pack([], 16)
  tokens, _, _, laid = lay_out([], placing, 2, 16, [], count=3)
  assert placing.rows == 0 and tokens.shape == (2, 16) and np.shape(laid) == (3, 2, 16)


def test_a_sequence_longer_than_a_row_is_an_error_with_both_numbers():
  with pytest.raises(ValueError, match="17 tokens does not fit into a row of 16"):
    pack([3, 17], 16)


def test_values_of_any_kind_lie_beside_their_tokens_and_leave_the_rest_as_it_was():
  lengths = [5, 3, 7, 2]
  placing = pack(lengths, 8)
  sequences = [np.arange(n) + 10 * i for i, n in enumerate(lengths)]
  tokens, *_ = lay_out(sequences, placing, placing.rows, 8)
  values = [np.stack([s[:-1], -s[:-1]], -1)[:, None] for s in sequences]  # of all but the last token
  laid = lay_beside(iter(values), placing, np.full((placing.rows, 8, 1, 2), -1, np.int16))
  assert laid.dtype == np.int16
  known = set()
  for sequence in sequences:
    row, start = np.argwhere(tokens == sequence[1])[0] - (0, 1)
    for i, token in enumerate(sequence[:-1]):
      assert laid[row, start + i, 0].tolist() == [token, -token]
      known.add((row, start + i))
  assert all((laid[at] == -1).all() for at in np.ndindex(*tokens.shape) if at not in known)
