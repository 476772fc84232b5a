"""A segment file as a reader finds it: cut, damaged, or nothing but noise."""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import (
    Admission,
    Attempt,
    CacheHit,
    Choice,
    RequestRecord,
    Savings,
    Shadowed,
    Usage,
)
from gateway.ledger.entry import ADMITTED, CLOSED, CRASHED, HEAD_BYTES, MAX_PAYLOAD, Payloads, put
from gateway.ledger.segment import HEADER_BYTES, VERSION, Reading, foreign, header
from tests.support.ledger import admission, ended

PAYLOADS = Payloads()


def entry(kind: int, payload: bytes) -> bytes:
    made = bytearray(HEAD_BYTES + len(payload))
    assert put(made, 0, kind, payload) == len(made)
    return bytes(made)


VALUES = [(ADMITTED, admission(1)), (CLOSED, ended(1)), (ADMITTED, admission(2)), (CRASHED, admission(2))]
ENTRIES = [entry(kind, PAYLOADS.of(value)) for kind, value in VALUES]
WHOLE = header() + b"".join(ENTRIES)
ENDS = [HEADER_BYTES + sum(map(len, ENTRIES[: n + 1])) for n in range(len(ENTRIES))]

STORED = {
    Admission: (
        "request_id started_s tenant key tags dialect endpoint policy route requested_model target provider "
        "model stream reserved_micro_usd windows"
    ),
    RequestRecord: (
        "request_id started_s tenant key dialect endpoint path policy route requested_model target provider "
        "model stream status outcome error attempts usage cost_micro_usd cache ttft_s duration_s overhead_s "
        "queue_s finish_reasons response_id upstream_request_id session traceparent max_tokens tags admitted "
        "reserved_micro_usd savings windows hit cache_reason nearest reasons choice shadow"
    ),
    Attempt: ("target replica status error offset_s duration_s ttft_s usage cost_micro_usd own"),
    Usage: ("uncached_input cache_read cache_write_5m cache_write_1h output reasoning source"),
    Savings: ("baseline cache routing compression waste_escalation waste_retries own"),
    CacheHit: ("kind entry usage took_s age_s similarity score"),
    Choice: ("target why tier score threshold certificate scorer"),
    Shadowed: ("policy verdict origin target micro_usd"),
}


def read(path: Path, data: bytes, offset: int = 0, limit: int | None = None):
    path.write_bytes(data)
    reading = Reading(path, offset, limit)
    return [(found.kind, found.decode()) for found in reading], reading


def test_what_is_written_is_read(tmp_path):
    found, reading = read(tmp_path / "s", WHOLE)
    assert found == VALUES
    assert (reading.skipped, reading.torn) == (0, 0)


def test_reading_goes_on_from_the_end_of_any_entry(tmp_path):
    for index, end in enumerate(ENDS):
        assert read(tmp_path / "s", WHOLE, offset=end)[0] == VALUES[index + 1 :]


def test_reading_stops_at_a_limit(tmp_path):
    for index, end in enumerate(ENDS):
        assert read(tmp_path / "s", WHOLE, limit=end)[0] == VALUES[: index + 1]


def test_a_file_cut_at_any_byte_has_all_the_entries_before_the_cut(tmp_path):
    for size in range(len(WHOLE)):
        found, reading = read(tmp_path / "s", WHOLE[:size])
        whole = sum(end <= size for end in ENDS)
        assert found == VALUES[:whole], size
        before = ENDS[whole - 1] if whole else HEADER_BYTES if size >= 8 else 0
        assert reading.torn == len(WHOLE[before:size].rstrip(b"\0"))
        assert reading.skipped == 0


def test_a_flipped_bit_costs_its_own_entry_and_no_other(tmp_path):
    for at in range(HEADER_BYTES, len(WHOLE)):
        data = bytearray(WHOLE)
        data[at] ^= 1 << at % 8
        found, reading = read(tmp_path / "s", bytes(data))
        hit = sum(end <= at for end in ENDS)
        assert found == VALUES[:hit] + VALUES[hit + 1 :], at
        assert reading.skipped + reading.torn == len(ENTRIES[hit])


