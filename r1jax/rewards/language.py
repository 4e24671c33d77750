"""The language-consistency reward: how much of the reasoning is in the language of the question.

DeepSeek-R1 v2 section 3.2.1: Num(words in the target language) / Num(words) over
the chain of thought. How words are counted is not published. Here:

* A word is a run of letters of one script. In scripts without spaces every Han
  character and every kana is a word, and four letters of Thai or Lao are one.
* No words are: numbers, identifiers (x1, foo_bar), single Latin or Greek letters
  and short capitals (variables: x, AB), names of functions and units (sin, cm),
  formulas, code, URLs, tags. A "formula" or "code block" that reads as prose
  counts as words, or mixing could hide in dollar signs.
* Han counts as Japanese where kana stand nearby, else as Chinese. Cyrillic,
  Arabic, Devanagari and the like stand for all languages written in them.
* Latin words are told apart by function words, endings and letters of twelve
  languages, smoothed over the words around them. Without evidence against it a
  Latin word counts for the target (names, technical terms).
"""

import collections
import dataclasses
import re
from typing import ClassVar

import numpy as np

from r1jax.rewards.format import split

_INDIC = {"devanagari": 0x900, "bengali": 0x980, "gurmukhi": 0xA00, "gujarati": 0xA80, "tamil": 0xB80,
          "telugu": 0xC00, "kannada": 0xC80, "malayalam": 0xD00}  # fmt: skip
_RANGES = {
  "han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
  "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9f",
  "hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
  "latin": "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\u0300-\u036f",
  "cyrillic": "\u0400-\u0481\u048a-\u052f",
  "greek": "\u0370-\u0373\u0376-\u037d\u0386\u0388-\u03ff\u1f00-\u1fff",
  "hebrew": "\u05d0-\u05ea\u05ef-\u05f2\u0591-\u05bd",
  "arabic": "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
  "armenian": "\u0531-\u0556\u0561-\u0587",
  "georgian": "\u10a0-\u10fa\u10fc-\u10ff\u1c90-\u1cbf",
  "thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
  "lao": "\u0e81-\u0ecd\u0edc-\u0edf",
} | {  # in these blocks the marks and digits stand at the same place
  name: f"{chr(base)}-{chr(base + 0x63)}{chr(base + 0x70)}-{chr(base + 0x7F)}" for name, base in _INDIC.items()
}
_WORD = re.compile("|".join(f"(?P<{name}>[{ranges}]+)" for name, ranges in _RANGES.items()))
_LETTERS_PER_WORD = {"han": 1, "kana": 1, "thai": 4, "lao": 4}

_SCRIPT = {
  "zh": "han", "ja": "kana", "ko": "hangul", "el": "greek", "he": "hebrew", "yi": "hebrew", "hy": "armenian",
  "ka": "georgian", "th": "thai", "lo": "lao", "bn": "bengali", "as": "bengali", "pa": "gurmukhi", "gu": "gujarati",
  "ta": "tamil", "te": "telugu", "kn": "kannada", "ml": "malayalam",
  **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "mn", "tg"), "cyrillic"),
  **dict.fromkeys(("ar", "fa", "ur", "ps"), "arabic"),
  **dict.fromkeys(("hi", "mr", "ne", "sa"), "devanagari"),
}  # fmt: skip

