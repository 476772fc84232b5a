"""What `farthing serve` prints when it listens: what was found, the routes, and a curl line that works."""

from collections.abc import Sequence

from gateway.policy.table import Policy, Route
from gateway.settings import Settings


def text(url: str, policy: Policy, settings: Settings, notes: Sequence[str]) -> str:
    """The greeting, several lines."""
    lines = [f"farthing is listening on {url} (policy {policy.hash} from {settings.policies})"]
    lines += [f"  {note}" for note in notes]
    if not policy.keys:
        lines.append("  open: no keys are declared, so anybody on this machine may call (loopback only)")
    lines.append("routes (the first that matches):")
    width = max((len(route.name) for route in policy.routes), default=0)
    lines += [
        f"  {route.name:<{width}}  {_match(route)} -> {', '.join(t.name for t in route.targets)}"
        for route in policy.routes
    ]
    if not policy.routes:
        lines.append("  (none; a model named like a target goes to it)")
    lines += ["try:", f"  {_curl(url, policy)}"]
    return "\n".join(lines)


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


def _curl(url: str, policy: Policy) -> str:
    model = next((name for route in policy.routes for name in sorted(route.rule.models or ())), None)
    if model is None:
        target = next(iter(policy.targets.values()), None)
        model = {"anthropic": "claude-haiku-4-5"}.get(target.provider, "gpt-4o-mini") if target else "MODEL"
        model = (target.model if target is not None else None) or model
    key = " -H 'Authorization: Bearer YOUR_KEY'" if policy.keys else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'
    return f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
