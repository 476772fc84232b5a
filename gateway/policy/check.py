"""The rules that join keys and entries: what a target needs, whether names exist, whether a route is whole. Pure.

Everything here is an error; what is only doubtful is in `lint`.
"""

from collections.abc import Iterator

from gateway.policy.check_money import DIRECT, check_money
from gateway.policy.check_routing import check_routing, known
from gateway.policy.document import Document, Entry
from gateway.policy.models import PriceSpec, RouteSpec, TargetSpec
from gateway.policy.presets import CREDENTIAL_HEADERS, FRAMING_HEADERS, PRESETS
from gateway.policy.problems import Problem, did_you_mean

_SANDBOX_KEYS = ("size", "latency_ms", "tokens_per_s", "error_rate", "seed")
_REMOTE_KEYS = ("base_url", "api_key", "auth", "headers", "query")


def check(document: Document) -> Iterator[Problem]:
    """All errors of a document whose entries are well-formed; entries that are not have been reported before."""
    for target in document.targets.values():
        yield from _target(target, document)
    for pool in document.pools.values():
        for index, url in enumerate(pool.spec.replicas):
            if url in pool.spec.replicas[:index]:
                yield pool.problem(("replicas", index), "the replica is given twice", "remove it")
    for route in document.routes:
        yield from _route(route, document)
    yield from check_money(document)


def _target(entry: Entry[TargetSpec], document: Document) -> Iterator[Problem]:
    spec = entry.spec
    given = spec.model_fields_set
    if spec.provider is None and spec.pool is None:
        wanted = "openai_compatible" if spec.base_url else "openai"
        yield entry.problem((), "neither provider nor pool", f"add `provider: {wanted}`, another provider, or `pool:`")
        return
    if spec.provider is not None and spec.pool is not None:
        yield entry.problem(("pool",), "both provider and pool", "keep one of them")
        return
    if spec.pool is not None:
        if spec.pool not in document.declared["pools"]:
            fix = did_you_mean(spec.pool, document.declared["pools"])
            yield entry.problem(("pool",), f"unknown pool {spec.pool!r}", fix)
        if spec.base_url is not None:
            yield entry.problem(("base_url",), "a pool has addresses of its own", "remove it, or the pool")
    if spec.provider == "sandbox":
        for key in _REMOTE_KEYS:
            if key in given:
                yield entry.problem((key,), "the sandbox calls nobody", "remove it")
        if isinstance(spec.price, PriceSpec):
            fix = "name a row of the price book whose prices it simulates"
            yield entry.problem(("price",), "the sandbox has no prices of its own", fix)
    else:
        for key in _SANDBOX_KEYS:
            if key in given:
                yield entry.problem((key,), "only the sandbox has it", "remove it, or use `provider: sandbox`")
        yield from _credentials(entry)
        yield from _headers(entry)


def _credentials(entry: Entry[TargetSpec]) -> Iterator[Problem]:
    spec = entry.spec
    preset = PRESETS[spec.provider or "openai_compatible"]
    if spec.pool is None and spec.base_url is None and preset.base_url is None:
        example = "https://NAME.openai.azure.com/openai/v1" if spec.provider == "azure" else "https://HOST/v1"
        yield entry.problem((), f"provider {spec.provider} needs a base_url", f"add `base_url: {example}`")
    if spec.api_key is None:
        if spec.auth not in (None, "none"):
            yield entry.problem(("auth",), "auth without api_key", "add `api_key: env:NAME`")
        elif preset.keyed and spec.auth is None and not CREDENTIAL_HEADERS & spec.headers.keys():
            variable = f"{spec.provider}_API_KEY".upper()
            yield entry.problem((), "api_key is missing", f"add `api_key: env:{variable}`, or `auth: none`")
    elif spec.auth == "none":
        yield entry.problem(("auth",), "auth is none but there is an api_key", "remove one of them")


def _headers(entry: Entry[TargetSpec]) -> Iterator[Problem]:
    written = entry.source.at((*entry.path, "headers"))
    seen: set[str] = set()
    for name in written if isinstance(written, dict) else ():
        lower = name.lower()
        at = ("headers", name)
        if lower in seen:
            yield entry.problem(at, "the header is given twice", "keep one of them")
        seen.add(lower)
        if lower in FRAMING_HEADERS:
            yield entry.problem(at, "the gateway writes this header itself", "remove it")
        elif lower in CREDENTIAL_HEADERS and not entry.spec.headers[lower].startswith(("env:", "file:")):
            yield entry.problem(at, "a secret never stands in a policy file", "write env:NAME or file:PATH")
        elif lower in CREDENTIAL_HEADERS and entry.spec.api_key is not None:
            yield entry.problem(at, "a second credential beside api_key", "keep one of them")


def _route(entry: Entry[RouteSpec], document: Document) -> Iterator[Problem]:
    spec = entry.spec
    if spec.name.startswith(DIRECT):
        yield entry.problem(("name",), f"names that begin with {DIRECT} are the gateway's own", "choose another name")
    if spec.target is not None and spec.split is not None:
        yield entry.problem(("split",), "both target and split", "keep one of them")
    elif spec.target is None and spec.split is None and spec.classify is None:
        yield entry.problem((), "neither target nor split nor classify", "add `target: NAME`")
    yield from check_routing(entry, document)
    if spec.target is not None:
        yield from known(entry, ("target",), spec.target, document)
    yield from _split(entry, document)
    for index, name in enumerate(spec.fallbacks):
        yield from known(entry, ("fallbacks", index), name, document)
        if name in spec.fallbacks[:index]:
            yield entry.problem(("fallbacks", index), f"{name!r} is given twice", "remove it")


def _split(entry: Entry[RouteSpec], document: Document) -> Iterator[Problem]:
    arms = entry.spec.split
    if arms is None:
        return
    names = [arm.target for arm in arms]
    for index, name in enumerate(names):
        yield from known(entry, ("split", index, "target"), name, document)
        if name in names[:index]:
            yield entry.problem(("split", index, "target"), f"{name!r} is given twice", "add the weights up")
    if not any(arm.weight for arm in arms):
        yield entry.problem(("split",), "all weights are 0", "give at least one target a weight")
