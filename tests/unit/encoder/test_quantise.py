"""int8 weights: close to the original, and safe in 16-bit sums whatever the inputs are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gateway.encoder.quantise import by_channel

WEIGHTS = arrays(
    np.float32,
    st.tuples(st.integers(1, 8).map(lambda n: 2 * n), st.integers(1, 4)),
    elements=st.floats(-8, 8, width=32),
)


@given(WEIGHTS)
def test_no_pair_of_products_with_an_unsigned_byte_leaves_16_bits(weight):
    integers, _ = by_channel(weight)
    pairs = integers.astype(np.int64).reshape(-1, 2, weight.shape[1])
    highest = 255 * np.maximum(pairs, 0).sum(1)
    lowest = 255 * np.minimum(pairs, 0).sum(1)
    assert highest.max() <= np.iinfo(np.int16).max
    assert lowest.min() >= np.iinfo(np.int16).min


@given(WEIGHTS)
def test_every_weight_comes_back_within_half_a_step(weight):
    integers, scale = by_channel(weight)
    assert np.abs(integers * scale - weight).max() <= scale.max() * 0.5001


def test_a_channel_of_zeros_stays_zero():
    integers, scale = by_channel(np.zeros((4, 3), np.float32))
    assert not integers.any()
    assert (scale > 0).all()


def test_a_channel_s_scale_is_its_own():
    _, scale = by_channel(np.array([[1, 100], [0, 0]], np.float32))
    assert scale.tolist() == np.array([1 / 127, 100 / 127], np.float32).tolist()
