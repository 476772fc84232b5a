"""Fitting the fusion: it follows the logit, distrusts traits, and keeps both shares of false hits."""

import random

import pytest

pytest.importorskip("numpy")

from gateway.cache.training.fusion import FALSE_SHARE, FALSE_SHARE_REORDERED, figures, fit
from gateway.cache.training.pairs import TrainingPair
from gateway.cache.verify import guards


def world(seed, n=3000):
    """Pairs whose logit is a noisy label; half of them the same words in another order."""
    rng = random.Random(seed)
    pairs, logits, labels = [], [], []
    for i in range(n):
        same, reordered = rng.random() < 0.5, rng.random() < 0.5
        pair = (f"alpha beta gamma {i}", f"gamma alpha beta {i}" if reordered else f"alpha beta gamma delta {i}")
        noise = 2.0 if reordered else 1.0
        pairs.append(pair)
        labels.append(int(same))
        logits.append(rng.gauss(2.0 if same else -2.0, noise))
    return logits, pairs, labels


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_kinds_of_pairs_keep_their_share_of_false_hits(seed):
    logits, pairs, labels = world(seed)
    fusion = fit(logits, pairs, labels)
    for reordered, share in ((False, FALSE_SHARE), (True, FALSE_SHARE_REORDERED)):
        served = [
            fusion.evidence(logit, guards.traits(*pair)) >= 0
            for logit, pair, label in zip(logits, pairs, labels, strict=True)
            if not label and bool(guards.traits(*pair)[guards.TRAITS.index("reordered")]) is reordered
        ]
        assert sum(served) <= share * len(served)


def test_more_evidence_is_never_less_sure_and_no_trait_but_voice_is_a_sign_of_sameness():
    fusion = fit(*world(1))
    assert fusion.logit > 0
    assert all(weight <= 0 for name, weight in fusion.traits.items() if name != "voice")


def test_figures_count_what_the_point_serves():
    logits, pairs, labels = world(4, 400)
    rows = [TrainingPair(a, b, s, "x", True) for (a, b), s in zip(pairs, labels, strict=True)]
    found = figures(fit(logits, pairs, labels), logits, rows)
    assert found["same"] + found["different"] == 400
    assert found["same_served"] > 0.3 > found["different_served"]
