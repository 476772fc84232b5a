"""openai-python's own API tests, directly against its mock and through the gateway in front of that mock.

usage: run.py --suite DIR [--cache DIR] [--gateway COMMAND] [PATTERN ...]

DIR is a checkout of github.com/openai/openai-python; its `Steady` mock comes from npm (node 20 or newer). The runner
makes its own environment in the cache directory, once. Exit status 1 if a test that passes directly fails through
the gateway.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

RESOURCES = ("chat", "test_completions.py", "test_embeddings.py", "test_models.py", "responses", "test_moderations.py",
             "test_files.py", "audio")  # fmt: skip
STEADY = "@stdy/cli@0.22.1"
PACKAGES = ("pytest", "pytest-asyncio", "pytest-xdist", "rich", "inline-snapshot", "trio", "botocore")
MOCK_URL = "http://127.0.0.1:4010"
FORMATS = [f"--validator-{part}-{kind}-format=brackets" for part in ("query", "form") for kind in ("array", "object")]
POLICY = {
    "version": 1,
    "targets": {
        "mock": {"provider": "openai_compatible", "base_url": f"{MOCK_URL}", "price": {"input": 1, "output": 1}}
    },
    "routes": [{"name": "all", "match": {}, "target": "mock"}],
}


def say(text: str) -> None:
    print(f"== {text}", flush=True)


def environment(suite: Path, cache: Path) -> Path:
    """A Python with the suite installed; made once a checkout."""
    python = cache / "venv/bin/python"
    if not python.exists():
        say(f"installing {suite.name} and its test tools into {cache}")
        subprocess.run([sys.executable, "-m", "venv", cache / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"{suite}[aiohttp,realtime]", *PACKAGES], check=True)
    if not (cache / "node_modules/.bin/steady").exists():
        say(f"installing {STEADY}")
        subprocess.run(["npm", "install", "--silent", "--prefix", cache, STEADY], check=True)
    return python


@contextlib.contextmanager
def server(command: list[str], ready: str, log: Path, limit_s: float = 40, **kwargs: object) -> Iterator[None]:
    """A process that answers `ready`, ended with the block."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **kwargs)
    try:
        deadline = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(ready, timeout=2)
                break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


def results(python: Path, suite: Path, base_url: str, paths: list[str], report: Path) -> dict[str, str]:
    """test -> passed, failed or skipped."""
    command = [python, "-m", "pytest", *paths, "-q", "-n", "2", "-p", "no:cacheprovider", f"--junitxml={report}"]
    env = {**os.environ, "TEST_API_BASE_URL": base_url, "DEFER_PYDANTIC_BUILD": "false"}
    run = subprocess.run(list(map(str, command)), cwd=suite, env=env, capture_output=True, text=True, check=False)
    if not report.exists():
        sys.exit(f"the suite did not run:\n{run.stdout[-3000:]}{run.stderr[-3000:]}")
    found = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        state = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[f"{case.get('classname')}::{case.get('name')}"] = state
    return found


def tally(name: str, found: dict[str, str]) -> None:
    counts = {state: sum(value == state for value in found.values()) for state in ("passed", "failed", "skipped")}
    say(f"{name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True, help="checkout of openai-python")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/farthing/openai-suite", help="[%(default)s]"
    )
    parser.add_argument("--gateway", default=str(Path(sys.executable).parent / "farthing"), help="[%(default)s]")
    parser.add_argument("patterns", nargs="*", help=f"below tests/api_resources [{' '.join(RESOURCES)}]")
    arguments = parser.parse_args()
    suite = arguments.suite.resolve()
    spec = suite / "api_reference/openapi.transformed.yml"
    for need, hint in (
        (shutil.which("npm"), "install node 20 or newer"),
        (spec.exists(), "clone github.com/openai/openai-python"),
    ):
        if not need:
            sys.exit(f"cannot run the suite: {hint}")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    python = environment(suite, arguments.cache)
    paths = [f"tests/api_resources/{name}" for name in arguments.patterns or RESOURCES]
    steady = [
        str(arguments.cache / "node_modules/.bin/steady"),
        "--host",
        "127.0.0.1",
        "-p",
        "4010",
        *FORMATS,
        str(spec),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "policies").mkdir()
        (work / "policies/policy.yaml").write_text(json.dumps(POLICY))
        with server(steady, f"{MOCK_URL}/_x-steady/health", work / "steady.log"):
            say("directly against the mock")
            direct = results(python, suite, MOCK_URL, paths, work / "direct.xml")
            tally("directly", direct)
            command = [arguments.gateway, "serve", "--port", "4011", "--policies", str(work / "policies")]
            with server(command, "http://127.0.0.1:4011/health/ready", work / "gateway.log"):
                say("through the gateway")
                through = results(python, suite, "http://127.0.0.1:4011", paths, work / "through.xml")
                tally("through the gateway", through)
    worse = [name for name, state in direct.items() if state == "passed" and through.get(name) != "passed"]
    for name in worse:
        print(
            f"passes directly, {through.get(name, 'is missing')} through the gateway: {re.sub(r'^tests.api_resources.', '', name)}"
        )
    say(f"{len(worse)} tests are worse through the gateway")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
