"""From labels of live traffic to a threshold that serves, and to its end when traffic moves: the real commands."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import time

import httpx

from gateway.database import open_database
from gateway.guarantee.certificate import WINDOW
from gateway.routing.labels import RoutingLabelStore
from gateway.routing.reading import read_request
from gateway.routing.scorer import open_scorer
from tests.support.calls import chat
from tests.support.gateway import farthing_command, start_gateway
from tests.support.routing_labels import label
from tests.support.upstream import Upstream
from tests.support.webhook import webhook

WORDS = ("what", "is", "the", "name", "of", "a", "river", "that", "runs", "through", "one", "old", "town", "into", "it")
AT_ONCE = 16


def policy(upstream, classify):
    """What callers ask is for one of two models, of one upstream."""
    target = {"provider": "openai_compatible", "base_url": f"{upstream.url}/v1", "price": {"input": 1, "output": 1}}
    return json.dumps(
        {
            "version": 1,
            "targets": {"small": {**target, "model": "l8"}, "big": {**target, "model": "l70"}},
            "routes": [{"name": "choice", "match": {}, "classify": {"weak": "small", "strong": "big", **classify}}],
            "money": {"alert_webhook": "env:HOOK"},
        }
    )


def asked(dice, words):
    """A prompt of about so many words."""
    return " ".join(dice.choice(WORDS) for _ in range(dice.randint(words, 3 * words))) + "?"


def labelled(data, count, dice, weak="l8"):
    """Puts labels of short prompts into the gateway's database, as comparing would: the weak target is as good."""
    scorer = open_scorer(embed=False)
    versions = {**scorer.versions("light", None), "weak": weak, "strong": "l70"}
    database = open_database(f"sqlite:///{data}/farthing.db")
    store = RoutingLabelStore(database)
    store.migrate()
    for n in range(count):
        store.add(
            label(
                n, request_id=f"{weak}-{n}", at_s=time.time() - 86_400 + n, route="choice", tier="light", versions=versions,
                score=scorer.score(read_request(chat(asked(dice, 3))), None).score,
                weak_quality=1.0, strong_quality=1.0, weak_cost_micro=100, strong_cost_micro=1000,
            )
        )  # fmt: skip
    database.close()


def calibrated(data, policies, *arguments):
    """What `farthing calibrate routing` prints."""
    done = subprocess.run(
        [
            *farthing_command(), "calibrate", "routing", "--route", "choice", "--from-labels",
            "--policies", str(policies), *arguments,
        ],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "FARTHING_DATA_DIR": str(data)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def explained_choice(policies):
    """What `farthing policy explain` says of a short prompt."""
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "what is it?"}]})
    done = subprocess.run(
        [*farthing_command(), "policy", "explain", "--policy", str(policies), "--request", "-", "--json"],
        input=body, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "HOOK": "http://127.0.0.1:9/"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def chosen_by(data):
    """The certificates and heads that the ledger's rows name, each pair once."""
    database = open_database(f"sqlite:///{data}/farthing.db")
    with contextlib.closing(database):
        return database.query("SELECT DISTINCT route_certificate, route_scorer FROM requests")


async def until(condition, limit_s=20):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.05)


async def send(http, prompts):
    """Sends all, some at a time; what was chosen for each."""
    waiting, said = iter(prompts), []

    async def sender():
        for prompt in waiting:
            body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200
            said.append(answer.headers["x-farthing-route"])

    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
    return said


@contextlib.asynccontextmanager
async def serving(data, hook, classify):
    env = {"FARTHING_DATA_DIR": str(data), "HOOK": hook}
    async with Upstream() as upstream:
        with start_gateway(policy(upstream, classify), env) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=30, trust_env=False) as http:
                yield gateway, http


