"""Passes: every text once, none too large, short ones together."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.encoder.bulk import MOST, PADDED_TOKENS, encode_batch, fits, passes
from gateway.encoder.port import EncoderError, Reading
from tests.support.encoders import CountingModel

LENGTHS = st.lists(st.integers(2, 512), max_size=80)


def readings(lengths):
    return [Reading("", [0] * length) for length in lengths]


@given(LENGTHS)
def test_every_text_is_in_exactly_one_pass(lengths):
    found = [index for batch in passes(readings(lengths)) for index in batch]
    assert sorted(found) == list(range(len(lengths)))


@given(LENGTHS)
def test_no_pass_is_larger_than_its_bounds_unless_one_text_is(lengths):
    for batch in passes(readings(lengths)):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) <= MOST
        assert padded <= PADDED_TOKENS or len(batch) == 1


@given(LENGTHS)
def test_a_pass_ends_only_where_the_next_text_does_not_fit(lengths):
    batches = list(passes(readings(lengths)))
    for batch, following in pairwise(batches):
        assert not fits(len(batch) + 1, lengths[following[0]])


def test_rows_come_back_in_the_order_of_the_texts():
    model = CountingModel()
    texts = ["aaaa", "a", "aaa", "aa"] * 10
    assert [row.tolist() for row in encode_batch(model, texts)] == [
        model.run([model.read(text)])[0].tolist() for text in texts
    ]


def test_no_texts_are_no_rows():
    assert encode_batch(CountingModel(), []).shape == (0, 2)


def test_a_text_beyond_the_window_is_an_error_that_says_which():
    with pytest.raises(EncoderError, match=r"text 1 \(9 characters\) is beyond the window of 8 tokens"):
        encode_batch(CountingModel(), ["a", "a" * 9])
