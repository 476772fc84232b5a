"""Certificates and calibrations in force: read from beside the policy, polled, and void once live labels refute them.

Fails closed: what cannot be read, was changed, or does not fit what the policy asks and the parts that serve certifies
nothing, and the feature that it would allow stays off.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.guarantee.certificate import BadCertificate, Certificate, Kind, load, path_of, voids

POLL_S = 1.0

log = logging.getLogger("farthing.certificates")


class Routed(Protocol):
    """What is about one route."""

    @property
    def route(self) -> str:
        """The route's name."""
        ...


T = TypeVar("T", bound=Routed)


class Standing(msgspec.Struct, frozen=True):
    """Whether a route is certified, and if not why. `certificate` is `None` where there is none."""

    serves: bool
    why: str
    certificate: Certificate | None = None


class Shelf(Generic[T]):
    """Files of one kind, `certificates/PREFIX-ROUTE.json`, by route. `folder` is the policy's directory.

    `read` makes one of a file's bytes and name, or raises `BadCertificate`. `path_for` says where a route's lies: a
    file of another name is passed over. `generation` counts changes.
    """

    def __init__(
        self, folder: Path, prefix: str, read: Callable[[bytes, str], T], path_for: Callable[[str], str]
    ) -> None:
        self._folder = folder if folder.is_dir() else folder.parent
        self._prefix = prefix
        self._read = read
        self._path_for = path_for
        self._stamps: dict[str, tuple[int, int]] = {}
        self.held: dict[str, T] = {}
        self.broken: dict[str, str] = {}
        self.generation = 0
        self.refresh()

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
        held: dict[str, T] = {}
        broken: dict[str, str] = {}
        for path in found:
            try:
                each = self._read(path.read_bytes(), path.name)
            except (OSError, BadCertificate) as exc:
                log.error("%s", exc)  # noqa: TRY400 - the message says it all
                broken[path.name.removeprefix(f"{self._prefix}-").removesuffix(".json")] = str(exc)
            else:
                if path.name == Path(self._path_for(each.route)).name:
                    held[each.route] = each
        self._stamps, self.held, self.broken = stamps, held, broken
        self.generation += 1


class Certificates:
    """The certificates of one kind."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.kind = kind
        self._shelf = Shelf(folder, kind, load, lambda route: path_of(kind, route))
        self._refuted: dict[str, str] = {}

    @property
    def generation(self) -> int:
        """Changes with every standing that may have changed."""
        return self._shelf.generation + len(self._refuted)

    def standing(self, route: str, alpha: float, confidence: float, versions: Mapping[str, str]) -> Standing:
        """Whether `route` is certified for a loss of at most `alpha`, this surely, with parts of these versions."""
        certificate = self._shelf.held.get(route)
        if certificate is None:
            missing = f"not calibrated yet: farthing calibrate {self.kind} --route NAME"
            return Standing(serves=False, why=self._shelf.broken.get(route, missing))
        why = ""
        if certificate.hash in self._refuted:
            why = self._refuted[certificate.hash]
        elif certificate.alpha > alpha:
            why = f"certified for {certificate.alpha:g}, the policy asks for {alpha:g}"
        elif certificate.delta > 1 - confidence + 1e-9:
            why = f"certified with confidence {1 - certificate.delta:g}, the policy asks for {confidence:g}"
        else:
            why = voids(certificate.versions, versions) or ""
        return Standing(serves=not why, why=why or "certified", certificate=certificate)

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
