"""`farthing calibrate cache`: certifies the threshold of a route, prints it, and writes it beside the policy."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.cache.calibrate import Calibration, Rows, calibrate, rows_of_labels, rows_of_pairs
from gateway.cache.labels import LabelStore
from gateway.certificates import Certificates, Standing, files_of
from gateway.commands import Finding, Rules, calibration_arguments, conclude, not_certified, rules_for, share
from gateway.core.errors import BadRequest
from gateway.database import DatabaseError
from gateway.guarantee.certificate import binding_of, dump, path_of
from gateway.policy.caching import CacheRule

_FIX = (
    "fix: let the route watch some traffic first, set FARTHING_DATABASE or FARTHING_DATA_DIR to what the gateway uses, "
    "or use --pairs FILE"
)


class Setup(msgspec.Struct, frozen=True):
    """What the command needs of the gateway; each is asked for only when it is needed.

    `rules` are those of a policy directory, `None` for the one in force. `labels` opens the store of labels. `encoder`
    names the encoder. `moment` reads a date or an age such as `30d` into Unix seconds.
    """

    rules: Callable[[Path | None], Rules[CacheRule]]
    labels: Callable[[], AbstractContextManager[LabelStore]]
    encoder: Callable[[], str]
    moment: Callable[[str, float], int]


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]", setup: Setup) -> None:
    """Adds `cache` to the actions of `calibrate`."""
    parser = actions.add_parser(
        "cache",
        help="certify the semantic cache of a route",
        description="Finds the lowest verifier score from which the semantic cache of a route keeps its max_error,\n"
        "and writes it as a certificate beside the policy; a running gateway takes it within a second or two.\n"
        "Labels: those that the route's own traffic has taught (--labels, the default), or a file of pairs.\n"
        "In a file each pair is one request of the route: max_error is over all requests, so the mix of\n"
        "duplicates and others must be that of the route's traffic, not a set of hard cases.\n"
        "Exits 1 when nothing can be certified.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    calibration_arguments(parser, "`semantic` in its cache")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pairs", type=Path, metavar="FILE", help='JSON lines {"a", "b", "duplicate"}, or .gz')
    source.add_argument("--labels", action="store_true", help="what the gateway has learnt, in its database [default]")
    parser.add_argument("--max-error", type=share, metavar="E", help="0.01 or 1%% of all requests [the policy's]")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the models [%(default)s]")
    parser.set_defaults(func=lambda arguments: _run(arguments, setup))


def _run(arguments: argparse.Namespace, setup: Setup) -> int:
    known = rules_for(arguments, setup.rules)
    rule = _rule(known.rules, arguments.route)
    assert rule.semantic is not None, "checked"
    rows, versions = _pairs(arguments, setup, rule) if arguments.pairs else _labels(arguments, setup, rule)
    max_error = arguments.max_error or rule.semantic.max_error
    confidence = arguments.confidence or rule.semantic.confidence
    date = datetime.now(UTC).isoformat(timespec="seconds")
    found = calibrate(rows, rule, max_error, confidence, versions, date)
    binding = binding_of(max_error, 1 - confidence, versions)
    path: Path = arguments.out or known.folder / path_of("cache", rule.route, binding)
    has = Certificates(known.folder, "cache").standing(rule.route, max_error, confidence, versions)
    made = finding(found, path, versions, has)
    return conclude(arguments, msgspec.structs.replace(made, beside=files_of(known.folder, "cache", rule.route)))


def _rule(rules: Mapping[str, CacheRule], route: str) -> CacheRule:
    rule = rules.get(route)
    if rule is None or rule.semantic is None:
        names = ", ".join(sorted(name for name, each in rules.items() if each.semantic is not None)) or "none"
        raise BadRequest(
            f"the route {route!r} has no semantic cache (those that have: {names}); "
            "fix: `cache: {semantic: {ttl: 1h}}` on the route"
        )
    return rule


def _versions(setup: Setup, threads: int) -> "tuple[Any, Any, dict[str, str]]":
    """Encoder, verifier, and what a gateway with these calls them."""
    from gateway.cache.verify.verifier import load_verifier  # noqa: PLC0415 - ONNX Runtime
    from gateway.encoder import open_model  # noqa: PLC0415

    encoder, verifier = open_model(setup.encoder(), threads=threads), load_verifier(threads=threads)
    return encoder, verifier, {"encoder": encoder.version, "verifier": verifier.version}


def _pairs(arguments: argparse.Namespace, setup: Setup, rule: CacheRule) -> tuple[Rows, dict[str, str]]:
    from gateway.cache.evaluate import Judge, read_pairs  # noqa: PLC0415

    pairs = read_pairs(arguments.pairs)
    encoder, verifier, versions = _versions(setup, arguments.threads)
    return rows_of_pairs(pairs, Judge(encoder, verifier).outcomes(pairs), rule), versions


def _labels(arguments: argparse.Namespace, setup: Setup, rule: CacheRule) -> tuple[Rows, dict[str, str]]:
    since_s = setup.moment(arguments.since, time.time())
    _, _, versions = _versions(setup, arguments.threads)
    models = "{encoder}+{verifier}".format(**versions)
    try:
        with setup.labels() as store:
            labels = store.of(rule.route, models, since_s, sampled=False)
            others = [f"{count:g} with {name}" for route, name, count in store.routes() if route == rule.route]
    except DatabaseError as exc:
        raise BadRequest(f"no labels can be read: {exc.message}; {_FIX}") from exc
    if not labels:
        held = f" (it has {', '.join(others)}, not with {models})" if others else ""
        raise BadRequest(f"no labels of the route {rule.route!r} since {arguments.since}{held}; {_FIX}")
    return rows_of_labels(labels), versions


def finding(found: Calibration, path: Path, versions: Mapping[str, str], has: Standing) -> Finding:
    """The calibration as it is printed and written; `has` is how the route stood before it."""
    judged = f"{found.compared} with a neighbour, of which {found.wrong} wrong, {found.unsure} unsure"
    lines = [
        f"route            {found.route}",
        f"asked            at most {found.max_error:.2%} of all requests wrong, with confidence {found.confidence:.0%}",
        f"labels           {found.rows} requests: {judged}",
        *_certified(found, has),
    ]
    data = dump(found.certified) if found.certified is not None else b""
    return Finding(path, data, lines, {**msgspec.to_builtins(found), "versions": dict(versions)}, found.warnings)


def _certified(found: Calibration, has: Standing) -> Iterator[str]:
    made = found.certified
    if made is None:
        yield from not_certified(found.reason or "", found.n, found.n_needed)
        stays = f"; it keeps the certificate that it has, {has.file}" if has.serves else ""
        yield f"                 the route goes on watching{stays}"
        return
    yield f"certified        scores from {made.threshold:.3f}, counted on n = {made.n} ({made.method})"
    yield f"error            {made.realised:.3%} of all requests, at most {made.upper_bound:.3%}"
    yield f"among hits       {made.realised_accepted:.2%} wrong; {made.share_accepted:.2%} of requests would be hits"
    if found.unsure:
        yield f"were the unsure all wrong: {found.realised_if_unsure_wrong:.3%} of all requests"
