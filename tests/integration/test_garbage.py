"""A request leaves no reference cycles behind: what it held is freed at once, and no collection stops the gateway.

With cycles the collector has thousands of requests to take apart at a time, 20 ms in which nobody is answered.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import time

import httpx
import pytest

from tests.integration.conftest import chat, policy
from tests.support.faults import stall
from tests.support.gateway import Gateway, start_gateway
from tests.support.upstream import Upstream

_REPORTER = """
import collections, gc, json, signal, sys
from gateway.cli import main

def report(*_):
    gc.collect()
    kinds = collections.Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.garbage)
    gc.garbage.clear()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    print("garbage", json.dumps(kinds), flush=True)

signal.signal(signal.SIGUSR1, report)
sys.argv = ["farthing", *sys.argv[1:]]
main()
"""


def _garbage(gateway: Gateway, report: int) -> dict[str, int]:
    """The kinds of objects that only the collector could free since the report before."""
    os.kill(gateway.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [line for line in gateway.log.splitlines() if line.startswith("garbage ")]
        if len(lines) >= report:
            return json.loads(lines[report - 1].removeprefix("garbage "))
        time.sleep(0.02)
    raise AssertionError(f"no report:\n{gateway.log}")


KINDS = [
    "json", "stream", "refused", "caller leaves", "kept", "kept stream", "cached", "limited", "limited stream", "chosen",
]  # fmt: skip
LIMITED = {
    "baseline": "up",
    "budgets": [{"scope": "all", "limit": "$1000/month"}],
    "limits": [{"scope": "all", "requests": "1M/min", "tokens": "1000M/min", "concurrent": "1k"}],
}
CHOSEN = {"name": "default", "match": {}, "classify": {"weak": "renamed", "strong": "stronger"}}


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_leave_no_cycles(kind: str):
    model = {"refused": "nothing-is-served-under-this", "chosen": "auto"}.get(kind, "m")
    body = chat(model, stream=kind.endswith("stream"))
    leaves = kind == "caller leaves"
    seeds = itertools.count()

    async def once(client: httpx.AsyncClient) -> None:
        if kind.startswith("kept"):
            body["seed"] = next(seeds)  # another answer each time
        if leaves:
            with contextlib.suppress(httpx.TimeoutException):
                await client.post("/v1/chat/completions", json=body, timeout=0.02)
        else:
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == (404 if kind == "refused" else 200), answer.text

    async with Upstream(stall() if leaves else None) as upstream:
        yaml = policy(upstream.url, [])
        if kind.startswith(("kept", "cached")):
            document = json.loads(yaml)
            yaml = json.dumps({**document, "defaults": {**document["defaults"], "cache": {"exact": "1h"}}})
        if kind.startswith("limited"):
            yaml = json.dumps(json.loads(yaml) | LIMITED)
        if kind == "chosen":
            document = json.loads(yaml)
            document["targets"]["stronger"] = document["targets"]["renamed"] | {"model": "gpt-real-large"}
            yaml = json.dumps({**document, "routes": [*document["routes"][:-1], CHOSEN]})
        if kind == "refused":
            yaml = json.dumps({**json.loads(yaml), "routes": json.loads(yaml)["routes"][:1]})
        reporter = [sys.executable, "-c", _REPORTER]
        with start_gateway(yaml, {"UP_KEY": "sk-up"}, command=reporter) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                for _ in range(20):  # what is made once is made
                    await once(client)
                _garbage(gateway, 1)
                for _ in range(100):
                    await once(client)
                left = _garbage(gateway, 2)
    assert sum(left.values()) < 100, left
