"""What is doubtful in a valid policy: routes that nothing reaches, things unused, secrets in the clear, no price. Pure.

Errors are found by `document`, `check` and `compile`; nothing here stops a policy from being served.
"""

import ipaddress
from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import urlsplit

from gateway.core.exchange import Target
from gateway.policy.compile import ResolveSecret, compile_policy
from gateway.policy.document import Document, Entry
from gateway.policy.includes import includes, matched
from gateway.policy.lint_money import lint_money, refused_unpriced, target_names
from gateway.policy.lint_routing import Cost, WeakShare, inline_cost, lint_routing
from gateway.policy.models import MatchSpec, TargetSpec
from gateway.policy.presets import PRESETS
from gateway.policy.problems import Problem, did_you_mean, in_order
from gateway.policy.table import Policy

HasPrice = Callable[[Target], bool]
"""Whether the price book, the target or its pool says what the target's tokens cost."""

_INTERNAL_SUFFIXES = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".lan", ".home.arpa")


def lint(
    document: Document,
    has_price: HasPrice,
    resolve_secret: ResolveSecret | None = None,
    *,
    cost: Cost = inline_cost,
    weak_share: WeakShare = lambda _: None,
) -> list[Problem]:
    """Warnings and infos, by file and line. Raises `PolicyProblems` when the document cannot be compiled.

    Without `resolve_secret` secrets are taken as set: nothing outside the document is looked at. `cost` and
    `weak_share` tell whether a choice between two targets pays.
    """
    policy = compile_policy(document, resolve_secret or _assumed)
    return in_order(
        [
            *_shadowed(document),
            *_unused(document),
            *_routes(document),
            *_tenants(document),
            *_restricted_but_direct(document),
            *_targets(document, policy, has_price),
            *lint_money(document, policy, has_price),
            *lint_routing(document, policy, cost, weak_share),
        ]
    )


def _assumed(reference: str) -> str:
    return placeholder("assumed", reference)


def placeholder(why: str, reference: str) -> str:
    """What stands in for a secret where it is not looked at: usable as a key, in a header, and as a URL."""
    return f"https://{why}.invalid/{sha256(reference.encode('utf-8', 'replace')).hexdigest()}"


def _shadowed(document: Document) -> Iterator[Problem]:
    zone = document.money.timezone
    for index, route in enumerate(document.routes):
        for earlier in document.routes[:index]:
            if includes(matched(earlier.spec), matched(route.spec), zone):
                where = earlier.problem((), "").where
                message = f"never reached: {earlier.name!r} ({where}) takes all of its requests before it"
                yield route.problem((), message, "move it up, narrow the other, or remove it", "warning")
                break


def _unused(document: Document) -> Iterator[Problem]:
    used = {name for route in document.routes for name in target_names(route.spec)}
    used |= {document.baseline.name} if document.baseline else set()
    catch_all = any(includes(matched(route.spec), MatchSpec()) for route in document.routes)
    if catch_all or not document.default.direct_targets:
        for name, target in document.targets.items():
            if name not in used:
                yield target.problem((), "no route leads to this target", "name it in a route, or remove it", "warning")
    pools = {target.spec.pool for target in document.targets.values()}
    seen: dict[str, str] = {}
    for name, pool in document.pools.items():
        if name not in pools:
            fix = f"add a target with `pool: {name}`, or remove it"
            yield pool.problem((), "no target uses this pool", fix, "warning")
        for index, url in enumerate(pool.spec.replicas):
            if seen.setdefault(url, name) != name:
                message = f"the replica is in pool {seen[url]!r} too: its GPU-hours are counted twice"
                yield pool.problem(("replicas", index), message, "name each replica in one pool", "warning")


def _routes(document: Document) -> Iterator[Problem]:
    for route in document.routes:
        spec = route.spec
        arms = spec.split or []
        primaries = {spec.target} if spec.target else {arm.target for arm in arms}
        for index, name in enumerate(spec.fallbacks):
            if primaries == {name}:
                message = f"the fallback is the target {name!r} itself"
                yield route.problem(
                    ("fallbacks", index), message, "name another; retries try the same again", "warning"
                )
        total = sum(arm.weight for arm in arms)
        if arms and abs(total - 100) > 1e-6:
            message = f"the weights add up to {total:g}, so they are shares of that"
            yield route.problem(("split",), message, "weights of 100 in all read as percentages", "info")
        if len(arms) == 1:
            yield route.problem(("split",), "a split with one side", f"write `target: {arms[0].target}`", "info")


