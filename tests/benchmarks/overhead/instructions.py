"""Instructions that a process tree executes, by `perf stat`, where the machine counts them; `None` everywhere else."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
EVENT = "instructions"
_PERF = ["perf", "stat", "-x", ",", "-e"]


def supported(event: str = EVENT) -> bool:
    """Whether `perf stat` is here, may be used, and the processor shows its counters (most virtual ones do not)."""
    if shutil.which("perf") is None:
        return False
    done = subprocess.run([*_PERF, event, "true"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and read_count(done.stderr) is not None


def counted(pids: Iterable[int], work: Callable[[], T], event: str = EVENT) -> tuple[T, int | None]:
    """The result of `work()` and what the processes executed meanwhile, in user and kernel."""
    perf = subprocess.Popen(
        [*_PERF, event, "-p", ",".join(map(str, pids))], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        result = work()
    finally:
        perf.send_signal(signal.SIGINT)
        _, report = perf.communicate()
    return result, read_count(report)


def read_count(report: str) -> int | None:
    """The count in the CSV of `perf stat`; `None` where it says `<not supported>` or `<not counted>`."""
    counts = [line.split(",", 1)[0] for line in report.splitlines() if "," in line]
    return int(counts[0]) if counts and counts[0].isdecimal() else None
