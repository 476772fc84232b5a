"""A route that rates and compares, and upstreams for it as functions: what they are asked, what they answer."""

import asyncio
from typing import Any

import msgspec

from gateway.core.errors import Busy
from gateway.core.exchange import Attempt, Exchange, Reply, Usage
from gateway.policy.resolve import resolved
from gateway.policy.table import Policy
from tests.support.calls import call
from tests.support.policies import caller, policy

NEVER = object()
"""The answer of an upstream that gives none."""
POLICY = """\
targets:
  small: {provider: vllm, model: l8, self_hosted: true, price: {input: 1, output: 1}}
  big: {provider: openai_compatible, base_url: "http://127.0.0.1:9/v1", model: l70, price: {input: 9, output: 9}}
  judge: {provider: openai_compatible, base_url: "http://127.0.0.1:9/v1", model: j, price: {input: 2, output: 2}}
  inside: {provider: vllm, model: l70, price: {input: 2, output: 2}}
routes:
  - {name: r, match: {}, classify: {weak: small, strong: STRONG, judge: {target: JUDGE, timeout: 50ms}, MORE}}
"""


def rules(more: str = "tier: judge", judge: str = "judge", strong: str = "big") -> Policy:
    """A policy whose one route has these members of `classify`."""
    return policy(POLICY.replace("MORE", more).replace("JUDGE", judge).replace("STRONG", strong))


def arrived(
    of: Policy, text: str = "hello", id_: str = "id", headers: dict[str, str] | None = None, **doc: Any
) -> Exchange:
    """A request that has been resolved."""
    asked = call({"model": "auto", "messages": [{"role": "user", "content": text}], **doc}, headers=headers)
    each = Exchange(id_, asked, 0.0, 0.0)
    each.identity = caller("shop")
    each.plan, each.choosing = resolved(of, each.identity, asked, 0.0, 0.0)
    return each


def said(text: str) -> bytes:
    """A chat answer."""
    return msgspec.json.encode({"choices": [{"message": {"content": text}}]})


class Upstreams:
    """What dispatch does, without a network: `says` gives each target's answer, `None` for a failure; 10 micro-USD each."""

    def __init__(self, **says: Any) -> None:
        self.says = says
        self.asked: list[Exchange] = []

    async def __call__(self, exchange: Exchange) -> Reply:
        assert exchange.plan is not None
        target = exchange.plan.targets[0]
        self.asked.append(exchange)
        exchange.target = target.name
        answer = self.says.get(target.name, "fine")
        error: str | None = "client_disconnect"
        try:
            if callable(answer):
                answer = answer(exchange)
            if answer is NEVER:
                await asyncio.Event().wait()
            if answer is None:
                error = "status_503"
                raise Busy("none", code="no_target_ready")
            error = None
        finally:
            exchange.attempts.append(
                Attempt(target.name, None, 200, error, 0.0, 0.1, usage=Usage(output=1), cost_micro_usd=10)
            )
            exchange.cost_micro_usd = sum(each.cost_micro_usd or 0 for each in exchange.attempts)
        exchange.outcome = "ok"
        exchange.usage = Usage(output=1)
        return Reply(200, [], said(answer))

    @property
    def names(self) -> list[str]:
        """The targets that were asked, in order."""
        return [each.target for each in self.asked]
