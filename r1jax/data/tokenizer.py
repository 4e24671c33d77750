"""The tokenizer trained here: sentencepiece, whole words, digits apart, every text exactly recoverable.

`open_tokenizer` opens it or a published one (hub_tokenizer.py), which has the same interface.
"""

import hashlib
import io
import itertools
import os
import pathlib
import re
from typing import TYPE_CHECKING

import sentencepiece

if TYPE_CHECKING:
  from r1jax.data.hub_tokenizer import HubTokenizer

SYMBOLS = ("<think>", "</think>", "<answer>", "</answer>", "<|user|>", "<|assistant|>")
PAD, END, BEGIN, UNKNOWN = range(4)
CONTROL = ("<|pad|>", "<|end|>", "<|begin|>", "<|unknown|>")  # pieces of these ids
FILE = "tokenizer.model"
TRAINING_DOCUMENTS = 10_000  # at most; more do not change the pieces
DELIMITER = "\x01"  # between stretches that no piece may join; not in any document
STRETCH = re.compile(r" ?[^\W\d_]+|.", re.DOTALL)  # a word with the space before it, or one character
HAN_PHRASE = re.compile(r"[\u3400-\u9fff]{4}")  # no space parts its words; as one piece each phrase would be learned


def split(text: str) -> list[str]:
  """Stretches of a text: words, and single characters elsewhere and in Han phrases, which are no words."""
  found = STRETCH.findall(text)
  return [part for each in found for part in (each if HAN_PHRASE.search(each) else [each])]


class Tokenizer:
  """Text to token ids and back.

  Words are pieces together with the space before them; digits, operators and
  punctuation stand alone; characters never seen fall back to bytes.
  """

  begin, prefix = None, ()  # no text has a token before it
  ends, turn_end = (END,), END
  chat = None

  def __init__(self, model: bytes):
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.size = self._processor.get_piece_size()  # tokens
    self.pad, self.end = PAD, END
    self.sha256 = hashlib.sha256(model).hexdigest()

  @classmethod
  def train(cls, documents: list[str], vocab: int) -> "Tokenizer":
    """Learns pieces from `documents`; `vocab` is an upper bound that a poor corpus does not fill."""
    stride = -(-len(documents) // TRAINING_DOCUMENTS) or 1
    stretches = [split(text) for text in documents[::stride]]
    # A piece is considered only if two different stretches contain it, which a whole word is not
    # in a corpus of few words: so each word also occurs once doubled.
    words = sorted({stretch for text in stretches for stretch in text if len(stretch) > 1})
    marked = itertools.chain(map(DELIMITER.join, stretches), (word + word for word in words))
    model = io.BytesIO()
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=marked,
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        pretokenization_delimiter=DELIMITER,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        user_defined_symbols=list(SYMBOLS),
        pad_id=PAD,
        eos_id=END,
        bos_id=BEGIN,
        unk_id=UNKNOWN,
        pad_piece=CONTROL[PAD],
        eos_piece=CONTROL[END],
        bos_piece=CONTROL[BEGIN],
        unk_piece=CONTROL[UNKNOWN],
        num_threads=1,  # sums in one order: the same pieces everywhere
        minloglevel=2,
      )
    except RuntimeError as error:
      raise ValueError(
        f"no tokenizer of vocab={vocab} tokens can be trained on {len(documents)} documents: {error}"
      ) from error
    return cls(model.getvalue())

  def encode(self, text: str) -> list[int]:
    """Token ids of a text, without begin or end; the names of control tokens in it are plain text."""
    return self._processor.encode(text)

  def encode_batch(self, texts: list[str], threads: int = 1) -> list[list[int]]:
    return self._processor.encode(list(texts), num_threads=threads)

  def encode_prompt(self, text: str) -> list[int]:
    """As `encode`: no prompt of ours has control tokens in it."""
    return self.encode(text)

  def encode_question(self, template: str, question: str) -> list[int]:
    """Token ids of a plain prompt: `template` with its {question} filled in."""
    return self.encode(template.replace("{question}", question))

  def decode(self, ids, first: bool = True) -> str:
    """The text of token ids; pad, begin and end vanish, an id beyond the vocabulary reads as U+FFFD.

    The model's vocabulary may be larger than ours, so such an id can be drawn.

    Args:
      first: whether the text begins here, which is all the same to this tokenizer.
    """
    text, run = [], []
    for id in map(int, ids):
      if id in (PAD, END, BEGIN):
        continue
      if id < self.size:
        run.append(id)
      else:
        text += [self._processor.decode(run), "\ufffd"]
        run = []
    return "".join([*text, self._processor.decode(run)])

  def pieces(self) -> list[tuple[str, float]]:
    """Every piece with its log-probability, by id."""
    return [(self._processor.id_to_piece(i), self._processor.get_score(i)) for i in range(self.size)]

  def save(self, folder: str | os.PathLike):
    """Writes `tokenizer.model`, whole or not at all."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.partial"
    partial.write_bytes(self._model)
    os.replace(partial, folder / FILE)

  @classmethod
  def load(cls, folder: str | os.PathLike) -> "Tokenizer":
    path = pathlib.Path(folder) / FILE
    if not path.is_file():
      raise ValueError(f"there is no tokenizer at {path}; train one with Tokenizer.train and save it there.")
    return cls(path.read_bytes())


def open_tokenizer(folder: str | os.PathLike) -> "Tokenizer | HubTokenizer":
  """The tokenizer in a folder: ours, or a published one (tokenizer.json, or another's tokenizer.model).

  Raises:
    ValueError: there is none, or none that can be read.
  """
  folder = pathlib.Path(folder)
  if not (folder / "tokenizer.json").is_file():
    if _is_ours(folder / FILE):
      return Tokenizer.load(folder)
    if not (folder / FILE).is_file():
      raise ValueError(f"there is no tokenizer in {folder}: it has neither tokenizer.json nor {FILE}.{_advice(folder)}")
  from r1jax.data.hub_tokenizer import HubTokenizer

  return HubTokenizer(folder)


def _is_ours(path: pathlib.Path) -> bool:
  if not path.is_file():
    return False
  try:
    model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
  except RuntimeError:  # no sentencepiece model, as Llama 3's tokenizer.model
    return False
  return model.get_piece_size() > len(CONTROL) and tuple(map(model.id_to_piece, range(len(CONTROL)))) == CONTROL


def _advice(folder: pathlib.Path) -> str:
  """What to do about a tokenizer in a format that is not read here."""
  if not any((folder / name).is_file() for name in ("vocab.json", "tekken.json", "tiktoken.model", "qwen.tiktoken")):
    return ""
  return " Write tokenizer.json with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
