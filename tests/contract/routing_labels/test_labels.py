"""Labels come back as they were stored, once each, by route or by tenant, until they are forgotten."""

import msgspec
import pytest

from gateway.database import open_database
from gateway.routing.labels import RoutingLabelStore
from tests.support.routing_labels import AT_S, label, packed, unit

ALL = (0.0, 1e12)


def test_a_label_comes_back_as_it_was_stored(store):
    whole = label(
        1, vector=packed(unit(0.6)), weak_cost_micro=None, strong_cost_micro=12_000_000_000, source="feedback"
    )
    store.add(whole)
    assert store.of("r", *ALL) == [whole]
    assert store.of("r", *ALL)[0].gain == 0.75


def test_the_first_label_of_a_request_stays(store):
    store.add(label(1))
    store.add(label(1, weak_quality=0.0, route="other"))
    assert store.of("r", *ALL) == [label(1)]
    assert store.of("other", *ALL) == []


def test_a_route_has_its_own_the_oldest_first_up_to_a_time(store):
    for n in (3, 1, 2):
        store.add(label(n))
    store.add(label(4, route="other"))
    assert [row.request_id[-1] for row in store.of("r", *ALL)] == ["1", "2", "3"]
    assert [row.request_id[-1] for row in store.of("r", AT_S + 1, AT_S + 3)] == ["1", "2"]


def test_a_tenant_has_its_newest_with_a_vector_first(store):
    near = packed(unit(0.6))
    for n in range(1, 5):
        store.add(label(n, vector=near))
    store.add(label(5))
    store.add(label(6, vector=near, tenant="lab"))
    store.add(label(7, vector=near, route="other"))
    assert [row.request_id[-1] for row in store.of_tenant("shop", "r", 0.0, 3)] == ["4", "3", "2"]
    assert [row.request_id[-1] for row in store.of_tenant("shop", "r", AT_S + 3, 9)] == ["4", "3"]


def test_old_ones_are_forgotten(store):
    for n in range(4):
        store.add(label(n))
    assert store.forget(AT_S + 2) == 2
    assert store.forget(AT_S + 2) == 0
    assert store.of("r", *ALL) == [label(2), label(3)]


def test_versions_may_be_any_text(store):
    odd = label(1, versions={"weak": 'a "quoted" % name?', "strong": "größer"})
    store.add(odd)
    assert store.of("r", *ALL) == [odd]


def test_a_vector_of_another_size_is_refused(tmp_path):
    store = RoutingLabelStore(open_database(f"sqlite:///{tmp_path}/labels.db"))
    with pytest.raises(ValueError, match="768 bytes"):
        store.add(label(1, vector=b"short"))


def test_a_label_is_as_large_as_its_vector():
    assert len(packed(unit(0.6))) == 768
    assert len(msgspec.json.encode(label(1))) < 500
