"""The language-consistency reward on real sentences, mixed ones, and what does not count as a word."""

import random

import pytest

from r1jax.rewards.language import LANGUAGES, LanguageConsistency, count_words
from r1jax.types import Problem

SENTENCES = {
  "en": "First we add the two numbers and check whether their total is even. Since it is not, I should try another way and compare results again.",
  "fr": "D'abord on additionne les deux nombres et on vérifie si leur total est pair. Comme ce n'est pas le cas, je dois essayer autrement.",
  "de": "Zuerst addieren wir die beiden Zahlen und prüfen, ob ihre Summe gerade ist. Da das nicht stimmt, versuche ich einen anderen Weg.",
  "es": "Primero sumamos los dos números y comprobamos si el total es par. Como no lo es, debo probar otro camino y comparar los resultados.",
  "it": "Prima sommiamo i due numeri e controlliamo se il totale è pari. Siccome non lo è, devo provare un'altra strada e confrontare i risultati.",
  "pt": "Primeiro somamos os dois números e verificamos se o total é par. Como não é, devo tentar outro caminho e comparar os resultados.",
  "nl": "Eerst tellen we de twee getallen op en kijken of hun totaal even is. Omdat dat niet klopt, probeer ik een andere manier.",
  "sv": "Först lägger vi ihop de två talen och kontrollerar om summan är jämn. Eftersom den inte är det måste jag pröva en annan väg.",
  "pl": "Najpierw dodajemy obie liczby i sprawdzamy, czy suma jest parzysta. Ponieważ tak nie jest, muszę spróbować innej drogi.",
  "tr": "Önce iki sayıyı topluyoruz ve toplamın çift olup olmadığını kontrol ediyoruz. Öyle olmadığı için başka bir yol denemeliyim.",
  "vi": "Đầu tiên chúng ta cộng hai số và kiểm tra xem tổng có phải là số chẵn không. Vì không đúng nên tôi phải thử cách khác.",
  "id": "Pertama kita menjumlahkan dua bilangan dan memeriksa apakah hasilnya genap. Karena tidak benar, saya harus mencoba cara lain.",
  "zh": "首先我们把两个数相加，检查总和是否为偶数。因为不是，所以我要换一种方法。",
  "ja": "まず二つの数を足して、合計が偶数かどうかを確認します。そうではないので、別の方法を試す必要があります。",
  "ko": "먼저 두 수를 더하고 합이 짝수인지 확인한다. 그렇지 않으므로 다른 방법을 시도해야 한다.",
  "ru": "Сначала сложим два числа и проверим, чётна ли их сумма. Так как это не так, я попробую другой способ.",
  "ar": "أولا نجمع العددين ونتحقق مما إذا كان المجموع زوجيا. بما أنه ليس كذلك يجب أن أجرب طريقة أخرى.",
  "el": "Πρώτα προσθέτουμε τους δύο αριθμούς και ελέγχουμε αν το άθροισμα είναι άρτιο. Αφού δεν είναι, δοκιμάζω άλλον τρόπο.",
  "he": "קודם נחבר את שני המספרים ונבדוק אם הסכום זוגי. מכיוון שלא, אנסה דרך אחרת.",
  "hi": "पहले हम दोनों संख्याओं को जोड़ते हैं और देखते हैं कि योग सम है या नहीं।",
  "th": "ก่อนอื่นเราบวกเลขสองจำนวนแล้วตรวจสอบว่าผลรวมเป็นเลขคู่หรือไม่",
}  # fmt: skip
LATIN = ("en", "fr", "de", "es", "it", "pt", "nl", "sv", "pl", "tr", "vi", "id")

