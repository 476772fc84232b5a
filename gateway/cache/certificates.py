"""The certificates in force: read from beside the policy, polled, and void once live labels refute them.

Fails closed: a route without a certificate that can be read, fits its rule and names the parts that serve has none, and
its semantic cache only watches.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.guarantee.certificate import BadCertificate, Certificate, load, path_of, voids
from gateway.policy.caching import CacheRule

POLL_S = 1.0

log = logging.getLogger("farthing.cache")


class Standing(msgspec.Struct, frozen=True):
    """Whether a route serves similar requests' answers, and if not why. `certificate` is `None` where there is none."""

    serves: bool
    why: str
    certificate: Certificate | None = None


class Certificates:
    """See the module. `folder` is the policy's directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder if folder.is_dir() else folder.parent
        self._stamps: dict[str, tuple[int, int]] = {}
        self._held: dict[str, Certificate] = {}
        self._broken: dict[str, str] = {}
        self._refuted: dict[str, str] = {}
        self.refresh()

    def of(self, rule: CacheRule, versions: Mapping[str, str]) -> Certificate | None:
        """The certificate that lets this route serve now."""
        standing = self.standing(rule, versions)
        return standing.certificate if standing.serves else None

    def standing(self, rule: CacheRule, versions: Mapping[str, str]) -> Standing:
        """The same with its reason."""
        if rule.semantic is None:
            return Standing(serves=False, why="the route has no semantic cache")
        certificate = self._held.get(rule.route)
        if certificate is None:
            why = self._broken.get(rule.route, "not calibrated yet: farthing calibrate cache --route NAME")
            return Standing(serves=False, why=why)
        why = ""
        if certificate.hash in self._refuted:
            why = self._refuted[certificate.hash]
        elif certificate.alpha > rule.semantic.max_error:
            why = f"certified for an error of {certificate.alpha:g}, the policy asks for {rule.semantic.max_error:g}"
        elif certificate.delta > 1 - rule.semantic.confidence + 1e-9:
            wanted = rule.semantic.confidence
            why = f"certified with confidence {1 - certificate.delta:g}, the policy asks for {wanted:g}"
        else:
            why = voids(certificate, versions) or ""
        return Standing(serves=not why, why=why or "certified", certificate=certificate)

    def refute(self, certificate: Certificate, why: str) -> None:
        """From now on it certifies nothing; a new one for the route does."""
        self._refuted[certificate.hash] = why
        log.warning("the cache of route %s serves no similar requests any more: %s", certificate.route, why)

    async def run(self) -> None:
        """Polls until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Reads what has changed since the last look; a file that is gone certifies nothing."""
        try:
            found = sorted((self._folder / "certificates").glob("cache-*.json"))
            stamps = {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}
        except OSError:
            return
        if stamps == self._stamps:
            return
        self._stamps = stamps
        held: dict[str, Certificate] = {}
        broken: dict[str, str] = {}
        for path in found:
            try:
                certificate = load(path.read_bytes(), path.name)
            except (OSError, BadCertificate) as exc:
                log.error("%s", exc)  # noqa: TRY400 - the message says it all
                broken[path.name.removeprefix("cache-").removesuffix(".json")] = str(exc)
            else:
                if path.name == Path(path_of("cache", certificate.route)).name:
                    held[certificate.route] = certificate
        self._held, self._broken = held, broken
