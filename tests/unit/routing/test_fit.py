"""Ridge heads on worlds whose weights are known."""

import numpy as np
import pytest

from gateway.routing.features import Features
from gateway.routing.fit import LENGTH, fit_ridge, scaling_of, solve

WIDTH = len(Features._fields)
NAMES = list(Features._fields)


def world(n, seed=0, noise=1.0):
    dice = np.random.default_rng(seed)
    features = dice.normal(size=(n, WIDTH))
    truth = np.where(np.arange(WIDTH) < 5, 0.5, 0.0)
    return features, 0.2 + features @ truth + noise * dice.normal(size=n), truth


def test_weights_are_found_and_shrink_towards_none_where_there_are_none():
    features, gains, truth = world(20_000)
    found = fit_ridge(features, gains)
    assert found.weights / found.scaling.scale == pytest.approx(truth, abs=0.05)
    assert found.score(features, None).mean() == pytest.approx(gains.mean(), abs=1e-6)


def test_ridge_solves_its_equation():
    dice = np.random.default_rng(2)
    design, target = dice.normal(size=(60, 9)), dice.normal(size=60)
    weights, strength = solve(design, target, 7.0)
    assert strength == 7
    assert (design.T @ design + 7 * np.eye(9)) @ weights == pytest.approx(design.T @ target)


def test_the_noisier_the_labels_the_stronger_the_ridge():
    strengths = [fit_ridge(*world(400, noise=noise)[:2]).strength for noise in (0.1, 3.0, 30.0)]
    assert strengths == sorted(strengths)
    assert strengths[0] < strengths[2]


def test_a_feature_that_hardly_varies_is_left_out():
    features, gains, _ = world(1_000)
    features[:, 0] = 3.0
    features[:, 1] = 0.0
    features[:5, 1] = 1.0
    found = fit_ridge(features, gains)
    assert found.weights[:2] == pytest.approx([0, 0], abs=1e-12)
    features[:, :2] = 1e6
    assert np.isfinite(found.score(features, None)).all()


def test_scaled_features_are_clipped():
    features, _, _ = world(500)
    scaled = scaling_of(features).of(features * 1000)
    assert np.abs(scaled).max() == 4


def test_beside_vectors_only_lengths_are_used():
    dice = np.random.default_rng(3)
    features, gains, _ = world(300)
    vectors = dice.normal(size=(300, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = fit_ridge(features, gains + 3 * vectors[:, 0], vectors)
    assert {NAMES[i] for i in np.flatnonzero(np.abs(found.weights) > 1e-9)} == set(LENGTH)
    assert found.vector_weights.argmax() == 0
    with_vectors = found.score(features, vectors)
    assert np.corrcoef(with_vectors, vectors[:, 0])[0, 1] > 0.5


def test_one_row_is_no_training_set():
    with pytest.raises(ValueError, match="two rows"):
        fit_ridge(np.zeros((1, WIDTH)), np.zeros(1))
