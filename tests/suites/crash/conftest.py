"""`--points N` scales the suite; `--seed N` or `CRASH_SEED` repeats a run."""

import pytest

from tests.suites.crash.fixtures import say, world  # noqa: F401 - fixtures


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--points", type=int, default=5, help="how many SIGKILLs, and how many streams per point of SIGTERM"
    )
