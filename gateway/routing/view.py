"""Which part of a text the encoder reads for routing: all of a short one, both ends of what a long one asks.

An encoder's pass takes time by the token, so a decision that needs a pass of its own has it of a bounded part; where
the cache has encoded the text whole, that vector serves. The answer options of a multiple choice give way first: they
say little of how hard the question is, and would fill the end of every such view. Pure; knows no encoder: it counts
pieces that are about a token each.
"""

import re
from itertools import islice
from typing import Final

from gateway.routing.features import capped, stem_and_options

VERSION: Final = "1"
"""Changes with the part that is read: a threshold was calibrated on the scores of one view."""
HEAD, TAIL = 30, 30
"""Pieces that are read of a text that has more."""
_PIECE = re.compile(r"[A-Za-z]{1,7}|[0-9]{1,3}|\S")
_SPAN = 16
"""Characters looked at for each piece: whitespace is no piece, and may be endless."""


def view(text: str) -> str:
    """The text itself, if it has at most `HEAD` + `TAIL` pieces.

    Else the first and the last ones of what stands before the answer options, a line each; or all of that, and as much
    of the options as there is room for.
    """
    ends = _ends(text)
    if ends is None:
        return text
    stem, _ = stem_and_options(capped(text))
    if (stem_ends := _ends(stem)) is None:
        return text[: ends[-1]] if ends else ""
    head = min(stem_ends[HEAD - 1], HEAD * _SPAN) if len(stem_ends) >= HEAD else HEAD * _SPAN
    backwards = stem[: -TAIL * _SPAN - 1 : -1]
    starts = [piece.end() for piece in islice(_PIECE.finditer(backwards), TAIL)]
    return f"{stem[:head]}\n{stem[len(stem) - starts[-1] :]}" if starts else stem[:head]


def _ends(text: str) -> list[int] | None:
    """Where the first `HEAD` + `TAIL` pieces end; `None` where there are no more, and little else."""
    most = HEAD + TAIL
    ends = [piece.end() for piece in islice(_PIECE.finditer(text, 0, (most + 1) * _SPAN), most + 1)]
    return ends[:most] if len(ends) > most or len(text) > (most + 1) * _SPAN else None
