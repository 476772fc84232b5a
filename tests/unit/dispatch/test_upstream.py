"""Prepared requests: one for each target of each policy, whatever their names are."""

from gateway.core.exchange import Pool, Target
from gateway.dispatch.client import HttpClient
from gateway.dispatch.upstream import Upstreams


def test_two_targets_of_one_name_go_to_their_own_addresses_with_their_own_credentials():
    upstreams = Upstreams(HttpClient(), None)
    one = Target("up", "openai_compatible", base_url="http://127.0.0.1:1/v1", headers=(("authorization", "Bearer a"),))
    other = Target(
        "up", "openai_compatible", base_url="http://127.0.0.1:2/v1", headers=(("authorization", "Bearer b"),)
    )
    for _ in range(2):
        assert b"127.0.0.1:1" in upstreams._wire(one, None)._static
        assert b"Bearer b" in upstreams._wire(other, None)._static
    assert upstreams._wire(one, None) is upstreams._wire(one, None)


def test_replicas_of_a_pool_have_addresses_of_their_own():
    upstreams = Upstreams(HttpClient(), None)
    target = Target("own", "openai_compatible", pool=Pool("gpu", ("http://10.0.0.1:8000", "http://10.0.0.2:8000")))
    assert [upstreams._wire(target, replica).origin.authority for replica in target.pool.replicas] == [
        b"10.0.0.1:8000",
        b"10.0.0.2:8000",
    ]
