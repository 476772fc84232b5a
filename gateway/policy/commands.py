"""What `farthing policy lint` and `farthing policy schema` print; the command line itself is elsewhere."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gateway.certificates import Certificates, files_of
from gateway.core.errors import PolicyError
from gateway.policy.choosing import Classify
from gateway.policy.compile import compile_policy
from gateway.policy.document import Document, Entry
from gateway.policy.lint import HasPrice, lint, placeholder
from gateway.policy.lint_routing import Cost, WeakShare, inline_cost
from gateway.policy.load import read_document
from gateway.policy.problems import Path as Key
from gateway.policy.problems import PolicyProblems, Problem, in_order
from gateway.policy.rollout_file import read_rollout
from gateway.policy.schema import schema_text
from gateway.policy.secrets import Secrets

_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "info": "\x1b[36m"}
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def lint_command(
    path: Path,
    env: Mapping[str, str],
    has_price: HasPrice,
    *,
    strict: bool = False,
    out: TextIO | None = None,
    cost: Cost = inline_cost,
) -> int:
    """Prints everything found in the policy at `path`; returns 1 on errors (with `strict` on warnings too), else 0.

    Raises `PolicyError` where nothing is there.
    A secret that is not set here is an info, since a policy is linted where its secrets are not; one that is set
    is checked. `cost` compares the targets of a choice; the certificates beside the policy say how it goes.
    """
    stream = out or sys.stdout
    try:
        problems = _findings(path, env, has_price, cost)
    except PolicyProblems as exc:
        problems = list(exc.problems)
    except PolicyError as exc:
        if not path.exists():
            raise
        stream.write(f"{exc.message}\n")
        return 1
    colour = stream.isatty()
    for problem in problems:
        stream.write(_line(problem, colour=colour))
    counts = {severity: sum(problem.severity == severity for problem in problems) for severity in _COLOURS}
    summary = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    stream.write(f"{path}: {', '.join(summary) or 'no problems'}\n")
    return 1 if counts["error"] or (strict and counts["warning"]) else 0


def schema_command(out: TextIO | None = None) -> int:
    """Prints the JSON Schema of policy files; returns 0."""
    (out or sys.stdout).write(schema_text())
    return 0


def _findings(path: Path, env: Mapping[str, str], has_price: HasPrice, cost: Cost) -> list[Problem]:
    document = read_document(path)
    secrets = Secrets(env, path if path.is_dir() else path.parent)
    missing: dict[str, str] = {}

    def resolve(reference: str) -> str:
        try:
            return secrets(reference)
        except PolicyError as exc:
            missing[reference] = exc.message
            return placeholder("not-set-here", reference)

    compile_policy(document, resolve)
    doubtful = lint(document, has_price, cost=cost, weak_share=_weak_share(path))
    return in_order([*doubtful, *_unset(document, missing), *_on_trial(path)])


def _on_trial(path: Path) -> Sequence[Problem]:
    """What is wrong with rollout.yaml and with its candidate."""
    if not path.is_dir():
        return ()
    try:
        declared = read_rollout(path)
        if declared is not None and declared.mode is not None:
            compile_policy(read_document(declared.candidate), lambda reference: placeholder("not-set-here", reference))
    except PolicyProblems as exc:
        return exc.problems
    return ()


def _weak_share(policies: Path) -> WeakShare:
    """By the certificates beside the policy. Heads and encoder are the gateway's to know: any version of them does."""
    folder = policies if policies.is_dir() else policies.parent
    certificates = Certificates(folder, "routing")

    def of(rule: Classify) -> float | str | None:
        if rule.max_quality_loss is None or not files_of(folder, "routing", rule.route):
            return None
        asked = (rule.route, rule.max_quality_loss, rule.confidence, rule.versions)
        standing = certificates.standing(*asked, partly=True)
        certificate = standing.certificate
        return certificate.share_accepted if standing.serves and certificate is not None else standing.why

    return of


def _unset(document: Document, missing: Mapping[str, str]) -> Iterator[Problem]:
    for entry, key, reference in _references(document):
        if reference in missing:
            yield entry.problem(key, missing[reference], "set it where the gateway runs", "info")


def _references(document: Document) -> Iterable[tuple[Entry[Any], Key, str]]:
    for name, key in document.keys.items():
        yield document.keys[name], ("secret",), key.spec.secret
    for target in document.targets.values():
        if target.spec.api_key:
            yield target, ("api_key",), target.spec.api_key
        for header, value in target.spec.headers.items():
            yield target, ("headers", header), value
    if document.money_rules is not None and document.money.alert_webhook:
        yield document.money_rules, ("alert_webhook",), document.money.alert_webhook


def _line(problem: Problem, *, colour: bool) -> str:
    where, severity = problem.where, problem.severity
    if colour:
        where = f"{_BOLD}{where}{_PLAIN}"
        severity_text = f"{_COLOURS[severity]}{severity}{_PLAIN}"
    else:
        severity_text = severity
    key = f"{problem.key}: " if problem.key else ""
    fix = f"    fix: {problem.fix}\n" if problem.fix else ""
    return f"{where}: {severity_text}: {key}{problem.message}\n{fix}"
