"""A checked document into a `Policy`: secrets resolved, settings inherited, every plan built beforehand. Pure.

Secrets come from the `resolve_secret` argument; a reference it cannot resolve is a problem like any other.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from gateway.core.errors import PolicyError
from gateway.core.exchange import Deadlines, Identity, Plan, Pool, Retries, Target
from gateway.policy import units
from gateway.policy.caching import CacheRule, SemanticRule
from gateway.policy.check_money import DIRECT
from gateway.policy.choosing import Classify, confined
from gateway.policy.compile_match import rule, sensitive_rules
from gateway.policy.compile_money import limit_table, money_rules
from gateway.policy.document import Document, Entry
from gateway.policy.limits import Stricter
from gateway.policy.models import (
    ClassifySpec,
    DeadlinesSpec,
    KeySpec,
    PoolSpec,
    PriceSpec,
    RetriesSpec,
    RouteSpec,
    SemanticSpec,
    Spec,
    TargetSpec,
)
from gateway.policy.presets import AUTH_HEADERS, PRESETS
from gateway.policy.problems import Path, PolicyProblems, Problem
from gateway.policy.secrets import weak_secret
from gateway.policy.table import Arm, Policy, Route, Rule

__all__ = ["Policy", "ResolveSecret", "Route", "compile_policy"]

ResolveSecret = Callable[[str], str]
"""`env:NAME` or `file:PATH` to the secret itself; raises `PolicyError`."""


def compile_policy(document: Document, resolve_secret: ResolveSecret, *, beside: Policy | None = None) -> Policy:
    """The policy of a document that `check` found no error in; raises `PolicyProblems` with every bad secret.

    One that serves some requests `beside` another lets nobody in and lets nobody spend that the other would not: the
    other's keys and money rules hold, and of its limits and the other's the lower. Its targets and pools are told apart
    from those of the same name and other content, so that neither's failures or prices are taken for the other's.
    """
    problems: list[Problem] = []
    vault = _Vault(resolve_secret, problems)
    keys = _keys(document, vault)
    version = _hash(document)
    pools = {name: _pool(entry) for name, entry in document.pools.items()}
    if beside is not None:
        pools = {name: _pool_beside(pool, beside, version) for name, pool in pools.items()}
    headers = {name: _headers(entry, vault) for name, entry in document.targets.items()}
    webhook = _webhook(document, vault)
    if problems:
        raise PolicyProblems(problems)
    targets = {name: _target(entry, document, pools, headers[name]) for name, entry in document.targets.items()}
    if beside is not None:
        targets = {name: _target_beside(target, beside, version) for name, target in targets.items()}
    routes = [_route(entry.spec, targets, document.money.timezone) for entry in document.routes]
    direct = _direct_routes(targets) if document.default.direct_targets else {}
    caching = _caching(document, [*routes, *direct.values()])
    limits = limit_table(document, caching, [route.classify for route in routes if route.classify is not None])
    return Policy(
        version,
        targets,
        pools,
        keys if beside is None else beside.keys,
        routes,
        direct,
        limits=limits if beside is None else Stricter(limits, beside.limit_table),
        baseline=targets[document.baseline.name] if document.baseline else None,
        money=money_rules(document, webhook) if beside is None else beside.money,
        caching=caching,
        sensitive=sensitive_rules(document.sensitive),
        text=document.text,
    )


def _pool_beside(pool: Pool, beside: Policy, version: str) -> Pool:
    there = beside.pools.get(pool.name)
    return pool if there is None or there == pool else msgspec.structs.replace(pool, name=f"{pool.name}@{version}")


def _target_beside(target: Target, beside: Policy, version: str) -> Target:
    there = beside.targets.get(target.name)
    return target if there is None or there == target else msgspec.structs.replace(target, apart=version)


class _Vault:
    """Resolves references and writes down what went wrong, without the secret."""

    def __init__(self, resolve: ResolveSecret, problems: list[Problem]) -> None:
        self.resolve = resolve
        self.problems = problems

    def get(self, entry: Entry[Any], at: Path, reference: str) -> str | None:
        try:
            secret = self.resolve(reference)
        except PolicyError as exc:
            self.problems.append(entry.problem(at, exc.message, "set it, or remove the entry"))
            return None
        if not secret or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
            message = f"{reference} holds no usable secret"
            self.problems.append(entry.problem(at, message, "store one line of plain ASCII without spaces around it"))
            return None
        return secret


def _keys(document: Document, vault: _Vault) -> dict[str, Identity]:
    keys: dict[str, Identity] = {}
    for name, entry in document.keys.items():
        spec: KeySpec = entry.spec
        secret = vault.get(entry, ("secret",), spec.secret)
        if secret is None:
            continue
        weak = weak_secret(secret)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        if weak:
            fix = "generate one: python -c \"import secrets; print('sk-' + secrets.token_urlsafe(32))\""
            vault.problems.append(entry.problem(("secret",), weak, fix))
        elif digest in keys:
            message = f"the same secret as key {keys[digest].key!r}"
            vault.problems.append(entry.problem(("secret",), message, "give each key a secret of its own"))
        else:
            keys[digest] = Identity(tenant=spec.tenant, key=name, tags=frozenset(spec.tags))
    return keys


def _webhook(document: Document, vault: _Vault) -> str | None:
    entry = document.money_rules
    if entry is None or entry.spec.alert_webhook is None:
        return None
    url = vault.get(entry, ("alert_webhook",), entry.spec.alert_webhook)
    try:
        return units.webhook(url) if url is not None else None
    except units.BadValue as exc:
        vault.problems.append(entry.problem(("alert_webhook",), exc.message, exc.fix))
        return None


def _pool(entry: Entry[PoolSpec]) -> Pool:
    spec = entry.spec
    return Pool(
        name=entry.name,
        replicas=tuple(spec.replicas),
        health_path=spec.health or PRESETS[spec.engine].health,
        health_interval_s=spec.interval,
        gpu_hour_usd=spec.gpu_hour_usd,
        gpus=spec.gpus,
        input_tokens_per_s=spec.input_tokens_per_s,
        output_tokens_per_s=spec.output_tokens_per_s,
    )


def _headers(entry: Entry[TargetSpec], vault: _Vault) -> tuple[tuple[str, str], ...]:
    """Preset headers, then the target's own, then the credential; later ones win."""
    spec = entry.spec
    preset = PRESETS[spec.provider or "openai_compatible"]
    headers = dict(preset.headers)
    for name, value in spec.headers.items():
        secret = vault.get(entry, ("headers", name), value) if value.startswith(("env:", "file:")) else value
        headers[name] = secret or ""
    auth = spec.auth or preset.auth
    if spec.api_key is not None and auth != "none":
        secret = vault.get(entry, ("api_key",), spec.api_key) or ""
        headers[AUTH_HEADERS[auth]] = f"Bearer {secret}" if auth == "bearer" else secret
    return tuple(headers.items())


