"""The stages of a request, in order. Read this first.

    http -> authenticate -> resolve -> [cache -> route -> reserve -> compress -> ...] -> dispatch

A stage is a callable `(exchange, call_next) -> Awaitable[Reply]`: it may answer by itself, refuse by raising a
`GatewayError`, or await `call_next(exchange)` and look at the reply on its way back. One that neither waits nor looks
is a plain function that returns `call_next(exchange)`: each coroutine between a caller and its upstream is made, and
woken, once more for every request. Stages decide; the last one talks to upstreams. What each does when its own
dependency is down stands in its docstring (open or closed).
"""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Protocol

from gateway.core.exchange import Exchange, Next, Reply


class Stage(Protocol):
    """One step of the pipeline."""

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """Answer, refuse, or pass on."""
        ...


def compose(stages: Sequence[Stage], last: Next) -> Next:
    """The stages as one callable; the first stage is the outermost."""
    composed = last
    for stage in reversed(stages):
        composed = partial(stage, call_next=composed)
    return composed
