"""What the cache costs a request: `python -m tests.benchmarks.cache_overhead [--entries N] [--requests N]`.

The real stages in one process on one core, with a store of N answers in as many scopes as a deployment has: the time
from the request to the decision, for an exact hit, a semantic look-up that finds nothing to verify, and one that is
verified. The pipeline around it, and the upstream, are not in it.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from gateway.cache.certificates import Certificates
from gateway.cache.embedded import EmbeddedStore
from gateway.cache.entry import Entry
from gateway.cache.guarded import Guarded
from gateway.cache.keys import Partition, exact_key, scope_key
from gateway.cache.lookup import Lookup
from gateway.cache.semantic import Semantic
from gateway.cache.verify.verifier import Verdict, load_verifier
from gateway.core.clock import SystemClock
from gateway.core.exchange import Call, Exchange, Identity, Plan, Reply, Usage
from gateway.encoder import open_encoder, open_model
from gateway.policy.caching import CacheRule, SemanticRule
from tests.support.certificates import certify_route

TENANTS = 50
GOALS = {"exact": (0.3, None), "semantic, without the verifier": (7.0, 12.0), "semantic, verified": (None, 20.0)}
VERBS = (
    "reset",
    "close",
    "open",
    "verify",
    "renew",
    "share",
    "export",
    "archive",
    "upgrade",
    "cancel",
    "restore",
    "split",
)
THINGS = (
    "account",
    "invoice",
    "card",
    "project",
    "report",
    "device",
    "licence",
    "backup",
    "mailbox",
    "contract",
    "folder",
    "plan",
)
PLACES = (
    "in Lisbon",
    "from a phone",
    "for a colleague",
    "without a password",
    "at night",
    "in two steps",
    "by post",
    "for free",
)


class Policy:
    """As much of a policy as the look-up reads."""

    def __init__(self, rule: CacheRule) -> None:
        self.caching = {rule.route: rule}


def call(text: str) -> Call:
    doc = {"model": "m", "messages": [{"role": "system", "content": "You help."}, {"role": "user", "content": text}]}
    return Call("chat", "openai", "POST", "/v1/chat/completions", b"", [], msgspec.json.encode(doc), doc, "m")


def question(rng: random.Random) -> str:
    thing = f"{rng.choice(THINGS)} {rng.randrange(10_000)}"
    return f"How do I {rng.choice(VERBS)} the {thing} {rng.choice(PLACES)}?"


def exchange(text: str, tenant: str) -> Exchange:
    made = Exchange("0" * 32, call(text), 0.0, 0.0)
    made.identity = Identity(tenant, "key")
    made.plan = Plan("r", ())
    return made


async def filled(store: EmbeddedStore, rule: CacheRule, models: str, entries: int) -> list[tuple[str, str]]:
    """Puts answers; (tenant, text) of some of them, whose vectors are the encoder's own."""
    rng, model, now = random.Random(1), open_model(threads=2), time.time()
    asked = [(f"tenant-{n % TENANTS}", question(rng)) for n in range(entries)]
    own = asked[:500]
    vectors = model.encode_batch([text for _, text in own])
    # The others only need to be there: unit vectors of the same spread around the same centre.
    spread = np.random.default_rng(1).normal(size=(entries - len(own), vectors.shape[1])).astype(np.float32)
    others = vectors.mean(0) + spread * vectors.std(0)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    for number, (tenant, text) in enumerate(asked):
        vector = vectors[number] if number < len(own) else others[number - len(own)]
        asking = call(text)
        partition = Partition(tenant, "m", rule.version)
        scope = scope_key(asking, partition, models)
        assert scope is not None
        await store.put(
            Entry(
                f"{number:032x}", exact_key(asking, partition), scope.key, text, "chat", b"{}" * 300, Usage(10, output=100),
                100, tenant, "key", "r", "t", "p", "m", (), now, now + 3600,
            ),
            vector,
        )  # fmt: skip
    return own


async def measure(lookup: Lookup, requests: list[tuple[str, str]], kinds: set[str]) -> list[float]:
    async def end(_: Exchange) -> Reply:
        return Reply(200, [])

    took = []
    for tenant, text in requests:
        asked = exchange(text, tenant)
        began = time.perf_counter()
        await lookup(asked, end)
        took.append((time.perf_counter() - began) * 1e3)
        kinds.add(f"{asked.cache}/{asked.cache_reason}")
    return took


def printed(name: str, took: list[float], kinds: set[str]) -> bool:
    ordered = sorted(took)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    limits = GOALS[name]
    good = all(limit is None or value <= limit for value, limit in zip((p50, p99), limits, strict=True))
    wanted = ", ".join(f"{at} <= {limit:g} ms" for at, limit in zip(("p50", "p99"), limits, strict=True) if limit)
    print(f"{'PASS' if good else 'MISS'}  {name}: p50 {p50:.3f} ms, p99 {p99:.3f} ms (goal {wanted}); {sorted(kinds)}")
    return good


async def run(entries: int, requests: int) -> bool:
    verifier, encoder, clock = load_verifier(), open_encoder(), SystemClock()
    rule = CacheRule("r", "v1", exact_ttl_s=3600.0, semantic=SemanticRule(3600.0, personal="allow"))
    store = EmbeddedStore(4 << 30)
    guarded = Guarded(store, clock)
    rng, good = random.Random(2), True
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        seen = Semantic(encoder, guarded, verifier.score, pool, verifier.version)
        blind = Semantic(encoder, guarded, lambda pairs: [Verdict(0.0) for _ in pairs], pool, verifier.version)
        own = await filled(store, rule, seen.models, entries)
        certify_route(Path(folder), "r", seen.versions)
        certificates = Certificates(Path(folder))
        print(f"{entries} answers, {TENANTS} tenants; load average {os.getloadavg()[0]:.1f}")

        def lookup(semantic: Semantic | None) -> Lookup:
            return Lookup(lambda: Policy(rule), guarded, lambda: semantic, certificates, {}, clock)  # type: ignore[arg-type,return-value]

        again = [(tenant, text.replace("How do I", "How can I")) for tenant, text in own]
        for name, semantic, asked in (
            ("exact", seen, own),
            ("semantic, without the verifier", blind, again),
            ("semantic, verified", seen, again),
        ):
            kinds: set[str] = set()
            await measure(lookup(semantic), rng.choices(asked, k=20), set())
            good &= printed(name, await measure(lookup(semantic), rng.choices(asked, k=requests), kinds), kinds)
    await guarded.aclose()
    await encoder.aclose()
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cache_overhead", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000, help="answers in the store [%(default)s]")
    parser.add_argument("--requests", type=int, default=1_000, help="requests of each kind [%(default)s]")
    arguments = parser.parse_args()
    return 0 if asyncio.run(run(arguments.entries, arguments.requests)) else 1


if __name__ == "__main__":
    sys.exit(main())
