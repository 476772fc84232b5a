"""`farthing calibrate routing`: finds the threshold of a route that chooses, prints it, writes it beside the policy."""

import argparse
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.certificates import Certificates, files_of
from gateway.commands import Finding, Rules, calibration_arguments, conclude, not_certified, rules_for, share
from gateway.core.errors import BadRequest
from gateway.core.exchange import Target
from gateway.database import Database, DatabaseError
from gateway.guarantee.certificate import Certificate, binding_of, dump, path_of
from gateway.policy.choosing import Classify
from gateway.policy.diff import amount
from gateway.policy.units import BadValue, cost_per_thousand
from gateway.pricing.book import ModelPrice
from gateway.routing.shares import (
    LEAST_SCORES,
    Cost,
    ShareCalibration,
    calibrate_share,
    dump_share,
    share_binding,
    share_path,
)

if TYPE_CHECKING:
    from gateway.guarantee.certify import Uncertified
    from gateway.routing.evidence import Evidence

_DAY_H = 24
_ABOUT = """\
Finds up to which score a route may use its weak target, and writes it beside the policy; a
running gateway takes it within a second or two. What is asked for is one of:
  --max-quality-loss 3%    certified: needs both targets' quality of each request, from 0 to 1
  --target-strong 30%      a share of strong calls: scores are enough, nothing is certified
  --target-cost '$0.80/1k' what 1,000 requests may cost: needs their cost at both targets;
                           nothing is certified
and without them what the policy asks for. It is made of the route's own traffic, as the
gateway labelled and scored it (--from-labels, the default), or of a file (--data). Either
must be a random sample of the route's requests.
Exits 1 when nothing can be certified: everything then goes to the strong target."""
_FIX = (
    "fix: `compare: 2%` on the route and some traffic, FARTHING_DATABASE or FARTHING_DATA_DIR as the gateway has them, "
    "a longer --since, or --data FILE"
)


class Setup(msgspec.Struct, frozen=True):
    """What the command needs of the gateway; each is asked for only when it is needed.

    `rules` are those of a policy directory, `None` for the one in force. `encoder` names the encoder. `database` opens
    the gateway's. `price_of` reads a target's price by the prices of a policy's folder. `moment` reads a date or an age
    such as `14d` into Unix seconds.
    """

    rules: Callable[[Path | None], Rules[Classify]]
    encoder: Callable[[], str]
    database: Callable[[], AbstractContextManager[Database]]
    price_of: Callable[[Path], Callable[[Target], ModelPrice | None]]
    moment: Callable[[str, float], int]


