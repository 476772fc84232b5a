"""Opens what a command names: policies with their prices, certificates and heads, and recorded traffic.

The one module of the room that reads files. Errors are those of `farthing policy lint`, with file, line and key.
"""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.core.errors import BadRequest
from gateway.database import Database, open_database
from gateway.policy.choosing import Classify
from gateway.policy.compile import compile_policy
from gateway.policy.document import Document
from gateway.policy.lint import placeholder
from gateway.policy.load import read_document
from gateway.policy.table import Policy
from gateway.pricing.book import PriceBook
from gateway.routing.decide import Threshold
from gateway.routing.thresholds import Thresholds
from gateway.simulate.ledger import read_ledger
from gateway.simulate.money import DayPrices
from gateway.simulate.scores import Scores
from gateway.simulate.similar import Similar
from gateway.simulate.traffic import MAX_LINE, Recorded, read_line
from gateway.simulate.world import Before, World

LEDGER = "ledger"
READ_TIMEOUT_S = 600.0

BookOf = Callable[[Path], PriceBook]


class Loaded(NamedTuple):
    """One policy, ready to be asked."""

    path: Path
    document: Document
    policy: Policy
    book: PriceBook
    thresholds: Thresholds
    scores: Scores
    similar: Similar

    @property
    def name(self) -> str:
        """The path with the policy's hash."""
        return f"{self.path} ({self.policy.hash})"

    def world(self, before: Before) -> World:
        """A replay of its own."""
        return World(self.policy, DayPrices(self.book), self.thresholds.of, self.scores, before, self.similar)

    def uncertain(self) -> list[tuple[Classify, Threshold]]:
        """The routes that would choose between two targets and have no threshold."""
        rules = [route.classify for route in self.policy.routes if route.classify is not None]
        return [(rule, threshold) for rule in rules if (threshold := self.thresholds.of(rule)).value is None]

    def watching(self) -> list[tuple[str, str]]:
        """The routes whose semantic cache serves nothing, and why."""
        rules = [rule for rule in self.policy.caching.values() if rule.semantic is not None]
        standings = [(rule.route, self.similar.standing(rule)) for rule in rules]
        return [(route, standing.why) for route, standing in standings if not standing.serves]


def load_policy(path: Path, book_of: BookOf, encoder: Callable[[], str], beside: Loaded | None = None) -> Loaded:
    """The policy at `path` with placeholders for its secrets. Raises `PolicyError`, as a rule with every problem.

    `encoder` names the one that the settings ask for; it is opened where the policy scores by meaning. A policy that
    is replayed `beside` another shares its scores, where they are of all the tiers that it needs.
    """
    document = read_document(path)
    policy = compile_policy(document, lambda reference: placeholder("simulated", reference))
    folder = path if path.is_dir() else path.parent
    tiers = {route.classify.tier for route in policy.routes if route.classify is not None}
    scores = beside.scores if beside is not None and tiers <= beside.scores.tiers else Scores(tiers, encoder)
    similar = Similar(policy.caching.values(), folder, encoder)
    return Loaded(path, document, policy, book_of(folder), Thresholds(folder, scores.versions), scores, similar)


class Traffic(NamedTuple):
    """Recorded requests, and what they are called."""

    name: str
    requests: Iterator[Recorded]


def open_traffic(named: str, ledger_url: Callable[[], str], since_s: float | None, until_s: float | None) -> Traffic:
    """`ledger` (the one of the settings), a database's URL or SQLite file, or a JSONL file, plain or .gz.

    Raises `BadRequest` for what is not there; reading raises it for a line that is no request.
    """
    if named == LEDGER or "://" in named or named.endswith((".db", ".sqlite")):
        url = ledger_url() if named == LEDGER else named if "://" in named else f"sqlite:///{named}"
        return Traffic("the ledger", _from_database(url, since_s, until_s))
    path = Path(named)
    if not path.is_file():
        raise BadRequest(f"{named}: no such file; fix: --traffic ledger, a database's URL, or a JSONL file")
    return Traffic(path.name, _from_file(path, since_s, until_s))


def _from_database(url: str, since_s: float | None, until_s: float | None) -> Iterator[Recorded]:
    scheme, _, path = url.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():
        raise BadRequest(f"no ledger at {path}; fix: run `farthing serve` first, or name its database")
    database: Database = open_database(url, timeout_s=READ_TIMEOUT_S)
    try:
        yield from read_ledger(database, since_s, until_s)
    finally:
        database.close()


def _from_file(path: Path, since_s: float | None, until_s: float | None) -> Iterator[Recorded]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise BadRequest(f"{path}:{number}: a line of more than {MAX_LINE >> 20} MiB")
                if raw.strip():
                    recorded = read_line(raw, f"{path}:{number}")
                    if _within(recorded.started_s, since_s, until_s):
                        yield recorded
    except (OSError, EOFError) as exc:
        raise BadRequest(f"{path}: {exc}; fix: a JSONL file, plain or .gz") from exc


def _within(at_s: float | None, since_s: float | None, until_s: float | None) -> bool:
    """Requests without a time are within every period."""
    return at_s is None or ((since_s is None or at_s >= since_s) and (until_s is None or at_s < until_s))
