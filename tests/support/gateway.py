"""A live gateway for a test: the real `farthing serve`, in a process of its own, on a free port."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Gateway:
    """A running gateway. `policies` is its policy directory: write a file there and it reloads."""

    url: str
    pid: int
    log_path: Path
    policies: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric whose labels include `labels`."""
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=5).read().decode()
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(rf"{re.escape(name)}(\{{.*\}})? (\S+)", line)
            if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total


@contextlib.contextmanager
def start_gateway(
    policy_yaml: str, env: Mapping[str, str] | None = None, *arguments: str, command: Sequence[str] = ()
) -> Iterator[Gateway]:
    """Serves `policy_yaml` until the block ends; raises with the gateway's log if it does not come up.

    `command` stands in for `farthing`: a wrapper that looks at the process from inside.
    """
    with tempfile.TemporaryDirectory(prefix="farthing-test-") as scratch:
        policies = Path(scratch) / "routing_policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text(textwrap.dedent(policy_yaml))
        log_path = Path(scratch) / "gateway.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FARTHING_", "OPENAI_", "ANTHROPIC_"))}
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [
                    *(command or farthing_command()),
                    "serve",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "0",
                    "--policies",
                    str(policies),
                    *arguments,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**clean, **(env or {})},
                cwd=scratch,
            )
        try:
            yield Gateway(_wait(process, log_path), process.pid, log_path, policies)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def farthing_command() -> list[str]:
    """The command beside the running interpreter, or what suites in another environment name."""
    if named := os.environ.get("FARTHING_COMMAND_UNDER_TEST"):
        return [named]
    beside = Path(sys.executable).parent / "farthing"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "gateway.cli"]


def _wait(process: "subprocess.Popen[bytes]", log_path: Path, limit_s: float = 20.0) -> str:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = re.search(r"listening on (http://\S+)", log_path.read_text())
        if found:
            url = found[1]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health/ready", timeout=2)
                return url
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the gateway did not start:\n{log_path.read_text()}")
