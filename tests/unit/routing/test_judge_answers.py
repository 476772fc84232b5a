"""What is asked about two answers, and what counts as ratings of them."""

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.judge_answers import MOST_ANSWER, SCHEMA, Ratings, quality, rate_request, read_ratings


@pytest.mark.parametrize(
    "answer", ['{"first": 2, "second": 5}', '```json\n{"first":2,"second":5}\n```', ' {"second":5,"first":2,"why":""}']
)
def test_ratings_are_read(answer):
    assert read_ratings(answer) == Ratings(2, 5)


@pytest.mark.parametrize(
    "answer", ["", "2 and 5", '{"first": 2}', '{"first": 0, "second": 5}', '{"first": 2, "second": 6}', "[2, 5]"]
)
def test_anything_else_is_none(answer):
    assert read_ratings(answer) is None


@given(st.text(st.characters()))
def test_no_answer_makes_it_raise(answer):
    assert read_ratings(answer) is None or read_ratings(answer)


def test_every_pair_of_the_schema_is_read():
    for first in range(7):
        answer = {"first": first, "second": 3}
        valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(answer)
        assert (read_ratings(msgspec.json.encode(answer).decode()) is not None) == valid


def test_texts_stand_between_marks_that_they_cannot_know():
    asked = rate_request("Q", "A", "B", "m", mark="mark")
    said = asked["messages"][1]["content"]
    assert [part.strip() for part in said.split("<mark>")[1::2]] == ["Q", "A", "B"]
    assert rate_request("Q", "A", "B", "m")["messages"][1]["content"] != said


def test_long_texts_are_shown_at_their_ends():
    said = rate_request("q" * 50_000 + "END", "a" * 50_000 + "STOP", "b", "m")["messages"][1]["content"]
    assert len(said) < 12_000 + MOST_ANSWER + 500
    assert "END" in said
    assert "STOP" in said


def test_qualities_are_in_order():
    assert [quality(rating) for rating in range(1, 6)] == [0, 0.25, 0.5, 0.75, 1]
