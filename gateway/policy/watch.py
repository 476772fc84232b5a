"""The policy in force: loaded at start, replaced as a whole when its files change, kept when the new one is wrong.

Files are polled, not subscribed to: a mounted Kubernetes ConfigMap changes by swapping symbolic links, which
notification interfaces miss. The first load fails closed (it raises); every later one fails to the last good policy.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from gateway.core.errors import PolicyError
from gateway.policy.load import ROLLOUT
from gateway.policy.table import Policy

_log = logging.getLogger(__name__)

Stamp = dict[str, tuple[int, int, int]]
_Sleep = Callable[[float], Awaitable[None]]


def _nothing() -> Iterable[Path]:
    return ()


class PolicyHolder:
    """Holds `current`; readers take it once per request and keep it for the whole of it.

    `load` makes the policy and raises `PolicyError`; `path` is the file or directory that is polled, `also` names
    further files (secrets). `wall` is seconds since the epoch. `on_change` is called with each new policy after
    it is in force, on the event loop when `watch` reloads. Of the counters the first load is no part.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Policy],
        *,
        wall: Callable[[], float],
        on_change: Callable[[Policy], None] | None = None,
        also: Callable[[], Iterable[Path]] = _nothing,
    ) -> None:
        self._path = path
        self._load = load
        self._wall = wall
        self._on_change = on_change
        self._also = also
        before = _policy_stamp(path)
        self.current: Policy = load()
        self._stamp = {**file_stamps(also()), **before}
        self.loaded_at = wall()
        self.last_error: str | None = None
        self.reloads_ok = 0
        self.reloads_failed = 0

    def reload(self) -> bool:
        """Loads now; True when a valid policy is in force after it. False keeps the one before; see `last_error`."""
        before = self._stamp = self._look()
        return self._settle(self._attempt(), before)

    async def watch(self, interval_s: float, sleep: _Sleep = asyncio.sleep) -> None:
        """Polls until cancelled; reading and parsing happen in a thread, the swap on the event loop."""
        while True:
            await sleep(interval_s)
            try:
                await self.poll()
            except Exception as exc:  # noqa: BLE001 - the root of a task that must outlive any defect; it is recorded
                self._failed(f"{type(exc).__name__}: {exc}")

    async def poll(self) -> bool | None:
        """Reloads if a file has changed since the last look: the result of that, or `None` for no change."""
        stamp = await asyncio.to_thread(self._look)
        if stamp == self._stamp:
            return None
        # Noted before loading: a write during the load shows as another change at the next look.
        self._stamp = stamp
        outcome = await asyncio.to_thread(self._attempt)
        if self._stamp is not stamp:
            return None  # a `reload` overtook: what it read is newer
        return self._settle(outcome, stamp)

    def _look(self) -> Stamp:
        return {**file_stamps(self._also()), **_policy_stamp(self._path)}

    def _attempt(self) -> Policy | PolicyError:
        try:
            return self._load()
        except PolicyError as exc:
            return exc

    def _settle(self, outcome: Policy | PolicyError, before: Stamp) -> bool:
        self._stamp = {**file_stamps(self._also()), **before}
        if isinstance(outcome, PolicyError):
            self._failed(outcome.message)
            return False
        self.current = outcome
        self.loaded_at = self._wall()
        self.last_error = None
        self.reloads_ok += 1
        _log.info("policy %s is in the files", outcome.hash)
        if self._on_change is not None:
            self._on_change(outcome)
        return True

    def _failed(self, message: str) -> None:
        self.last_error = message
        self.reloads_failed += 1
        _log.error("the policy was not reloaded, %s stays in force:\n%s", self.current.hash, message)


def _policy_stamp(path: Path) -> Stamp:
    try:
        files = [each for each in path.glob("*.yaml") if each.name != ROLLOUT] if path.is_dir() else [path]
    except OSError:
        return {}
    return file_stamps(files)


def file_stamps(files: Iterable[Path]) -> Stamp:
    """What changes when a file does: mtime, size and inode of the file behind all symbolic links."""
    found = {}
    for file in list(files):
        try:
            stat = file.stat()
        except OSError:
            found[str(file)] = (-1, -1, -1)
        else:
            found[str(file)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
