"""Where a request goes and why: rules first, then the score against its threshold. Pure; the reasons are made here.

Serving, lint, explain and simulation call the same functions: time, draws, scores, thresholds and caps are arguments.
A choice fails to the strong target: no score, no threshold, no number.

| why | chosen | because |
|---|---|---|
| score | either | of the score and the threshold |
| asked | either | the caller named `auto:cheap` or `auto:best` |
| sensitive | either | the other target is not self-hosted |
| uncertified | strong | nothing states a threshold that holds |
| classifier_failed | strong | there is no score |
| embed_unavailable | either | no vector came: strong under a certificate, else by the light score |
| judge_unavailable | strong | no rating came: the threshold is one of ratings, and says nothing of another score |
| strong_cap | weak | the key has used up its share of strong calls |
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from gateway.core.exchange import Call, Choice, Identity, Plan
from gateway.policy.choosing import Classify, Pick, alternatives, pick_of
from gateway.policy.resolve import resolved
from gateway.policy.table import Policy
from gateway.routing.caps import StrongCaps

Tier = Literal["light", "embed", "neighbours", "judge"]
MEANING: Final[frozenset[Tier]] = frozenset(["embed", "neighbours"])
"""The tiers that read the encoder's vector."""


class Threshold(msgspec.Struct, frozen=True):
    """Scores up to `value` go to the weak target. `None`: nothing does, and `why` says what is missing.

    `certificate` begins the hash of the certificate; `None` for a calibration that certifies nothing.
    """

    value: float | None
    certificate: str | None = None
    why: str = ""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """What the classifier says: the gain expected of the strong target, `None` when it failed, and the tier that did.

    `late`: what the route's tier needs (a vector, a rating) did not come, so that the score is another tier's.
    `scorer` is as in `Choice`.
    """

    score: float | None
    tier: Tier = "light"
    late: bool = False
    scorer: str | None = None


class Decision(msgspec.Struct, frozen=True):
    """All of it. `plan.reasons` is what `x-farthing-route` says; `choice` is `None` where nothing was to be chosen."""

    plan: Plan
    choice: Choice | None = None


ThresholdOf = Callable[[Classify], Threshold]
ScoreOf = Callable[[Classify, Call, Identity], Scored]

FAILED = Scored(None)


def decide(
    policy: Policy,
    identity: Identity,
    call: Call,
    *,
    wall_s: float,
    draw: float,
    threshold_of: ThresholdOf,
    score_of: ScoreOf,
    caps: StrongCaps,
) -> Decision:
    """The whole decision about one request; raises what `gateway.policy.resolve.resolved` raises."""
    plan, rule = resolved(policy, identity, call, wall_s, draw)
    if rule is None or call.endpoint == "other":
        return Decision(plan)
    scored = score_of(rule, call, identity) if scores(rule, plan, call) else None
    return choose(rule, plan, pick_of(call.model), scored, threshold_of(rule), caps, identity.key)


def scores(rule: Classify, plan: Plan, call: Call) -> bool:
    """Whether the score is asked for: not where the caller or sensitivity has decided."""
    return pick_of(call.model) is None and None not in alternatives(rule, plan)


def choose(
    rule: Classify,
    plan: Plan,
    pick: Pick | None,
    scored: Scored | None,
    threshold: Threshold,
    caps: StrongCaps,
    key: str,
) -> Decision:
    """The choice between the two targets of `rule` for a request whose plan so far is `plan`."""
    weak, strong = alternatives(rule, plan)
    if weak is None or strong is None:
        side: Literal["weak", "strong"] = "strong" if weak is None else "weak"
        return _decision(weak or strong or plan, Choice(side, "sensitive"))
    if pick is not None:
        side = "weak" if pick == "cheap" else "strong"
        return _decision(weak if pick == "cheap" else strong, Choice(side, "asked"))
    scored = scored or FAILED
    side, why = _by_score(rule, scored, threshold, caps, key)
    tier = scored.tier if scored.score is not None else None
    choice = Choice(side, why, tier, scored.score, threshold.value, threshold.certificate, scored.scorer)
    return _decision(weak if side == "weak" else strong, choice)


def _by_score(
    rule: Classify, scored: Scored, threshold: Threshold, caps: StrongCaps, key: str
) -> tuple[Literal["weak", "strong"], str]:
    if threshold.value is None:
        return "strong", "uncertified"
    if scored.score is None:
        return "strong", "classifier_failed"
    if scored.late and rule.tier == "judge":
        return "strong", "judge_unavailable"
    if scored.late and threshold.certificate is not None:
        return "strong", "embed_unavailable"
    share = rule.strong_cap_per_key
    why = "embed_unavailable" if scored.late else "score"
    if scored.score <= threshold.value:
        if share is not None:
            caps.earn(rule.route, key, share)
        return "weak", why
    if share is not None and not caps.allows(rule.route, key, share):
        return "weak", "strong_cap"
    return "strong", why


def _decision(plan: Plan, choice: Choice) -> Decision:
    return Decision(msgspec.structs.replace(plan, reasons=(*plan.reasons, *reasons(choice))), choice)


def reasons(choice: Choice) -> tuple[str, ...]:
    """The choice in the words of `x-farthing-route`."""
    words = [f"choice={choice.target}", f"why={choice.why}"]
    if choice.tier is not None:
        words.append(f"tier={choice.tier}")
    if choice.score is not None:
        words.append(f"score={choice.score:.4f}")
    if choice.threshold is not None:
        words.append(f"threshold={choice.threshold:.4f}")
        words.append(f"certificate={choice.certificate}" if choice.certificate is not None else "uncertified")
    return tuple(words)
