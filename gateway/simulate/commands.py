"""`farthing policy diff | simulate | explain`: parses arguments, opens what they name, prints.

Raises the errors of `gateway.core.errors`, which the command line prints; heavy imports happen when a command runs.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.core.errors import BadRequest

if TYPE_CHECKING:
    from gateway.pricing.book import PriceBook
    from gateway.simulate.explain import Asked
    from gateway.simulate.sources import Loaded
    from gateway.simulate.tally import Tally

SEED = 20_261_101
FAILED = 1
TOLD = 20_000


class Setup(msgspec.Struct, frozen=True):
    """What the command line knows of this installation; all are asked when a command runs."""

    policies: Callable[[], Path]
    book_of: Callable[[Path], "PriceBook"]
    encoder: Callable[[], str]
    ledger_url: Callable[[], str]


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]", setup: Setup) -> None:
    """Adds the three actions to `farthing policy`."""
    _diff_parser(actions, setup)
    _explain_parser(actions, setup)
    _simulate_parser(actions, setup)


def _diff_parser(actions: Any, setup: Setup) -> None:
    parser = actions.add_parser(
        "diff", help="what moves between two policies, in words", description="Compares policies, not their text."
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="directory or file")
    parser.add_argument("new", type=Path, metavar="NEW", help="directory or file")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--exit-code", action="store_true", help="exit 1 when they differ")
    parser.set_defaults(func=lambda arguments: _diff(arguments, setup))


def _diff(arguments: argparse.Namespace, setup: Setup) -> int:
    from gateway.policy.diff import as_json, as_text, diff  # noqa: PLC0415 - pydantic
    from gateway.policy.load import read_document  # noqa: PLC0415

    old, new = read_document(arguments.old), read_document(arguments.new)
    prices = [_prices(path, document, setup) for path, document in ((arguments.old, old), (arguments.new, new))]
    changes = diff(old, new, *prices)
    _print(as_json(changes).decode() if arguments.json else as_text(changes))
    return FAILED if changes and arguments.exit_code else 0


def _prices(path: Path, document: Any, setup: Setup) -> dict[str, dict[str, str]]:
    """What each target's tokens cost today, in words."""
    from gateway.policy.compile import compile_policy  # noqa: PLC0415
    from gateway.policy.diff import amount  # noqa: PLC0415
    from gateway.policy.lint import placeholder  # noqa: PLC0415
    from gateway.pricing.resolve import price_of  # noqa: PLC0415

    policy = compile_policy(document, lambda reference: placeholder("unread", reference))
    book = setup.book_of(path if path.is_dir() else path.parent)
    today = _today()
    found: dict[str, dict[str, str]] = {}
    for name, target in policy.targets.items():
        price = price_of(target, target.model or "", book, today)
        if price is not None:
            tier = msgspec.structs.asdict(price.tiers[0])
            del tier["above"]
            found[name] = {key: f"{amount(pico)} per million" for key, pico in tier.items() if pico is not None}
            if price.request:
                found[name]["request"] = amount(price.request)
    return found


def _explain_parser(actions: Any, setup: Setup) -> None:
    parser = actions.add_parser(
        "explain",
        help="what a policy does with a request, and why",
        description="Every rule that is looked at, the choice, the plan, the price, the cache and the limits.",
    )
    parser.add_argument("--request", required=True, metavar="FILE", help="the body as JSON, - for standard input")
    parser.add_argument(
        "--policy", type=Path, metavar="PATH", help="directory or file [the one that `serve` would use]"
    )
    parser.add_argument("--path", default="/v1/chat/completions", help="the endpoint [%(default)s]")
    parser.add_argument("--key", metavar="NAME", help="a key of the policy: its tenant and tags")
    parser.add_argument("--tenant", metavar="NAME", help="who asks [default]")
    parser.add_argument("--tags", default="", metavar="TAG,...", help="tags of the caller's key")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="a request header; may be repeated"
    )
    parser.add_argument("--at", metavar="TIME", help="when it comes, ISO 8601 [now]")
    parser.add_argument("--draw", type=float, default=0.0, help="which side of a split, in [0, 1) [%(default)s]")
    parser.add_argument("--output-tokens", type=int, metavar="N", help="tokens of the answer, for the expected price")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(func=lambda arguments: _explain(arguments, setup))


