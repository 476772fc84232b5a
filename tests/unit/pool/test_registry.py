"""What a policy reload keeps of a pool."""

import pytest

from gateway.core.exchange import Pool
from gateway.pool.registry import PoolRegistry


def registry(*pools: Pool) -> PoolRegistry:
    made = PoolRegistry(lambda: 0.0)
    made.sync(pools)
    return made


def urls(r: PoolRegistry, name: str) -> list[str]:
    return [replica.url for replica in r.get(name).replicas]


def test_a_reload_without_change_keeps_the_very_pool():
    r = registry(Pool("p", ("http://a",)))
    before = r.get("p")
    r.sync([Pool("p", ("http://a",))])
    assert r.get("p") is before


def test_replicas_that_stay_keep_breaker_health_and_load_in_the_new_order():
    r = registry(Pool("p", ("http://a", "http://b")))
    a, b = r.get("p").replicas
    r.sync([Pool("p", ("http://c", "http://b", "http://a"), health_interval_s=1.0)])
    assert urls(r, "p") == ["http://c", "http://b", "http://a"]
    assert r.get("p").replicas[1:] == (b, a)
    assert r.get("p").pool.health_interval_s == 1.0


def test_the_turn_of_the_balancer_survives():
    r = registry(Pool("p", ("http://a",)))
    balancer = r.get("p").balancer
    r.sync([Pool("p", ("http://a", "http://b"))])
    assert r.get("p").balancer is balancer


def test_a_replica_that_left_and_came_back_starts_anew():
    r = registry(Pool("p", ("http://a", "http://b")))
    gone = r.get("p").replicas[1]
    r.sync([Pool("p", ("http://a",))])
    r.sync([Pool("p", ("http://a", "http://b"))])
    assert r.get("p").replicas[1] is not gone


def test_pools_do_not_share_replicas_even_at_the_same_url():
    r = registry(Pool("p", ("http://a",)), Pool("q", ("http://a",)))
    assert r.get("p").replicas[0] is not r.get("q").replicas[0]
    assert [state.pool.name for state in r.all()] == ["p", "q"]


def test_a_pool_that_no_policy_names_is_gone_while_its_running_calls_go_on():
    r = registry(Pool("p", ("http://a",)))
    held = r.get("p")
    r.sync([])
    with pytest.raises(KeyError):
        r.get("p")
    assert r.all() == []
    assert held.replicas[0].breaker.allow(0.0)
