"""Policies from YAML text, with made-up secrets."""

from gateway.core.exchange import Identity
from gateway.policy.compile import Policy, compile_policy
from gateway.policy.load import document_from_text
from gateway.policy.problems import PolicyProblems, Problem


def secret(reference: str) -> str:
    """A strong secret, another for each reference."""
    return f"secret-of-{reference}-0123456789"


def policy(text: str) -> Policy:
    """`text` without its `version: 1`, compiled."""
    return compile_policy(document_from_text(b"version: 1\n" + text.encode()), secret)


def problems(text: str) -> list[Problem]:
    """What is wrong with `text`; empty when nothing is. Its first line is line 1."""
    try:
        compile_policy(document_from_text(text.encode(), name="p.yaml"), secret)
    except PolicyProblems as exc:
        return list(exc.problems)
    return []


def caller(tenant: str = "default", *tags: str) -> Identity:
    return Identity(tenant=tenant, key="k", tags=frozenset(tags))
