"""What the gateway needs to start, and what its callers are told when nothing of a route is left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import chat
from tests.integration.test_money import SECRETS, client, policy
from tests.support.gateway import start_gateway

FARTHING = str(Path(sys.executable).parent / "farthing")
NOWHERE = "127.0.0.1:9"
BUDGETS = [{"scope": "tenant:shop", "limit": "$1/total"}]
UNREACHED = {
    "FARTHING_REDIS": f"redis://{NOWHERE}/0",
    "FARTHING_OTLP_ENDPOINT": f"http://{NOWHERE}",
}


def test_open_breakers_are_503_with_a_time_to_come_back():
    with start_gateway(policy(f"http://{NOWHERE}"), SECRETS) as gateway, client(gateway) as http:
        answers = [http.post("/v1/chat/completions", json=chat("m")) for _ in range(12)]
        assert answers[0].status_code == 502
        assert answers[0].json()["error"]["code"] == "upstream_unreachable"
        assert answers[-1].status_code == 503
        assert answers[-1].json()["error"]["code"] == "no_target_ready"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 30
        assert gateway.metric("farthing_breaker_state", target="up", state="open") == 1
        deadline = time.monotonic() + 5
        while gateway.metric("farthing_requests_total", outcome="upstream_error") != 12:
            assert time.monotonic() < deadline, "no upstream is nobody's fault of those who ask"


def test_without_redis_and_a_collector_it_starts_and_refuses_only_what_has_a_budget():
    with start_gateway(policy(f"http://{NOWHERE}", budgets=BUDGETS), {**SECRETS, **UNREACHED}) as gateway:
        with client(gateway) as http:
            refused = http.post("/v1/chat/completions", json=chat("m"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budgets_unavailable")
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
        assert gateway.metric("farthing_budgets_unavailable_total") == 1
        with client(gateway, "lab") as http:
            assert http.post("/v1/chat/completions", json=chat("m")).status_code == 502


@pytest.mark.parametrize(
    ("files", "env", "said"),
    [
        (
            {"policy.yaml": "version: 1\n"},
            {"FARTHING_DATABASE": f"postgresql://{NOWHERE}/x"},
            "PostgreSQL at 127.0.0.1",
        ),
        ({"policy.yaml": "version: 1\nroutes: [\n"}, {}, "policy.yaml:3"),
        ({"policy.yaml": json.dumps({"version": 1}), "prices.yaml": "models: [\n"}, {}, "prices.yaml"),
    ],
)
def test_what_the_start_needs_ends_it_with_a_reason(tmp_path, files, env, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    env = {"PATH": os.environ["PATH"], "FARTHING_DATA_DIR": str(tmp_path / "data"), **env}
    command = [FARTHING, "serve", "--port", "0", "--policies", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "; fix: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_database_is_told_with_the_fix(tmp_path):
    (tmp_path / "x.db").write_text("no database" * 100)
    env = {"PATH": os.environ["PATH"], "FARTHING_DATABASE": f"sqlite:///{tmp_path}/x.db"}
    done = subprocess.run([FARTHING, "keys", "list"], capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 2
    assert "not a database; fix: FARTHING_DATABASE" in done.stderr
