"""Our tokenizer as the files that transformers and vLLM read: the same ids for the same text.

But for a text that spells out the name of a control token, or of a byte such as <0x41>.
"""

import json

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers

from r1jax import config
from r1jax.data.tokenizer import BEGIN, CONTROL, END, PAD, SYMBOLS, UNKNOWN, Tokenizer

SPACE = "\u2581"  # how sentencepiece writes a space
LONGEST = 1_000_000  # tokens; transformers warns of longer texts


def files(tokenizer: Tokenizer, template: config.Template) -> dict[str, bytes]:
  """tokenizer.json, tokenizer_config.json and the chat template, by name.

  Args:
    template: what the model was trained to be asked with.
  """
  roles = {"bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD}
  named = {role: CONTROL[id] for role, id in roles.items()}
  about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LONGEST, "add_bos_token": False}
  about |= {"clean_up_tokenization_spaces": False, **named}
  return {
    "tokenizer.json": _fast(tokenizer).to_str(pretty=True).encode(),
    "tokenizer_config.json": json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n",
    "chat_template.jinja": jinja(template).encode(),
  }


def jinja(template: config.Template) -> str:
  """A chat template that asks as `template` does; turns after the first are put behind the answer before them."""
  before, after = template.text.split("{question}")
  quoted = lambda text: json.dumps(text, ensure_ascii=False)
  return (
    "{% for message in messages %}"
    "{% if message.role == 'user' %}{{ " + quoted(before) + " + message.content + " + quoted(after) + " }}"
    "{% elif message.role == 'assistant' %}{{ message.content + eos_token }}"
    "{% else %}{{ raise_exception('this model knows the roles user and assistant only') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ " + quoted(template.prefill) + " }}{% endif %}"
  )


def _fast(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
  model = models.Unigram(tokenizer.pieces(), unk_id=UNKNOWN, byte_fallback=True)
  fast = tokenizers.Tokenizer(model)
  fast.normalizer = normalizers.Replace(" ", SPACE)
  fast.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
  fast.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in CONTROL])
  fast.add_tokens([AddedToken(name, normalized=False, special=False) for name in SYMBOLS])
  return fast
