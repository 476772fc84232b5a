"""Which part of a text is encoded for routing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.encoder import open_model
from gateway.routing.view import HEAD, TAIL, view

OPTIONS = "\nA. red\nB. green\nC. blue\nAnswer:"


def words(name, count):
    return " ".join(f"{name}{chr(97 + i % 26)}" for i in range(count))


@pytest.mark.parametrize("text", ["", "hi", "Which colour?" + OPTIONS, words("on", HEAD + TAIL), "\n\n  spaced  out "])
def test_a_short_text_is_its_own_view(text):
    assert view(text) == text


def test_of_a_long_text_both_ends_are_read():
    found = view(f"{words('first', 40)} {words('middle', 100)} {words('last', 40)}")
    assert found.startswith("firsta firstb ")
    assert found.endswith(" lastm lastn")
    assert "middle" not in found
    assert len(found.split()) == HEAD + TAIL


def test_answer_options_give_way_to_the_question():
    found = view(f"{words('first', 40)} {words('asks', 40)}{OPTIONS}")
    assert found.startswith("firsta ")
    assert "asks" in found
    assert "red" not in found


def test_options_fill_what_room_the_question_leaves():
    long = "".join(f"\n{letter}. {words('choice', 30)}" for letter in "ABCD")
    found = view("Which one?" + long)
    assert found.startswith("Which one?\nA. choicea choiceb")
    assert "\nD. " not in found


@given(st.text(max_size=50) | st.sampled_from([" " * 5_000, "\u6f22" * 5_000, "a" * 50_000, " " * 5_000 + "x"]))
def test_a_view_is_bounded_and_the_same_each_time(text):
    found = view(text)
    assert found == view(text)
    assert len(found) <= (HEAD + TAIL + 1) * 16


@pytest.mark.parametrize(
    "text",
    [
        "What is the weight of the hotdogs that Mason ate on Sunday? " * 20,
        "\u6f22\u5b57" * 400,
        "3.14159 " * 200,
        "def f(x): return x ** 2\n" * 100,
    ],
    ids=["words", "chinese", "numbers", "code"],
)
def test_a_view_is_about_a_token_a_piece(text):
    reading = open_model().read(view(text))
    assert reading is not None
    assert len(reading.ids) <= 1.7 * (HEAD + TAIL)
