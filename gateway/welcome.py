"""What `farthing serve` prints when it listens: what was found, the routes, and a curl line that works."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.policy.table import Policy, Route
from gateway.settings import Settings


def text(
    url: str,
    policy: Policy,
    settings: Settings,
    notes: Sequence[str],
    *,
    has_keys: bool,
    owner_secret: str | None = None,
) -> str:
    """The greeting, several lines. `owner_secret` is the first admin key, shown on the first start only."""
    lines = [f"farthing is listening on {url} (policy {policy.hash} from {settings.policies})"]
    lines += [f"  {note}" for note in notes]
    if settings.keeps_books:
        lines.append(f"  books: {_where(settings)}; budgets in {'Redis' if settings.redis else 'this process'}")
    else:
        lines.append("  no books: no ledger, no budgets, and only the policy's keys (FARTHING_DATABASE=none)")
    if owner_secret is not None:
        lines.append(f"  first start: the admin key is {owner_secret}")
        lines.append("  it is not shown again; `farthing admin create` makes others")
    if not has_keys and settings.loopback:
        lines.append("  open: there are no keys, so anybody on this machine may call (loopback only)")
    elif not has_keys:
        lines.append("  closed: there are no keys yet; make one with `farthing keys create --tenant NAME --name NAME`")
    lines.append("routes (the first that matches):")
    width = max((len(route.name) for route in policy.routes), default=0)
    lines += [
        f"  {route.name:<{width}}  {_match(route)} -> {', '.join(t.name for t in route.targets)}"
        for route in policy.routes
    ]
    if not policy.routes:
        lines.append("  (none; a model named like a target goes to it)")
    lines += ["try:", f"  {_curl(url, policy, needs_key=has_keys or not settings.loopback)}"]
    return "\n".join(lines)


def _where(settings: Settings) -> str:
    """The database without its credentials, and the journal."""
    database = settings.database_url
    if not database.startswith("sqlite"):
        parts = urlsplit(database)
        database = f"PostgreSQL at {parts.hostname or 'localhost'}{parts.path}"
    return f"{database.removeprefix('sqlite:///')}, journal in {settings.journal_dir}"


def _match(route: Route) -> str:
    rule = route.rule
    parts = []
    models = [*sorted(rule.models or ()), *rule.globs]
    parts.append(f"models {', '.join(models)}" if models else "any model")
    if rule.tenants:
        parts.append(f"tenants {', '.join(sorted(rule.tenants))}")
    if rule.tags:
        parts.append(f"tags {', '.join(sorted(rule.tags))}")
    if rule.headers:
        parts.append("headers " + ", ".join(f"{name.decode()}: {value}" for name, value in rule.headers))
    return "; ".join(parts)


def _curl(url: str, policy: Policy, *, needs_key: bool) -> str:
    model = next((name for route in policy.routes for name in sorted(route.rule.models or ())), None)
    if model is None:
        target = next(iter(policy.targets.values()), None)
        model = {"anthropic": "claude-haiku-4-5"}.get(target.provider, "gpt-4o-mini") if target else "MODEL"
        model = (target.model if target is not None else None) or model
    key = " -H 'Authorization: Bearer YOUR_KEY'" if needs_key else ""
    url = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")  # every address is no address
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'
    return f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
