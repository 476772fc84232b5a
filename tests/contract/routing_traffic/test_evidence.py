"""What a threshold is calibrated on, out of a ledger and its labels, on every database."""

import pytest

from gateway.core.exchange import Choice
from gateway.ledger.rows import closed
from gateway.ledger.store import LedgerStore
from gateway.routing.evidence import of_traffic
from gateway.routing.labels import RoutingLabelStore
from tests.support.ledger_rows import ended
from tests.support.policies import policy
from tests.support.routing_labels import AT_S, VERSIONS, label

TARGETS = "targets: {small: {provider: vllm, model: l8}, big: {provider: vllm, model: l70}}\n"
RULE = (
    policy(
        f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big, tier: embed, strong_share: 30%}}}}]\n"
    )
    .routes[0]
    .classify
)
PARTS = {part: version for part, version in VERSIONS.items() if part not in ("weak", "strong")}


@pytest.fixture
def ledger(database):
    made = LedgerStore(database)
    made.migrate()
    return made


@pytest.fixture
def labels(database):
    made = RoutingLabelStore(database)
    made.migrate()
    return made


def recorded(score, at_s=AT_S, tier="embed", route="r"):
    return closed(ended(at_s, route=route, choice=Choice("weak", "score", tier, score, 0.2)))


def found(database, since_s=AT_S - 1):
    return of_traffic(database, RULE, PARTS, since_s)


def test_the_scores_of_the_route_since_then_are_read_with_those_of_texts_that_another_tier_scored(database, ledger):
    ledger.insert([
        recorded(0.9, AT_S - 2), recorded(0.8, AT_S, tier="light"), recorded(0.1, AT_S + 1),
        recorded(0.2, AT_S + 2, tier="light"), recorded(0.3, AT_S + 3), recorded(0.7, AT_S + 4, route="other"),
        closed(ended(AT_S + 5, route="r")),
    ])  # fmt: skip
    assert found(database).traffic == [0.3, 0.2, 0.1]
    assert found(database, AT_S + 3).traffic == [0.3]


def test_labels_are_read_as_they_were_scored_and_sampled(database, labels):
    labels.add(label(1, score=0.1, weak_cost_micro=7, strong_cost_micro=80, weight=50.0))
    labels.add(label(2, score=0.2, weak_quality=1.0, strong_quality=0.5, strong_cost_micro=None, weight=20.0))
    labels.add(label(3, source="feedback", weight=1.0))
    labels.add(label(4, versions={**VERSIONS, "weak": "l7"}))
    labels.add(label(5, route="other"))
    evidence = found(database)
    assert evidence.scores.tolist() == [0.1, 0.2]
    assert (evidence.rows.strong - evidence.rows.weak).tolist() == [0.75, -0.5]
    assert evidence.weights.tolist() == [50.0, 20.0]
    assert evidence.priced().scores.tolist() == [0.1]
    assert evidence.priced().costs.strong.tolist() == [80.0]
    assert evidence.told == "2 labels, 1 left out (feedback is no sample), 1 left out (another weak)"


def test_the_ledgers_scores_count_from_when_the_parts_in_force_are_surely_those(database, ledger, labels):
    """The ledger names no versions; the last label of others does."""
    ledger.insert([recorded(n / 10, AT_S + n) for n in range(8)])
    labels.add(label(4, versions={**VERSIONS, "head": "older"}))
    labels.add(label(6))
    assert sorted(found(database).traffic) == [0.4, 0.5, 0.6, 0.7]


def test_a_ledger_without_the_columns_leaves_the_labels(database, labels):
    with database.transaction() as cursor:
        cursor.execute("CREATE TABLE requests (request_id TEXT, route TEXT, started_s DOUBLE PRECISION)")
    labels.add(label(1))
    assert found(database).traffic is None
    assert found(database).scores.tolist() == [0.1]


def test_a_database_without_anything_has_no_evidence(database):
    evidence = found(database)
    assert (len(evidence.scores), evidence.traffic, evidence.told) == (0, None, "0 labels")
