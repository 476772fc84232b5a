"""What the commands that measure and certify have in common: types of arguments, files read and written, last lines.

Knows no room and decides nothing. What cannot be read or written raises `BadRequest` that names the fix.
"""

import argparse
import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from gateway.core.errors import BadRequest
from gateway.policy.units import BadValue, fraction

T = TypeVar("T")


class Rules(msgspec.Struct, Generic[T], frozen=True):
    """What a policy says of the routes that a command is for, by name, and the folder of that policy."""

    folder: Path
    rules: Mapping[str, T]


class Finding(msgspec.Struct, frozen=True):
    """What a calibration came to: `data` is its file, empty where there is none; `path` is where that belongs.

    `lines` are for people, `warnings` too, below them; `fields` are the object of `--json`. `beside` are the files that
    the route has already.
    """

    path: Path
    data: bytes
    lines: list[str]
    fields: Mapping[str, Any]
    warnings: list[str] = []
    beside: Sequence[Path] = ()


def share(text: str) -> float:
    """The type of an argument between 0 and 1: `0.03` or `3%`."""
    try:
        found = fraction(float(text) if text.replace(".", "", 1).isdigit() else text)
    except BadValue as exc:
        raise argparse.ArgumentTypeError(f"{exc.message}; {exc.fix}") from exc
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{text}: write a share between 0 and 1, such as 0.03 or 3%")
    return found


def calibration_arguments(parser: argparse.ArgumentParser, which: str) -> None:
    """Adds what every `farthing calibrate` takes; `which` says which routes it is for."""
    add = parser.add_argument
    add("--route", required=True, metavar="NAME", help=f"of the policy, with {which}")
    add("--since", default="30d", metavar="DATE", help="own traffic from then on: 14d, 2026-11-01 [%(default)s]")
    add("--confidence", type=share, metavar="C", help="0.95 or 95%% [the policy's]")
    add("--policies", type=Path, metavar="DIR", help="directory of policy files [that of `serve`]")
    add(
        "--candidate", type=Path, metavar="PATH", help="for this policy on trial; the file still lies beside --policies"
    )
    add("--out", type=Path, metavar="FILE", help="write there [certificates/ beside the policy]")
    add("--dry-run", action="store_true", help="write nothing")
    add("--json", action="store_true", help="one JSON object as the last line")


def rules_for(arguments: argparse.Namespace, rules: Callable[[Path | None], Rules[T]]) -> Rules[T]:
    """The rules to calibrate for, with the folder whose certificates a gateway reads: that of the policy in force.

    A candidate's own folder is not read by gateways, so what is made for it lies beside the policy too.
    """
    home = rules(arguments.policies)
    return home if arguments.candidate is None else Rules(home.folder, rules(arguments.candidate).rules)


def conclude(arguments: argparse.Namespace, found: Finding) -> int:
    """Writes the file unless it is a dry run, prints what was found, and gives the exit status: 1 without a file."""
    written = bool(found.data) and not arguments.dry_run
    if written:
        put(found.path, found.data)
    where = [f"{'written' if written else 'not written':<16} {found.path}"] if found.data else []
    beside = [path.name for path in found.beside if path.resolve() != found.path.resolve()] if found.data else []
    if beside:
        where.append(f"beside           {', '.join(beside)}: kept for policies that they fit")
    say([*found.lines, *where, *(f"warning: {warning}" for warning in found.warnings)])
    if arguments.json:
        place = {"path": str(found.path), "written": written, "beside": beside}
        last_line({**found.fields, "warnings": found.warnings, **place})
    return 0 if found.data else 1


def say(lines: Iterable[str]) -> None:
    """Prints lines."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def last_line(found: object) -> None:
    """Prints the one object of `--json`."""
    say([msgspec.json.encode(found).decode()])


def not_certified(reason: str, n: int, n_needed: int | None) -> list[str]:
    """Why nothing was certified, and what it would take."""
    needed = f"about {n_needed} requests like these" if n_needed else "no number of requests like these would do"
    return [f"not certified    {reason}", f"needed           {needed}; {n} were counted"]


def plain(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends in `.gz`."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as exc:
        raise BadRequest(f"{path} cannot be read: {exc}; fix: name a file, plain or .gz") from exc


def put(path: Path, data: bytes) -> None:
    """Puts a file there whole, or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as exc:
        with suppress(OSError):
            beside.unlink()
        raise BadRequest(f"{path}: {exc.strerror or exc}; fix: --out FILE in a folder that can be written") from exc


def about(doc: str | None) -> str:
    """What a module's first line says after its command's name, as a sentence."""
    said = (doc or "").splitlines()[0].partition(": ")[2]
    return said[:1].upper() + said[1:]
