"""Questions in other words, replayed through the encoder, the verifier and the certificate that would serve them."""

import pytest

from gateway.cache.verify.verifier import load_verifier
from gateway.encoder import open_model
from gateway.simulate.sources import load_policy
from gateway.simulate.world import Before
from tests.support.certificates import certify_route
from tests.support.simulations import BEGIN_S, BOOK, TARGETS, seen

POLICY = (
    "version: 1\n" + TARGETS + "routes: [{name: faq, match: {}, target: fast, "
    "cache: {exact: 2h, semantic: {ttl: 1h, max_error: 1%}}}]\n"
)
FIRST, AGAIN = "How can a tent be returned?", "How does one return a tent?"
OTHER, PERSONAL = "How can a stove be repaired?", "Where is my order 12345?"


@pytest.fixture(scope="module")
def versions():
    return {"encoder": open_model("minilm").version, "verifier": load_verifier().version}


@pytest.fixture
def replayed(tmp_path, versions):
    """What became of texts asked at seconds after the beginning, under a policy that is certified or not."""

    def replay(*asked, certified=True, text=POLICY, **fields):
        (tmp_path / "policy.yaml").write_text(text)
        if certified:
            certify_route(tmp_path, "faq", versions, threshold=0.5)
        world = load_policy(tmp_path, lambda _: BOOK, lambda: "minilm").world(Before())
        return [world.replay(seen(words, **fields), 0.0, BEGIN_S + at_s) for words, at_s in asked]

    return replay


def kinds(outcomes):
    return [each.why if each.kind == "hit" else each.kind for each in outcomes]


def test_the_same_question_in_other_words_is_a_hit_until_its_time_is_up(replayed):
    found = replayed((FIRST, 0), (AGAIN, 3600), (OTHER, 3600), (FIRST, 3601))
    assert kinds(found) == ["served", "semantic", "served", "exact"]
    assert [each.undecided for each in found] == [()] * 4
    assert kinds(replayed((FIRST, 0), (AGAIN, 3601))) == ["served", "served"]


def test_without_a_certificate_nothing_is_found_and_nothing_is_open(replayed):
    found = replayed((FIRST, 0), (AGAIN, 1), certified=False)
    assert kinds(found) == ["served", "served"]
    assert found[1].undecided == ()


def test_a_certificate_for_more_errors_than_the_policy_allows_does_not_count(replayed):
    assert kinds(replayed((FIRST, 0), (AGAIN, 1), text=POLICY.replace("1%", "0.5%"))) == ["served", "served"]


def test_what_is_personal_or_asks_for_no_similar_answer_is_asked_anew(replayed):
    assert kinds(replayed((PERSONAL, 0), (PERSONAL.replace("Where is", "Where's"), 1))) == ["served", "served"]
    headers = {"x-farthing-cache": "exact"}
    assert kinds(replayed((FIRST, 0), (AGAIN, 1), headers=headers)) == ["served", "served"]


def test_why_a_route_only_watches_is_told(tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    ((route, why),) = load_policy(tmp_path, lambda _: BOOK, lambda: "minilm").watching()
    assert (route, why) == ("faq", "not calibrated yet: farthing calibrate cache --route NAME")


def test_without_an_encoder_hits_are_those_of_the_record(tmp_path, versions):
    (tmp_path / "policy.yaml").write_text(POLICY)
    certify_route(tmp_path, "faq", versions, threshold=0.5)
    loaded = load_policy(tmp_path, lambda _: BOOK, lambda: str(tmp_path / "none"))
    assert loaded.similar.missing
    world = loaded.world(Before())
    assert world.replay(seen(FIRST, cache="semantic"), 0.0, BEGIN_S).why == "semantic"
    assert world.replay(seen(OTHER), 0.0, BEGIN_S).undecided == ("faq: cache",)
