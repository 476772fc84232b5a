"""The gateway's own end, wanted or not, and callers who leave: the books are whole afterwards."""

import pytest

from tests.suites.crash import scenarios


@pytest.fixture
def points(request):
    return request.config.getoption("--points")


async def test_every_request_has_its_row_after_sigkill_at_any_point(world, points, say):
    say(await scenarios.sigkill(world(), points))


async def test_sigterm_stores_every_row_and_cuts_no_stream_before_its_time(world, points, say):
    streams = max(30, min(200, 10 * points))
    say(await scenarios.sigterm(world({"FARTHING_GRACEFUL_SHUTDOWN_S": str(scenarios.GRACE_S)}), streams))


async def test_a_caller_who_leaves_is_charged_for_what_was_generated(world, points, say):
    say(await scenarios.disconnects(world(), max(5, min(20, points))))
