"""CPU per request of bare relays: which server, which upstream client. docs/decisions/001 and 002 rest on it.

    python -m tests.benchmarks.relays --python VENV/bin/python [--seconds 3] [--rounds 3]

VENV needs litestar uvicorn httptools uvloop granian pyreqwest aiohttp httpx msgspec and this package.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.overhead.load import PATH, await_ok, drive, request_body, stub
from tests.benchmarks.overhead.machine import Cores, cpu_s, free_port, running

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "tests.benchmarks.relays.app:app", "--http", "httptools", "--loop", "uvloop",
                "--no-access-log", "--log-level", "error", "--port"],
    "granian": ["-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--no-ws", "--log-level", "error",
                "tests.benchmarks.relays.app:app", "--port"],
}  # fmt: skip
CLIENTS = ("farthing", "pyreqwest", "aiohttp", "httpx")


def cpu_us(python: str, server: str, client: str, seconds: int, cores: Cores) -> dict[str, float]:
    """Microseconds of CPU per request, JSON and SSE, at 32 connections."""
    with tempfile.TemporaryDirectory(prefix="relays-") as folder, stub(cores.load, Path(folder)) as up:
        port = free_port()
        env = {"RELAY_UPSTREAM": f"http://127.0.0.1:{up.port}", "RELAY_CLIENT": client, "PYTHONPATH": str(Path.cwd())}
        command = [python, *SERVERS[server], str(port)]
        with running(command, env, cores.gateway, Path(folder) / "log") as pid:
            await_ok(pid, port, PATH, 30, request_body("json"))
            found = {}
            for mode in ("json", "sse"):
                drive(port, mode, 32, 1, {})
                before = cpu_s(pid)
                load = drive(port, mode, 32, seconds, {})
                found[mode] = (cpu_s(pid) - before) / load.requests * 1e6
            return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'server':10s}{'client':12s}{'json us':>10s}{'sse us':>10s}")
    for server in SERVERS:
        for client in CLIENTS:
            rounds = [
                cpu_us(arguments.python, server, client, arguments.seconds, Cores(0, 1))
                for _ in range(arguments.rounds)
            ]
            medians = [statistics.median(r[mode] for r in rounds) for mode in ("json", "sse")]
            print(f"{server:10s}{client:12s}{medians[0]:10.1f}{medians[1]:10.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
