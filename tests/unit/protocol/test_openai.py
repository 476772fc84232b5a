import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, NotFound, UpstreamBroken
from gateway.protocol import openai

DELTA = (
    b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"x":1.50}\n\n'
)
STOP = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
STREAM = DELTA + STOP + USAGE + openai.DONE


def call(body: bytes):
    return openai.parse_call("chat", "POST", "/v1/chat/completions", b"", [], {}, body)


def relayed(pieces, *, strip=True, echo=None):
    stream = openai.ChatStream(strip_usage=strip, echo_model=echo)
    out = b"".join([stream.feed(piece) for piece in pieces]) + stream.finish()
    return out, stream


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"),
        (b'{"model":""}', "model"),
        (b'{"model":7}', "model"),
        (b'{"model":["m"]}', "model"),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b'{"model":"m","stream":1}', "stream"),
        (b'{"model":"m","stream":true,"stream_options":[]}', "stream_options"),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":1}}', "stream_options.include_usage"),
        (b'{"model":"m","n":"2"}', "n"),
        (b'{"model":"m","n":0}', "n"),
        (b'{"model":"m","n":true}', "n"),
        (b'{"model":"m","max_tokens":"9"}', "max_tokens"),
        (b'{"model":"m","max_completion_tokens":1.5}', "max_completion_tokens"),
    ],
)
def test_a_wrong_type_is_refused_and_named(body, param):
    with pytest.raises(BadRequest) as refused:
        call(body)
    assert refused.value.param == param


@pytest.mark.parametrize("model", ["a\r\nx: y", "a\u0000", "\u202e" + "a" * 3, "m" * 257])
def test_a_model_name_that_could_not_be_a_header_does_not_exist(model):
    with pytest.raises(NotFound):
        call(json.dumps({"model": model}).encode())


def test_a_request_that_needs_no_edit_is_sent_byte_for_byte():
    raw = b'{ "model":"m" ,"messages":[],"unknown":1.50 }'
    assert openai.request_body(call(raw), None) == raw
    assert openai.request_body(call(raw), "m") == raw


def test_usage_is_asked_for_on_streams_and_all_other_bytes_stay():
    raw = b'{"model":"m","stream":true,"temperature":1.0,"x":{"y": 1e2}}'
    assert openai.request_body(call(raw), None) == raw[:-1] + b',"stream_options":{"include_usage":true}}'


def test_other_stream_options_are_kept():
    raw = b'{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}'
    sent = json.loads(openai.request_body(call(raw), "up"))
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert sent["model"] == "up"


def test_events_go_through_as_their_own_bytes():
    out, stream = relayed([STREAM], strip=False)
    assert out == STREAM
    assert (stream.finish_reasons, stream.done, stream.id) == (["stop"], True, "c1")


def test_usage_that_only_we_asked_for_is_not_shown():
    out, stream = relayed([STREAM])
    assert out == DELTA + STOP + openai.DONE
    assert stream.usage_obj == {"prompt_tokens": 3, "completion_tokens": 1}


@pytest.mark.parametrize("member", [b',"usage":null', b', "usage" : null'])
def test_a_null_usage_that_only_we_caused_is_not_shown(member):
    out, _ = relayed([DELTA[:-3] + member + b"}\n\n"])
    assert json.loads(out[6:]) == json.loads(DELTA[6:])


def test_usage_on_a_chunk_with_choices_is_taken_and_the_chunk_kept():
    event = STOP[:-3] + b',"usage":{"prompt_tokens":3}}\n\n'
    out, stream = relayed([event])
    assert out == STOP + openai.DONE
    assert stream.usage_obj == {"prompt_tokens": 3}


def test_the_alias_is_echoed_in_every_chunk():
    out, stream = relayed([STREAM], strip=False, echo="auto")
    models = {json.loads(e[6:])["model"] for e in out.split(b"\n\n") if e.startswith(b"data: {")}
    assert models == {"auto"}
    assert stream.model == "m"
    assert b'"x":1.50' in out


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_the_bytes_gives_the_same_stream(cuts, newline):
    source = STREAM.replace(b"\n", newline)
    edges = [0, *sorted(set(cuts)), len(source)]
    out, stream = relayed([source[a:b] for a, b in itertools.pairwise(edges)])
    assert out == DELTA + STOP + openai.DONE
    assert not stream.truncated


def test_comments_are_kept():
    assert relayed([b": keep-alive\n\n" + STREAM])[0].startswith(b": keep-alive\n\n")


def test_one_event_that_is_not_json_is_skipped():
    out, stream = relayed([DELTA, b"data: {oops\n\n", STOP, openai.DONE])
    assert out == DELTA + STOP + openai.DONE
    assert stream.malformed == 1


def test_a_stream_of_garbage_is_broken():
    with pytest.raises(UpstreamBroken):
        relayed([b"data: {oops\n\n"] * 4)


def test_an_error_event_is_held_back_for_the_driver():
    _, stream = relayed([DELTA, b'data: {"error":{"message":"boom","type":"server_error"}}\n\n'])
    assert json.loads(stream.error)["error"]["message"] == "boom"


@pytest.mark.parametrize(
    ("pieces", "truncated"), [([DELTA], True), ([DELTA, STOP], False), ([DELTA, openai.DONE], False)]
)
def test_a_cut_is_known_by_its_missing_end(pieces, truncated):
    _, stream = relayed(pieces)
    assert stream.truncated is truncated


def test_only_the_terminator_is_ever_added():
    assert relayed([DELTA, STOP])[0] == DELTA + STOP + openai.DONE
    assert relayed([DELTA])[0] == DELTA


def test_a_long_event_in_small_pieces_is_joined():
    event = b'data: {"choices":[{"delta":{"content":"' + b"x" * 3_000_000 + b'"}}]}\n\n'
    out, stream = relayed([event[i : i + 65536] for i in range(0, len(event), 65536)])
    assert out == event
    assert stream.chars == 3_000_000


def test_an_endless_event_is_broken():
    stream = openai.ChatStream(strip_usage=False, echo_model=None)
    with pytest.raises(UpstreamBroken):
        for _ in range(40):
            stream.feed(b"data: " + b"x" * (1 << 20))


def test_an_answer_is_read_and_left_as_it_is():
    body = b'{"id":"c1", "model":"m","choices":[{"finish_reason":"stop"},{"finish_reason":"length"}],"usage":{"a":1}}'
    answer = openai.read_answer(body, None)
    assert answer.body is body
    assert answer.finish_reasons == ("stop", "length")


def test_an_answer_that_is_not_json_is_the_upstreams_fault():
    with pytest.raises(UpstreamBroken):
        openai.read_answer(b"<html>", None)


def test_the_model_of_a_form_is_found():
    body = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
    kind = {b"content-type": b"multipart/form-data; boundary=x"}
    parsed = openai.parse_other("POST", "/v1/audio/transcriptions", b"", [], kind, body)
    assert parsed.model == "whisper-1"