class Aim(msgspec.Struct, frozen=True):
    """What is asked for, exactly one of: a loss that is certified, a share of strong calls, micro-USD for 1,000."""

    loss: float | None = None
    share: float | None = None
    cost: int | None = None


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]", setup: Setup) -> None:
    """Adds `routing` to the actions of `calibrate`."""
    parser = actions.add_parser(
        "routing",
        help="certify a route's choice between its weak and its strong target",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    calibration_arguments(parser, "`classify`")
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-labels", action="store_true", help="the gateway's own traffic [default]")
    source.add_argument("--data", type=Path, metavar="FILE", help="CSV with a header, plain or .gz")
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument("--max-quality-loss", type=share, metavar="E", help="0.03 or 3%%, on average [the policy's]")
    aim.add_argument("--target-strong", type=share, metavar="S", help="0.3 or 30%% of requests [the policy's]")
    aim.add_argument("--target-cost", type=_cost, metavar="COST", help="'$0.80/1k': for 1,000 requests [the policy's]")
    add("--strict", action="store_true", help="a bound that holds at any n, not only at large ones")
    file = parser.add_argument_group("columns of --data")
    file.add_argument("--prompt", default="prompt", metavar="COL", help="the request's text [%(default)s]")
    file.add_argument("--weak", default="weak", metavar="COL", help="quality of the weak answer [%(default)s]")
    file.add_argument("--strong", default="strong", metavar="COL", help="quality of the strong answer [%(default)s]")
    for name in ("weak_cost", "strong_cost"):
        file.add_argument(_option(name), default=name, metavar="COL", help="dollars of each request [%(default)s]")
    for name, what in (("input_tokens", "read"), ("weak_tokens", "written"), ("strong_tokens", "written")):
        file.add_argument(_option(name), default=name, metavar="COL", help=f"or tokens {what} [%(default)s]")
    parser.set_defaults(func=lambda arguments: _run(arguments, setup))


def _option(column: str) -> str:
    return f"--{column.replace('_', '-')}"


def _cost(text: str) -> int:
    try:
        return cost_per_thousand(text)
    except BadValue as exc:
        raise argparse.ArgumentTypeError(f"{exc.message}; {exc.fix}") from exc


def _run(arguments: argparse.Namespace, setup: Setup) -> int:
    known = rules_for(arguments, setup.rules)
    rule = known.rules.get(arguments.route)
    if rule is None:
        names = ", ".join(sorted(known.rules)) or "none"
        raise BadRequest(f"the route {arguments.route!r} has no `classify` (those that have: {names})")
    aim = _aim(arguments, rule)
    evidence = _evidence(arguments, rule, aim, setup, known.folder)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [f"route            {rule.route}, tier {rule.tier}", f"from             {evidence.told}"]
    warnings = [*_sample_warnings(evidence), *_policy_warnings(rule, aim, arguments)]
    if aim.loss is not None:
        made = _certified(arguments, rule, aim.loss, evidence, date)
        confidence, versions = arguments.confidence or rule.confidence, {**evidence.versions, **rule.versions}
        binding = binding_of(aim.loss, 1 - confidence, versions)
        path: Path = arguments.out or known.folder / path_of("routing", rule.route, binding)
        if not isinstance(made, Certificate):
            has = Certificates(known.folder, "routing").standing(rule.route, aim.loss, confidence, versions)
            lines += _refusal(made, has.file if has.serves else None)
            return conclude(arguments, Finding(path, b"", lines, msgspec.to_builtins(made), warnings))
        cost = _cost_at(evidence, made.threshold)
        lines += [*_certificate(made), *_money(cost)]
        fields = msgspec.to_builtins(made) | {"cost": msgspec.to_builtins(cost)}
        beside = files_of(known.folder, "routing", rule.route)
        return conclude(arguments, Finding(path, dump(made), lines, fields, warnings, beside))
    shared = _uncertified(rule, aim, evidence, date)
    cost = shared.cost or _cost_at(evidence, shared.threshold)
    lines += [*_share(shared), *_money(cost)]
    fields = msgspec.to_builtins(shared) | {"cost": msgspec.to_builtins(cost)}
    path = arguments.out or known.folder / share_path(rule.route, share_binding(shared))
    beside = files_of(known.folder, "share", rule.route)
    return conclude(arguments, Finding(path, dump_share(shared), lines, fields, warnings, beside))


def _aim(arguments: argparse.Namespace, rule: Classify) -> Aim:
    """What the arguments ask for, else what the policy does."""
    given = Aim(arguments.max_quality_loss, arguments.target_strong, arguments.target_cost)
    aim = given if given != Aim() else Aim(rule.max_quality_loss, rule.strong_share, rule.target_cost)
    if aim == Aim():
        raise BadRequest(
            "the policy asks for nothing; fix: --max-quality-loss 3%, --target-strong 30% or --target-cost '$0.80/1k'"
        )
    return aim


def _evidence(arguments: argparse.Namespace, rule: Classify, aim: Aim, setup: Setup, folder: Path) -> "Evidence":
    from gateway.routing import evidence  # noqa: PLC0415 - numpy

    if arguments.data is not None:
        columns = evidence.Columns(
            prompt=arguments.prompt,
            weak=arguments.weak,
            strong=arguments.strong,
            costs=(arguments.weak_cost, arguments.strong_cost),
            tokens=(arguments.input_tokens, arguments.weak_tokens, arguments.strong_tokens),
        )
        labelled = aim.loss is not None
        return evidence.of_file(
            arguments.data, columns, rule, setup.encoder(), setup.price_of(folder), labelled=labelled
        )
    since_s = setup.moment(arguments.since, time.time())
    versions = evidence.parts(rule, setup.encoder())
    try:
        with setup.database() as database:
            found = evidence.of_traffic(database, rule, versions, since_s)
    except DatabaseError as exc:
        raise BadRequest(f"no labels can be read: {exc.message}; {_FIX}") from exc
    if not len(found.scores) and (aim.share is None or found.traffic is None):
        raise BadRequest(f"the route {rule.route!r} has {found.told} since {arguments.since}; {_FIX}")
    return found


def _certified(
    arguments: argparse.Namespace, rule: Classify, alpha: float, evidence: "Evidence", date: str
) -> "Certificate | Uncertified":
    from gateway.routing.calibrate import Promise, calibrate  # noqa: PLC0415 - numpy

    assert evidence.rows is not None, "asked for"
    promise = Promise(alpha, arguments.confidence or rule.confidence, arguments.strict)
    try:
        return calibrate(
            rule,
            evidence.scores,
            evidence.rows,
            promise,
            versions=evidence.versions,
            date=date,
            data_hash=evidence.data_hash,
            weights=evidence.weights,
            unlabelled=evidence.traffic,
        )
    except ValueError as exc:
        raise BadRequest(f"{exc}; fix: qualities from 0 to 1, the greater the better") from exc


def _uncertified(rule: Classify, aim: Aim, evidence: "Evidence", date: str) -> ShareCalibration:
    """By a share, of the ledger's scores where it has enough; or by cost, of requests whose costs are known."""
    from gateway.routing.costs import calibrate_cost  # noqa: PLC0415 - numpy

    versions = {**evidence.versions, **rule.versions}
    try:
        if aim.cost is not None:
            of = evidence.priced()
            assert of.costs is not None, "priced"
            return calibrate_cost(
                of.scores, of.costs, of.weights, aim.cost, route=rule.route, date=date, versions=versions
            )
        assert aim.share is not None, "the last of the three"
        scores, weights = evidence.scores.tolist(), evidence.weights.tolist() if evidence.weights is not None else None
        if evidence.traffic is not None and len(evidence.traffic) >= max(LEAST_SCORES, len(scores)):
            scores, weights = evidence.traffic, None
        return calibrate_share(scores, aim.share, route=rule.route, date=date, versions=versions, weights=weights)
    except ValueError as exc:
        raise BadRequest(f"{evidence.told}: {exc}; {_FIX}") from exc


def _cost_at(evidence: "Evidence", threshold: float) -> Cost | None:
    """What 1,000 requests cost at this threshold; `None` where costs are not known."""
    from gateway.routing.costs import expected  # noqa: PLC0415 - numpy

    try:
        of = evidence.priced()
    except BadRequest:
        return None
    assert of.costs is not None, "priced"
    return expected(of.scores, of.costs, of.weights, threshold)


def _certificate(made: Certificate) -> Iterator[str]:
    yield f"asked            a loss of at most {made.alpha:.2%}, with confidence {1 - made.delta:.0%}"
    yield f"certified        up to a gain of {made.threshold:.4f}, on n = {made.n} ({made.method})"
    yield f"loss             {made.realised:.3%} on average over all requests, at most {made.upper_bound:.3%}"
    yield f"strong           {1 - made.share_accepted:.1%} of the requests"
    yield f"hash             {made.hash[:8]}"


def _refusal(made: "Uncertified", has: str | None) -> Iterator[str]:
    """`has` is the file of the certificate that holds for the same, if there is one."""
    yield from not_certified(made.reason, made.n, made.n_needed)
    if has is not None:
        yield f"                 the route keeps the certificate that it has; without {has}"
    yield "                 everything goes to the strong target"


def _share(made: ShareCalibration) -> Iterator[str]:
    from gateway.routing.costs import per_thousand  # noqa: PLC0415 - numpy

    low, high = made.interval
    if made.target_cost is not None:
        yield f"asked            at most {per_thousand(made.target_cost)} requests"
    else:
        yield f"asked            {made.strong_share:.1%} of the requests to the strong target"
    yield f"uncertified      up to a gain of {made.threshold:.4f}, on n = {made.n}: it says nothing of quality"
    yield f"strong           {made.realised:.1%} of the requests; {low:.1%} to {high:.1%} of others like them (95 %)"


def _money(cost: Cost | None) -> Iterator[str]:
    from gateway.routing.costs import per_thousand  # noqa: PLC0415 - numpy

    if cost is not None:
        low, high = (per_thousand(each) for each in cost.interval)
        yield f"cost             {per_thousand(cost.expected)} requests; {low} to {high} for others like them (95 %)"


def _sample_warnings(evidence: "Evidence") -> Iterator[str]:
    if evidence.hours is not None and evidence.hours < _DAY_H:
        yield f"all labels are of {evidence.hours:.1f} hours: traffic of other hours and days may differ"
    if evidence.costs is not None:
        unknown = len(evidence.scores) - int((evidence.costs.weak + evidence.costs.strong >= 0).sum())
        if unknown:
            yield f"{unknown} of {len(evidence.scores)} requests have no known cost and are in no figure of money"


def _policy_warnings(rule: Classify, aim: Aim, arguments: argparse.Namespace) -> Iterator[str]:
    """That a gateway with this policy would not take what is calibrated."""
    asked = Aim(rule.max_quality_loss, rule.strong_share, rule.target_cost)
    if aim.loss is not None:
        weaker = asked.loss is None or aim.loss > asked.loss
        weaker = weaker or (arguments.confidence or rule.confidence) < rule.confidence - 1e-9
        written = f"max_quality_loss: {_percent(aim.loss)}"
    elif aim.share is not None:
        weaker, written = aim != asked, f"strong_share: {_percent(aim.share)}"
    else:
        assert aim.cost is not None, "the last of the three"
        weaker, written = aim != asked, f"target_cost: {amount(aim.cost)}/1k"
    if weaker:
        yield f"the policy asks for something else and will not take this; fix: `{written}` in its `classify`"


def _percent(fraction: float) -> str:
    return re.sub(r"\.?0+%$", "%", f"{fraction:.4%}")
