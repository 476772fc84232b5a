"""The share of strong calls of one key, whatever its prompts look like."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.caps import BURST, MOST_KEYS, StrongCaps


@given(st.lists(st.booleans(), max_size=300), st.floats(0.01, 0.99))
def test_in_every_run_of_requests_the_share_holds(hard, share):
    caps = StrongCaps()
    strong = []
    for each in hard:
        strong.append(each and caps.allows("r", "k", share))
        if not each:
            caps.earn("r", "k", share)
    most = max(1.0, share * BURST)
    for start in range(0, len(strong), 17):
        for end in range(start, len(strong), 23):
            assert sum(strong[start:end]) <= most + share * (end - start) + 1e-6


def test_keys_and_routes_do_not_share_credit():
    caps = StrongCaps()
    while caps.allows("r", "a", 0.1):
        pass
    assert caps.allows("r", "b", 0.1)
    assert caps.allows("s", "a", 0.1)


def test_credit_comes_back_with_requests():
    caps = StrongCaps()
    while caps.allows("r", "a", 0.5):
        pass
    caps.earn("r", "a", 0.5)
    assert caps.allows("r", "a", 0.5)


def test_the_keys_are_bounded_and_the_oldest_goes():
    caps = StrongCaps()
    while caps.allows("r", "first", 0.01):
        pass
    for n in range(MOST_KEYS):
        caps.earn("r", f"k{n}", 0.01)
    assert caps.allows("r", "first", 0.01), "forgotten, so it begins anew"
