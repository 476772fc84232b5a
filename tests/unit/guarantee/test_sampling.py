"""Shadow calls are drawn by a hash of the id: the same everywhere, in the stated share, blind to the score."""

import numpy as np
import pytest

from gateway.guarantee.sampling import sampled, uniform, weight

IDS = [f"req-{i}" for i in range(20_000)]


@pytest.mark.parametrize("probability", [0.02, 0.05, 0.5])
def test_the_share_sampled_is_the_probability(probability):
    share = np.mean([sampled(request_id, probability, "faq") for request_id in IDS])
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / len(IDS)) ** 0.5)


def test_the_draw_is_uniform():
    counts = np.histogram([uniform(request_id, "faq") for request_id in IDS], bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, 0.1 %


def test_the_draw_is_the_same_in_every_process_and_release():
    assert uniform("req-0", "faq") == 0.8580271042976958
    assert uniform("req-0", "faq") != uniform("req-0", "other") != uniform("req-1", "faq")


def test_a_greater_sample_contains_the_smaller():
    small = {i for i in IDS if sampled(i, 0.02, "faq")}
    assert small < {i for i in IDS if sampled(i, 0.05, "faq")}


def test_all_or_none():
    assert all(sampled(i, 1.0, "faq") for i in IDS[:1000])
    assert not any(sampled(i, 0.0, "faq") for i in IDS[:1000])


def test_another_salt_draws_independently():
    one, two = (np.array([sampled(i, 0.1, salt) for i in IDS]) for salt in ("faq", "code"))
    assert (one & two).mean() == pytest.approx(0.01, abs=0.003)


def test_ids_of_one_client_are_not_favoured():
    """Sequential ids, as a counter gives them: no runs longer than chance allows."""
    hits = np.array([sampled(i, 0.5, "faq") for i in IDS], dtype=float) - 0.5
    assert abs((hits[1:] * hits[:-1]).mean()) < 0.01


def test_the_weighted_mean_of_sampled_rows_is_that_of_all():
    losses = np.arange(len(IDS)) % 10 == 0
    probabilities = np.where(losses, 0.5, 0.1)
    total = sum(
        weight(p) * loss for i, p, loss in zip(IDS, probabilities, losses, strict=True) if sampled(i, float(p), "faq")
    )
    assert total / len(IDS) == pytest.approx(0.1, abs=0.008)


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1])
def test_an_impossible_probability_has_no_weight(probability):
    with pytest.raises(ValueError, match="probability"):
        weight(probability)
