"""What live traffic teaches is kept, counted once, and ends a certificate that it refutes."""

import logging
import math

import msgspec
import pytest

from gateway.cache.certificates import Certificates
from gateway.cache.labels import MOST_WAITING, UNSURE, Label, Labels, weights
from gateway.cache.watch import Watcher
from gateway.policy.caching import CacheRule, SemanticRule
from tests.support.certificates import certify_route

MODELS = "encoder-1+verifier-1"
VERSIONS = {"encoder": "encoder-1", "verifier": "verifier-1"}
RULE = CacheRule("r", "v", semantic=SemanticRule(60.0))


def label(n=0, loss=0, score=0.9, weight=1.0, sampled=False, route="r", models=MODELS):
    return Label(1_800_000_000.0 + n, route, models, f"request-{n}", f"entry-{n}", score, loss, weight, sampled)


class Policy:
    caching = {"r": RULE}


class Semantic:
    models = MODELS
    versions = VERSIONS


async def collected(store, *labels, alone=0):
    labels_ = Labels(store, lambda: 1_800_000_000.0)
    for each in labels:
        labels_.note(each)
    for _ in range(alone):
        labels_.alone("r", MODELS)
    await labels_.flush()
    return labels_


async def test_rows_come_back_as_they_were_noted(store):
    rows = [label(2, loss=1, weight=50.0), label(1), label(3, sampled=True)]
    await collected(store, *rows)
    assert store.of("r", MODELS, 0, sampled=False) == [rows[1], rows[0]]
    assert store.of("r", MODELS, 0, sampled=True) == [rows[2]]


async def test_routes_models_and_times_are_kept_apart(store):
    await collected(store, label(1), label(2, route="other"), label(3, models="encoder-2+verifier-1"))
    assert len(store.of("r", MODELS, 0, sampled=False)) == 1
    assert store.of("r", MODELS, 1_800_000_002.0, sampled=False) == []


async def test_requests_without_a_neighbour_are_one_row_that_counts_for_all(store):
    await collected(store, label(1, loss=1), alone=40)
    rows = store.of("r", MODELS, 0, sampled=False)
    assert len(rows) == 2
    scores, losses, shares = weights(rows)
    assert (scores.count(-math.inf), len(scores), sum(losses), sum(shares)) == (40, 41, 1.0, 41.0)
    assert store.routes() == [("r", MODELS, 41.0)]


async def test_what_cannot_be_stored_waits_and_is_stored_once(store, caplog):
    labels = Labels(Broken(store), lambda: 0.0)
    labels.note(label(1))
    with caplog.at_level(logging.WARNING):
        await labels.flush()
    assert "labels of the cache wait" in caplog.text
    labels._store = store
    await labels.flush()
    await labels.flush()
    assert len(store.of("r", MODELS, 0, sampled=False)) == 1


class Broken:
    def __init__(self, store):
        self.store = store

    def add(self, _):
        from gateway.database import DatabaseError

        raise DatabaseError("gone")


async def test_more_than_fits_is_dropped_and_counted():
    labels = Labels(object(), lambda: 0.0)
    for n in range(MOST_WAITING + 3):
        labels.note(label(n))
    assert labels.dropped == 3


async def test_old_rows_are_forgotten(store):
    await collected(store, label(0), label(100))
    store.forget(1_800_000_050.0)
    assert [row.request for row in store.of("r", MODELS, 0, sampled=False)] == ["request-100"]


async def watched(store, tmp_path, losses):
    certify_route(tmp_path, "r", VERSIONS)
    certificates = Certificates(tmp_path)
    await collected(store, *[label(n, loss, sampled=True) for n, loss in enumerate(losses)])
    watcher = Watcher(Policy, Semantic, certificates, store)
    await watcher.look()
    return certificates, watcher


async def test_good_labels_leave_a_certificate_standing(store, tmp_path):
    certificates, watcher = await watched(store, tmp_path, [0] * 500)
    assert certificates.of(RULE, VERSIONS) is not None
    assert (watcher.watches["r"].seen, watcher.watches["r"].realised) == (500, 0.0)


async def test_bad_labels_end_it_and_say_so(store, tmp_path):
    certificates, _ = await watched(store, tmp_path, ([0] * 9 + [1]) * 50)
    standing = certificates.standing(RULE, VERSIONS)
    assert not standing.serves
    assert "refuted by live traffic" in standing.why


async def test_hits_of_a_bolder_policy_on_trial_are_no_losses_of_a_stricter_certificate(store, tmp_path):
    certify_route(tmp_path, "r", VERSIONS, threshold=0.95)
    certificates = Certificates(tmp_path)
    await collected(store, *[label(n, 1, sampled=True) for n in range(50)])
    watcher = Watcher(Policy, Semantic, certificates, store)
    await watcher.look()
    assert certificates.standing(RULE, VERSIONS).serves
    assert (watcher.watches["r"].seen, watcher.watches["r"].realised) == (50, 0.0)


async def test_a_new_certificate_is_judged_by_what_comes_after_it(store, tmp_path):
    certificates, watcher = await watched(store, tmp_path, [1] * 50)
    assert not certificates.standing(RULE, VERSIONS).serves
    path = next((tmp_path / "certificates").glob("*.json"))
    from gateway.guarantee.certificate import dump, load, seal

    later = msgspec.structs.replace(load(path.read_bytes()), date="2030-01-01T00:00:00+00:00", hash="")
    path.write_bytes(dump(seal(later)))
    certificates.refresh()
    await watcher.look()
    assert certificates.standing(RULE, VERSIONS).serves


async def test_labels_of_other_models_prove_nothing(store, tmp_path):
    certify_route(tmp_path, "r", VERSIONS)
    certificates = Certificates(tmp_path)
    await collected(store, *[label(n, 1, sampled=True, models="encoder-0+verifier-1") for n in range(50)])
    await Watcher(Policy, Semantic, certificates, store).look()
    assert certificates.standing(RULE, VERSIONS).serves


def test_a_certificate_that_was_changed_by_hand_certifies_nothing(tmp_path, caplog):
    certify_route(tmp_path, "r", VERSIONS)
    path = next((tmp_path / "certificates").glob("*.json"))
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.1'))
    with caplog.at_level(logging.ERROR):
        standing = Certificates(tmp_path).standing(RULE, VERSIONS)
    assert not standing.serves
    assert "changed after it was sealed" in standing.why
    assert "changed after it was sealed" in caplog.text


async def test_hits_that_could_not_be_judged_count_as_those_that_were(store, tmp_path):
    _, judged = await watched(store, tmp_path, [0, 1, 0, 0])
    await collected(store, *[label(10 + n, UNSURE, sampled=True) for n in range(4)])
    await judged.look()
    assert judged.watches["r"].realised == pytest.approx((1 + 4 * 0.25) / 8)