def _explain(arguments: argparse.Namespace, setup: Setup) -> int:
    from gateway.routing.decide import FAILED as NO_SCORE  # noqa: PLC0415
    from gateway.simulate.explain import as_text, explain  # noqa: PLC0415
    from gateway.simulate.money import DayPrices  # noqa: PLC0415
    from gateway.simulate.sources import load_policy  # noqa: PLC0415

    loaded = load_policy(arguments.policy or setup.policies(), setup.book_of, setup.encoder)
    asked = _asked(arguments, loaded)
    told = explain(
        asked,
        loaded.policy,
        DayPrices(loaded.book).on(asked.wall_s),
        loaded.thresholds.of,
        lambda rule, call, identity: loaded.scores(rule, call, identity) or NO_SCORE,
    )
    _print(msgspec.json.encode(told).decode() + "\n" if arguments.json else as_text(told))
    return 0


def _asked(arguments: argparse.Namespace, loaded: "Loaded") -> "Asked":
    """The request of the arguments. Raises `BadRequest` naming the argument."""
    from gateway.core.exchange import Identity  # noqa: PLC0415
    from gateway.protocol.openai import ENDPOINTS, parse_call  # noqa: PLC0415
    from gateway.simulate.explain import Asked  # noqa: PLC0415
    from gateway.simulate.traffic import header_pairs, seconds  # noqa: PLC0415

    endpoint = ENDPOINTS.get(arguments.path)
    if endpoint is None:
        raise BadRequest(f"--path: {arguments.path!r} is no endpoint; fix: one of {', '.join(ENDPOINTS)}")
    if arguments.output_tokens is not None and arguments.output_tokens < 0:
        raise BadRequest(f"--output-tokens: {arguments.output_tokens} is less than none")
    if not 0 <= arguments.draw < 1:
        raise BadRequest(f"--draw: {arguments.draw} is not in [0, 1); fix: 0.5, say")
    pairs = list(header_pairs(dict(_header(text) for text in arguments.header)))
    call = parse_call(endpoint, "POST", arguments.path, b"", pairs, dict(pairs), _body(arguments.request))
    tags = frozenset(tag.strip() for tag in arguments.tags.split(",") if tag.strip())
    identity = Identity(arguments.tenant or "default", "open", tags)
    if arguments.key is not None:
        known = {each.key: each for each in loaded.policy.keys.values()}
        if arguments.key not in known and arguments.tenant is None:
            raise BadRequest(f"--key: the policy has no key {arguments.key!r}; fix: name its tenant and tags as well")
        found = known.get(arguments.key, Identity(arguments.tenant or "", arguments.key, tags))
        identity = Identity(arguments.tenant or found.tenant, found.key, tags or found.tags)
    try:
        at_s = seconds(arguments.at) if arguments.at is not None else time.time()
    except ValueError as exc:
        raise BadRequest(f"--at: {exc}") from exc
    return Asked(call, identity, at_s or 0.0, arguments.draw, arguments.output_tokens)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isascii():
        raise BadRequest(f"--header: {text!r} is no header; fix: --header 'x-farthing-latency: batch'")
    return name.strip(), value.strip()


def _body(named: str) -> bytes:
    if named == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(named).read_bytes()
    except OSError as exc:
        raise BadRequest(f"{named}: {exc.strerror or exc}; fix: --request FILE, the body as JSON") from exc


def _simulate_parser(actions: Any, setup: Setup) -> None:
    from gateway.ledger.period import FORMS  # noqa: PLC0415 - light
    from gateway.simulate.conditions import METRICS  # noqa: PLC0415

    metrics = "\n".join(f"  {name:<10} {meaning}" for name, meaning in METRICS.items())
    parser = actions.add_parser(
        "simulate",
        help="what a policy would have done with recorded traffic",
        description="Replays recorded requests through the code that routes, caches, prices and refuses.\n"
        f"dates: {FORMS}\nmetrics of --fail-on, with > or < and a limit in %:\n{metrics}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policy", type=Path, required=True, metavar="NEW", help="directory or file")
    parser.add_argument(
        "--baseline-policy", type=Path, metavar="OLD", help="compare with this policy [with the record itself]"
    )
    parser.add_argument(
        "--traffic",
        default="ledger",
        metavar="LEDGER|FILE",
        help="`ledger` (that of the settings), a database's URL or SQLite file, or a JSONL file [%(default)s]",
    )
    parser.add_argument("--since", metavar="DATE", help="the first moment counted [the beginning]")
    parser.add_argument("--until", metavar="DATE", help="the first moment no longer counted [the end]")
    parser.add_argument(
        "--fail-on", default="", metavar="CONDITION,...", help="exit 1 when one holds: 'cost>+5%%,quality<-1%%'"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the draws of splits [%(default)s]")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one line, for machines")
    shape.add_argument("--markdown", action="store_true", help="for a pull request")
    parser.set_defaults(func=lambda arguments: _simulate(arguments, setup))


