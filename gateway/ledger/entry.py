"""An entry of a segment as it is written: what `gateway.ledger.segment` reads.

`length u32, crc32 u32, kind u8, payload`, little endian; the length counts the payload alone, the CRC-32 covers kind
and payload, the payload is a msgpack array of the struct's fields.
"""

import mmap
import struct
import zlib
from typing import Any, Final

import msgspec

from gateway.core.exchange import Admission, RequestRecord

ADMITTED, CLOSED, CRASHED = b"ACX"
MAX_PAYLOAD: Final = 1 << 20
MAX_TEXT = 1024
"""Characters kept of a text whose entry would be too large: names come from callers."""
HEAD = struct.Struct("<IIB")
HEAD_BYTES: Final = 9

_MOST = 1 << 62
_encode_into: Final = msgspec.msgpack.Encoder().encode_into
_pack_head: Final = HEAD.pack_into
_crc32: Final = zlib.crc32


class Payloads:
    """Encodes values one after the other into one buffer: a new one for each would grow five times."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def of(self, value: Admission | RequestRecord) -> bytearray:
        """The payload of `value`, until the next is asked for.

        Where it cannot be encoded or is too large, its texts are cut and its numbers bounded.
        """
        buffer = self._buffer
        try:
            _encode_into(value, buffer)
        except (UnicodeEncodeError, OverflowError):
            _encode_into(_bounded(msgspec.to_builtins(value)), buffer)
        if len(buffer) > MAX_PAYLOAD:
            buffer = self._buffer = bytearray()
            _encode_into(_bounded(msgspec.to_builtins(value)), buffer)
        return buffer


def put(into: mmap.mmap | bytearray, offset: int, kind: int, payload: bytes | bytearray) -> int:
    """Writes an entry that has room there, and last what says that it is there; the offset behind it."""
    start, length = offset + HEAD_BYTES, len(payload)
    end = start + length
    into[start:end] = payload
    _pack_head(into, offset, length, _crc32(payload, kind), kind)
    return end


def _bounded(value: Any) -> Any:
    """What can always be encoded: texts cut and made valid Unicode, integers of 63 bits."""
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _bounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_MOST, min(_MOST, value))
    return value
