"""One command of `farthing`, called as its arguments say, without the others."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def run(register: "Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None]", *arguments: str) -> int:
    """Its exit status; `register` adds it to the parser."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    parsed = parser.parse_args(arguments)
    return int(parsed.func(parsed))