def _target(
    entry: Entry[TargetSpec], document: Document, pools: dict[str, Pool], headers: tuple[tuple[str, str], ...]
) -> Target:
    spec = entry.spec
    preset = PRESETS[spec.provider or "openai_compatible"]
    pool = pools[spec.pool] if spec.pool else None
    owned = pool is not None or preset.self_hosted
    default = document.default
    return Target(
        name=entry.name,
        provider=preset.wire,
        model=spec.model,
        base_url=None if pool else spec.base_url or preset.base_url,
        pool=pool,
        headers=headers,
        query=urlencode(spec.query, quote_via=quote),
        deadlines=_deadlines(spec.deadlines, _deadlines(default.deadlines, Deadlines())),
        retries=_retries(spec.retries, _retries(default.retries, Retries())),
        self_hosted=owned if spec.self_hosted is None else spec.self_hosted,
        price_key=spec.price if isinstance(spec.price, str) else None,
        options=_options(spec, document),
    )


def _options(spec: TargetSpec, document: Document) -> dict[str, Any]:
    """Sandbox options as given; else `preset` (whose dialect of the wire format it is) and the inline `price`."""
    if spec.provider == "sandbox":
        names = ("size", "latency_ms", "tokens_per_s", "error_rate", "seed")
        return {name: value for name in names if (value := getattr(spec, name)) is not None}
    options: dict[str, Any] = {"preset": document.pools[spec.pool].spec.engine if spec.pool else spec.provider}
    if isinstance(spec.price, PriceSpec):
        options["price"] = spec.price.model_dump(exclude_none=True)
    return options


def _deadlines(spec: DeadlinesSpec, base: Deadlines) -> Deadlines:
    """`base` with what `spec` says."""
    given = {f"{name}_s": value for name, value in spec if value is not None}
    return msgspec.structs.replace(base, **given) if given else base


def _retries(spec: RetriesSpec, base: Retries) -> Retries:
    """`base` with what `spec` says."""
    given = {name: value for name, value in spec if value is not None}
    return msgspec.structs.replace(base, **given) if given else base


