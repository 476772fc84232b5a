"""Fixtures of the suite and of its short version."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.suites.crash.world import World, seed

Build = Callable[..., World]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past pytest's capture."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return line


@pytest.fixture
def world(tmp_path: Path, say: Callable[[str], None]) -> Iterator[Build]:
    """Builds the world of a scenario; its seed is printed when the test fails."""
    with ExitStack() as stack:

        def build(env: dict[str, str] | None = None, **more: int) -> World:
            number = seed()
            print(f"CRASH_SEED={number} data in {tmp_path}")
            return stack.enter_context(World(tmp_path, number, env, **more))

        yield build
