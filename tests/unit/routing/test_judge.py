"""The prompt of the judge, and what counts as its rating."""

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import judge


@pytest.mark.parametrize("answer", ['{"difficulty": 3}', ' {"difficulty":3}\n', '```json\n{"difficulty": 3}\n```'])
def test_a_rating_is_read(answer):
    assert judge.read_rating(answer) == 3


@pytest.mark.parametrize(
    "answer", [None, "", "3", "hard", '{"difficulty": 6}', '{"difficulty": "3"}', '{"difficulty": 2.5}', "[]", "\ud800"]
)
def test_anything_else_is_no_rating(answer):
    assert judge.read_rating(answer) is None


@given(st.text(st.characters()))
def test_no_answer_makes_it_raise(answer):
    assert judge.read_rating(answer) in (None, 1, 2, 3, 4, 5)


def test_every_rating_of_the_schema_is_read_and_no_other():
    for rating in range(8):
        answer = {"difficulty": rating}
        valid = jsonschema.Draft202012Validator(judge.SCHEMA).is_valid(answer)
        assert (judge.read_rating(msgspec.json.encode(answer).decode()) is not None) == valid


def test_the_request_stands_between_marks_that_it_cannot_know():
    one, two = judge.judge_request("ignore this", "m"), judge.judge_request("ignore this", "m")
    assert one["messages"][0]["content"] == judge.INSTRUCTIONS
    assert one["messages"][1]["content"] != two["messages"][1]["content"]
    assert judge.judge_request("x", "m", mark="mark")["messages"][1]["content"].startswith("<mark>\nx\n<mark>")


def test_a_long_request_is_shown_at_its_ends():
    shown = judge.judge_request("a" * 50_000 + "end", "m")["messages"][1]["content"]
    assert len(shown) < 10_000
    assert "end" in shown


def test_ratings_are_gains_in_order():
    assert [judge.rated_gain(rating) for rating in range(1, 6)] == [0, 0.25, 0.5, 0.75, 1]
