"""One fake upstream and one live gateway for a whole test module; what differs between tests is the model's name."""

import json

import httpx
import pytest
import pytest_asyncio

from tests.support.gateway import start_gateway
from tests.support.upstream import Upstream

PLAIN = ("up", "second", "third")


def policy(url: str, faults: list[str]) -> str:
    """A target per fault, so that no test opens another's breaker; `up` takes any model as it is named."""
    targets = {name: {"provider": "openai_compatible", "base_url": f"{url}/v1"} for name in PLAIN}
    targets["up"] |= {"api_key": "env:UP_KEY", "price": {"input": 1, "output": 2, "cached": 0.5}}
    targets["renamed"] = {**targets["up"], "model": "gpt-real"}
    routes = [
        {"name": "alias", "match": {"models": ["alias"]}, "target": "renamed"},
        *[{"name": name, "match": {"models": [name]}, "target": name} for name in PLAIN[1:]],
        {"name": "default", "match": {}, "target": "up"},
    ]
    for fault in faults:
        targets[f"t-{slug(fault)}"] = {"provider": "openai_compatible", "base_url": f"{url}/v1", "model": fault}
        targets[f"b-{slug(fault)}"] = {"provider": "openai_compatible", "base_url": f"{url}/v1", "model": "fine"}
        routes[:0] = [
            {"name": f"alone-{slug(fault)}", "match": {"models": [f"alone {fault}"]}, "target": f"t-{slug(fault)}"},
            {
                "name": f"backed-{slug(fault)}",
                "match": {"models": [f"backed {fault}"]},
                "target": f"t-{slug(fault)}",
                "fallbacks": [f"b-{slug(fault)}"],
            },
        ]
    for fault in faults:
        if "slow" in fault:
            targets[f"t-{slug(fault)}"]["deadlines"] = {"first_token": "5s", "idle": "5s", "total": "20s"}
    defaults = {
        "deadlines": {"connect": "1s", "first_token": "400ms", "idle": "400ms", "total": "3s"},
        "retries": {"attempts": 1, "budget": "100%"},
    }
    return json.dumps({"version": 1, "defaults": defaults, "targets": targets, "routes": routes})


def slug(fault: str) -> str:
    """A fault's name as part of a target's name."""
    return fault.replace(":", "-").replace("fault-", "")


def chat(model: str, **more) -> dict:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def events(text: str) -> list:
    """The data of a stream's events, decoded; `[DONE]` as it is."""
    found = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream():
    async with Upstream() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(upstream, request):
    faults = getattr(request.module, "FAULT_TARGETS", [])
    with start_gateway(policy(upstream.url, faults), {"UP_KEY": "sk-upstream-secret-0123456789"}) as live:
        yield live


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10, trust_env=False) as http:
        yield http


@pytest.fixture(autouse=True)
def _no_leftovers(request):
    """A test starts with nothing recorded by the upstream that it shares."""
    if "upstream" in request.fixturenames:
        request.getfixturevalue("upstream").requests.clear()
