"""The command as a new user meets it: its help, its greeting, its refusals, its end."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import start_gateway

FARTHING = str(Path(sys.executable).parent / "farthing")


def run(*arguments, **env):
    clean = {"PATH": "/usr/bin:/bin", **env}
    return subprocess.run([FARTHING, *arguments], capture_output=True, text=True, timeout=30, env=clean, check=False)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "--help"], ["policy", "lint", "--help"], ["prices", "import", "--help"]]
)
def test_help_explains_itself(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    assert len(done.stdout) > 200


def test_the_greeting_names_the_routes_and_its_curl_line_works():
    with start_gateway("version: 1\n") as gateway:
        assert "sandbox" in gateway.log
        assert "routes" in gateway.log
        line = re.search(r"^ +(curl .*)$", gateway.log, re.MULTILINE)[1]
        done = subprocess.run(["bash", "-c", f"{line} -s"], capture_output=True, text=True, timeout=10, check=True)
        assert '"chat.completion"' in done.stdout


def test_it_does_not_serve_strangers_without_keys():
    with start_gateway("version: 1\ntargets: {s: {provider: sandbox}}\n", None, "--host", "0.0.0.0") as gateway:
        assert "closed: there are no keys yet; make one with `farthing keys create" in gateway.log
        assert "curl http://127.0.0.1:" in gateway.log
        assert "-H 'Authorization: Bearer YOUR_KEY'" in gateway.log
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={"model": "s", "messages": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")


def test_a_broken_policy_stops_the_start_and_names_the_line(tmp_path):
    (tmp_path / "p.yaml").write_text("version: 1\ntargets:\n  s: {providr: sandbox}\n")
    done = run("serve", "--port", "0", "--policies", str(tmp_path))
    assert done.returncode == 2
    assert "p.yaml:3" in done.stderr


def test_an_address_that_is_taken_stops_the_start_before_the_first_admin_key_is_made(tmp_path):
    env = {"FARTHING_DATA_DIR": str(tmp_path / "data"), "FARTHING_DISCOVER": "false"}
    (tmp_path / "p.yaml").write_text("version: 1\ntargets: {s: {provider: sandbox}}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port, "--policies", str(tmp_path), **env)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; fix: another --port" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", [("keys", "list"), ("admin", "revoke", "adm_x"), ("policy", "history")])
def test_a_command_that_reads_makes_no_empty_database(tmp_path, command):
    done = run(*command, FARTHING_DATA_DIR=str(tmp_path / "data"))
    assert (done.returncode, "fix: set FARTHING_DATABASE" in done.stderr) == (2, True)
    assert not (tmp_path / "data").exists()


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [FARTHING, "policy", "schema"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_lint_fails_on_errors_only(tmp_path):
    (tmp_path / "p.yaml").write_text("version: 1\ntargets: {s: {provider: sandbox}}\n")
    assert run("policy", "lint", str(tmp_path)).returncode == 0
    (tmp_path / "p.yaml").write_text("version: 2\n")
    assert run("policy", "lint", str(tmp_path)).returncode == 1


def test_the_shipped_policies_are_sound():
    assert run("policy", "lint", "--strict", str(Path(__file__).parents[2] / "routing_policies")).returncode == 0


def test_sigterm_lets_an_open_stream_end():
    policy = "version: 1\ntargets: {s: {provider: sandbox, latency_ms: 1, tokens_per_s: 30}}\n"
    with start_gateway(policy) as gateway:
        found = {}

        def ask():
            body = {"model": "s", "messages": [{"role": "user", "content": "hi"}], "stream": True}
            found["text"] = httpx.post(
                f"{gateway.url}/v1/chat/completions", json=body, timeout=20, trust_env=False
            ).text

        thread = threading.Thread(target=ask)
        thread.start()
        while gateway.metric("farthing_in_flight") < 1:
            time.sleep(0.01)
        import os

        os.kill(gateway.pid, signal.SIGTERM)
        thread.join(15)
    assert found["text"].endswith("data: [DONE]\n\n")


async def test_two_hundred_callers_at_once():
    policy = "version: 1\ntargets: {s: {provider: sandbox, latency_ms: 20, tokens_per_s: 10000}}\n"
    with start_gateway(policy) as gateway:
        async with httpx.AsyncClient(timeout=20, trust_env=False, limits=httpx.Limits(max_connections=200)) as client:
            body = {"model": "s", "messages": [{"role": "user", "content": "hi"}]}
            calls = [client.post(f"{gateway.url}/v1/chat/completions", json=body) for _ in range(200)]
            answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.headers["x-request-id"] for answer in answers}) == 200
        assert gateway.metric("farthing_requests_total", outcome="ok") == 200