async def test_traffic_that_moves_ends_a_certificate_from_live_labels_and_tells_of_it(tmp_path):
    dice = random.Random(1)
    with webhook() as (hook, received):
        async with serving(tmp_path, hook, {"max_quality_loss": "3%"}) as (gateway, http):
            await asyncio.to_thread(labelled, tmp_path, 600, dice)
            said = await asyncio.to_thread(calibrated, tmp_path, gateway.policies, "--since", "14d")
            assert "from             600 labels" in said
            await until(lambda: gateway.metric("farthing_routing_certified", route="choice") == 1)
            short = await send(http, [asked(dice, 3) for _ in range(50)])
            assert all("why=score; tier=light" in each for each in short)
            assert sum("choice=weak" in each for each in short) > 45
            (made,) = (gateway.policies / "certificates").glob("routing-choice-*.json")
            certificate = json.loads(made.read_bytes())
            await until(lambda: gateway.metric("farthing_ledger_rows_total") >= 50)
            assert chosen_by(tmp_path) == [(certificate["hash"][:8], certificate["versions"]["head"])]
            assert all(each.endswith(f"certificate={certificate['hash'][:8]}") for each in short)
            *_, explained, scorer = (await asyncio.to_thread(explained_choice, gateway.policies))["choice"]
            assert [(explained, scorer)] == chosen_by(tmp_path)
            assert gateway.metric("farthing_routing_calibration_stale", route="choice") == 0
            await send(http, [asked(dice, 200) for _ in range(WINDOW)])
            await until(lambda: gateway.metric("farthing_routing_calibration_stale", route="choice") == 1)
            assert gateway.metric("farthing_routing_certified", route="choice") == 0
            assert gateway.metric("farthing_routing_strong_share", route="choice") > 0.5
            (after,) = await send(http, [asked(dice, 3)])
            assert after.startswith("route=choice; choice=strong; why=uncertified; tier=light")
            await until(lambda: received)
            assert received[0]["type"] == "routing.calibration_stale"
            assert (received[0]["route"], received[0]["certified"]) == ("choice", True)
            assert "everything goes to the strong target until it is calibrated again" in gateway.log
            kept = made.read_bytes()
            await until(lambda: marked(tmp_path) == 1)
        async with serving(tmp_path, hook, {"max_quality_loss": "3%"}) as (gateway, http):
            (gateway.policies / "certificates").mkdir()
            (gateway.policies / "certificates" / "routing-choice.json").write_bytes(kept)
            await until(lambda: gateway.metric("farthing_routing_calibration_stale", route="choice") == 1)
            (again,) = await send(http, [asked(dice, 3)])
            assert "choice=strong; why=uncertified" in again
        assert len(received) == 1


def marked(data):
    """How many marks the gateway has left in its database."""
    database = open_database(f"sqlite:///{data}/farthing.db")
    with contextlib.closing(database):
        return database.query("SELECT COUNT(*) FROM routing_marks")[0][0]


async def test_a_share_of_the_ledgers_own_scores_still_decides_when_traffic_has_moved(tmp_path):
    """The scores are those that the ledger recorded while everything went to the strong target."""
    dice = random.Random(2)
    with webhook() as (hook, received):
        async with serving(tmp_path, hook, {"strong_share": "30%"}) as (gateway, http):
            first = await send(http, [asked(dice, 20) for _ in range(400)])
            assert all("choice=strong; why=uncertified" in each for each in first)
            await until(lambda: gateway.metric("farthing_ledger_rows_total") >= 400)
            said = await asyncio.to_thread(calibrated, tmp_path, gateway.policies)
            assert "400 scores of the ledger" in said
            await until(lambda: gateway.metric("farthing_routing_threshold", route="choice"))
            moved = await send(http, [asked(dice, 2) for _ in range(WINDOW)])
            assert sum("choice=weak" in each for each in moved) > 0.9 * WINDOW
            await until(lambda: gateway.metric("farthing_routing_calibration_stale", route="choice") == 1)
            (after,) = await send(http, [asked(dice, 2)])
            assert "choice=weak; why=score" in after
            await until(lambda: received)
            assert received[0]["certified"] is False


async def test_what_1000_requests_may_cost_is_calibrated_from_labels(tmp_path):
    dice = random.Random(3)
    with webhook() as (hook, _):
        async with serving(tmp_path, hook, {"target_cost": "$0.55/1k"}) as (gateway, http):
            await asyncio.to_thread(labelled, tmp_path, 400, dice)
            said = await asyncio.to_thread(calibrated, tmp_path, gateway.policies, "--target-cost", "$0.55/1k")
            assert "asked            at most $0.55/1k requests" in said
            await until(lambda: gateway.metric("farthing_routing_threshold", route="choice"))
            sides = await send(http, [asked(dice, 3) for _ in range(200)])
            assert 0.35 < sum("choice=strong" in each for each in sides) / 200 < 0.65
