"""What a route says about choosing between a weak and a strong target, compiled; and what sensitivity leaves of a plan.

Pure. A sensitive request keeps to self-hosted targets: what is not is taken out of its plan, which says why.
"""

from typing import Final, Literal

import msgspec

from gateway.core.errors import Forbidden
from gateway.core.exchange import Plan, Target

Pick = Literal["cheap", "best"]
_PICKS: Final[dict[str, Pick]] = {"cheap": "cheap", "best": "best"}


class Classify(msgspec.Struct, frozen=True):
    """One route's choice. `weak` and `strong` are whole plans; the weak one goes on to the strong target.

    `max_quality_loss` needs a certificate with `confidence`, `strong_share` and `target_cost` a calibration;
    without any all are strong.
    """

    route: str
    weak: Plan
    strong: Plan
    tier: Literal["light", "embed", "neighbours", "judge"] = "light"
    max_quality_loss: float | None = None
    confidence: float = 0.95
    strong_share: float | None = None
    target_cost: int | None = None
    """Micro-USD for 1,000 requests."""
    strong_cap_per_key: float | None = None
    judge: Plan | None = None
    """The one target that rates; a request's difficulty within `judge_timeout_s`."""
    judge_timeout_s: float = 0.0
    compare: float = 0.0
    """The share of requests that both targets answer. `compare_budget` is micro-USD and the period that it is for."""
    compare_budget: tuple[int, str] = (1_000_000, "day")

    @property
    def versions(self) -> dict[str, str]:
        """The models that a certificate of this route speaks of."""
        found = {"weak": _version(self.weak.targets[0]), "strong": _version(self.strong.targets[0])}
        if self.tier == "judge" and self.judge is not None:
            found["judge"] = _version(self.judge.targets[0])
        return found


def pick_of(model: str | None) -> Pick | None:
    """What the caller asks for by the name of the model: `auto:cheap`, `auto:best`; `None` leaves it to the score."""
    return _PICKS.get(model.rpartition(":")[2]) if model is not None and ":" in model else None


def confined(plan: Plan, why: str) -> Plan | None:
    """`plan` with self-hosted targets only, marked as such; `None` when it has none."""
    targets = tuple(target for target in plan.targets if target.self_hosted)
    if not targets:
        return None
    return msgspec.structs.replace(plan, targets=targets, reasons=(*plan.reasons, f"sensitive={why}"), sensitive=why)


def alternatives(rule: Classify, plan: Plan) -> tuple[Plan | None, Plan | None]:
    """The weak and the strong plan as far as `plan`, the one the request has, allows: `None` where it may not go."""
    if plan.sensitive is None:
        return rule.weak, rule.strong
    weak, strong = (
        confined(side, plan.sensitive) if side.sensitive is None and side.targets[0].self_hosted else side
        for side in (rule.weak, rule.strong)
    )
    return (
        weak if weak is not None and weak.sensitive is not None else None,
        strong if strong is not None and strong.sensitive is not None else None,
    )


def no_self_hosted(route: str, why: str) -> Forbidden:
    """The answer to a sensitive request that no target may serve."""
    return Forbidden(
        f"The request is sensitive ({why}) and the route {route!r} has no self-hosted target; it was sent nowhere.",
        code="no_self_hosted_target",
    )


def _version(target: Target) -> str:
    return target.model or target.name
