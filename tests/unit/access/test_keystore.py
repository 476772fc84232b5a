import pytest

from gateway.access.keystore import (
    AdminDraft,
    Allowance,
    KeyDraft,
    KeyLimits,
    KeyRecord,
    TenantRecord,
    check_draft,
    digest,
    limits_of,
    mint,
    new_id,
    permits,
    shown,
)
from gateway.core.errors import BadRequest
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from tests.support.keys import NOW, draft, per_month


def record(**limits):
    return KeyRecord(
        "key_abcdefghij", "ci", "shop", NOW, "cli:root", "sk-farthing-abcd", "0" * 64, limits=KeyLimits(**limits)
    )


def tenant(**limits):
    return TenantRecord("shop", NOW, "cli:root", KeyLimits(**limits))


def test_a_secret_is_made_of_32_random_bytes():
    made = mint("sk-farthing-", lambda count: bytes(range(count)))
    assert made.secret == "sk-farthing-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert (made.prefix, made.sha256) == ("sk-farthing-AAEC", digest(made.secret))
    assert made.secret not in repr(made)


def test_an_id_is_short_and_base32():
    assert new_id("key", lambda count: b"\xff" * count) == "key_7777777777"


@pytest.mark.parametrize(
    ("limits", "route", "model", "permitted"),
    [
        ({}, "chat", "gpt-4o", True),
        ({}, "files", None, True),
        ({"models": ("gpt-*",)}, "chat", "gpt-4o", True),
        ({"models": ("gpt-*", "o3")}, "chat", "o3", True),
        ({"models": ("gpt-*",)}, "chat", "claude", False),
        ({"models": ("gpt-*",)}, "files", None, False),
        ({"models": ("*",)}, "files", None, True),
        ({"models": ()}, "chat", "gpt-4o", False),
        ({"routes": ("chat",)}, "chat", "gpt-4o", True),
        ({"routes": ("chat",)}, "chat-large", "gpt-4o", False),
        ({"routes": ("chat*",)}, "chat-large", None, True),
        ({"routes": ()}, "chat", None, False),
        ({"routes": ("chat",), "models": ("gpt-*",)}, "chat", "claude", False),
        ({"routes": ("chat",), "models": ("gpt-*",)}, "other", "gpt-4o", False),
    ],
)
def test_a_key_reaches_its_routes_and_models_only(limits, route, model, permitted):
    assert permits(KeyLimits(**limits), route, model) is permitted


def test_the_limits_of_a_key_carry_stable_ids():
    own = record(
        rpm=600, tpm=200_000, concurrency=50, budgets=(Allowance("month", 500_000_000), Allowance("day", 50_000_000))
    )
    key = "key:key_abcdefghij"
    assert limits_of(own, tenant(budgets=(Allowance("day", 9),))) == Applies(
        (
            Budget(f"{key}/month", key, "month", 500_000_000),
            Budget(f"{key}/day", key, "day", 50_000_000),
            Budget("tenant:shop/day", "tenant:shop", "day", 9),
        ),
        (Rate(f"{key}/requests", "requests", 600), Rate(f"{key}/tokens", "tokens", 200_000)),
        (Concurrency(key, 50),),
    )


def test_a_tenant_gives_its_keys_what_they_do_not_state():
    applies = limits_of(record(rpm=5), tenant(rpm=60, tpm=70, concurrency=8))
    assert [rate.per_minute for rate in applies.rates] == [5, 70]
    assert [each.most for each in applies.concurrency] == [8]


def test_a_key_without_limits_is_limited_by_nothing():
    assert not limits_of(record(), None)
    assert not limits_of(record(), tenant())


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (draft(name=""), "name"),
        (draft(name="x" * 129), "name"),
        (draft(name="a\nb"), "name"),
        (draft(tenant=""), "tenant"),
        (draft(tenant="sh op"), "tenant"),
        (KeyDraft("ci", "shop", ("b ad",)), "tags"),
        (KeyDraft("ci", "shop", ("x",) * 65), "tags"),
        (KeyDraft("ci", "shop", metadata={"x": "y" * 4096}), "metadata"),
        (draft(routes=()), "routes"),
        (draft(models=()), "models"),
        (draft(models=("",)), "models"),
        (draft(models=("a\x00",)), "models"),
        (draft(models=("x",) * 65), "models"),
        (draft(expires_s=NOW), "expires_s"),
        (draft(expires_s=1e300), "expires_s"),
        (draft(expires_s=float("nan")), "expires_s"),
        (draft(rpm=0), "rpm"),
        (draft(tpm=-1), "tpm"),
        (draft(concurrency=10**10), "concurrency"),
        (draft(budgets=(Allowance("day", 0),)), "budgets"),
        (draft(budgets=(Allowance("day", 1), Allowance("day", 2))), "budgets"),
        (draft(budgets=(Allowance("day", 10**16),)), "budgets"),
        (AdminDraft("x", "tenant_admin"), "tenant"),
        (AdminDraft("x", "owner", "shop"), "tenant"),
        (AdminDraft("x", "admin", "shop"), "tenant"),
    ],
)
def test_a_draft_that_cannot_be_names_its_field(asked, field):
    with pytest.raises(BadRequest) as refused:
        check_draft(asked, NOW)
    assert refused.value.param == field


@pytest.mark.parametrize(
    "asked",
    [
        draft(),
        draft(tenant="team/a.b-c@d+e", models=("*",), expires_s=NOW + 1, rpm=1, budgets=per_month(1)),
        AdminDraft("x", "auditor"),
        AdminDraft("x", "auditor", "shop"),
        AdminDraft("x", "tenant_admin", "shop"),
        AdminDraft("x", "owner"),
    ],
)
def test_a_good_draft_passes(asked):
    check_draft(asked, NOW)


def test_nothing_shown_or_printed_holds_a_digest():
    kept = record(rpm=5, budgets=per_month(500))
    assert "0" * 64 not in repr(kept)
    view = shown(kept)
    assert "0" * 64 not in repr(view)
    assert (view["rpm"], view["tpm"], view["budgets"]) == (5, None, [{"period": "month", "limit_usd": "500.000000"}])
