"""Certificates and calibrations in force: read from beside the policy, polled, and void once live labels refute them.

A route may have several, for other promises or parts: each policy in service has the one that fits it, so that a
candidate on trial and the policy in force are both certified. Fails closed: what cannot be read, was changed, or does
not fit what the policy asks and the parts that serve certifies nothing, and the feature that it would allow stays off.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from gateway.guarantee.certificate import BadCertificate, Certificate, Kind, binding_of, load, path_of, voids

POLL_S = 1.0

log = logging.getLogger("farthing.certificates")


class Routed(Protocol):
    """What is about one route. `date` is ISO 8601."""

    @property
    def route(self) -> str:
        """The route's name."""
        ...

    @property
    def date(self) -> str:
        """When it was made."""
        ...


T = TypeVar("T", bound=Routed)


class Held(msgspec.Struct, Generic[T], frozen=True):
    """What a file says, and the file's name."""

    file: str
    says: T


class Standing(msgspec.Struct, frozen=True):
    """Whether a route is certified, and if not why. `certificate`, in `file`, is `None` where there is none.

    Where several are there and none fits, it is the newest.
    """

    serves: bool
    why: str
    certificate: Certificate | None = None
    file: str | None = None


class Fit(msgspec.Struct, frozen=True):
    """Which file a route of a policy decides by; `None` where none holds, and `why`. `kind` as in the file's name."""

    kind: str
    route: str
    file: str | None
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.route}: {self.file or f'uncertified, {self.why}'}"


class Shelf(Generic[T]):
    """Files of one kind, `certificates/PREFIX-ROUTE[-BINDING].json`, by route. `folder` is the policy's directory.

    `read` makes one of a file's bytes and name, or raises `BadCertificate`. `binding` is what it must be called by: a
    file of another name is passed over. `generation` counts changes.
    """

    def __init__(self, folder: Path, prefix: str, read: Callable[[bytes, str], T], binding: Callable[[T], str]) -> None:
        self._folder = folder if folder.is_dir() else folder.parent
        self._prefix = prefix
        self._read = read
        self._binding = binding
        self._stamps: dict[str, tuple[int, int]] = {}
        self._held: dict[str, list[Held[T]]] = {}
        self._broken: dict[str, str] = {}
        self.generation = 0
        self.refresh()

    def of(self, route: str) -> list[Held[T]]:
        """What is there for a route, the newest first."""
        return self._held.get(route, [])

    def fitting(self, route: str, misfit: Callable[[T], str | None], missing: str) -> tuple[list[Held[T]], str]:
        """Those that `misfit` has nothing against, the newest first; and where there is none, why not."""
        held = self.of(route)
        if not held:
            named = _named(self._prefix, route)
            return [], next((why for name, why in self._broken.items() if named.fullmatch(name)), missing)
        against = [misfit(each.says) for each in held]
        found = [each for each, why in zip(held, against, strict=True) if why is None]
        if found:
            return found, ""
        return [], (against[0] or "") + (f" (the newest of {len(held)}; none fits)" if len(held) > 1 else "")

    async def run(self) -> None:
        """Polls until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Reads what has changed since the last look; a file that is gone holds nothing any more."""
        try:
            found = sorted((self._folder / "certificates").glob(f"{self._prefix}-*.json"))
            stamps = {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}
        except OSError:
            return
        if stamps == self._stamps:
            return
        held: dict[str, list[Held[T]]] = {}
        broken: dict[str, str] = {}
        for path in found:
            try:
                each = self._read(path.read_bytes(), path.name)
            except (OSError, BadCertificate) as exc:
                log.error("%s", exc)  # noqa: TRY400 - the message says it all
                broken[path.name] = str(exc)
            else:
                if path.name in self._names(each):
                    held.setdefault(each.route, []).append(Held(path.name, each))
        for several in held.values():
            several.sort(key=lambda each: (each.says.date, each.file), reverse=True)
        self._stamps, self._held, self._broken = stamps, held, broken
        self.generation += 1

    def _names(self, each: T) -> tuple[str, str]:
        paths = (path_of(self._prefix, each.route), path_of(self._prefix, each.route, self._binding(each)))
        return Path(paths[0]).name, Path(paths[1]).name


class Certificates:
    """The certificates of one kind."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.kind = kind
        self._shelf = Shelf(folder, kind, load, lambda it: binding_of(it.alpha, it.delta, it.versions))
        self._refuted: dict[str, str] = {}

    @property
    def generation(self) -> int:
        """Changes with every standing that may have changed."""
        return self._shelf.generation + len(self._refuted)

    def standing(
        self, route: str, alpha: float, confidence: float, versions: Mapping[str, str], *, partly: bool = False
    ) -> Standing:
        """Whether `route` is certified for a loss of at most `alpha`, this surely, with parts of these versions.

        Of several that fit, the one that promises least beyond what is asked counts, then the newest: what was made
        for a stricter policy leaves a laxer one its own. Where live labels have refuted that one, none counts.
        `partly`: other parts than those named may be of any version.
        """

        def misfit(certificate: Certificate) -> str | None:
            if certificate.alpha > alpha:
                return f"certified for {certificate.alpha:g}, the policy asks for {alpha:g}"
            if certificate.delta > 1 - confidence + 1e-9:
                return f"certified with confidence {1 - certificate.delta:g}, the policy asks for {confidence:g}"
            parts = certificate.versions
            return voids({part: parts[part] for part in parts if part in versions} if partly else parts, versions)

        missing = f"not calibrated yet: farthing calibrate {self.kind} --route NAME"
        found, why = self._shelf.fitting(route, misfit, missing)
        if not found:
            newest = next(iter(self._shelf.of(route)), None)
            return Standing(False, why, *((newest.says, newest.file) if newest is not None else ()))
        held = max(found, key=lambda each: (each.says.alpha, each.says.delta))
        refuted = self._refuted.get(held.says.hash)
        return Standing(refuted is None, refuted or "certified", held.says, held.file)

    def refute(self, certificate: Certificate, why: str) -> None:
        """From now on it certifies nothing; a new one for the route does."""
        self._refuted[certificate.hash] = why
        log.warning("the %s certificate of route %s is void: %s", self.kind, certificate.route, why)

    async def run(self) -> None:
        """Polls until cancelled."""
        await self._shelf.run()

    def refresh(self) -> None:
        """Looks now."""
        self._shelf.refresh()


def files_of(folder: Path, kind: str, route: str) -> list[Path]:
    """The files that a route has in a policy's folder, by name, read or not."""
    named = _named(kind, route)
    try:
        return sorted(each for each in (folder / "certificates").iterdir() if named.fullmatch(each.name))
    except OSError:
        return []


def _named(kind: str, route: str) -> re.Pattern[str]:
    return re.compile(re.escape(f"{kind}-{quote(route, safe='')}") + r"(-[0-9a-f]{8})?\.json")
