"""`farthing calibrate routing`: finds the threshold of a route that chooses, prints it, writes it beside the policy."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.core.errors import BadRequest
from gateway.guarantee.certificate import Certificate, dump, path_of
from gateway.policy.choosing import Classify
from gateway.policy.units import BadValue, fraction
from gateway.routing.shares import ShareCalibration, calibrate_share, dump_share, share_path

if TYPE_CHECKING:
    from gateway.encoder.port import Reading
    from gateway.guarantee.certify import Uncertified
    from gateway.routing.metric import Floats


class Rules(msgspec.Struct, frozen=True):
    """What the routes choose by, by name, and the folder of their policy."""

    folder: Path
    rules: Mapping[str, Classify]


class Setup(msgspec.Struct, frozen=True):
    """What the command needs of the gateway.

    `rules` are those of a policy directory, `None` for the one in force. `encoder` names the encoder.
    """

    rules: Callable[[Path | None], Rules]
    encoder: Callable[[], str]


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]", setup: Setup) -> None:
    """Adds `routing` to the actions of `calibrate`."""
    parser = actions.add_parser(
        "routing",
        help="certify a route's choice between its weak and its strong target",
        description="Finds up to which score a route may use its weak target, and writes it beside the policy; a\n"
        "running gateway takes it within a second or two.\n"
        "Certified, for a loss of quality (--max-quality-loss, or what the policy says): the file needs columns\n"
        "with both targets' quality of each prompt, from 0 to 1. Or for a share of strong calls\n"
        "(--target-strong, or what the policy says): prompts are enough, and nothing is certified.\n"
        "The prompts must be a random sample of the route's traffic.\n"
        "Exits 1 when nothing can be certified: everything then goes to the strong target.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--route", required=True, metavar="NAME", help="of the policy, with `classify`")
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="CSV with a header, plain or .gz")
    parser.add_argument("--prompt", default="prompt", metavar="COL", help="the request's text [%(default)s]")
    parser.add_argument("--weak", default="weak", metavar="COL", help="quality of the weak answer [%(default)s]")
    parser.add_argument("--strong", default="strong", metavar="COL", help="quality of the strong answer [%(default)s]")
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument("--max-quality-loss", type=_share, metavar="E", help="0.03 or 3%%, on average [the policy's]")
    aim.add_argument("--target-strong", type=_share, metavar="S", help="0.3 or 30%% of requests [the policy's]")
    parser.add_argument("--confidence", type=_share, metavar="C", help="0.95 or 95%% [the policy's]")
    parser.add_argument("--strict", action="store_true", help="a bound that holds at any n, not only at large ones")
    parser.add_argument("--policies", type=Path, metavar="DIR", help="directory of policy files [that of `serve`]")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there [certificates/ beside the policy]")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(func=lambda arguments: _run(arguments, setup))


def _share(text: str) -> float:
    try:
        share = fraction(float(text) if text.replace(".", "", 1).isdigit() else text)
    except BadValue as exc:
        raise argparse.ArgumentTypeError(f"{exc.message}; {exc.fix}") from exc
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text}: write a share between 0 and 1, such as 0.03 or 3%")
    return share


def _run(arguments: argparse.Namespace, setup: Setup) -> int:
    known = setup.rules(arguments.policies)
    rule = known.rules.get(arguments.route)
    if rule is None:
        names = ", ".join(sorted(known.rules)) or "none"
        raise BadRequest(f"the route {arguments.route!r} has no `classify` (those that have: {names})")
    date = datetime.now(UTC).isoformat(timespec="seconds")
    share: float | None = arguments.target_strong
    if share is None and arguments.max_quality_loss is None and rule.max_quality_loss is None:
        share = rule.strong_share
        if share is None:
            raise BadRequest("the policy asks for nothing; fix: --max-quality-loss 3%, or --target-strong 30%")
    made = _certify(arguments, rule, setup, date) if share is None else _to_share(arguments, rule, share, setup, date)
    if isinstance(made, ShareCalibration):
        path, data = known.folder / share_path(rule.route), dump_share(made)
        said = list(_share_text(made))
    elif isinstance(made, Certificate):
        path, data = known.folder / path_of("routing", rule.route), dump(made)
        said = list(_certificate_text(made))
    else:
        path, data = known.folder / path_of("routing", rule.route), b""
        said = list(_refusal_text(made))
    path = arguments.out or path
    written = bool(data) and not arguments.dry_run
    if written:
        _write(path, data)
    if data:
        said.append(f"{'written' if written else 'not written':<16} {path}")
    sys.stdout.write("\n".join([f"route            {rule.route}, tier {rule.tier}", *said]) + "\n")
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(msgspec.to_builtins(made) | {"written": written}).decode() + "\n")
    return 0 if data else 1


def _certify(arguments: argparse.Namespace, rule: Classify, setup: Setup, date: str) -> "Certificate | Uncertified":
    from gateway.routing.calibrate import Promise, calibrate  # noqa: PLC0415 - numpy
    from gateway.routing.table import read_table  # noqa: PLC0415 - numpy

    table = read_table(arguments.data, arguments.prompt, arguments.weak, arguments.strong)
    scores, versions = _scores(table.prompts, rule, setup)
    alpha: float = arguments.max_quality_loss or rule.max_quality_loss or 0.0
    promise = Promise(alpha, arguments.confidence or rule.confidence, arguments.strict)
    try:
        return calibrate(rule, scores, table.rows, promise, versions=versions, date=date, data_hash=table.sha256)
    except ValueError as exc:
        raise BadRequest(f"{arguments.data}: {exc}; fix: qualities from 0 to 1, the greater the better") from exc


def _to_share(arguments: argparse.Namespace, rule: Classify, share: float, setup: Setup, date: str) -> ShareCalibration:
    from gateway.routing.table import read_lines  # noqa: PLC0415 - numpy

    lines = read_lines(arguments.data)
    if lines and arguments.prompt not in lines[0]:
        raise BadRequest(f"{arguments.data}: no column {arguments.prompt!r}; fix: one of {', '.join(lines[0])}")
    scores, versions = _scores([line[arguments.prompt] for line in lines], rule, setup)
    try:
        return calibrate_share(
            scores.tolist(), share, route=rule.route, date=date, versions={**versions, **rule.versions}
        )
    except ValueError as exc:
        raise BadRequest(f"{arguments.data}: {exc}") from exc


def _scores(prompts: list[str], rule: Classify, setup: Setup) -> "tuple[Floats, dict[str, str]]":
    """What a gateway would have scored each prompt with, `float64[n]`, and the versions of what did."""
    import numpy as np  # noqa: PLC0415 - heavy

    from gateway.routing.reading import Request  # noqa: PLC0415
    from gateway.routing.scorer import open_scorer  # noqa: PLC0415

    scorer = open_scorer(embed=rule.tier == "embed")
    requests = [Request(prompt, turns=1) for prompt in prompts]
    if rule.tier == "light":
        found = [scorer.score(request, None).score for request in requests]
        return np.array(found, np.float64), scorer.versions("light", None)
    from gateway.encoder import open_model  # noqa: PLC0415 - ONNX Runtime

    model = open_model(setup.encoder())
    readings: list[Reading | None] = [model.read(prompt) for prompt in prompts]
    found = []
    for at, (request, reading) in enumerate(zip(requests, readings, strict=True), 1):
        vector = model.run([reading])[0] if reading is not None else None
        found.append(scorer.score(request, None, vector).score)
        if at % 500 == 0:
            sys.stderr.write(f"\rscored {at} of {len(prompts)}")
    return np.array(found, np.float64), scorer.versions("embed", model.version)


def _certificate_text(made: Certificate) -> Iterator[str]:
    yield f"asked            a loss of at most {made.alpha:.2%}, with confidence {1 - made.delta:.0%}"
    yield f"certified        up to a gain of {made.threshold:.4f}, on n = {made.n} ({made.method})"
    yield f"loss             {made.realised:.3%} on average over all requests, at most {made.upper_bound:.3%}"
    yield f"strong           {1 - made.share_accepted:.1%} of the requests"
    yield f"hash             {made.hash[:8]}"


def _refusal_text(made: "Uncertified") -> Iterator[str]:
    yield f"not certified    {made.reason}"
    needed = (
        f"about {made.n_needed} requests like these" if made.n_needed else "no number of requests like these would do"
    )
    yield f"needed           {needed}; {made.n} were counted"
    yield "                 everything goes to the strong target"


def _share_text(made: ShareCalibration) -> Iterator[str]:
    low, high = made.interval
    yield f"asked            {made.strong_share:.1%} of the requests to the strong target"
    yield f"uncertified      up to a gain of {made.threshold:.4f}, on n = {made.n}: it says nothing of quality"
    yield f"strong           {made.realised:.1%} of the requests; {low:.1%} to {high:.1%} of others like them (95 %)"


def _write(path: Path, data: bytes) -> None:
    """Puts the file there whole, or not at all. Raises `BadRequest`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as exc:
        with suppress(OSError):
            beside.unlink()
        raise BadRequest(f"{path}: {exc.strerror or exc}; fix: --out FILE in a folder that can be written") from exc