def _route(spec: RouteSpec, targets: dict[str, Target], timezone: str) -> Route:
    def ready(name: str) -> Target:
        target = targets[name]
        deadlines = _deadlines(spec.deadlines, target.deadlines)
        retries = _retries(spec.retries, target.retries)
        if deadlines is target.deadlines and retries is target.retries:
            return target
        return msgspec.structs.replace(target, deadlines=deadlines, retries=retries)

    matched = rule(spec, timezone)
    looked = (f"match={','.join(matched.conditions.names)}",) if matched.conditions is not None else ()

    def plan(path: list[str], *reasons: str) -> Plan:
        ordered = tuple(ready(each) for each in dict.fromkeys([*path, *spec.fallbacks]))
        made = Plan(spec.name, ordered, (f"route={spec.name}", *looked, *reasons))
        kept = confined(made, "route") if spec.sensitive else made
        assert kept is not None, "`check` refuses sensitive routes with targets that are not self-hosted"
        return kept

    if spec.classify is not None:
        choice = _classify(spec.name, spec.classify, plan, targets)
        return Route(spec.name, matched, [Arm(1.0, choice.strong, choice.strong)], classify=choice)
    shares = [(arm.target, arm.weight) for arm in spec.split or ()] or [(spec.target or "", 1.0)]
    split = "split " + "/".join(f"{weight:g}" for _, weight in shares)
    arms = []
    for name, weight in shares:
        reasons = (split, f"arm={name}") if len(shares) > 1 else ()
        arms.append(Arm(weight, plan([name], *reasons), plan([name], *reasons, "sticky=session")))
    return Route(spec.name, matched, arms, sticky=any(arm.sticky for arm in spec.split or ()))


def _classify(
    route: str, spec: ClassifySpec, plan: Callable[[list[str]], Plan], targets: Mapping[str, Target]
) -> Classify:
    judge = spec.judge
    return Classify(
        route=route,
        weak=plan([spec.weak, spec.strong]),
        strong=plan([spec.strong]),
        tier=spec.tier,
        max_quality_loss=spec.max_quality_loss,
        confidence=spec.confidence,
        strong_share=spec.strong_share,
        target_cost=spec.target_cost,
        strong_cap_per_key=spec.strong_cap_per_key,
        judge=Plan(route, (targets[judge.target],), (f"route={route}",)) if judge is not None else None,
        judge_timeout_s=judge.timeout if judge is not None else 0.0,
        compare=spec.compare,
        compare_budget=spec.compare_budget,
    )


def _direct_routes(targets: dict[str, Target]) -> dict[str, Route]:
    """Implicit routes by the name a caller may use; a target's own name wins over another's `model`."""
    routes = {}
    for name, target in targets.items():
        route = f"{DIRECT}{name}"
        plan = Plan(route, (target,), (f"route={route}",))
        routes[name] = Route(route, Rule(), [Arm(1.0, plan, plan)])
    for name, target in targets.items():
        if target.model is not None:
            routes.setdefault(target.model, routes[name])
    return routes


def _caching(document: Document, routes: Iterable[Route]) -> dict[str, CacheRule]:
    """What each route caches, by its name; routes that cache nothing are left out."""
    specs = {entry.spec.name: entry.spec for entry in document.routes}
    rules: dict[str, CacheRule] = {}
    for route in routes:
        own = specs.get(route.name)
        spec = own.cache if own is not None and own.cache is not None else document.default.cache
        if spec is None or (spec.exact is None and spec.semantic is None):
            continue
        targets = {target.name: _content(document.targets[target.name].spec) for target in route.targets}
        meaning = [_content(own) if own is not None else None, _content(spec), targets]
        rules[route.name] = CacheRule(
            route=route.name,
            version=hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12],
            exact_ttl_s=spec.exact,
            semantic=_semantic(spec.semantic) if spec.semantic is not None else None,
            share=spec.share,
            tags=tuple(sorted(set(spec.tags))),
            second_sighting=spec.second_sighting,
        )
    return rules


def _semantic(spec: SemanticSpec) -> SemanticRule:
    return SemanticRule(
        ttl_s=spec.ttl,
        max_error=spec.max_error,
        confidence=spec.confidence,
        personal=spec.personal,
        max_temperature=spec.max_temperature,
        shadow=spec.shadow,
        shadow_budget=spec.shadow_budget,
    )


def _hash(document: Document) -> str:
    """12 hex digits over what the operator wrote, in a form that layout, comments and file names do not change."""
    content = {
        section: {name: _content(entry.spec) for name, entry in entries.items()}
        for section, entries in _sections(document)
    }
    canonical: dict[str, Any] = {**content, "routes": [_content(entry.spec) for entry in document.routes]}
    canonical["defaults"] = _content(document.default)
    canonical["baseline"] = document.baseline.name if document.baseline else None
    canonical["budgets"] = [_content(entry.spec) for entry in document.budgets]
    canonical["limits"] = [_content(entry.spec) for entry in document.limits]
    canonical["money"] = _content(document.money)
    canonical["sensitive"] = _content(document.sensitive)
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()[:12]


def _sections(document: Document) -> Iterator[tuple[str, dict[str, Entry[Any]]]]:
    yield "targets", dict(document.targets)
    yield "pools", dict(document.pools)
    yield "keys", dict(document.keys)


def _content(spec: Spec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)
