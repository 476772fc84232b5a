"""What is read of a text and of a request, and that nothing makes it raise."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import features as f
from gateway.routing.light import open_light
from gateway.routing.reading import Request
from tests.support.calls import call, chat

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def sound(found: f.Features) -> bool:
    return len(found) == len(f.Features._fields) and all(math.isfinite(x) and -20 <= x <= 20 for x in found)


@given(st.text(st.characters(), max_size=300))
def test_any_text_has_finite_features(text):
    assert sound(f.text_features(text))


@given(ANYTHING)
def test_what_is_no_text_has_the_features_of_an_empty_one(value):
    if not isinstance(value, str):
        assert f.text_features(value) == f.text_features("")


@given(
    st.sampled_from(
        ["a ", "\nA. ", "(", "?", "1 ", "é", "\ud800", "\n", "漢", " \t", "U U", "\nA. x\nB. y\nAnswer:   "]
    ),
    st.integers(1, 30_000),
)
def test_repetition_has_finite_features(piece, times):
    assert sound(f.text_features((piece * times)[:60_000]))


@given(
    st.builds(
        Request,
        st.text(max_size=9),
        *[st.integers(-(2**70), 2**70)] * 6,
        st.integers(0, 2),
        st.integers(-(2**70), 2**70),
        st.floats(0, 3),
    )
)
def test_any_counts_around_the_text_have_finite_features(request):
    assert all(math.isfinite(x) for x in f.request_features(request))


def test_features_are_numbers_in_a_fixed_order():
    found = f.text_features("How many apples are 3 + 4?")
    assert all(type(x) is float for x in found)
    assert found.asks_number == 1
    assert f.Features._fields[:2] == ("characters", "words")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Who wrote Faust?", "asks_fact"),
        ("Why is the sky blue?", "asks_reason"),
        ("Some context. Which of these is right?", "asks_which"),
        ("Is 7 prime?", "asks_closed"),
        ("Write a sorting function.", "orders"),
        ("The capital of France is", "unfinished"),
        ("It is not true, except on Sundays.", "negations"),
        ("Solve x = 3y + 2", "operators"),
        ("\\frac{1}{2}", "latex"),
        ("```python\ndef f():\n    return 1\n```", "code"),
        ("| a | b |\n# Title\n**bold**", "markup"),
        ("It costs 30% of 5,000 kg", "units"),
        ("1. first\n2. second", "parts"),
        ("Был ли он прав?", "other_scripts"),
        ("これは何ですか", "east_asian"),
        ("wie ist das und warum nicht", "foreign_words"),
        ("The DNA of NATO", "acronyms"),
        ("Statement 1 | A. Statement 2 | B.", "statements"),
        ("in 1492 and 2024", "years"),
    ],
)
def test_a_text_shows(text, name):
    assert getattr(f.text_features(text), name) > 0
    assert getattr(f.text_features("hello there."), name) == 0


def test_latin_letters_with_accents_are_no_other_script():
    found = f.text_features("Où est l'hôtel ? « ici »")
    assert found.foreign_characters > 0
    assert found.other_scripts == found.east_asian == 0


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        ("如何证明这个定理。为什么？", 11, 2),
        ("Сколько будет два плюс два? Почему?", 6, 2),
        ("لماذا السماء زرقاء؟", 3, 1),
    ],
)
def test_words_and_sentences_of_other_scripts_are_counted(text, words, sentences):
    found = f.text_features(text)
    assert found.words == pytest.approx(math.log1p(words))
    assert found.sentences == pytest.approx(math.log1p(sentences))


def test_a_long_question_is_harder_in_any_script():
    score = open_light().score
    assert score(f.text_features("证明任意两个奇数之和是偶数，并说明理由。" * 8)) > score(f.text_features("你好"))


def test_answer_options_do_not_count_as_length():
    question = "What is the boiling point of water?"
    asked = f.text_features(question + "\nA. 90\nB. 100\nC. 110\nD. 120\nAnswer:")
    assert asked.characters == f.text_features(question).characters
    assert asked.options == pytest.approx(math.log1p(4))
    assert asked.numeric_options == 1
    assert asked.numbers > 0


def test_a_list_that_begins_with_a_is_no_multiple_choice():
    assert f.text_features("Here:\nA. only one item").options == 0


def test_a_long_text_counts_in_full_but_is_read_at_its_ends():
    found = f.text_features("x " * 50_000)
    assert found.characters == pytest.approx(math.log1p(100_000))
    assert found.words < math.log(f.CAP)
    assert f.text_features("y" * 9_000 + " why?").asks_reason == 1
    assert f.text_features("y " * 4_500 + "why?" + "y " * 4_500).asks_reason == 0


def test_the_request_around_the_text_is_read():
    found = f.call_features(
        call(
            {
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
                "tools": [{}, {}],
                "max_tokens": 100,
                "response_format": {"type": "json_object"},
                "reasoning_effort": "high",
            }
        )
    )
    assert found.turns == pytest.approx(math.log(3))
    assert found.tools == pytest.approx(math.log(3))
    assert found.system_characters == pytest.approx(math.log(10))
    assert found.requested_tokens == pytest.approx(math.log(101))
    assert (found.structured, found.reasoning_effort) == (1.0, 2.0)


def test_a_single_turn_chat_has_the_features_of_its_text():
    assert f.call_features(chat("How many?")) == f.text_features("How many?")


def test_scoring_needs_no_numpy():
    code = (
        "import sys; from gateway.routing.light import open_light; from gateway.routing.features import text_features;"
        "open_light().score(text_features('hi')); sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