# Other subjects and other words.
OTHERS = {
  "en": ["Suppose a train leaves the station at noon; how far will it have travelled by three?", "Wait, that can't be right, so let me recompute the area.",
         "Let me look at small cases before guessing a pattern; maybe induction works here."],
  "fr": ["Supposons qu'un train quitte la gare à midi ; quelle distance aura-t-il parcourue ?", "Attendez, cela ne peut pas être juste, recalculons la surface.",
         "Regardons d'abord de petits cas avant de deviner une règle ; une récurrence marchera peut-être."],
  "de": ["Angenommen, ein Zug verlässt den Bahnhof am Mittag; wie weit ist er um drei gefahren?", "Moment, das kann nicht stimmen, ich rechne die Fläche neu aus.",
         "Schauen wir uns kleine Fälle an, bevor wir eine Regel raten; vielleicht hilft Induktion."],
  "es": ["Supongamos que un tren sale de la estación al mediodía; ¿qué distancia habrá recorrido?", "Espera, eso no puede ser correcto, vuelvo a calcular el área.",
         "Veamos casos pequeños antes de adivinar una regla; quizá funcione la inducción."],
  "it": ["Supponiamo che un treno parta dalla stazione a mezzogiorno; quanta strada avrà fatto?", "Aspetta, non può essere giusto, ricalcolo l'area della figura.",
         "Guardiamo i casi piccoli prima di indovinare una regola; forse funziona l'induzione."],
  "pt": ["Suponhamos que um trem saia da estação ao meio-dia; que distância terá percorrido?", "Espere, isso não pode estar certo, vou recalcular a área da figura.",
         "Vejamos casos pequenos antes de adivinhar uma regra; talvez a indução funcione."],
  "nl": ["Stel dat een trein om twaalf uur van het station vertrekt; hoe ver is hij dan gekomen?", "Wacht, dat kan niet kloppen, ik reken de oppervlakte opnieuw uit.",
         "Laten we naar kleine gevallen kijken voordat we een regel raden; misschien werkt inductie."],
  "sv": ["Anta att ett tåg lämnar stationen vid lunch; hur långt har det då kommit?", "Vänta, det kan inte stämma, jag räknar om ytan på nytt.",
         "Låt oss titta på små fall innan vi gissar en regel; kanske fungerar induktion."],
}  # fmt: skip


def share(text, language):
  of_language, total = count_words(text, language)
  return of_language / total


def reward(think, language="en", **config):
  problem = Problem("p1", "?", "1", "number", "math", language=language)
  return LanguageConsistency(**config)(problem, f"<think>{think}</think> <answer>1</answer>")


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_belongs_to_its_own_language_and_to_no_other(language):
  assert share(SENTENCES[language], language) == 1.0
  for other in SENTENCES.keys() - {language}:
    # A word that two languages share ("par", "total") may count for both where little else is near.
    assert share(SENTENCES[language], other) <= (0.1 if {language, other} <= set(LATIN) else 0.0)


def test_sentences_on_other_subjects_are_told_apart():
  for language, sentences in OTHERS.items():
    text = " ".join(sentences)
    assert share(text, language) >= 0.9, language
    assert max(share(text, other) for other in OTHERS.keys() - {language}) <= 0.15, language


