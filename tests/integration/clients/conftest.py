"""A live gateway with fast sandbox targets, for clients that nobody here wrote."""

import json

import pytest

from tests.support.gateway import start_gateway

POLICY = {
    "version": 1,
    "targets": {
        name: {"provider": "sandbox", "model": name, "latency_ms": 1, "tokens_per_s": 100000}
        for name in ("sandbox-small", "sandbox-large")
    },
}


@pytest.fixture(scope="session")
def gateway():
    with start_gateway(json.dumps(POLICY)) as live:
        yield live


@pytest.fixture(scope="session")
def base_url(gateway):
    return f"{gateway.url}/v1"
