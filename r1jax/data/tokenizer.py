"""The tokenizer trained here: sentencepiece, whole words, digits apart, every text exactly recoverable."""

import hashlib
import io
import itertools
import os
import pathlib
import re

import sentencepiece

SYMBOLS = ("<think>", "</think>", "<answer>", "</answer>", "<|user|>", "<|assistant|>")
PAD, END, BEGIN, UNKNOWN = range(4)
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
        pad_piece="<|pad|>",
        eos_piece="<|end|>",
        bos_piece="<|begin|>",
        unk_piece="<|unknown|>",
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

  def decode(self, ids) -> str:
    """The text of token ids; pad, begin and end vanish, an id beyond the vocabulary reads as U+FFFD.

    The model's vocabulary may be larger than ours, so such an id can be drawn.
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
