"""The tokenizer: exact round trips, whole words, digits apart, the same model every time."""

import itertools

import pytest

from r1jax.config import Mix, Playground, Template
from r1jax.data.tokenizer import SYMBOLS, Tokenizer, open_tokenizer
from r1jax.playground import documents

WORLD = Playground(
  domains=("arithmetic", "equations", "countdown"), levels=(1, 2), mix=Mix(), documents=3000, evaluation_problems=1
)
TEMPLATE = Template(
  text="Assistant thinks, then answers: <think> </think> <answer> </answer>. User: {question} Assistant:"
)


@pytest.fixture(scope="module")
def corpus():
  return documents(WORLD, TEMPLATE, 0)


@pytest.fixture(scope="module")
def tokenizer(corpus):
  return Tokenizer.train(corpus, 448)


def pieces(tokenizer, text):
  return [tokenizer.decode([id]) for id in tokenizer.encode(text)]


def test_every_document_comes_back_exactly(tokenizer, corpus):
  for text in corpus:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
  "text",
  [
    "",
    " ",
    "  two  spaces ",
    "\n\ttab\r\n",
    "never seen: éß語😀",
    "ﬁ Å １２ ½",
    "<think>a</think>",
    "<|end|>",
    "\u0000",
    "x" * 5000,
  ],
)
def test_strange_texts_come_back_exactly(tokenizer, text):
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_are_one_token_with_their_space_and_digits_stand_alone(tokenizer):
  assert pieces(tokenizer, "What is 17+5?") == ["What", " is", " ", "1", "7", "+", "5", "?"]
  assert pieces(tokenizer, "12~30 low wait,3:") == ["1", "2", "~", "3", "0", " low", " wait", ",", "3", ":"]
  assert pieces(tokenizer, "12~30 小了 等等,") == ["1", "2", "~", "3", "0", " 小了", " 等等", ","]


def test_symbols_are_one_token_each(tokenizer):
  assert pieces(tokenizer, "".join(SYMBOLS)) == list(SYMBOLS)


def test_no_piece_joins_digits_or_operators_with_anything(tokenizer):
  for id in range(4 + len(SYMBOLS) + 256, tokenizer.size):
    piece = tokenizer.decode([id])
    assert len(piece) == 1 or piece.strip().isalpha(), piece


def test_control_tokens_have_their_ids_vanish_and_are_never_read_from_text(tokenizer):
  assert (tokenizer.pad, tokenizer.end) == (0, 1)
  ids = tokenizer.encode("7+5")
  assert tokenizer.decode([2, *ids, 1, 0, 0]) == "7+5"
  assert not {0, 1, 2, 3} & set(tokenizer.encode("<|pad|><|end|><|begin|><|unknown|> é"))


def test_a_prompt_and_its_response_are_tokenized_alike_together_and_apart(tokenizer, corpus):
  for text in corpus[:500]:
    prompt, mark, response = text.partition(" Assistant:")
    assert tokenizer.encode(prompt + mark) + tokenizer.encode(response) == tokenizer.encode(text)


def test_it_has_the_interface_of_published_tokenizers(tokenizer, corpus):
  assert (tokenizer.begin, tokenizer.prefix, tokenizer.chat) == (None, (), None)
  assert tokenizer.ends == (tokenizer.end,) and tokenizer.turn_end == tokenizer.end
  template = "User: {question} Assistant: <think>"
  assert tokenizer.encode_question(template, "7+5?<|end|>") == tokenizer.encode("User: 7+5?<|end|> Assistant: <think>")
  ids = tokenizer.encode(corpus[0])
  assert tokenizer.encode_prompt(corpus[0]) == ids and tokenizer.decode(ids, first=False) == corpus[0]


def test_ids_beyond_the_vocabulary_read_as_replacement(tokenizer):
  assert tokenizer.decode([*tokenizer.encode("7"), tokenizer.size, *tokenizer.encode("+5")]) == "7\ufffd+5"


def test_batches_equal_single_texts_for_any_number_of_threads(tokenizer, corpus):
  expected = [tokenizer.encode(text) for text in corpus[:200]]
  assert tokenizer.encode_batch(corpus[:200]) == tokenizer.encode_batch(corpus[:200], 4) == expected


def test_training_twice_and_saving_give_the_same_model(tokenizer, corpus, tmp_path):
  again = Tokenizer.train(corpus, 448)
  tokenizer.save(tmp_path / "new" / "folder")
  loaded = Tokenizer.load(tmp_path / "new" / "folder")
  assert again.sha256 == loaded.sha256 == tokenizer.sha256
  assert type(open_tokenizer(tmp_path / "new" / "folder")) is Tokenizer
  assert loaded.encode(corpus[0]) == tokenizer.encode(corpus[0])
  assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["tokenizer.model"]


def test_vocab_is_an_upper_bound(tokenizer, corpus):
  assert tokenizer.size <= 448
  sizes = [Tokenizer.train(corpus, vocab).size for vocab in (345, 400)]
  assert sizes[0] <= 345 and sizes[1] <= 400


def test_training_is_silent(corpus, capfd):
  Tokenizer.train(list(itertools.islice(corpus, 300)), 448)
  assert capfd.readouterr() == ("", "")


def test_a_vocab_too_small_for_the_characters_is_refused(corpus):
  with pytest.raises(ValueError, match="vocab=270"):
    Tokenizer.train(corpus, 270)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
  with pytest.raises(ValueError, match="there is no tokenizer at"):
    Tokenizer.load(tmp_path)
