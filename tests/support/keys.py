"""What tests of keys share: actors, drafts, a clock that is moved by hand, and secrets that can be looked for."""

from gateway.access.authority import Actor, actor_of
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import AdminDraft, Allowance, KeyDraft, KeyLimits, Role
from gateway.core.money import MICRO

NOW = 1_800_000_000.0
ROOT = Actor("cli:root")


class HandClock:
    """A `Clock` that stands still until `advance`."""

    def __init__(self, wall_s: float = NOW) -> None:
        self._wall_s = wall_s
        self._monotonic_s = 1000.0

    def advance(self, seconds: float) -> None:
        self._wall_s += seconds
        self._monotonic_s += seconds

    def wall(self) -> float:
        return self._wall_s

    def monotonic(self) -> float:
        return self._monotonic_s


def draft(tenant: str = "shop", name: str = "ci", **limits) -> KeyDraft:
    return KeyDraft(name, tenant, limits=KeyLimits(**limits))


def per_month(dollars: int) -> tuple[Allowance, ...]:
    return (Allowance("month", dollars * MICRO),)


def new_admin(store: KeyStore, role: Role, tenant: str | None = None, **limits) -> tuple[Actor, str]:
    """An admin credential as an actor, and its secret."""
    record, made = store.create_admin(AdminDraft(role, role, tenant, KeyLimits(**limits)), ROOT, NOW)
    return actor_of(record), made.secret
