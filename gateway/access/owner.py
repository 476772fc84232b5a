"""Who holds leases in a store that outlives the process: a name kept in its journal folder, and which start of it.

Knows no Redis and no ledger. Fails open: a name that cannot be kept is used all the same; what is left of it then ends
when its leases are over.
"""

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import NamedTuple

_FILE = "owner"
_KEPT = re.compile(rb"([0-9a-f]{16}) ([0-9]{1,15})\n")


class Owner(NamedTuple):
    """`start` grows with every start on the same folder."""

    name: str
    start: int


def new_owner() -> Owner:
    """One that nobody remembers."""
    return Owner(secrets.token_hex(8), 1)


def kept_owner(folder: Path) -> Owner | None:
    """Who used the journal folder last; `None` where that is not known."""
    try:
        kept = _KEPT.fullmatch((folder / _FILE).read_bytes())
    except OSError:
        return None
    return None if kept is None else Owner(kept[1].decode(), int(kept[2]))


def next_owner(folder: Path, wall_s: float) -> Owner:
    """The owner of this start. Call it with the folder locked: two processes must not be one owner.

    Starts go by the clock as well, so that one that could not be written down is not taken for the next one.
    """
    before = kept_owner(folder) or Owner(secrets.token_hex(8), 0)
    owner = Owner(before.name, max(before.start + 1, int(wall_s * 1000)))
    with contextlib.suppress(OSError):  # a full disk: the journal refuses requests until there is room
        _keep(folder, owner)
    return owner


def _keep(folder: Path, owner: Owner) -> None:
    made = folder / f"{_FILE}.new"
    with made.open("wb") as file:
        file.write(b"%s %d\n" % (owner.name.encode(), owner.start))
        file.flush()
        os.fsync(file.fileno())
    made.replace(folder / _FILE)
