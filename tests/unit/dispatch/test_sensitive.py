"""Whatever made a plan, a sensitive one is not sent to a machine that is not the operator's."""

import pytest

from gateway.core.errors import InternalError
from gateway.core.exchange import Call, Exchange, Plan, Target
from gateway.dispatch.dispatch import Dispatcher

CALL = Call("chat", "openai", "POST", "/v1/chat/completions", b"", [], b"{}", {}, "m")
OURS = Target("ours", "openai_compatible", self_hosted=True)
THEIRS = Target("theirs", "openai_compatible")


class Nothing:
    """Stands where nothing may be asked."""


@pytest.mark.parametrize("targets", [(THEIRS,), (OURS, THEIRS), (THEIRS, OURS)])
async def test_a_plan_that_crosses_the_boundary_is_a_defect_and_goes_nowhere(targets):
    class Clock:
        monotonic = wall = staticmethod(lambda: 0.0)

    nothing = Nothing()
    dispatcher = Dispatcher(
        upstreams=nothing, pools=nothing, breakers=nothing, budget=nothing, price=nothing, clock=Clock, rng=lambda: 0.0
    )
    exchange = Exchange("1", CALL, 0.0, 0.0)
    exchange.plan = Plan("r", targets, sensitive="rule")
    with pytest.raises(InternalError, match="sensitive"):
        await dispatcher(exchange)