# Words counted by hand: (text, language, of the language, in all).
COUNTED = [
  ("We add 3 and 4 to get 7.", "en", 5, 5),
  ("我们计算 the sum", "zh", 4, 6), ("我们计算 the sum", "en", 2, 6), ("我们计算sum", "zh", 4, 5),
  ("これは数です。The end", "ja", 6, 8), ("Это сумма, so good", "ru", 2, 4), ("합은 seven", "ko", 1, 2),
  ("Der Wert ist x = 3, the value is 4", "de", 3, 6), ("Der Wert ist 3. 这是对的", "de", 3, 7),
  ("因为 x1 + foo_bar = 3rd, AB = 5 cm", "zh", 2, 2), ("π α β are angles", "en", 2, 2), ("其中 sin x 和 GPU", "zh", 3, 3),
  ("令 $x^2 + y^2 = r^2$ 和 \\(a \\cdot \\text{speed}\\) 以及 \\[\\frac{a}{b}\\] $$\\sum_i v_i$$ 得", "zh", 5, 5),
  ("得到 `total` 和 ```python\nfor item in items:\n  print(item)\n``` 后", "zh", 4, 4),
  ("见 https://example.com/some/page 和 www.example.com <answer> </think>", "zh", 2, 2), ("\\begin{aligned} 数 \\end{aligned}", "zh", 1, 1),
  ("先写 sum(x) 再写 max(a, 2)+len(y)", "zh", 4, 4), ("先写 wait(you should stop)", "zh", 2, 6),
  ("the ＡＢＣＤＥ value", "en", 3, 3), ("سبعة ٧ و ۷", "ar", 2, 2), ("กขคงจ", "th", 2, 2), ("", "en", 0, 0), ("3 + 4 = 7", "en", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("text, language, of_language, total", COUNTED)
def test_words_are_counted_as_by_hand(text, language, of_language, total):
  assert count_words(text, language) == (of_language, total)


def test_prose_cannot_hide_in_formulas_or_code():
  english = "we add all of the numbers and then check the total"  # 11 words
  for hidden in (
    f"${english}$",
    f"\\[\\text{{{english}}}\\]",
    f"\\({english}\\)",
    f"`{english}`",
    f"```\n{english}\n```",
    f"```\n{english}",
  ):
    assert count_words("数" + hidden, "zh") == (1, 12), hidden
  assert count_words("It costs $5 and we have about $3 left", "en")[1] >= 5  # two prices are no formula
  assert count_words("sum $我们把所有的数相加$", "en") == (1, 10)


def test_a_mixture_of_latin_languages_has_the_share_of_its_words():
  draw = random.Random(0)
  for _ in range(40):
    target, other = draw.sample(LATIN, 2)
    mine, foreign = (SENTENCES[l] for l in (target, other))
    words = [count_words(text, l)[1] for text, l in ((mine, target), (foreign, other))]
    for text in (mine + " " + foreign, foreign + " " + mine):
      # The window reaches four words over the seam: at most that many may change sides.
      assert abs(share(text, target) - words[0] / sum(words)) <= 4 / sum(words), (target, other)


def test_single_foreign_words_are_seen_inside_a_sentence():
  german = "Also rechnen wir die Summe aus und sehen, dass sie nicht stimmt"
  assert share(german, "de") == 1.0
  assert count_words(german.replace("und", "because"), "de") == (11, 12)
  assert count_words(german.replace("Summe", "Checksum"), "de") == (12, 12)  # a term without evidence is nobody's


def test_han_is_japanese_where_kana_are_near_and_chinese_elsewhere():
  japanese, chinese = SENTENCES["ja"], SENTENCES["zh"]
  assert share("計算結果\n" + japanese, "ja") == 1.0
  assert count_words("計算結果", "zh") == (4, 4)
  assert share(chinese * 3 + "の", "zh") > 0.95  # a stray kana makes no Japanese
  both = count_words(chinese * 4 + japanese * 4, "zh")
  assert abs(both[0] - 4 * count_words(chinese, "zh")[1]) <= 30  # the window over the seam


def test_the_reward_reads_the_reasoning_only():
  problem = Problem("p1", "?", "1", "number", "math", language="zh")
  response = "我们计算\n</think>\n<answer>the answer is seven</answer>"
  assert LanguageConsistency()(problem, response, "<think>\n") == 1.0
  assert LanguageConsistency()(problem, "我们计算 the sum", "<think>\n") == 4 / 6  # cut off inside the thought
  assert reward(SENTENCES["zh"], "zh-TW") == reward(SENTENCES["pt"], "pt_BR") == 1.0


def test_nothing_is_gained_by_silence():
  for think in ("", " ", "3+4=7", "$x=7$", "```\nx = 7\n```"):
    assert reward(think) == 0.0
    assert reward(think, no_words=0.5) == 0.5
  assert LanguageConsistency()(Problem("p", "?", "1", "number", "math"), "we add them") == 0.0  # no thought at all


def test_a_language_that_cannot_be_told_apart_is_named_and_not_judged():
  problem = Problem("p7", "?", "1", "number", "math", language="sw")
  assert "problem 'p7': language='sw'" in LanguageConsistency().check(problem)
  assert LanguageConsistency()(problem, "<think>na</think>") is None
  assert LanguageConsistency().check(Problem("p", "?", "1", "number", "math")) is None
  with pytest.raises(ValueError, match="language='sw' cannot be told apart"):
    count_words("na", "sw")
  assert set(SENTENCES) <= LANGUAGES
