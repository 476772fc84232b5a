"""The two ends of the wire: the stub upstream, wrk, and a checked request of each kind; knows no gateway by name."""

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.overhead.machine import BenchmarkError, alive, free_port, running
from tests.benchmarks.overhead.results import Mode

PATH = "/v1/chat/completions"
CHUNKS = 64
"""Chunks with text in a streamed answer of the stub."""
JSON_TEXT = "The quick brown fox jumps over the lazy dog and then some. " * 5
SSE_TEXT = "".join(f"token{i} " for i in range(CHUNKS))
_HERE = Path(__file__).resolve().parent
_REQUEST_TIMEOUT_S = 60
_POLL_S = 0.005


@dataclass(frozen=True)
class Stub:
    """The running upstream."""

    port: int
    pid: int

    def counts(self) -> tuple[int, int]:
        """Completions that it began since its start, and those that it is streaming now; raises `BenchmarkError`."""
        try:
            counts = json.loads(fetch(self.port, "GET", "/stub/counts")[1])
        except (OSError, http.client.HTTPException) as exc:
            raise BenchmarkError(f"the stub upstream does not answer: {exc!r}") from exc
        return int(counts["started"]), int(counts["active"])


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers per second and latencies of whole answers. `faults` is empty when all went well."""

    requests: int
    bytes: int
    rps: float
    p50_ms: float
    p99_ms: float
    faults: str


@contextlib.contextmanager
def stub(core: int, run: Path, chunk_delay_ms: int = 0) -> Iterator[Stub]:
    """The stub on a free port; raises `BenchmarkError` if it does not come up."""
    port = free_port()
    log = run / "stub.log"
    with running(["node", str(_HERE / "stub.js"), str(port), str(chunk_delay_ms)], {}, core, log) as pid:
        end = time.monotonic() + 20
        while log.read_text() != "listening\n":
            if not alive(pid) or time.monotonic() > end:
                raise BenchmarkError(f"the stub upstream does not start: {log.read_text().strip()}")
            time.sleep(_POLL_S)
        yield Stub(port, pid)


def drive(
    port: int,
    mode: Mode,
    connections: int,
    seconds: int,
    headers: Mapping[str, str],
    credentials: Path | None = None,
) -> Load:
    """Keeps `connections` requests under way for `seconds`. Raises `BenchmarkError` when wrk itself fails.

    `credentials` is a file of `authorization` values, one a line, sent in turn.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={_REQUEST_TIMEOUT_S}s", "-s"]
    command += [str(_HERE / "wrk.lua"), f"http://127.0.0.1:{port}", "--", "stream" if mode == "sse" else "json"]
    command += [str(credentials or "")]
    command += [f"{name}: {value}" for name, value in headers.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchmarkError(f"wrk failed: {(done.stderr or done.stdout).strip()}")
    return read_summary(done.stdout)


def read_summary(output: str) -> Load:
    """What wrk printed, whose last line is the JSON of wrk.lua."""
    summary: dict[str, int] = json.loads(output.strip().splitlines()[-1])
    faults = [f"{summary['status']} answers not 2xx"] if summary["status"] else []
    faults += [f"{summary[k]} {k} errors" for k in ("connect", "read", "write", "timeout") if summary[k]]
    return Load(
        requests=summary["requests"],
        bytes=summary["bytes"],
        rps=summary["requests"] / (summary["duration_us"] / 1e6),
        p50_ms=summary["p50_us"] / 1e3,
        p99_ms=summary["p99_us"] / 1e3,
        faults=", ".join(faults if summary["requests"] else [*faults, "no request completed"]),
    )


def request_body(mode: Mode, number: int = 0) -> bytes:
    """A chat completion request like those of wrk.lua."""
    body: dict[str, Any] = {
        "model": "stub",
        "messages": [{"role": "user", "content": f"What is the return policy for item {number}?"}],
        "max_tokens": CHUNKS,
    }
    return json.dumps(body | ({"stream": True} if mode == "sse" else {}), separators=(",", ":")).encode()


def fetch(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own; raises `OSError` or `HTTPException`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def await_ok(
    pid: int, port: int, path: str, limit_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> None:
    """Returns with the first 200; raises `BenchmarkError` when the process ends or `limit_s` passes before."""
    end = time.monotonic() + limit_s
    last = ""
    while time.monotonic() < end:
        try:
            status, answer = fetch(port, "POST" if body else "GET", path, body, headers)
        except (OSError, http.client.HTTPException) as exc:
            last = str(exc) or type(exc).__name__
        else:
            if status == 200:
                return
            last = f"{status} {answer[:200].decode(errors='replace')}"
        if not alive(pid):
            raise BenchmarkError(f"ended before it served {path} (last: {last})")
        time.sleep(_POLL_S)
    raise BenchmarkError(f"no 200 from {path} within {limit_s:.0f} s (last: {last})")


def wrong_answer(port: int, mode: Mode, headers: Mapping[str, str]) -> str:
    """What differs between an answer and what the stub says; empty when nothing does."""
    try:
        status, body = fetch(port, "POST", PATH, request_body(mode), headers)
        if status != 200:
            return f"status {status}: {body[:200].decode(errors='replace')}"
        text = _sse_text(body) if mode == "sse" else json.loads(body)["choices"][0]["message"]["content"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as exc:
        return f"{mode} answer not readable: {exc!r}"
    expected = SSE_TEXT if mode == "sse" else JSON_TEXT
    return "" if text == expected else f"another text than the stub's: {text[:80]!r}"


def _sse_text(body: bytes) -> str:
    """The text of a whole stream; raises `ValueError` for one that is cut or not in chunks."""
    data = [line.removeprefix("data:").strip() for line in body.decode().splitlines() if line.startswith("data:")]
    if not data or data[-1] != "[DONE]":
        raise ValueError("the stream does not end with [DONE]")
    choices = [chunk["choices"] for chunk in map(json.loads, data[:-1])]
    texts = [choice[0]["delta"].get("content") or "" for choice in choices if choice]
    if sum(map(bool, texts)) != CHUNKS:
        raise ValueError(f"{sum(map(bool, texts))} chunks with text, not {CHUNKS}")
    return "".join(texts)
