"""What is asked of a gateway: the state in the database and rollout.yaml beside the policy, read when they change.

Fails to what was read last: a file that is wrong, or names a candidate that is, changes nothing and is told in `error`.
All of it blocks.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.core.errors import PolicyError
from gateway.policy.load import ROLLOUT, policy_files
from gateway.policy.rollout_file import Declared, read_rollout
from gateway.policy.watch import Stamp, file_stamps
from gateway.rollout.state import State
from gateway.rollout.store import RolloutStore


class Asked(msgspec.Struct, frozen=True):
    """One reading. `text` is the candidate of `declared`, as `Document.text`; `error` what is wrong with the file."""

    state: State = State()
    declared: Declared | None = None
    text: bytes = b""
    error: str | None = None


class Asking:
    """Reads; `store` is `None` where no books are kept. `read` makes a candidate's text, or raises `PolicyError`."""

    def __init__(self, folder: Path, store: RolloutStore | None, read: Callable[[Path], bytes]) -> None:
        self._folder = folder if folder.is_dir() else folder.parent
        self._store = store
        self._read = read
        self._stamp: Stamp | None = None
        self._asked = Asked()

    def now(self) -> Asked:
        """The same object while nothing has changed. Raises `DatabaseError`, after the file has been read."""
        self._look_at_file()
        store = self._store
        if store is not None and store.version() != self._asked.state.version:
            self._asked = msgspec.structs.replace(self._asked, state=store.state())
        return self._asked

    def _look_at_file(self) -> None:
        stamp = self._stamps(self._asked.declared)
        if stamp == self._stamp:
            return
        try:
            declared = read_rollout(self._folder)
            text = self._read(declared.candidate) if declared is not None and declared.mode is not None else b""
        except PolicyError as exc:
            if self._asked.error != exc.message:
                self._asked = msgspec.structs.replace(self._asked, error=exc.message)
            self._stamp = stamp
            return
        # A write during the reading shows as another change at the next look; a new candidate is stamped from then on.
        self._stamp = stamp if declared == self._asked.declared else None
        if (declared, text, None) != (self._asked.declared, self._asked.text, self._asked.error):
            self._asked = msgspec.structs.replace(self._asked, declared=declared, text=text, error=None)

    def _stamps(self, declared: Declared | None) -> Stamp:
        files = [self._folder / ROLLOUT]
        if declared is not None and declared.mode is not None:
            try:
                files += policy_files(declared.candidate)
            except PolicyError:
                files.append(declared.candidate)
        return file_stamps(files)
