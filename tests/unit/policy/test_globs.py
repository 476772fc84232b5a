import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.globs import covers, matches

PATTERNS = st.text(alphabet="ab*", max_size=8)
TEXTS = st.text(alphabet="ab", max_size=10)


@given(PATTERNS, TEXTS)
def test_matching_agrees_with_the_regular_expression_of_the_pattern(pattern, text):
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, text) == bool(re.fullmatch(expression, text))


@given(PATTERNS, PATTERNS, TEXTS)
def test_what_a_covered_pattern_matches_the_covering_one_matches_too(wide, narrow, text):
    if covers([wide], [narrow]) and matches(narrow, text):
        assert matches(wide, text)


def test_a_hostile_pattern_takes_linear_time():
    assert not matches("a*" * 100 + "b", "a" * 50_000)


def test_only_the_star_is_a_wildcard():
    assert matches("gpt-4o*", "gpt-4o-mini")
    assert not matches("gpt-?o", "gpt-4o")
    assert not matches("[a]", "a")


def test_a_list_covers_another_when_each_of_its_patterns_is_covered():
    assert covers(["gpt-*", "o1"], ["gpt-4*", "o1"])
    assert not covers(["gpt-*"], ["gpt-4", "o1"])
    assert covers(None, None)
    assert covers(["*"], None)
    assert not covers(["a"], None)
