"""Scores rows with heads that never saw them: fitted on other folds, other groups, or another file.

Pure over arrays, seeded. What is fitted is what serves: the light tier's ridge on features; or, with vectors, the
embed tier's ridge on lengths and vectors, blended with the neighbours tier.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.routing.fit import Floats, Ridge, blended, fit_ridge

Index = NDArray[np.intp]


class Inputs(NamedTuple):
    """`features`: `float64[n, p]`. `vectors`: `float64[n, d]`, unit norm, or `None` for the light tier."""

    features: Floats
    vectors: Floats | None

    def take(self, index: Index) -> "Inputs":
        """These rows."""
        return Inputs(self.features[index], None if self.vectors is None else self.vectors[index])


def predict(known: Inputs, gains: Floats, asked: Inputs) -> Floats:
    """The expected gains of `asked` (`float64[m]`), by a head fitted on the `known` rows and by its neighbours."""
    return combine(fit_ridge(known.features, gains, known.vectors), known, gains, asked)


def combine(head: Ridge, known: Inputs, gains: Floats, asked: Inputs) -> Floats:
    """The head's scores, moved towards the nearest `known` rows' gains where there are vectors."""
    scores = head.score(asked.features, asked.vectors)
    if known.vectors is None or asked.vectors is None:
        return scores
    return blended(scores, known.vectors, gains, asked.vectors)


def cross_fit(inputs: Inputs, gains: Floats, folds: Index) -> Floats:
    """Each row's score by the rows of the other folds (`folds`: `int[n]`)."""
    scores = np.empty(len(gains))
    for fold in np.unique(folds):
        known = np.flatnonzero(folds != fold)
        asked = np.flatnonzero(folds == fold)
        scores[asked] = predict(inputs.take(known), gains[known], inputs.take(asked))
    return scores


def row_folds(n: int, count: int, seed: int) -> Index:
    """`int[n]`: folds of equal size, drawn at random."""
    return np.random.default_rng(seed).permutation(np.arange(n) % count)


def drawn(n: int, labels: int, seed: int) -> tuple[Index, Index]:
    """`labels` of n rows at random, and the others. ValueError: none would be left."""
    if labels >= n:
        raise ValueError(f"{labels} labels leave none of {n} rows to score")
    order = np.random.default_rng(seed).permutation(n)
    return order[:labels], order[labels:]


def group_folds(groups: list[str], count: int, seed: int) -> Index:
    """`int[n]`: each group whole in one fold; the largest first, each into the fold that has the fewest rows.

    ValueError: fewer groups than folds.
    """
    names, index, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    if len(names) < count:
        raise ValueError(f"{len(names)} groups cannot be spread over {count} folds")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = np.empty(len(names), dtype=np.intp)
    load = np.zeros(count)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = load.argmin()
        load[fold_of[group]] += sizes[group]
    return fold_of[index]
