"""Two answers: the same, not the same, or not for this judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.same import same_answer

SAME = [
    ("Paris.", "paris", None),
    ("The capital is **Paris**.", "The capital is Paris", None),
    ("1. Open the app\n2. Tap Cards", "- Open the app\n- Tap Cards", None),
    ("It costs 1,000 dollars.", "It costs 1000 dollars", None),
    ("“Yes”, it is.", '"Yes", it is.', None),
    ("You can activate the card in the app.", "You can activate your card in the app.", 0.97),
]
OTHER = [
    ("Yes, you can.", "No, you cannot.", 0.95),
    ("17 is prime.", "19 is prime.", 0.99),
    ("It takes 3 days.", "It takes five days.", 0.98),
    ("You can cancel the order.", "You can not cancel the order.", 0.98),
    ("The capital is Paris.", "The capital is London.", 0.9),
    ("It melts at -5 degrees, or 7 in salt.", "It melts at 12 degrees, or 7 in salt.", 0.97),
    (
        "Photosynthesis turns light into chemical energy in plants.",
        "The board of a company elects its chair every year.",
        0.05,
    ),
]
UNSURE = [
    ("Paris", "The capital of France is Paris, a city on the Seine.", 0.7),
    ("Paris", "London", 0.6),
    ("You can activate the card in the app.", "You can activate your card in the app.", None),
    ("You can activate the card in the app.", "You can activate your card in the app.", 0.8),
    ("It takes days.", "It takes 3 days.", 0.97),
    ("Ada owes Bob money for the house", "Bob owes Ada money for the house", 0.99),
    ("Ada paid Bob for the house.", "Bob was paid by Ada for the house.", 0.9),
    ("First wash the rice, then cook it.", "First cook the rice, then wash it.", 0.99),
    ("It is 5 degrees", "It is -5 degrees", 0.99),
    ("It costs $5", "It costs €5", 0.99),
    ("2 + 2", "2 - 2", 0.99),
    ("a * b", "a b", 0.99),
    ("```\nx = 1\n```", "```\nx = 2\n```", 0.99),
    ("", "", 1.0),
    ("", "Paris", 0.1),
    ("?", "!", 0.99),
]


@pytest.mark.parametrize(("pairs", "verdict"), [(SAME, True), (OTHER, False), (UNSURE, None)])
def test_it_speaks_only_where_it_can_hardly_be_wrong(pairs, verdict):
    assert {pair: same_answer(*pair) for pair in pairs} == dict.fromkeys(pairs, verdict)


@given(st.text(max_size=60), st.text(max_size=60), st.none() | st.floats(-1, 1))
def test_it_is_symmetric(a, b, cosine):
    assert same_answer(a, b, cosine) == same_answer(b, a, cosine)


@given(st.text(max_size=60), st.none() | st.floats(-1, 1))
def test_an_answer_is_never_another_than_itself(a, cosine):
    assert same_answer(a, a, cosine) is not False


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=60))
def test_an_answer_of_words_is_itself(a):
    assert same_answer(a, a) is True
