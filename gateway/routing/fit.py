"""Fits heads to labelled rows: ridge regression on the gain, features standardised and clipped, seeded where random.

Pure over arrays. The strength of the ridge is chosen on the training rows alone, by how well held-out scores order the
gains; so a head needs no second set.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.routing.features import Features
from gateway.routing.light import CLIP
from gateway.routing.neighbours import LEAST, NEAR, PRIOR, TEMPERATURE, K

Floats = NDArray[np.float64]

STRENGTHS: Final = tuple(float(10**power) for power in np.arange(1.5, 5.1, 0.5))
LENGTH: Final = ("characters", "words", "sentences", "sentence_length", "vocabulary")
"""The features that stand beside a vector: it carries the topic, and the others then say less than they add noise."""
RARE: Final = 0.01
"""A feature that has one and the same value in all rows but this share is left out: its weight would be a guess."""
_CHUNK = 1024
_FOLDS = 5
_TINY = 1e-12


class Scaling(NamedTuple):
    """`float64[p]` each; `used` is 0 for a feature that is left out, else 1."""

    mean: Floats
    scale: Floats
    used: Floats

    def of(self, features: Floats) -> Floats:
        """`float64[n, p]`, standardised and clipped, 0 where left out."""
        return np.asarray(np.clip((features - self.mean) / self.scale, -CLIP, CLIP) * self.used)


class Ridge(NamedTuple):
    """`gain = bias + scaled features @ weights + (vector - centre) @ vector_weights`."""

    scaling: Scaling
    weights: Floats
    bias: float
    centre: Floats
    vector_weights: Floats
    strength: float

    def score(self, features: Floats, vectors: Floats | None) -> Floats:
        """The expected gains, `float64[n]`; `vectors` only of a head that was fitted with them."""
        scores = self.bias + self.scaling.of(features) @ self.weights
        if len(self.vector_weights) and vectors is not None:
            scores = scores + (vectors - self.centre) @ self.vector_weights
        return np.asarray(scores)


def scaling_of(features: Floats, allowed: Sequence[str] | None = None) -> Scaling:
    """Means and deviations of `float64[n, p]`; only the `allowed` features are used, `None` for all."""
    middle = np.median(features, axis=0)
    scale = features.std(axis=0)
    used = (scale > 0) & ((features != middle).mean(axis=0) >= RARE)
    if allowed is not None:
        used &= np.isin(Features._fields, list(allowed))
    return Scaling(features.mean(axis=0), np.where(scale > 0, scale, 1.0), used.astype(np.float64))


def fit_ridge(
    features: Floats, gains: Floats, vectors: Floats | None = None, *, strength: float | None = None
) -> Ridge:
    """The head of these rows: of all features, or of `LENGTH` and `vectors` (`float64[n, d]`, unit norm).

    A direction of the vectors is held back twice as much as a feature. `strength` is chosen where it is `None`.
    ValueError: fewer than two rows.
    """
    if len(gains) < 2:
        raise ValueError("a head needs at least two rows")
    scaling = scaling_of(features, None if vectors is None else LENGTH)
    design = scaling.of(features)
    mean = design.mean(axis=0)
    parts = [design - mean]
    size, centre = 1.0, np.empty(0)
    if vectors is not None:
        centre = vectors.mean(axis=0)
        size = float(np.sqrt(vectors.shape[1] / 2))
        parts.append((vectors - centre) * size)
    bias = float(gains.mean())
    weights, strength = solve(np.hstack(parts), gains - bias, strength)
    own = weights[: design.shape[1]]
    return Ridge(scaling, own, bias - float(mean @ own), centre, weights[design.shape[1] :] * size, strength)


def solve(design: Floats, target: Floats, strength: float | None = None) -> tuple[Floats, float]:
    """Ridge weights of centred `float64[n, p]` and `float64[n]`, and the strength that was chosen or given.

    Weights of a chosen strength are rescaled so that held-out scores are gains: what a ridge holds back too much, and
    what ties a head's scores to the neighbours' where they are averaged.
    """
    scale = 1.0
    if strength is None:
        strength, scale = _chosen(design, target)
    weights = np.linalg.solve(design.T @ design + strength * np.eye(design.shape[1]), design.T @ target)
    return np.asarray(weights * scale), strength


def _chosen(design: Floats, target: Floats) -> tuple[float, float]:
    """The strength whose held-out scores go best with the target, and the target's slope on them (1, if not positive).

    By five folds, every fifth row in one.
    """
    folds = np.arange(len(target)) % _FOLDS
    held_out = np.zeros((len(target), len(STRENGTHS)))
    for fold in np.unique(folds):
        known, asked = design[folds != fold], design[folds == fold]
        values, basis = np.linalg.eigh(known.T @ known)
        projected = basis.T @ (known.T @ target[folds != fold])
        shrunk = projected[:, None] / (np.maximum(values, 0.0)[:, None] + np.array(STRENGTHS))
        held_out[folds == fold] = asked @ (basis @ shrunk)
    held_out -= held_out.mean(axis=0)
    norms = np.maximum(np.linalg.norm(held_out, axis=0), _TINY)
    agreement = held_out.T @ target / norms
    best = int(agreement.argmax())
    return STRENGTHS[best], float(agreement[best] / norms[best]) if agreement[best] > 0 else 1.0


def blended(scores: Floats, known: Floats, gains: Floats, asked: Floats) -> Floats:
    """Scores moved towards the gains of the nearest `known` rows, for each of `asked` (`float64[n, d]`, unit norm).

    What `neighbours.local_gain` and `blend` do for one request, for many at once.
    """
    k = min(K, len(gains))
    found = scores.copy()
    for start in range(0, len(asked), _CHUNK):
        part = slice(start, start + _CHUNK)
        cosines = asked[part] @ known.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.exp((near - near.max(axis=1, keepdims=True)) / TEMPERATURE)
        total = weights.sum(axis=1)
        worth = total * total / (weights * weights).sum(axis=1)
        trust = np.where((near >= NEAR).sum(axis=1) >= LEAST, worth / (worth + PRIOR), 0.0)
        found[part] = (1 - trust) * scores[part] + trust * (weights * gains[nearest]).sum(axis=1) / total
    return found
