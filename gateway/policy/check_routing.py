"""The rules of `classify`, of sensitivity and of conditions that join keys and entries. Pure.

Everything here is an error; what is only doubtful is in `lint_routing`.
"""

from collections.abc import Iterator

from gateway.policy.document import Document, Entry
from gateway.policy.models import RouteSpec, TargetSpec
from gateway.policy.presets import PRESETS
from gateway.policy.problems import Path, Problem, did_you_mean


def check_routing(entry: Entry[RouteSpec], document: Document) -> Iterator[Problem]:
    """All errors of one route in this."""
    yield from _match(entry)
    yield from _classify(entry, document)
    if entry.spec.sensitive:
        yield from _boundary(entry, document)


def known(entry: Entry[RouteSpec], at: Path, name: str, document: Document) -> Iterator[Problem]:
    """That a route's target exists."""
    if name not in document.declared["targets"]:
        yield entry.problem(at, f"unknown target {name!r}", did_you_mean(name, document.declared["targets"]))


def places(route: RouteSpec) -> Iterator[tuple[Path, str]]:
    """Every target that a route names, with its key."""
    if route.target is not None:
        yield ("target",), route.target
    for index, arm in enumerate(route.split or ()):
        yield ("split", index, "target"), arm.target
    if route.classify is not None:
        yield ("classify", "weak"), route.classify.weak
        yield ("classify", "strong"), route.classify.strong
        if route.classify.judge is not None:
            yield ("classify", "judge", "target"), route.classify.judge.target
    for index, name in enumerate(route.fallbacks):
        yield ("fallbacks", index), name


def self_hosted(target: TargetSpec) -> bool:
    """Whether prompts stay on the operator's machines."""
    if target.self_hosted is not None:
        return target.self_hosted
    return target.pool is not None or PRESETS[target.provider or "openai_compatible"].self_hosted


def _match(entry: Entry[RouteSpec]) -> Iterator[Problem]:
    match = entry.spec.match
    low, high = match.min_input_tokens, match.max_input_tokens
    if low is not None and high is not None and low > high:
        message = f"no request has at least {low} and at most {high} tokens"
        yield entry.problem(("match", "min_input_tokens"), message, "exchange them, or remove one")
    if "text" in match.model_fields_set and match.regex is None and match.keywords is None:
        yield entry.problem(("match", "text"), "nothing looks at the text", "add regex or keywords, or remove it")
    if match.timezone is not None and match.hours is None and match.days is None:
        yield entry.problem(("match", "timezone"), "neither hours nor days", "add one of them, or remove it")
    if entry.spec.sensitive and match.sensitive is False:
        message = "it takes only requests that are not sensitive, and treats them as sensitive"
        yield entry.problem(("match", "sensitive"), message, "remove one of the two")


def _classify(entry: Entry[RouteSpec], document: Document) -> Iterator[Problem]:
    spec = entry.spec.classify
    if spec is None:
        return
    for other in ("target", "split"):
        if getattr(entry.spec, other) is not None:
            yield entry.problem(("classify",), f"both {other} and classify", "keep one of them")
    for key in ("weak", "strong"):
        yield from known(entry, ("classify", key), getattr(spec, key), document)
    if spec.judge is not None:
        yield from known(entry, ("classify", "judge", "target"), spec.judge.target, document)
    elif spec.tier == "judge":
        yield entry.problem(("classify", "tier"), "nobody is named to judge", "add `judge: {target: NAME}`")
    elif spec.compare:
        message = "two answers that differ tell nothing until somebody rates them"
        yield entry.problem(("classify", "compare"), message, "add `judge: {target: NAME}`")
    if spec.weak == spec.strong:
        yield entry.problem(("classify", "weak"), "weak and strong are the same target", "name two, or write `target:`")
    asked = [key for key in ("max_quality_loss", "strong_share", "target_cost") if getattr(spec, key) is not None]
    if len(asked) > 1:
        message = f"both {asked[0]} and {asked[1]}: one threshold cannot keep two promises"
        yield entry.problem(("classify", asked[1]), message, "keep one of them")
    for at, name in places(entry.spec):
        target = document.targets.get(name)
        if target is not None and target.spec.model is None and target.spec.provider != "sandbox":
            message = f"the target {name!r} names no model of its own, and callers ask for a virtual one"
            yield entry.problem(at, message, f"add `model:` to the target {name!r}")


def _boundary(entry: Entry[RouteSpec], document: Document) -> Iterator[Problem]:
    for at, name in places(entry.spec):
        target = document.targets.get(name)
        if target is not None and not self_hosted(target.spec):
            message = f"the route is sensitive, and the target {name!r} is not self-hosted"
            fix = "name a self-hosted target, or `self_hosted: true` on it if prompts stay with you"
            yield entry.problem(at, message, fix)
