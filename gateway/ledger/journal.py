"""The journal: every accepted request on the local disk before its first upstream byte, and again when it has ended.

Decides what is written when, and what may be deleted; knows no database. Each entry is one `write` on a file opened for
appending, so killing the process loses nothing; a power cut loses what `sync` had not reached yet.

Fails closed: an entry that cannot be written whole refuses the request (`JournalError`). What has already been accepted
is never refused: its end stays in memory until it can be written, and nothing new is admitted before that.

On disk: `NNNNNNNN.journal` segments (see `gateway.ledger.segment`), `lock`, and `checkpoint`: the position before which
everything is in the store, and the CRC-32 of its digits.
"""

import contextlib
import fcntl
import os
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from gateway.core.errors import GatewayError
from gateway.core.exchange import Admission, RequestRecord
from gateway.ledger.segment import ADMITTED, CLOSED, CRASHED, HEADER_BYTES, Reading, encode, entry, header, newer

_OFFSET_BITS = 40


class JournalError(GatewayError):
    """The journal cannot take a request: it is refused, because nothing may run unrecorded."""

    status = 503
    code = "ledger_unavailable"
    retryable = True


class JournalInUse(JournalError):
    """Another process has the folder."""


class Journal:
    """The segments of one process in a folder of its own. Positions are integers that grow with every entry.

    `admit` and `close` belong to the event loop; the other methods may run in a thread beside it. Raises
    `JournalInUse` when another process has the folder, `JournalError` when a newer version wrote it.
    """

    def __init__(self, directory: Path, segment_bytes: int = 64 << 20, max_bytes: int = 4 << 30) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._fd: int | None = None
        self._retired: list[int] = []
        self._open: dict[str, int] = {}
        self._unwritten: deque[tuple[int, str, bytes]] = deque()
        self.refused = 0
        self.write_errors = 0
        self.damaged_bytes = 0
        self._lock_fd = _locked(directory)
        try:
            self.floor = self._read_checkpoint()
            self._sizes = {int(path.stem): path.stat().st_size for path in directory.glob("[0-9]*.journal")}
            self._refuse_newer()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._recovered = False
        self.in_use = True
        self._bytes = sum(self._sizes.values())
        self._found = sorted(self._sizes)
        self._number, self._offset = divmod(
            max([self.floor, *(number << _OFFSET_BITS | size for number, size in self._sizes.items())]),
            1 << _OFFSET_BITS,
        )

    def admit(self, admission: Admission) -> None:
        """The request is on disk when this returns. Raises `JournalError` and writes nothing otherwise."""
        payload = encode(admission)
        with self._mutex:
            try:
                if self._unwritten or self._bytes >= self._max_bytes:
                    self._make_room()
                self._open[admission.request_id] = self._append(ADMITTED, payload)
            except JournalError:
                self.refused += 1
                raise

    def close(self, record: RequestRecord) -> int:
        """The request has ended. Never raises: what cannot be written now is kept and written later.

        Those kept are no more than the requests under way, because none is admitted meanwhile. Answers a position from
        which `ends` tells it.
        """
        return self._end(CLOSED, record)

    def recover(self) -> int:
        """Writes the end of every request that a process before this one began and did not end; their number.

        Before the first `admit`, and before anything is settled.
        """
        if self._recovered:
            return 0
        self._recovered = True
        begun: dict[str, Admission] = {}
        for number in self._found:
            reading = Reading(self._path(number), self._start_in(number))
            for found in reading:
                value = found.decode()
                if isinstance(value, Admission) and found.kind == ADMITTED:
                    begun[value.request_id] = value
                elif value is not None:
                    begun.pop(value.request_id, None)
            self.damaged_bytes += reading.skipped + reading.torn
        self._open.update(dict.fromkeys(begun, self.floor))
        for admission in begun.values():
            self._end(CRASHED, admission)
        return len(begun)

    def ends(self, position: int) -> Iterator[tuple[int, Admission | RequestRecord | None]]:
        """What lies between `position` and now: the record of a request that ended, the admission of one that crashed.

        Each comes with the position behind it; other entries are `None`, and so is the last item, whose position is
        where a later call goes on.
        """
        with self._mutex:
            last, numbers = self._position, {*self._sizes, *([] if self._fd is None else [self._number])}
        for number in sorted(numbers):
            base = number << _OFFSET_BITS
            if position >> _OFFSET_BITS > number:
                continue
            limit = last - base if number == last >> _OFFSET_BITS else None
            reading = Reading(self._path(number), max(0, position - base), limit)
            for found in reading:
                yield base | found.end, None if found.kind == ADMITTED else found.decode()
        yield last, None

    @property
    def position(self) -> int:
        """Behind the last entry."""
        with self._mutex:
            return self._position

    @property
    def size_bytes(self) -> int:
        """All segments on the disk."""
        return self._bytes

    @property
    def unwritten(self) -> int:
        """Ended requests that wait for room on the disk."""
        return len(self._unwritten)

    @property
    def under_way(self) -> int:
        """Requests admitted and not ended."""
        return len(self._open)

    def retry(self) -> bool:
        """Tries to write what could not be written; whether nothing is left."""
        with self._mutex, contextlib.suppress(JournalError):
            self._write_waiting()
        return not self._unwritten

    def sync(self) -> None:
        """Makes what is written outlast a power cut. Blocks on the disk, never the event loop's writes."""
        with self._mutex:
            retired, self._retired = self._retired, []
            current = None if self._fd is None else os.dup(self._fd)
        try:
            for fd in [*retired, *([] if current is None else [current])]:
                with contextlib.suppress(OSError):
                    os.fdatasync(fd)
            if retired:
                self._sync_folder()
        finally:
            for fd in [*retired, *([] if current is None else [current])]:
                os.close(fd)

    def settle(self, stored: int) -> None:
        """Everything that ended before position `stored` is in the store: what no replay needs is deleted.

        A checkpoint that cannot be written costs a longer replay, nothing else.
        """
        with self._mutex:
            floor = min([stored, self._position, *self._oldest_open()])
            if floor == self.floor or not self._recovered:
                return
            self.floor = floor
            settled = [number for number in self._sizes if number < floor >> _OFFSET_BITS]
        with contextlib.suppress(OSError):
            self._write_checkpoint(floor)
        for number in settled:
            self._path(number).unlink(missing_ok=True)
            with self._mutex:
                self._bytes -= self._sizes.pop(number)

    def shut(self) -> None:
        """Ends the use of the folder. Where nothing is owed to the store any more, no segment is left."""
        self.retry()
        self.sync()
        with self._mutex:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            if self.floor == self._position and not self._unwritten:
                for number in {*self._sizes, self._number}:
                    self._path(number).unlink(missing_ok=True)
        os.close(self._lock_fd)
        self.in_use = False

    def _end(self, kind: int, value: Admission | RequestRecord) -> int:
        payload = encode(value)
        with self._mutex:
            position = self._number << _OFFSET_BITS | self._offset
            try:
                if self._unwritten:
                    self._write_waiting()
                self._append(kind, payload)
            except JournalError:
                self._unwritten.append((kind, value.request_id, payload))
            else:
                self._open.pop(value.request_id, None)
            return position

    def _refuse_newer(self) -> None:
        for path in map(self._path, self._sizes):
            if newer(path):
                raise JournalError(f"{path} was written by a newer version; fix: let that version finish it")

    def _make_room(self) -> None:
        self._write_waiting()
        if self._bytes >= self._max_bytes:
            raise JournalError(
                f"{self._directory} holds {self._bytes} bytes that the ledger's database has not taken; "
                "fix: bring the database back"
            )

    def _write_waiting(self) -> None:
        while self._unwritten:
            kind, request_id, payload = self._unwritten[0]
            self._append(kind, payload)
            self._open.pop(request_id, None)
            self._unwritten.popleft()

    def _append(self, kind: int, payload: bytes) -> int:
        """The position of the new entry. On an error no byte of it is left where an entry would be read."""
        data = entry(kind, payload)
        if self._fd is None or self._offset + len(data) > self._segment_bytes:
            self._begin_segment()
        assert self._fd is not None
        try:
            written = os.write(self._fd, data)
        except OSError as exc:
            self._undo()
            raise self._failed(exc.strerror or str(exc)) from exc
        if written != len(data):
            self._undo()
            raise self._failed("no room for the whole entry")
        offset = self._offset
        self._offset = offset + written
        self._bytes += written
        return self._number << _OFFSET_BITS | offset

    @property
    def _position(self) -> int:
        return self._number << _OFFSET_BITS | self._offset

    def _undo(self) -> None:
        """Cuts off what a failed write has left; where even that fails, the next entry goes to a new segment."""
        assert self._fd is not None
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError:
            self._retire()

    def _retire(self) -> None:
        if self._fd is not None:
            self._sizes[self._number] = self._offset
            self._retired.append(self._fd)
            self._fd = None

    def _begin_segment(self) -> None:
        self._retire()
        path = self._path(self._number + 1)
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._failed(exc.strerror or str(exc)) from exc
        try:
            written = os.write(fd, header())
        except OSError:
            written = 0
        if written != HEADER_BYTES:
            os.close(fd)
            path.unlink()
            raise self._failed("no room for a new segment")
        self._fd, self._number, self._offset = fd, self._number + 1, HEADER_BYTES
        self._bytes += HEADER_BYTES

    def _failed(self, why: str) -> JournalError:
        self.write_errors += 1
        return JournalError(f"the journal in {self._directory} cannot be written: {why}; fix: make room on its disk")

    def _oldest_open(self) -> list[int]:
        return [next(iter(self._open.values()))] if self._open else []

    def _start_in(self, number: int) -> int:
        """Where what still counts begins in a segment that was found."""
        return max(0, self.floor - (number << _OFFSET_BITS))

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08}.journal"

    def _read_checkpoint(self) -> int:
        """0, the beginning of everything, where there is none or it cannot be read: replays are idempotent."""
        try:
            digits, checksum = (self._directory / "checkpoint").read_bytes().split()
            return int(digits) if zlib.crc32(digits) == int(checksum) else 0
        except (OSError, ValueError):
            return 0

    def _write_checkpoint(self, position: int) -> None:
        made = self._directory / "checkpoint.new"
        digits = str(position).encode()
        made.write_bytes(b"%s %d\n" % (digits, zlib.crc32(digits)))
        made.replace(self._directory / "checkpoint")

    def _sync_folder(self) -> None:
        with contextlib.suppress(OSError):
            fd = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _locked(directory: Path) -> int:
    """Makes the folder and holds it for this process until the descriptor is closed."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise JournalError(f"{directory}: {exc.strerror}; fix: a folder that this user can write to") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "another one"
        os.close(fd)
        raise JournalInUse(
            f"{directory} is in use by process {owner}; fix: give each process a journal folder of its own"
        ) from exc
    with contextlib.suppress(OSError):  # a full disk: the number is for people only
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd
