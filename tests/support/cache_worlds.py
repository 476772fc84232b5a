"""The cache at work for tests: the gateway's own, in memory, with an encoder and a verifier that count words."""

import hashlib
import json

import msgspec
import numpy as np

from gateway.cache.controls import Controls
from gateway.cache.entry import Selector
from gateway.cache.semantic import Semantic
from gateway.cache.verify.verifier import Verdict
from gateway.caching import Opened
from gateway.core.exchange import Call, Exchange, Identity, Plan
from gateway.encoder.once import Once
from gateway.encoder.port import Encoding
from gateway.protocol.openai import parse_call
from gateway.settings import Settings
from tests.support.cache_stores import entry

VERSIONS = {"encoder": "words-1", "verifier": "words-2"}


class WordsEncoder:
    """An `Encoder`: a text is near another that shares its words; over 20 words do not fit."""

    version = VERSIONS["encoder"]
    dimension = 256
    window = 20

    async def encode(self, text):
        words = text.casefold().split()
        if len(words) > self.window:
            return None
        vector = np.zeros(self.dimension, np.float32)
        for word in words:
            vector[hashlib.sha256(word.encode()).digest()[0]] += 1
        return Encoding(vector / np.linalg.norm(vector), len(words))

    async def aclose(self):
        pass


def verdicts(pairs):
    """The cosine is the score; `not` on one side alone is a veto."""
    return [
        Verdict(0.0, "negation") if ("not" in pair.stored) != ("not" in pair.asked) else Verdict(pair.cosine)
        for pair in pairs
    ]


def opened(policies, current, clock, *, semantic=True):
    """Inside the event loop; end it with `aclose`. `current` gives the policy, `policies` is its folder."""
    made = Opened(
        Settings(database="none", policies=policies), current, None, clock, lambda: "id", None, Once("minilm")
    )
    if semantic:
        made.semantic = Semantic(WordsEncoder(), made.store, verdicts, made._executor, VERSIONS["verifier"])
    return made


def chat(content, *, headers=(), **more) -> Call:
    """A parsed request."""
    raw = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more}).encode()
    path = "/v1/chat/completions"
    return parse_call("chat", "POST", path, b"", list(headers), dict(headers), raw)


async def keep(made, policy, call, clock, tenant="shop", id_="e1", **members):
    """Stores an answer to `call` as the gateway would have, and returns its entry."""
    exchange = Exchange(id_, call, clock.monotonic(), clock.wall())
    exchange.identity = Identity(tenant, "key")
    route = policy.resolve(exchange.identity, call.model, call.headers)
    exchange.plan = Plan(route.name, route.targets)
    await made.lookup.look(exchange, policy.caching[route.name], Controls())
    ticket = exchange.ticket
    now = clock.wall()
    own = {"exact": ticket.exact, "scope": ticket.scope, "text": ticket.text, "tenant": tenant, "route": route.name}
    times = {"stored_s": now, "expires_s": now + 3600}
    kept = msgspec.structs.replace(entry(id_, id=id_), **own | times | members)
    await made.store.put(kept, ticket.vector)
    await made.store.delete(Selector())  # waits for the put
    return kept