def test_a_damaged_header_costs_no_entry(tmp_path):
    for at in range(HEADER_BYTES):
        data = bytearray(WHOLE)
        data[at] ^= 0xFF
        assert read(tmp_path / "s", bytes(data))[0] == VALUES


def test_room_that_was_made_and_not_used_is_no_damage(tmp_path):
    found, reading = read(tmp_path / "s", WHOLE + bytes(3 << 20))
    assert found == VALUES
    assert (reading.skipped, reading.torn) == (0, 0)


def test_an_entry_cut_short_before_unused_room_is_torn(tmp_path):
    found, reading = read(tmp_path / "s", WHOLE[:-7] + bytes(3 << 20))
    assert found == VALUES[:-1]
    assert (reading.skipped, reading.torn) == (0, len(ENTRIES[-1]) - 7)


def test_zeros_between_entries_are_damage(tmp_path):
    """A page that a power cut has kept from the disk, between others that reached it."""
    for hole in (100, 3 << 20):
        found, reading = read(tmp_path / "s", WHOLE[: ENDS[0]] + bytes(hole) + WHOLE[ENDS[1] :])
        assert found == [VALUES[0], *VALUES[2:]]
        assert (reading.skipped, reading.torn) == (hole, 0)


@given(st.binary(max_size=2000))
def test_noise_never_raises(tmp_path_factory, noise):
    path = tmp_path_factory.getbasetemp() / "noise"
    assert read(path, noise)[1].skipped >= 0
    found, _ = read(path, WHOLE[: ENDS[0]] + noise + WHOLE[ENDS[0] :])
    assert [value for value in VALUES if value in found] == VALUES


def test_another_version_is_told_from_a_damaged_header(tmp_path):
    path = tmp_path / "s"
    path.write_bytes(WHOLE)
    assert not foreign(path)
    for version in (VERSION - 1, VERSION + 1):
        path.write_bytes(header(version) + b"".join(ENTRIES))
        assert foreign(path)
    damaged = bytearray(header(VERSION + 1))
    damaged[9] ^= 1
    path.write_bytes(damaged)
    assert not foreign(path)
    path.write_bytes(b"")
    assert not foreign(path)


def test_what_a_caller_names_never_makes_an_entry_too_large_or_impossible(tmp_path):
    huge = admission(1, requested_model="m" * (MAX_PAYLOAD + 1))
    odd = ended(2, error="\ud800", reserved_micro_usd=2**70, response_id="r" * 3000)
    for value, kind in ((huge, ADMITTED), (odd, CLOSED)):
        found, _ = read(tmp_path / "s", header() + entry(kind, PAYLOADS.of(value)))
        assert found[0][1].request_id == value.request_id


def test_fields_that_an_older_or_a_newer_gateway_has_at_the_end_are_read(tmp_path):
    names = [field.name for field in msgspec.structs.fields(RequestRecord)]
    fields = msgspec.to_builtins(ended(1))
    chosen = Choice("weak", "score", "light", 0.01, 0.05, "1a2b3c4d")
    routed = msgspec.to_builtins(ended(1, choice=chosen))
    routed[names.index("choice")] = msgspec.structs.astuple(chosen)[:6]
    for stored, expected in (
        ([*fields, "unheard of"], ended(1)),
        (fields[: names.index("windows")], ended(1, windows=())),
        (routed, ended(1, choice=chosen)),
    ):
        found, _ = read(tmp_path / "s", header() + entry(CLOSED, msgspec.msgpack.encode(stored)))
        assert found == [(CLOSED, expected)]


def test_no_field_that_lies_in_the_journal_has_moved():
    """New ones are added at the end of a struct, with a default, and here."""
    for struct, names in STORED.items():
        known = names.split()
        fields = msgspec.structs.fields(struct)
        assert [field.name for field in fields[: len(known)]] == known
        assert not [field.name for field in fields[len(known) :] if field.required]


def test_a_payload_that_makes_no_sense_is_no_value(tmp_path):
    found, _ = read(tmp_path / "s", header() + entry(CLOSED, msgspec.msgpack.encode({"request_id": 7})))
    assert found == [(CLOSED, None)]
