"""Processes on this machine: pins them to a core, reads what they use from /proc, ends them; knows no gateway."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_QUIET_WINDOW_S = 0.1
_QUIET_CPU_S = 0.011
"""One tick of the clock: less cannot be seen."""
_INSTALL = {"wrk": "apt install wrk", "node": "apt install nodejs", "taskset": "apt install util-linux"}


class BenchmarkError(Exception):
    """The benchmark cannot run as asked; the message says what to do."""


@dataclass(frozen=True)
class Cores:
    """The gateway alone on one core; the load, the stub and this program on the other."""

    gateway: int
    load: int


def check_machine(cores: Cores) -> None:
    """Raises `BenchmarkError` naming each missing tool and what installs it, or a core that is not ours."""
    if not Path("/proc/self/stat").is_file():
        raise BenchmarkError("needs Linux: CPU time and memory are read from /proc")
    missing = [f"{tool} ({how})" for tool, how in _INSTALL.items() if shutil.which(tool) is None]
    if missing:
        raise BenchmarkError(f"not found: {', '.join(missing)}")
    ours = os.sched_getaffinity(0)
    if cores.gateway == cores.load or not {cores.gateway, cores.load} <= ours:
        raise BenchmarkError(
            f"needs two of the cores {sorted(ours)}, one for the gateway and one for the load, not "
            f"{cores.gateway},{cores.load}: --cores GATEWAY,LOAD"
        )


def describe() -> dict[str, str]:
    """The machine, for the head of a report."""
    models = [
        line.split(":", 1)[1].strip() for line in _text("/proc/cpuinfo").splitlines() if line[:10] == "model name"
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], core: int, log: Path, patience_s: float = 3
) -> Iterator[int]:
    """The pid of `command`, pinned to `core`, with `env` as its whole environment beside PATH and HOME.

    Its output goes to `log`. At the end of the block its process group is ended, by force after `patience_s`.
    """
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("w") as out:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**plain, **env},
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)


def alive(pid: int) -> bool:
    """Whether the process runs: neither gone nor waiting to be reaped."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    children = _text(f"/proc/{pid}/task/{pid}/children").split()
    return [pid, *(p for child in children for p in tree(int(child)))]


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that the process tree has used, those of its ended children included."""
    ticks = 0
    for member in tree(pid):
        if fields := _stat(member):
            ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return ticks / _TICKS_PER_S


def beside_s(pid: int) -> float:
    """CPU seconds that the process' own threads other than its first have used."""
    ticks = 0
    for path in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        if path.name != str(pid) and (fields := _text(f"{path}/stat").rpartition(")")[2].split()):
            ticks += sum(int(field) for field in fields[11:13])  # utime, stime
    return ticks / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of the process tree in MB (10^6 bytes); pages that its processes share count in each."""
    pages = 0
    for member in tree(pid):
        if fields := _text(f"/proc/{member}/statm").split():
            pages += int(fields[1])
    return pages * _PAGE_BYTES / 1e6


@dataclass(frozen=True)
class CoreTime:
    """CPU seconds since boot: what processes ran on both cores, and the gateway core's in interrupts."""

    processes_s: float
    interrupts_s: float


def core_time(cores: Cores, interrupts_of: int) -> CoreTime:
    """Of the two cores, and of `interrupts_of` alone; the kernel may count network work there instead of in a process."""
    lines = {parts[0]: [int(p) for p in parts[1:8]] for parts in map(str.split, _text("/proc/stat").splitlines())}
    processes = sum(sum(lines[f"cpu{core}"][:3]) for core in (cores.gateway, cores.load))  # user, nice, system
    return CoreTime(processes / _TICKS_PER_S, sum(lines[f"cpu{interrupts_of}"][5:7]) / _TICKS_PER_S)  # irq, softirq


def wait_quiet(pid: int, limit_s: float) -> None:
    """Returns once the process tree does nothing that the clock can see, or after `limit_s`."""
    end = time.monotonic() + limit_s
    before = cpu_s(pid)
    while time.monotonic() < end:
        time.sleep(_QUIET_WINDOW_S)
        now = cpu_s(pid)
        if now - before < _QUIET_CPU_S:
            return
        before = now


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state first; empty when the process is gone."""
    return _text(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