def _tenants(document: Document) -> Iterator[Problem]:
    tenants = {key.spec.tenant for key in document.keys.values()}
    tags = {tag for key in document.keys.values() for tag in key.spec.tags}
    if not document.keys:
        tenants.add("default")
    for route in document.routes:
        for kind, wanted, known in (
            ("tenants", route.spec.match.tenants, tenants),
            ("tags", route.spec.match.tags, tags),
        ):
            for index, name in enumerate(wanted or ()):
                if name not in known:
                    message = f"no key has the {kind.removesuffix('s')} {name!r}"
                    yield route.problem(("match", kind, index), message, did_you_mean(name, known), "warning")


def _restricted_but_direct(document: Document) -> Iterator[Problem]:
    """Routes for some callers only, whose models or targets the others reach by naming a target."""
    if not document.default.direct_targets or not document.keys:
        return
    direct = {*document.targets, *(target.spec.model for target in document.targets.values())}
    for_all = [route.spec for route in document.routes if not (route.spec.match.tenants or route.spec.match.tags)]
    shared = {name for spec in for_all for name in target_names(spec)}

    def exposed(name: str) -> bool:
        return not any(includes(matched(spec), MatchSpec(models=[name])) for spec in for_all)

    for route in document.routes:
        match = matched(route.spec)
        if not (match.tenants or match.tags):
            continue
        fix = "set `defaults: {direct_targets: false}` if they must not"
        asked = [name for name in match.models or () if name in direct and exposed(name)]
        if asked:
            message = f"callers outside this route still reach {', '.join(asked)}: a target has that name"
            yield route.problem(("match", "models"), message, fix, "warning")
        reached = [name for name in target_names(route.spec) if name not in {*shared, *asked} and exposed(name)]
        if reached:
            message = f"callers outside this route can ask for its targets by name: {', '.join(reached)}"
            yield route.problem(("match",), message, fix, "info")


def _targets(document: Document, policy: Policy, has_price: HasPrice) -> Iterator[Problem]:
    refused = refused_unpriced(document)
    real = any(target.spec.provider != "sandbox" for target in document.targets.values())
    for name, target in document.targets.items():
        simulated = target.spec.provider == "sandbox"
        if simulated and real:
            message = "a simulated target beside real ones"
            yield target.problem((), message, "keep it out of policies that serve users", "warning")
        if not simulated:
            yield from _addresses(target, document)
        if (not simulated or target.spec.price) and not has_price(policy.targets[name]):
            fix = "add `price: {input: ..., output: ...}` or a row of the price book"
            if simulated:
                fix = "name a row of the price book with its provider: `price: openai/gpt-4o`"
            if target.spec.pool:
                fix = "give the pool gpu_hour_usd, input_tokens_per_s and output_tokens_per_s"
            what = "its cost is recorded as unknown"
            if name in refused:
                what = f"requests to it that the budget at {refused[name]} applies to are refused"
            yield target.problem((), f"no known price: {what}", fix, "warning")


def _addresses(target: Entry[TargetSpec], document: Document) -> Iterator[Problem]:
    spec = target.spec
    urls = document.pools[spec.pool].spec.replicas if spec.pool else [spec.base_url] if spec.base_url else []
    outside = next((url for url in urls if url.startswith("http://") and not internal(url)), None)
    if outside is not None and spec.api_key is not None:
        message = f"the credential goes to {outside} without encryption"
        yield target.problem(("api_key",), message, "use https", "warning")
    if spec.base_url is not None and not urlsplit(spec.base_url).path:
        usual = urlsplit(PRESETS[spec.provider or "openai_compatible"].base_url or "/v1").path
        message = "the URL has no path; most APIs live below one"
        yield target.problem(("base_url",), message, f"write {spec.base_url}{usual} if it does", "warning")


def internal(url: str) -> bool:
    """Whether the host is loopback, private or a name that only a private network resolves."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith(_INTERNAL_SUFFIXES) or ".svc." in host
    return address.is_private or address.is_loopback or address.is_link_local
