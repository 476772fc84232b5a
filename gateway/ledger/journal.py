"""The journal: every accepted request on the local disk before its first upstream byte, and again when it has ended.

Decides what is written when, and what may be deleted; knows no database. Each entry is copied into a mapped file whose
blocks are allocated before: killing the process loses nothing that was copied, a power cut loses what `sync` had not
reached yet. A copy makes no system call, so no request waits for the disk while `sync` does.

Fails closed: an entry that cannot be written whole refuses the request (`JournalError`). What has already been accepted
is never refused: its end stays in memory until it can be written, and nothing new is admitted before that.

On disk: `NNNNNNNN.journal` segments (see `gateway.ledger.segment`), `lock`, and `checkpoint`: the position before which
everything is in the store, and the CRC-32 of its digits.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from gateway.core.errors import GatewayError
from gateway.core.exchange import Admission, RequestRecord
from gateway.ledger.entry import ADMITTED, CLOSED, CRASHED, HEAD_BYTES, Payloads, put
from gateway.ledger.segment import HEADER_BYTES, Reading, foreign, header

ROOM_BYTES = 256 << 10
"""Blocks are allocated so many bytes at a time; when there are no more so many, as many as the next entry needs."""

_OFFSET_BITS = 40


class JournalError(GatewayError):
    """503: the journal cannot take a request: it is refused, because nothing may run unrecorded."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="ledger_unavailable")
        self.status, self.retryable = 503, True


class JournalInUse(JournalError):
    """Another process has the folder."""


class Journal:
    """The segments of one process in a folder of its own. Positions are integers that grow with every entry.

    `admit` and `close` belong to the event loop; the other methods may run in a thread beside it. Raises
    `JournalInUse` when another process has the folder, `JournalError` when another version of the format is in it.
    """

    def __init__(self, directory: Path, segment_bytes: int = 16 << 20, max_bytes: int = 4 << 30) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._take, self._give = self._mutex.acquire, self._mutex.release  # on the path of requests: half of a `with`
        self._begun, self._ended = Payloads(), Payloads()
        self._file: _Mapped | None = None
        self._retired: list[_Mapped] = []
        self._open: dict[str, int] = {}
        self._unwritten: deque[tuple[int, str, bytes]] = deque()
        self.refused = 0
        self.write_errors = 0
        self.damaged_bytes = 0
        self._lock_fd = _locked(directory)
        try:
            self.floor = self._read_checkpoint()
            self._sizes = {int(path.stem): path.stat().st_size for path in directory.glob("[0-9]*.journal")}
            self._refuse_foreign()
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
        payload, request_id = self._begun.of(admission), admission.request_id
        self._take()
        try:
            if self._unwritten or self._bytes >= self._max_bytes:
                self._make_room()
            self._open[request_id] = self._append(ADMITTED, payload)
        except JournalError:
            self.refused += 1
            raise
        finally:
            self._give()

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
            last, numbers = self._position, {*self._sizes, *([] if self._file is None else [self._number])}
        for number in sorted(numbers):
            base = number << _OFFSET_BITS
            if position >> _OFFSET_BITS > number:
                continue
            limit = last - base if number == last >> _OFFSET_BITS else self._sizes.get(number)
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
        """Makes what is written outlast a power cut. Blocks on the disk, never the event loop."""
        with self._mutex:
            retired, self._retired = self._retired, []
            current = None if self._file is None else os.dup(self._file.fd)
        try:
            for fd in [*(file.fd for file in retired), *([] if current is None else [current])]:
                with contextlib.suppress(OSError):
                    os.fdatasync(fd)
            if retired:
                self._sync_folder()
        finally:
            for file in retired:
                file.close()
            if current is not None:
                os.close(current)

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
            if self._file is not None:
                self._file.close(self._offset)
                self._file = None
            if self.floor == self._position and not self._unwritten:
                for number in {*self._sizes, self._number}:
                    self._path(number).unlink(missing_ok=True)
        os.close(self._lock_fd)
        self.in_use = False

    def _end(self, kind: int, value: Admission | RequestRecord) -> int:
        payload, request_id = self._ended.of(value), value.request_id
        self._take()
        position = self._number << _OFFSET_BITS | self._offset
        try:
            if self._unwritten:
                self._write_waiting()
            self._append(kind, payload)
        except JournalError:
            self._unwritten.append((kind, request_id, bytes(payload)))
        else:
            self._open.pop(request_id, None)
        finally:
            self._give()
        return position

    def _refuse_foreign(self) -> None:
        for path in map(self._path, self._sizes):
            if foreign(path):
                raise JournalError(f"{path} was written by another version; fix: let that version finish it")

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

    def _append(self, kind: int, payload: bytes | bytearray) -> int:
        """The position of the new entry. Raises `JournalError` before a byte of it is written."""
        size, file = HEAD_BYTES + len(payload), self._file
        if file is None or self._offset + size > file.room:
            file = self._with_room(size)
        offset = self._offset
        self._offset = put(file.map, offset, kind, payload)
        self._bytes += size
        return self._number << _OFFSET_BITS | offset

    @property
    def _position(self) -> int:
        return self._number << _OFFSET_BITS | self._offset

    def _with_room(self, size: int) -> "_Mapped":
        """The file to write to; it has room for `size` bytes more."""
        try:
            if self._file is None or self._offset + size > self._segment_bytes:
                self._retire()
                self._begin_segment(size)
            assert self._file is not None
            self._file.make_room(self._offset + size)
        except OSError as exc:
            raise self._failed(exc.strerror or str(exc)) from exc
        return self._file

    def _retire(self) -> None:
        if self._file is not None:
            self._sizes[self._number] = self._offset
            self._retired.append(self._file)
            self._file = None

    def _begin_segment(self, size: int) -> None:
        number = self._number + 1
        self._file = _Mapped(self._path(number), HEADER_BYTES + size, self._segment_bytes)
        self._file.map[:HEADER_BYTES] = header()
        self._number, self._offset = number, HEADER_BYTES
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


class _Mapped:
    """A new file whose first `room` bytes are allocated and mapped: writing there cannot fail for want of space.

    Has room for at least `needed` bytes and grows up to `most`. Raises `OSError` and leaves no file when there is none.
    """

    def __init__(self, path: Path, needed: int, most: int) -> None:
        self.fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._most = max(most, needed)
        try:
            self.room = self._allocate(0, needed)
            self.map = mmap.mmap(self.fd, self.room)
        except OSError:
            os.close(self.fd)
            path.unlink()
            raise

    def make_room(self, needed: int) -> None:
        """Grows to at least `needed` bytes. Raises `OSError` when there are no blocks for them."""
        if needed > self.room:
            room = self._allocate(self.room, needed)
            self.map.resize(room)
            self.room = room

    def _allocate(self, start: int, needed: int) -> int:
        wanted = min(self._most, max(needed, start + ROOM_BYTES))
        try:
            _allocate(self.fd, start, wanted)
        except OSError:
            if wanted == needed:
                raise
            wanted = needed
            _allocate(self.fd, start, wanted)
        return wanted

    def close(self, size: int | None = None) -> None:
        """Ends its use; what lies behind `size` is given back."""
        self.map.close()
        if size is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, size)
        os.close(self.fd)


def _allocate(fd: int, start: int, end: int) -> None:
    """Blocks for the bytes of a file between two offsets, and its new size. Raises `OSError`."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, start, end - start)
    elif os.pwrite(fd, bytes(end - start), start) != end - start:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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