# Function words and words of reasoning, endings and letters; evidence is shared by the languages that have it.
_LATIN = {
  "en": ("the of and to is in that we it for as are be this with not so have has was by on from if then let which but "
         "they can or an at what there their each all he she you his her will would must should when first next sum "
         "now how many more than both find need get gives since because therefore thus equals number wait check does "
         "do my me its into only know these those i'm one two three four five six seven ten where were been after",
         "ing ght ould ness ally tion tly", ""),
  "fr": ("le la les de des du un une et est en que qui dans pour pas sur plus nous on il elle ce cette ces se ne par "
         "avec au aux donc mais si ou où sont être fait avons ont alors comme tout tous leur son sa ses je vous ils "
         "puis car deux trois quatre cinq dix combien chaque premier soit obtient faut peut nombre somme très après "
         "aussi encore même d'abord était reste dois doit par non quel quelle quels cela ça elles ainsi aura peu",
         "eux aux ment tion ons ent ique oir", "éèêàùçœîôûë"),
  "de": ("der die das und ist ein eine einen einem einer eines zu den dem des von mit nicht auf für im in wir sich als "
         "es auch an werden aus er sie hat haben dass wenn oder so aber nach bei um nur noch wie was man dann wird "
         "sind ich also zuerst jetzt zwei drei vier fünf zehn summe zahl daher muss kann durch am zum zur vom "
         "sein war mehr da jede jeder alle insgesamt gibt ergibt uns ihr erst diese dieser dieses",
         "ung keit lich isch heit chen ungen tst ert", "äöüß"),
  "es": ("el la los las de del un una unos unas y es en que por para con no se lo al como más su sus o pero si está "
         "son entonces primero cada hay tiene tenemos debe cuando este esta estos esto ese esa nos me le les ya muy "
         "también porque qué cuál cuántos dos tres cuatro cinco seis diez suma número luego ahora todos todo sobre "
         "desde hasta ella ellos fue ser podemos así par cual vuelvo había está estás hacer tres puede",
         "ción dad mente ando iendo amos emos ido ado os", "ñíóáúé¿"),
  "it": ("il lo la i gli le di del della dei delle un una uno e è in che per con non si al alla ai come più su ma se "
         "sono ho ha abbiamo quindi poi prima ogni questo questa questi nel nella dal dalla ci anche quando cosa "
         "quanti due tre quattro cinque sei dieci somma numero ora tutti tutto dobbiamo può perché allora essere stato "
         "suo sua loro noi lei lui ancora quale fare aver avere questa quello sempre",
         "zione mente ità ando endo iamo ato ata ello are ere ire", "èàòùì"),
  "pt": ("o a os as de do da dos das um uma e é em no na nos nas que por para com não se ao como mais seu sua mas ou "
         "são então primeiro cada há tem temos deve quando este esta isso isto ele ela eles já muito também porque "
         "qual quantos dois duas três quatro cinco seis dez soma número depois agora todos tudo sobre pelo pela foi "
         "ser podemos assim lhe nós você par vamos até ainda dia pode havia fazer sobre",
         "ção ções dade mente ando endo amos emos ido ado ões os", "ãõçáéíóúâêô"),
  "nl": ("de het een en van is in dat we wij op te met voor niet zijn er aan ook als maar of om bij naar uit dan nog "
         "deze die dit hij zij ze heeft hebben wordt worden dus eerst elke elk moet moeten kan kunnen twee drie vier "
         "vijf zes tien som getal nu hoe veel hoeveel ik je jij alle alles want omdat daarna door over was waren meer "
         "wat geeft samen ons onze",
         "heid lijk ijk ing aar oor eren aal", ""),
  "sv": ("och att det som en ett är på av för med den till inte om vi har de så kan men var från eller när då ska man "
         "sig han hon vara finns här där alla varje först sedan nu hur många två tre fyra fem sex tio summan talet "
         "eftersom alltså därför måste får blir ger jag detta dessa också mycket mer än vid efter över under oss",
         "ning het arna erna lig ade ade aren", "åäö"),
  "pl": ("i w na z do nie że się jest to o jak po co tak za od czy ale już dla przez ma są może być był była było więc "
         "najpierw każdy każda teraz ile dwa trzy cztery pięć dziesięć suma liczba liczby mamy musimy ponieważ jeśli "
         "kiedy który która które oraz lub tylko także jego jej ich nas my ten ta te tego tym potem razem",
         "ych ego nie ość ować amy emy ów ach ami", "ąćęłńśźżó"),
  "tr": ("ve bir bu da de için ile ne o çok daha gibi ama var yok olarak kadar sonra her şey ki mi mı mu değil en biz "
         "ben sen önce şimdi kaç iki üç dört beş altı on toplam sayı sayısı eğer çünkü olan olduğu olur ise göre "
         "tüm bütün hem veya ya nasıl böylece gerekir demek tane arasında bunu buna",
         "lar ler dır dir yor mak mek ların leri ında inde mız miz", "şğıçöüİ"),
  "vi": ("là của và các một có không được cho trong với này đó khi từ để số ta chúng thì nếu vì nên mỗi hai ba bốn năm "
         "sáu mười tổng bao nhiêu vậy tôi người những như đã sẽ phải ra vào lại trước sau bây giờ cần tìm bằng do đầu "
         "tiên còn đến theo về hay hoặc nhưng cũng rất",
         "", "áàãéèíìóòõúùýăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹĩũ"),
  "id": ("yang dan di dari ini itu untuk dengan tidak ke pada adalah dalam akan kita kami dia mereka saya ada juga "
         "bisa atau jika maka karena jadi harus setiap sudah telah dapat oleh sebagai lebih banyak berapa dua tiga "
         "empat lima enam sepuluh jumlah angka bilangan pertama kemudian sekarang lalu semua setelah sebuah seperti "
         "hanya masih perlu hasilnya tetapi",
         "kan nya ngan lah gan ya", ""),
}  # fmt: skip
_NAMES = tuple(_LATIN)
LATIN = frozenset(_NAMES)  # written in Latin letters
LANGUAGES = frozenset(_NAMES) | frozenset(_SCRIPT)  # ISO 639-1 codes that can be told apart

_FUNCTIONS = frozenset(
  "sin cos tan cot sec csc log ln exp lim max min mod gcd lcm det arg inf sup km cm mm kg mg ml".split()
)
_ROW_OF_WORDS = re.compile(r"(?<![^\W\d_])(?:[^\W\d_]{2,}+[\s,;:.'’]++){3}[^\W\d_]{2,}")
_ROW_OF_SIGNS = re.compile(f"[{_RANGES['han']}{_RANGES['kana']}{_RANGES['thai']}]{{6}}")
_FORMULA = re.compile(
  r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\(((?:[^\\]|\\(?![()]))*+)\\\)|\\\[((?:[^\\]|\\(?![\[\]]))*+)\\\]"
)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"\\(?:begin|end)\s?\{[a-z]{1,20}\*?\}|\\[A-Za-z]+")
_URL = re.compile(r"(?:https?://|www\.)\S+")
_TAG = re.compile(r"</?[A-Za-z][\w-]*+\s?/?>")
_CALL = re.compile(r"\b[A-Za-z_]\w*\((?:[A-Za-z]\b|[0-9 ,+*/.-])*\)")  # sum(x), f(2, y): of symbols alone, no prose
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")
_WIDE = {0xFF21 + i: chr(0x41 + i) for i in range(26)} | {0xFF41 + i: chr(0x61 + i) for i in range(26)}


def is_prose(text):
  """Whether a text has four words in a row, or six signs of a script without spaces."""
  return bool(_ROW_OF_WORDS.search(text) or _ROW_OF_SIGNS.search(text))


def prose(text):
  """A text without what does not count as words, in linear time (see the module)."""
  pieces = text.translate(_WIDE).split("```")
  for i in range(1, len(pieces), 2):  # fenced; the last fence may be open
    lines = [line for line in pieces[i].splitlines() if line.strip()]
    if 2 * sum(map(is_prose, lines)) <= len(lines):
      pieces[i] = " "
  text = _URL.sub(" ", " ".join(pieces))
  for pattern in (_INLINE_CODE, _FORMULA):
    text = pattern.sub(_keep_prose, text)
  text = _CALL.sub(" ", _TAG.sub(" ", _COMMAND.sub(" ", text)))
  return _IDENTIFIER.sub(lambda match: match[0] if match[0].isalpha() else " ", text)


def _keep_prose(match):
  content = _COMMAND.sub(" ", match[match.lastindex])
  return f" {content} " if is_prose(content) else " "


