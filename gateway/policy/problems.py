"""What is wrong with a policy and where: one `Problem` a line, all of them in one error. Knows no YAML."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from gateway.core.errors import PolicyError

Path = tuple[str | int, ...]
"""Keys and list positions from the top of one file: `("routes", 0, "target")`."""

Severity = Literal["error", "warning", "info"]


class Problem(msgspec.Struct, frozen=True):
    """One finding. `line` is 1-based, 0 when there is no file behind it; `key` is empty for the whole file."""

    file: str
    line: int
    key: str
    message: str
    fix: str = ""
    severity: Severity = "error"

    @property
    def where(self) -> str:
        """`FILE:LINE`, or `FILE` when there is no line."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        """`FILE:LINE: KEY: what is wrong; fix: what to do`."""
        key = f"{self.key}: " if self.key else ""
        fix = f"; fix: {self.fix}" if self.fix else ""
        return f"{self.where}: {key}{self.message}{fix}"


class PolicyProblems(PolicyError):
    """Every problem of a policy at once, in the order of files and lines; its text is one problem a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(in_order(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file and line, without repetitions."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line))


def key_text(path: Path) -> str:
    """A path as people write it: `routes[0].split[1].target`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix for a misspelt name: the nearest known one, else what is known (at most eight)."""
    names: Sequence[str] = sorted(known)
    near = difflib.get_close_matches(word[:100], names, n=1, cutoff=0.65)
    if near:
        return f"did you mean {near[0]!r}?"
    if not names:
        return "define one first"
    return f"use one of: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
