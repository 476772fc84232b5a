"""The processes of a run: the stub, and a gateway that is killed and started again on the same data."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.gateway import farthing_command

START_LIMIT_S = 60.0
ROOT = Path(__file__).parents[3]


def poll(ask: Callable[[], Any], what: str, limit_s: float) -> Any:
    """The first true answer of `ask`, asked again and again."""
    deadline = time.monotonic() + limit_s
    while not (found := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.01)
    return found


def get(port: int, path: str) -> str | None:
    """The body of a 200; `None` for anything else."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == 200 else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StubProcess:
    """See `tests.suites.crash.stub`. `bill` is its file."""

    def __init__(self, folder: Path) -> None:
        self.bill = folder / "bill.jsonl"
        self.port = free_port()
        command = [sys.executable, "-m", "tests.suites.crash.stub", "--port", str(self.port), "--bill", str(self.bill)]
        with (folder / "stub.log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        poll(lambda: get(self.port, "/state"), "the stub starts", START_LIMIT_S)

    def quiet(self, limit_s: float = 20.0) -> None:
        """Returns once nothing is generated any more."""
        poll(lambda: get(self.port, "/state") == '{"under_way": 0}', "the stub is done", limit_s)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class GatewayProcess:
    """`farthing serve` with its policy and data in `folder`; `start` and what ends it may be called again and again."""

    def __init__(self, folder: Path, policy: str, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.log_path = folder / "gateway.log"
        (folder / "routing_policies").mkdir()
        (folder / "routing_policies" / "policy.yaml").write_text(policy)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FARTHING_", "OPENAI_", "ANTHROPIC_"))}
        self._env = {**clean, "FARTHING_DATA_DIR": str(self.data), "PYTHONFAULTHANDLER": "1", **env}
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts_ms: list[float] = []

    @property
    def database_url(self) -> str:
        return self._env.get("FARTHING_DATABASE") or f"sqlite:///{self.data / 'farthing.db'}"

    def start(self) -> float:
        """Milliseconds from the start of the process until it is ready."""
        began = time.monotonic()
        self._spawn()
        try:
            poll(self._ready, "the gateway starts", START_LIMIT_S)
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self._stacks()[-4000:]}") from None
        taken_ms = (time.monotonic() - began) * 1000
        self.restarts_ms.append(taken_ms)
        return taken_ms

    def start_and_kill(self, after_s: float) -> None:
        """SIGKILL while it starts, or soon after."""
        self._spawn()
        time.sleep(after_s)
        self.kill()

    def _spawn(self) -> None:
        assert self._process is None
        command = [*farthing_command(), "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log_path.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--policies", str(self.folder / "routing_policies")],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self.folder,
            )

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            status, self._process = self._process.returncode, None
            raise AssertionError(f"the gateway ended with {status}")
        return get(self.port, "/health/ready") is not None

    def _stacks(self) -> str:
        """Where a gateway that does not come up has got stuck: SIGABRT makes it say so. The log, otherwise."""
        if self._process is not None:
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            self._process = None
        return self.log

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def terminate(self, limit_s: float) -> tuple[int, float]:
        """SIGTERM; the exit status, and how many seconds it took. Killed after `limit_s`, which fails."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the gateway did not end within {limit_s:g} s of SIGTERM") from None
        self._process = None
        return status, time.monotonic() - began

    def stop(self) -> None:
        """Whatever state it is in."""
        if self._process is not None:
            with contextlib.suppress(AssertionError):
                self.terminate(15)

    def metrics(self, name: str) -> dict[str, float] | None:
        """Samples of a metric by their labels as written; `None` while the gateway does not answer."""
        text = get(self.port, "/metrics")
        if text is None:
            return None
        found = re.findall(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def budgets(self) -> dict[str, dict[str, int]] | None:
        """Micro-USD by budget and part (`committed`, `reserved`, `limit`), as `/metrics` says."""
        samples = self.metrics("farthing_budget_usd")
        if samples is None:
            return None
        found: dict[str, dict[str, int]] = {}
        for labels, value in samples.items():
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found.setdefault(pairs["budget"], {})[pairs["part"]] = round(value * 1_000_000)
        return found


def bill_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
