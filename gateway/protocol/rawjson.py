"""JSON objects as bytes: strict decoding for decisions, edits that leave every other member byte for byte.

Strict means what a gateway in front of another parser needs: one top-level object, UTF-8, no NaN, no duplicate
keys at any depth (two parsers may pick different ones), bounded depth. Knows nothing of OpenAI.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import msgspec

from gateway.core.errors import BadRequest

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_object(raw: bytes) -> dict[str, Any]:
    """The body as a dict; raises `BadRequest` for anything that is not one strict JSON object."""
    try:
        doc = _decode(raw)
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="json_too_deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"We could not parse the JSON body of your request: {exc}", code="json_invalid") from exc
    if type(doc) is not dict:
        raise BadRequest("The request body must be a JSON object.", code="json_invalid")
    # A compact body that re-encodes to itself cannot have lost a duplicate key: the common case costs one encode.
    if _encode(doc) != raw:
        _refuse_duplicates(raw)
    return doc


def _refuse_duplicates(raw: bytes) -> None:
    def pairs(members: list[tuple[str, Any]]) -> None:
        if len(dict(members)) != len(members):
            seen: set[str] = set()
            key = next(k for k, _ in members if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise BadRequest(f"Duplicate key {key!r} in the JSON body.", code="json_duplicate_key", param=key[:64])

    def refuse(constant: str) -> NoReturn:
        raise BadRequest(f"{constant} is not JSON.", code="json_invalid")

    try:
        json.loads(raw, object_pairs_hook=pairs, parse_constant=refuse, parse_int=str, parse_float=str)
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="json_too_deep") from None
    except ValueError as exc:
        raise BadRequest(f"We could not parse the JSON body of your request: {exc}", code="json_invalid") from exc


def replace(raw: bytes, edits: Mapping[str, bytes | None]) -> bytes:
    """`raw` (one valid JSON object) with top-level members set to the given JSON, or removed where `None`.

    All other members keep their bytes and their order; white space between members is not kept. New members
    come last.
    """
    members = cast("dict[str, Any]", _decode_members(raw))
    parts: list[bytes] = []
    for key, value in members.items():
        edit = edits.get(key, value)
        if edit is not None:
            parts.append(_encode(key) + b":" + bytes(edit))
    parts += [_encode(key) + b":" + value for key, value in edits.items() if key not in members and value is not None]
    return b"{" + b",".join(parts) + b"}"


def append(raw: bytes, key: str, value: bytes) -> bytes:
    """`raw` (one valid JSON object that has no `key`) with one more member; all bytes before it are kept."""
    head = raw.rstrip()[:-1]
    return head + (b"" if head.strip() == b"{" else b",") + _encode(key) + b":" + value + b"}"
