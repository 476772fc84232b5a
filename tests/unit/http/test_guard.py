import pytest

from gateway.core.errors import BadRequest, NotFound, TooLarge
from gateway.http import guard


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/v1/chat/completions", "/v1/chat/completions"),
        (b"/chat/completions", "/v1/chat/completions"),
        (b"/v1/files/file-1/content", "/v1/files/file-1/content"),
        (b"/v1/files/", "/v1/files"),
        (b"/v1/models/ft:gpt-4o:org::id", "/v1/models/ft:gpt-4o:org::id"),
        (b"/v1/anything/new", "/v1/anything/new"),
    ],
)
def test_api_paths_get_their_prefix(raw, path):
    assert guard.api_path(raw) == path


@pytest.mark.parametrize(
    "raw",
    [b"/", b"", b"/v1", b"/admin", b"/v1/../admin", b"/v1/./x", b"//v1/x", b"/v1//x", b"/v1/%2e%2e/x", b"/v1/a%2fb",
     b"/v1/a%00b", b"/v1/a\\b", b"/v1/\xff", b"/v2/chat/completions"],
)  # fmt: skip
def test_all_other_paths_are_unknown(raw):
    with pytest.raises(NotFound):
        guard.api_path(raw)


@pytest.mark.parametrize(
    "headers", [[], [(b"host", b"a"), (b"host", b"b")], [(b"host", b"a"), (b"x", b"1"), (b"host", b"a")]]
)
def test_there_is_exactly_one_host(headers):
    with pytest.raises(BadRequest):
        guard.index_headers(headers)


def test_other_headers_may_repeat():
    assert guard.index_headers([(b"host", b"a"), (b"x", b"1"), (b"x", b"2")])[b"x"] == b"2"


def messages(*parts):
    left = [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)]

    async def receive():
        return left.pop(0) if left else {"type": "http.disconnect"}

    return receive


async def test_a_body_in_pieces_is_joined():
    assert await guard.read_body(messages(b"a", b"", b"b"), {}, 10, 1.0, arrived=False) == b"ab"


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_body_over_the_limit_is_refused(arrived):
    with pytest.raises(TooLarge):
        await guard.read_body(messages(b"aaaa"), {}, 3, 1.0, arrived=arrived)
    with pytest.raises(TooLarge):
        await guard.read_body(messages(b"aa", b"aa"), {}, 3, 1.0, arrived=False)


async def test_a_length_over_the_limit_is_refused_before_the_body():
    async def never():
        raise AssertionError("the body was read")

    with pytest.raises(TooLarge):
        await guard.read_body(never, {b"content-length": b"4"}, 3, 1.0, arrived=False)


async def test_a_caller_that_leaves_while_sending_is_told_apart():
    receive = messages(b"a", b"b")
    await receive()
    await receive()
    with pytest.raises(guard.ClientGone):
        await guard.read_body(receive, {}, 10, 1.0, arrived=False)


async def test_a_body_that_stops_arriving_is_a_timeout():
    import asyncio

    async def silent():
        await asyncio.Event().wait()

    with pytest.raises(guard.BodyTimeout):
        await guard.read_body(silent, {}, 10, 0.01, arrived=False)
