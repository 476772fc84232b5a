"""Who a policy on trial gets: stickiness, growth, and the share that is realised."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Identity
from gateway.rollout.bucket import anchor, bucket
from tests.support.calls import call

SHOP = Identity("shop", "ci")
hashes = st.text("0123456789abcdef", min_size=12, max_size=12)


def ask(user=None, **headers):
    doc = {"messages": [{"role": "user", "content": "hi"}], **({"user": user} if user else {})}
    return call(doc, headers={name.replace("_", "-"): value for name, value in headers.items()})


@given(hashes, st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_whoever_was_in(candidate, anchored, one, other):
    place = bucket(candidate, anchored)
    assert 0 <= place < 1
    smaller, larger = sorted((one, other))
    assert not place < smaller or place < larger


@given(hashes, st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_the_share_is_realised(candidate, seed, share):
    n = 2000
    inside = sum(bucket(candidate, f"{seed}-{i}") < share for i in range(n))
    assert abs(inside - n * share) <= 6 * math.sqrt(n * share * (1 - share)) + 1


def test_another_candidate_begins_with_others():
    n = 4000
    both = sum(bucket("aaaaaaaaaaaa", str(i)) < 0.1 and bucket("bbbbbbbbbbbb", str(i)) < 0.1 for i in range(n))
    assert 10 <= both <= 80, "about one in a hundred"


@given(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), min_size=1, max_size=40), st.text(), st.text()
)
def test_a_session_stays_together_whatever_else_its_requests_say(session, one, other):
    header = {"x_farthing_session": session}
    first, second = ask(one or None, **header), ask(other or None, **header)
    assert anchor(first, SHOP, "r1") == anchor(second, Identity("shop", "another-key"), "r2")


def test_without_a_session_a_user_stays_together_and_without_a_user_nothing_does():
    assert anchor(ask("ada"), SHOP, "r1") == anchor(ask("ada"), SHOP, "r2")
    assert anchor(ask("ada"), SHOP, "r1") != anchor(ask("bob"), SHOP, "r1")
    assert anchor(ask(), SHOP, "r1") != anchor(ask(), SHOP, "r2")


def test_tenants_and_kinds_of_anchors_never_meet():
    bank = Identity("bank", "ci")
    session = ask(x_farthing_session="1")
    found = {
        anchor(session, SHOP, "1"), anchor(session, bank, "1"), anchor(ask("1"), SHOP, "1"),
        anchor(ask("1"), bank, "1"), anchor(ask("1"), Identity("shop", "other"), "1"), anchor(ask(), SHOP, "1"),
    }  # fmt: skip
    assert len(found) == 6
