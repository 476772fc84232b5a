"""A segment of the journal: how entries lie in a file, and what of a damaged one a reader may trust.

Knows neither folders nor positions. A file is a 16-byte header and entries (`gateway.ledger.entry`). A segment outlives
an upgrade because fields are only added, at the end. Behind the last entry lie zeros: room that was made and not used.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.exchange import Admission, RequestRecord
from gateway.ledger.entry import CLOSED, HEAD, MAX_PAYLOAD

VERSION = 2
_MAGIC = b"FARTHING"
_HEADER = struct.Struct("<8sII")
HEADER_BYTES = _HEADER.size
_KIND_AND_ARRAY = re.compile(rb"[ACX][\x90-\x9f\xdc]")
_BLOCK = 1 << 20

_admission = msgspec.msgpack.Decoder(Admission)
_record = msgspec.msgpack.Decoder(RequestRecord)


class Entry(NamedTuple):
    """One whole entry; `end` is the offset of the next. `payload` is undecoded, its checksum was right."""

    kind: int
    payload: bytes
    offset: int
    end: int

    def decode(self) -> Admission | RequestRecord | None:
        """`None` for a payload that this version cannot read."""
        try:
            return (_record if self.kind == CLOSED else _admission).decode(self.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


class Reading:
    """Iterates over the whole entries of a segment between two byte offsets; garbage never raises.

    A damaged stretch is skipped up to the next entry whose checksum is right. Afterwards `skipped` counts the bytes of
    such stretches, `torn` those behind the last whole entry, without the zeros at the end: an entry that a power cut
    (or a kill in the midst of its copying) has cut short.
    Raises `FileNotFoundError` at once where there is no such file; one that is deleted later is at its end.
    """

    def __init__(self, path: Path, offset: int = 0, limit: int | None = None) -> None:
        size = path.stat().st_size
        self._path = path
        self._offset = offset
        self._limit = size if limit is None else min(limit, size)
        self.skipped = 0
        self.torn = 0

    def __iter__(self) -> Iterator[Entry]:
        self.skipped = self.torn = 0
        try:
            file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            return
        with file:
            yield from self._entries(file)

    def _entries(self, file: FileIO) -> Iterator[Entry]:
        base, read_to, at = self._offset, self._offset, 0
        data = b""
        lost: int | None = None  # where the damaged stretch began
        written = 0  # behind the last byte of it that is not zero
        while True:
            if len(data) - at < HEAD.size + MAX_PAYLOAD and read_to < self._limit:
                more = os.pread(file.fileno(), min(_BLOCK, self._limit - read_to), read_to)
                data, base, at, read_to = data[at:] + more, base + at, 0, read_to + len(more)
                if not more:
                    self._limit = read_to
                if base == 0 and data.startswith(_MAGIC):
                    at = HEADER_BYTES
                continue
            if at >= len(data):
                break
            found = _entry(data, at)
            if found is None:
                following = _resynchronise(data, at)
                if following is None:  # one may begin near the end of what has been read
                    start = max(at + 1, len(data) - MAX_PAYLOAD - HEAD.size)
                    following = len(data) if read_to >= self._limit else start
                lost = base + at if lost is None else lost
                kept = data[at:following].rstrip(b"\0")
                written = base + at + len(kept) if kept else written
                at = following
                continue
            kind, payload, end = found
            if lost is not None:
                self.skipped, lost = self.skipped + base + at - lost, None
            yield Entry(kind, payload, base + at, base + end)
            at = end
        self.torn = 0 if lost is None else max(0, written - lost)


def _entry(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    start = at + HEAD.size
    if start > len(data):
        return None
    length, checksum, kind = HEAD.unpack_from(data, at)
    end = start + length
    if not 0 < length <= MAX_PAYLOAD or end > len(data) or kind not in b"ACX":
        return None
    payload = data[start:end]
    return (kind, payload, end) if zlib.crc32(payload, kind) == checksum else None


def _resynchronise(data: bytes, at: int) -> int | None:
    """The next offset behind `at` at which a whole entry starts."""
    for match in _KIND_AND_ARRAY.finditer(data, at + HEAD.size):
        start = match.start() - HEAD.size + 1
        if _entry(data, start) is not None:
            return start
    return None


def header(version: int = VERSION) -> bytes:
    """What a segment begins with."""
    return _HEADER.pack(_MAGIC, version, zlib.crc32(_MAGIC, version))


def foreign(path: Path) -> bool:
    """Whether another version of the format is in it. A damaged header is left to the reader and is not foreign."""
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size:
        return False
    version = int(_HEADER.unpack(start)[1])
    return version != VERSION and start == header(version)
