import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import UpstreamBroken
from gateway.protocol.sse import DONE, Event, Parser, frame

BODIES = [
    b"data: a\n\ndata: b\n\n",
    b"data: a\r\n\r\ndata: b\r\n\r\n",
    b"data: a\r\rdata: b\r\rx",
    b"\xef\xbb\xbfdata: a\n\n\n\n\n: comment\n\nevent: ping\nid: 7\nretry: 10\ndata:x\ndata: y\n\ndata\n\n",
    b"event: a\r\ndata: 1\n\rdata: 2\r\n\n: c\r\n\r\ndata: 3\n\n",
]


def parse(body, *cuts):
    parser, events, at = Parser(), [], 0
    for cut in (*sorted(cuts), len(body)):
        events += parser.feed(body[at:cut])
        at = cut
    return events + parser.finish()


@settings(deadline=None)
@given(
    st.one_of(
        st.sampled_from(BODIES), st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b"a:", b"event:e"])).map(b"".join)
    ),
    st.lists(st.integers(0, 90), max_size=8),
)
@example(BODIES[4], list(range(60)))
def test_every_split_of_the_bytes_gives_the_same_events(body, cuts):
    assert parse(body, *[min(cut, len(body)) for cut in cuts]) == parse(body)


@pytest.mark.parametrize("body", BODIES)
def test_byte_by_byte_gives_the_same_events(body):
    assert parse(body, *range(len(body))) == parse(body)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_three_line_ends_are_understood_and_raw_keeps_them(end):
    raw = b"event: e" + end + b"data: 1" + end + b"data: 2" + end + end
    assert parse(raw) == [Event("e", b"1\n2", raw)]


def test_a_line_feed_stream_loses_no_byte_in_raw():
    body = frame(b"{}") + frame(b"[1]", "ping") + DONE
    assert b"".join([event.raw for event in Parser().feed(body)]) == body


def test_only_one_space_after_the_colon_is_dropped():
    assert [e.data for e in parse(b"data:a\n\ndata:  b\n\ndata\n\n")] == [b"a", b" b", b""]


def test_comments_and_events_without_data_are_not_events():
    assert parse(b": keep-alive\n\nevent: ping\n\nid: 3\n\n") == []


def test_a_byte_order_mark_is_skipped_only_at_the_start():
    assert [e.data for e in parse(b"\xef\xbb\xbfdata: a\n\n", 1, 2)] == [b"a"]
    assert parse(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [Event(None, b"a", b"data: a\n\n")]


def test_an_event_comes_out_as_soon_as_its_blank_line_is_there():
    parser = Parser()
    assert parser.feed(b"data: a\r\n\r") == []
    assert [e.data for e in parser.feed(b"\n")] == [b"a"]
    assert [e.data for e in parser.feed(b"data: b\r\n\r\n")] == [b"b"]


def test_a_body_that_ends_without_the_blank_line_still_gives_its_event():
    assert [e.data for e in parse(b"data: a\n\ndata: [DONE]")] == [b"a", b"[DONE]"]


def test_an_endless_event_is_refused_and_many_small_ones_are_not():
    parser = Parser(max_event_bytes=100)
    for _ in range(50):
        assert len(parser.feed(b"data: " + b"x" * 50 + b"\n\n")) == 1
    parser.feed(b"data: " + b"x" * 90)
    with pytest.raises(UpstreamBroken):
        parser.feed(b"x" * 90)


def test_a_long_event_in_small_pieces_costs_linear_time():
    parser = Parser()
    for _ in range(20_000):
        assert parser.feed(b"x" * 100) == []
    assert parser.feed(b"\ndata: a\n\n")[0].data == b"a"
