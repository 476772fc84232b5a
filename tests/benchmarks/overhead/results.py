"""What a run of the benchmark finds: the figures of each gateway, case and round. Data only."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["json", "sse"]


@dataclass(frozen=True)
class Case:
    """A kind of answer and how many connections ask for it at once."""

    mode: Mode
    connections: int

    def __str__(self) -> str:
        return f"{self.mode} c={self.connections}"


@dataclass(frozen=True)
class Row:
    """What one case took in one round; `invalid` says why the figures must not be used, empty when they may.

    `cpu_us` is the process tree's, `beside_us` what of it was used by threads other than the first; `softirq_us` is what the kernel booked to interrupts of its core meanwhile (the
    network's share of the work, where the kernel counts that apart). `others` is the share (0 to 1) of the two cores
    that processes outside the benchmark took.
    """

    gateway: str
    case: Case
    round: int
    requests: int
    cpu_us: float
    beside_us: float
    rps: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    softirq_us: float
    others: float
    instructions: float | None
    invalid: str


@dataclass(frozen=True)
class Start:
    """Seconds from exec to the first 200 of the readiness path (`None`: there is none) and of a completion.

    `cpu_s` is the CPU time used by then: on a busy machine the figure that holds.
    """

    gateway: str
    round: int
    ready_s: float | None
    answer_s: float
    cpu_s: float


@dataclass(frozen=True)
class Round:
    """One gateway's part of one round; `failed` says why it has no rows."""

    gateway: str
    start: Start | None
    rows: tuple[Row, ...]
    failed: str = ""
