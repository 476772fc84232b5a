"""Lays out rows of text for a terminal, and writes amounts for people; knows no ledger.

Amounts for machines are `gateway.core.money.usd`: six places, no separators.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from gateway.core.money import MICRO


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def places_for(micro_usd: int) -> int:
    """How many decimals are worth reading in a column whose largest amount is `micro_usd`."""
    return 2 if abs(micro_usd) >= 100 * MICRO else 4 if abs(micro_usd) >= MICRO else 6


def dollars(micro_usd: int | None, places: int = 6) -> str:
    """`$1,234.57` or `-$0.0001`, rounded half up; unknown is `unknown`."""
    if micro_usd is None:
        return "unknown"
    amount = (Decimal(abs(micro_usd)) / MICRO).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return f"{'-' if micro_usd < 0 and amount else ''}${amount:,}"


def percent(part: int, whole: int) -> str:
    """`part` of `whole` with its sign, `+1.25%`; `-` where there is no whole to compare with."""
    if not whole:
        return "-"
    return f"{part / whole:+.2%}"


def layout(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int, foot: Sequence[str] | None = None) -> str:
    """A table, its first `text` columns to the left and the others to the right; `foot` under a rule."""
    everything = [head, *rows, *([foot] if foot else [])]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column < text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip() + "\n"

    rule = "  ".join("-" * width for width in widths) + "\n"
    body = "".join(map(line, rows))
    return line(head) + rule + body + (rule + line(foot) if foot else "")
