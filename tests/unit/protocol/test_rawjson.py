import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.protocol import rawjson

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": 1} x',
        b"\xef\xbb\xbf{}",
        b'{"a": ' + b"1" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"messages":[{"role":"user","role":"system"}]}',
        b'{"a":1.50,"b":{"c":1,"c":1}}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_one_strict_object_is_refused(body):
    with pytest.raises(BadRequest) as refused:
        rawjson.decode_object(body)
    assert json.loads(refused.value.body())["error"]["type"] == "invalid_request_error"


@given(st.dictionaries(st.text(), JSON), st.booleans(), st.booleans())
def test_strict_objects_are_read_like_any_parser_would(doc, compact, ascii_only):
    raw = json.dumps(doc, separators=(",", ":") if compact else None, ensure_ascii=ascii_only)
    try:
        raw_bytes = raw.encode()
    except UnicodeEncodeError:
        return
    try:
        assert rawjson.decode_object(raw_bytes) == json.loads(raw)
    except BadRequest as refused:
        assert "\\ud" in raw, refused.message


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, min_size=1), st.data())
def test_an_edit_leaves_every_other_member_byte_for_byte(doc, data):
    try:
        raw = json.dumps(doc).encode()
        rawjson.decode_object(raw)
    except (UnicodeEncodeError, BadRequest):
        return
    key = data.draw(st.sampled_from(sorted(doc)))
    edited = rawjson.replace(raw, {key: b'"new"', "added": b"[1]"})
    assert json.loads(edited) == {**doc, "added": [1], key: "new" if key != "added" else [1]} or key == "added"
    for other, value in doc.items():
        if other not in (key, "added"):
            assert json.dumps(value).encode() in edited


def test_a_member_can_be_removed():
    assert rawjson.replace(b'{"a": 1, "usage": null, "b": 1.50}', {"usage": None}) == b'{"a":1,"b":1.50}'


@pytest.mark.parametrize(("raw", "expected"), [(b"{}", b'{"k":1}'), (b'{ "a" : 1.0 }\n', b'{ "a" : 1.0 ,"k":1}')])
def test_appending_keeps_the_bytes_before(raw, expected):
    assert rawjson.append(raw, "k", b"1") == expected