def count_words(text, language):
  """Counts words: (of the language, in all).

  Args:
    text: any; formulas, code and the like are left out.
    language: ISO 639-1 code in LANGUAGES; "zh-TW" is read as "zh".

  Raises:
    ValueError: a language that cannot be told apart.
  """
  code = language_code(language)
  if code not in LANGUAGES:
    raise ValueError(f"language={language!r} cannot be told apart; known are {', '.join(sorted(LANGUAGES))}.")
  counts, latin, signs = collections.Counter(), [], []
  for match in _WORD.finditer(prose(text)):
    script, word = match.lastgroup, match[0]
    if script == "latin":
      if not _is_symbol(word):
        latin.append(word.lower())
    elif script != "greek" or len(word) > 1:
      counts[script] += -(-len(word) // _LETTERS_PER_WORD.get(script, len(word)))
      if script in ("han", "kana"):
        signs.append((script == "kana", len(word)))
  total = counts.total() + len(latin)
  if code in _LATIN:
    return _count_latin(latin, code), total
  if code in ("zh", "ja"):
    near_kana = _count_near_kana(signs)
    return (counts["han"] - near_kana if code == "zh" else counts["kana"] + near_kana), total
  return counts[_SCRIPT[code]], total


def language_code(language):
  """The ISO 639-1 part of a language tag: "zh-TW" -> "zh"."""
  return re.split("[-_]", language, maxsplit=1)[0].lower()


def _is_symbol(word):
  return len(word) == 1 or (len(word) < 5 and word.isupper()) or word.lower() in _FUNCTIONS


def _window(values, radius):
  """Sums of rows within `radius` rows of each. values: int64[n, k]."""
  sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
  at = np.arange(len(values))
  return sums[np.minimum(at + radius + 1, len(values))] - sums[np.maximum(at - radius, 0)]


def _count_near_kana(signs):
  """Han characters with at least one kana in five among the 30 signs around them on each side.

  signs: (is kana, length) of the runs in order.
  """
  if not any(kana for kana, _ in signs):
    return 0
  kana = np.repeat([kana for kana, _ in signs], [length for _, length in signs]).astype(np.int64)[:, None]
  near = 5 * _window(kana, 30) >= _window(np.ones_like(kana), 30)
  return int(np.sum(near & (kana == 0)))


def _evidence_tables():
  """{feature: int64[languages]} for words, endings and letters; a feature weighs less the more languages share it."""
  tables = []
  for part, weight in ((0, 120), (1, 20), (2, 60)):
    owners = collections.defaultdict(set)
    for which, entry in enumerate(_LATIN.values()):
      for feature in entry[part] if part == 2 else entry[part].split():
        owners[feature].add(which)
    table = {}
    for feature, those in owners.items():
      table[feature] = np.zeros(len(_NAMES), np.int64)
      table[feature][list(those)] = weight // len(those)
    tables.append(table)
  return tables


_WORDS, _ENDINGS, _LETTERS = _evidence_tables()


def _evidence(word):
  """int64[languages]: what a lower-case word says about its language on its own."""
  if word in _WORDS:
    return _WORDS[word]
  found = np.zeros(len(_NAMES), np.int64)
  for size in range(2, min(6, len(word) - 2)):  # three letters of a stem at least
    found = np.maximum(found, _ENDINGS.get(word[-size:], 0))
  if not word.isascii():
    found = found + sum((_LETTERS[letter] for letter in set(word) & _LETTERS.keys()), np.zeros_like(found))
  return found


def _count_latin(words, code):
  """How many of the words no other language has more evidence for than this one."""
  if not words:
    return 0
  numbers = {}
  ids = [numbers.setdefault(word, len(numbers)) for word in words]
  own = np.stack([_evidence(word) for word in numbers])[ids]
  score = _window(_window(own, 2), 2) + 14 * own  # a triangle four words wide on each side; the word itself counts most
  target = score[:, _NAMES.index(code)]
  return int(np.sum(target >= score.max(axis=1)))


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class LanguageConsistency:
  """Share of the words of the reasoning that are in the problem's language. Range [0, 1].

  Source: DeepSeek-R1 v2 section 3.2.1. A reasoning without any words scores
  `no_words`: by default 0, so that nothing is gained by falling silent or by
  writing formulas alone. None where the problem's language cannot be told apart.
  """

  weight: float = 1.0
  no_words: float | None = 0.0  # in [0, 1], score of a reasoning without words; None: it has no score
  name: ClassVar[str] = "language"

  def __post_init__(self):
    if self.no_words is not None and not 0.0 <= self.no_words <= 1.0:
      raise ValueError(f"no_words={self.no_words} must lie between 0 and 1, or be None.")

  def __call__(self, problem, response, prefill=""):
    if language_code(problem.language) not in LANGUAGES:
      return None
    of_language, total = count_words(split(response, prefill).think, problem.language)
    return of_language / total if total else self.no_words

  def bounded(self, problem, response, prefill=""):
    """Whether the check may run in the trainer's own process: always, it is linear."""
    del problem, response, prefill
    return True

  def check(self, problem):
    """A sentence where the language of a problem cannot be told apart, else None."""
    if language_code(problem.language) in LANGUAGES:
      return None
    return (
      f"problem {problem.id!r}: language={problem.language!r} cannot be told apart; "
      f"known are {', '.join(sorted(LANGUAGES))}."
    )
