import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.authority import GRANTS, Actor, check_admin, check_key, check_tenant, exceeded, require, sees
from gateway.access.keystore import AdminDraft, Allowance, KeyLimits, permits
from gateway.core.errors import Forbidden
from tests.support.keys import NOW, draft, per_month

ROLES = ("owner", "admin", "tenant_admin", "auditor")


def actor(role, **limits):
    return Actor("adm_aaaaaaaaaa", role, "shop" if role == "tenant_admin" else None, KeyLimits(**limits))


@pytest.mark.parametrize(
    ("permission", "roles"),
    [
        ("read", ROLES),
        ("keys:write", ROLES[:3]),
        ("tenants:write", ROLES[:2]),
        ("admins:write", ROLES[:3]),
    ],
)
def test_each_role_may_what_the_table_says(permission, roles):
    assert GRANTS[permission] == set(roles)
    for role in ROLES:
        if role in roles:
            require(actor(role), permission)
        else:
            with pytest.raises(Forbidden):
                require(actor(role), permission)


def test_one_tenant_is_seen_by_its_own_and_by_those_of_all():
    assert sees(actor("admin"), "bank")
    assert sees(actor("admin"), None)
    assert sees(actor("tenant_admin"), "shop")
    assert not sees(actor("tenant_admin"), "bank")
    assert not sees(actor("tenant_admin"), None)


@pytest.mark.parametrize(
    ("asked", "cap", "field"),
    [
        ({}, {}, None),
        ({"rpm": 5}, {}, None),
        ({"rpm": 10}, {"rpm": 10}, None),
        ({"rpm": 11}, {"rpm": 10}, "rpm"),
        ({}, {"rpm": 10}, "rpm"),
        ({}, {"tpm": 10}, "tpm"),
        ({}, {"concurrency": 10}, "concurrency"),
        ({"expires_s": NOW}, {"expires_s": NOW}, None),
        ({"expires_s": NOW + 1}, {"expires_s": NOW}, "expires_s"),
        ({}, {"expires_s": NOW}, "expires_s"),
        ({"models": ("gpt-4o",)}, {"models": ("gpt-*",)}, None),
        ({"models": ("gpt-4*", "gpt-5*")}, {"models": ("gpt-*",)}, None),
        ({"models": ("*",)}, {"models": ("gpt-*",)}, "models"),
        ({"models": ("gpt*",)}, {"models": ("gpt-*",)}, "models"),
        ({}, {"models": ("gpt-*",)}, "models"),
        ({}, {"models": ("*",)}, None),
        ({"routes": ("a", "b")}, {"routes": ("a",)}, "routes"),
        ({"budgets": per_month(500)}, {"budgets": per_month(500)}, None),
        ({"budgets": per_month(501)}, {"budgets": per_month(500)}, "budgets"),
        ({}, {"budgets": per_month(500)}, "budgets"),
        ({"budgets": (Allowance("day", 1),)}, {"budgets": per_month(500)}, "budgets"),
        ({"budgets": (*per_month(1), Allowance("day", 10**9))}, {"budgets": per_month(500)}, None),
    ],
)
def test_no_limit_exceeds_every_limit(asked, cap, field):
    assert exceeded(KeyLimits(**asked), KeyLimits(**cap)) == field


def test_a_key_is_checked_for_tenant_and_limits():
    check_key(actor("tenant_admin", rpm=5), draft(rpm=5))
    with pytest.raises(Forbidden, match="tenant shop only"):
        check_key(actor("tenant_admin"), draft("bank"))
    with pytest.raises(Forbidden, match="rpm") as refused:
        check_key(actor("owner", rpm=5), draft())
    assert refused.value.param == "rpm"


@pytest.mark.parametrize("maker", ROLES[:3])
@pytest.mark.parametrize("made", ROLES)
def test_a_role_makes_roles_at_or_below_its_own(maker, made):
    asked = AdminDraft("x", made, "shop" if made in ("tenant_admin", "auditor") else None)
    if ROLES.index(made) >= ROLES.index(maker):
        check_admin(actor(maker), asked)
    else:
        with pytest.raises(Forbidden):
            check_admin(actor(maker), asked)


@pytest.mark.parametrize("tenant", [None, "bank"])
@pytest.mark.parametrize("role", ["tenant_admin", "auditor"])
def test_a_tenant_admin_makes_credentials_of_its_own_tenant_only(role, tenant):
    with pytest.raises(Forbidden):
        check_admin(actor("tenant_admin"), AdminDraft("x", role, tenant))


def test_a_credential_has_no_more_than_what_made_it():
    check_admin(actor("admin", rpm=5), AdminDraft("x", "admin", limits=KeyLimits(rpm=5)))
    with pytest.raises(Forbidden):
        check_admin(actor("admin", rpm=5), AdminDraft("x", "admin"))


def test_a_capped_credential_cannot_lift_a_tenant_above_itself():
    capped = actor("admin", rpm=5, models=("gpt-*",), expires_s=NOW)
    check_tenant(capped, KeyLimits(rpm=5))
    with pytest.raises(Forbidden):
        check_tenant(capped, KeyLimits(rpm=6))
    with pytest.raises(Forbidden):
        check_tenant(capped, KeyLimits())


NAMES = st.text("ab*", min_size=1, max_size=4)
COUNTS = st.none() | st.integers(1, 3)
LIMITS = st.builds(
    KeyLimits,
    routes=st.none() | st.lists(NAMES, max_size=2).map(tuple),
    models=st.none() | st.lists(NAMES, max_size=2).map(tuple),
    expires_s=COUNTS,
    rpm=COUNTS,
    tpm=COUNTS,
    concurrency=COUNTS,
    budgets=st.dictionaries(st.sampled_from(["day", "month"]), st.integers(1, 3)).map(
        lambda budgets: tuple(Allowance(period, limit) for period, limit in budgets.items())
    ),
)


@given(LIMITS, LIMITS, st.text("ab", max_size=4), st.none() | st.text("ab", max_size=4))
def test_what_stays_within_a_cap_reaches_nothing_that_the_cap_does_not(asked, cap, route, model):
    if exceeded(asked, cap) is None and permits(asked, route, model):
        assert permits(cap, route, model)


@given(LIMITS, LIMITS, LIMITS)
def test_minting_in_a_chain_never_widens(first, second, third):
    if exceeded(third, second) is None and exceeded(second, first) is None:
        assert exceeded(third, first) is None


@given(LIMITS)
def test_a_credential_may_hand_out_all_that_it_has(limits):
    assert exceeded(limits, limits) is None
