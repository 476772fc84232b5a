"""Fits how the pair encoder's logit and the guards' traits become one score, on pairs that no weight was trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gateway.cache.verify import guards
from gateway.cache.verify.verifier import Fusion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gateway.cache.training.pairs import TrainingPair

    Floats = NDArray[np.float64]

FALSE_SHARE = 0.06
"""The share of held-out different pairs, made to deceive, that the shipped point may serve."""
FALSE_SHARE_REORDERED = 0.01
"""The same for pairs of the same content words in another order or form, which look alike to models of words."""
_RIDGE = 1.0
_STEPS = 50
NOT_A_SIGN_OF_SAMENESS = tuple(name for name in guards.TRAITS if name != "voice")
"""Traits whose weight may only lower a score: in generated pairs they can go the other way by the recipe's mix."""


def fit(logits: Sequence[float], pairs: Sequence[tuple[str, str]], same: Sequence[int]) -> Fusion:
    """Logistic regression by Newton's method, then two points: one for reordered pairs, one for all others.

    Pairs with a guard's veto are left out of the regression; they count as not served.
    """
    open_ = [i for i, (a, b) in enumerate(pairs) if guards.veto(a, b) is None]
    traits = np.array([guards.traits(*pairs[i]) for i in open_])
    x = np.column_stack([np.array(logits)[open_], traits])
    y = np.array(same, dtype=np.float64)[open_]
    banned: set[int] = set()
    while True:
        weights = _regress(np.delete(x, sorted(banned), 1), y)
        full = np.insert(weights[1:], [i - k for k, i in enumerate(sorted(banned))], 0.0)
        wrong = {1 + guards.TRAITS.index(n) for n in NOT_A_SIGN_OF_SAMENESS if full[1 + guards.TRAITS.index(n)] > 0}
        if not wrong:
            break
        banned |= wrong
    column = 1 + guards.TRAITS.index("reordered")
    full[column] = 0.0
    evidence, reordered = x @ full, x[:, column] > 0
    every = np.array([guards.traits(*pair)[column - 1] > 0 for pair in pairs])
    different = np.array(same) == 0
    others = _point(evidence[(y == 0) & ~reordered], int(FALSE_SHARE * (different & ~every).sum()))
    moved = _point(evidence[(y == 0) & reordered], int(FALSE_SHARE_REORDERED * (different & every).sum()))
    full[column] = min(0.0, others - moved)
    named = dict(zip(guards.TRAITS, (float(w) for w in full[1:]), strict=True))
    return Fusion(logit=float(full[0]), traits=named, constant=-others)


def _point(evidence: "Floats", allowed: int) -> float:
    """Just above what all but `allowed` of the different reach; 0 where there are none."""
    if not len(evidence):
        return 0.0
    ordered = np.sort(evidence)[::-1]
    return float(ordered[min(allowed, len(ordered) - 1)]) + 1e-6


def _regress(x: "Floats", y: "Floats") -> "Floats":
    x = np.column_stack([np.ones(len(x)), x])
    w = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - y) + _RIDGE * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def figures(fusion: Fusion, logits: Sequence[float], pairs: Sequence["TrainingPair"]) -> dict[str, float]:
    """What the shipped point does on held-out pairs: shares of the same and of the different that it serves."""
    served: dict[bool, list[bool]] = {True: [], False: []}
    for logit, pair in zip(logits, pairs, strict=True):
        evidence = fusion.evidence(logit, guards.traits(pair.a, pair.b))
        served[pair.same > 0.5].append(guards.veto(pair.a, pair.b) is None and evidence >= 0)
    return {
        "same": len(served[True]),
        "same_served": round(sum(served[True]) / max(1, len(served[True])), 4),
        "different": len(served[False]),
        "different_served": round(sum(served[False]) / max(1, len(served[False])), 4),
    }