def _simulate(arguments: argparse.Namespace, setup: Setup) -> int:
    from gateway.ledger.period import moment  # noqa: PLC0415
    from gateway.simulate import conditions, report  # noqa: PLC0415
    from gateway.simulate.sources import load_policy, open_traffic  # noqa: PLC0415

    wanted = conditions.parse(arguments.fail_on) if arguments.fail_on else ()
    now_s = time.time()
    since_s, until_s = (moment(date, now_s) if date else None for date in (arguments.since, arguments.until))
    new = load_policy(arguments.policy, setup.book_of, setup.encoder)
    before: Path | None = arguments.baseline_policy
    old = load_policy(before, setup.book_of, setup.encoder, new) if before is not None else None
    traffic = open_traffic(arguments.traffic, setup.ledger_url, since_s, until_s)
    seen = _Seen()
    tally = _replayed(arguments, new, old, seen.watch(traffic.requests), now_s)
    if not tally.new.requests:
        raise BadRequest(
            f"{traffic.name} has no requests in this period; fix: another --traffic, or an earlier --since"
        )
    told = report.Told(
        new=new.name,
        old=old.name if old is not None else None,
        traffic=traffic.name,
        since_s=seen.first_s,
        until_s=seen.last_s,
        notes=tuple(_notes(new, old, tally)),
    )
    measured = tally.measured()
    verdicts = [conditions.judge(each, measured[each.metric]) for each in wanted]
    write = report.as_markdown if arguments.markdown else report.as_text
    _print(report.as_json(told, tally, verdicts).decode() if arguments.json else write(told, tally, verdicts))
    return FAILED if any(verdict.failed for verdict in verdicts) else 0


def _replayed(
    arguments: argparse.Namespace, new: "Loaded", old: "Loaded | None", traffic: Any, now_s: float
) -> "Tally":
    from gateway.simulate.replay import replay, unchanged  # noqa: PLC0415
    from gateway.simulate.world import Before  # noqa: PLC0415

    if old is None:
        return replay(traffic, new.world(Before()), None, seed=arguments.seed, now_s=now_s)
    after = new.world(unchanged(old.document, new.document))
    before = old.world(unchanged(old.document, old.document))
    return replay(traffic, after, before, seed=arguments.seed, now_s=now_s)


class _Seen:
    """The first and the last moment of the traffic. Tells a terminal how far it is."""

    def __init__(self) -> None:
        self._tell = sys.stderr.isatty()
        self.first_s: float | None = None
        self.last_s: float | None = None

    def watch(self, traffic: Any) -> Any:
        """The same requests."""
        for number, recorded in enumerate(traffic, 1):
            at_s = recorded.started_s
            if at_s is not None:
                self.first_s = at_s if self.first_s is None else min(self.first_s, at_s)
                self.last_s = at_s if self.last_s is None else max(self.last_s, at_s)
            yield recorded
            if self._tell and number % TOLD == 0:
                sys.stderr.write(f"\rreplayed {number:,} requests")
        if self._tell:
            sys.stderr.write("\r\x1b[K")


def _notes(new: "Loaded", old: "Loaded | None", tally: "Tally") -> list[str]:
    """What the figures rest on."""
    notes = ["another target is taken to use the same tokens; the first target of a plan to answer"]
    for loaded in (new, old):
        if loaded is None:
            continue
        if loaded.scores.missing:
            notes.append(f"{loaded.path}: no scores: {loaded.scores.missing}")
        if loaded.similar.missing:
            notes.append(f"{loaded.path}: similar questions are as recorded: {loaded.similar.missing}")
        else:
            notes += [
                f"{loaded.path}: the semantic cache of {name} serves nothing: {why}" for name, why in loaded.watching()
            ]
        for rule, threshold in loaded.uncertain():
            notes.append(
                f"{loaded.path}: the route {rule.route} sends everything to the strong target: {threshold.why}"
            )
        if any(target.pool is not None for target in loaded.policy.targets.values()):
            notes.append(f"{loaded.path}: pools cost what they cost at full use of their stated rates")
        if any(target.provider == "sandbox" for target in loaded.policy.targets.values()):
            notes.append(f"{loaded.path}: what the sandbox costs is simulated, too: nobody bills it")
        if not loaded.policy.targets:
            notes.append(f"{loaded.path}: it names no targets, and discovery is not simulated")
    if new.document.budgets:
        notes.append("budgets begin empty with the first request, and hold nothing for requests under way")
    if new.document.limits:
        notes.append("rates, slots and the limits of single keys are not replayed")
    if old is None and tally.undecided:
        notes.append("--baseline-policy with the policy that was in force lets the record decide more")
    return notes


def _today() -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.now(UTC).date()


def _print(text: str) -> None:
    sys.stdout.write(text)
