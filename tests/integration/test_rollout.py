"""Policies on trial, seen from outside: two gateways on one database, and the commands that an operator has at 3 a.m."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.gateway import farthing_command, start_gateway
from tests.support.postgres_server import postgres_server
from tests.support.upstream import Upstream

FAST = {"provider": "sandbox", "latency_ms": 1, "tokens_per_s": 100_000}
SERVED = {
    "version": 1,
    "targets": {"small": {**FAST, "model": "sandbox-small"}, "slow": {**FAST, "latency_ms": 1500}},
    "routes": [
        {"name": "slow", "match": {"models": ["slow"]}, "target": "slow"},
        {"name": "all", "match": {}, "target": "small"},
    ],
}
CANDIDATE = {
    "version": 1,
    "targets": {"large": {**FAST, "model": "sandbox-large"}, "slow": {**FAST, "latency_ms": 1500}},
    "routes": [
        {"name": "slow", "match": {"models": ["slow"]}, "target": "slow"},
        {"name": "all", "match": {}, "target": "large"},
    ],
}


class World:
    """Gateways on one database, and the command line beside them."""

    def __init__(self, gateways, env, scratch):
        self.gateways = gateways
        self.env = env
        self.candidate = scratch / "candidate"
        self.candidate.mkdir()
        (self.candidate / "policy.yaml").write_text(json.dumps(CANDIDATE))

    def run(self, *arguments, ok=True):
        done = subprocess.run(
            [*farthing_command(), "policy", *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *how):
        return self.run("rollout", "start", "--candidate", str(self.candidate), *how)

    def admin(self, method, path, body=None, of=0):
        """A call of the first owner, whose secret the first gateway has printed."""
        secret = next(filter(None, (re.search(r"sk-farthing-admin-[\w-]{43}", each.log) for each in self.gateways)))[0]
        headers = {"authorization": f"Bearer {secret}"}
        url = f"{self.gateways[of].url}/admin/v1/rollout{path}"
        answer = httpx.request(method, url, json=body or {}, headers=headers, timeout=10, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self):
        return json.loads(self.run("rollout", "status", "--json"))

    def ask(self, session=None, *, of=0, model="auto", user=None, status=200):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        if user:
            body["user"] = user
        headers = {"x-farthing-session": session} if session else {}
        url = f"{self.gateways[of].url}/v1/chat/completions"
        answer = httpx.post(url, json=body, headers=headers, timeout=10, trust_env=False)
        assert status in (None, answer.status_code), answer.text
        return answer

    def targets(self, sessions, **more):
        return [self.ask(session, **more).headers["x-farthing-target"] for session in sessions]

    def ready(self, of=0):
        return httpx.get(f"{self.gateways[of].url}/health/ready", trust_env=False).json()


@contextlib.contextmanager
def world(env, scratch, gateways=2, policy=SERVED):
    with contextlib.ExitStack() as stack:
        live = [
            stack.enter_context(
                start_gateway(
                    json.dumps(policy),
                    {**env, "FARTHING_DATA_DIR": str(scratch / f"data-{n}"), "FARTHING_RELOAD_INTERVAL_S": "0.05"},
                )
            )
            for n in range(gateways)
        ]
        made = World(live, env, scratch)
        until(lambda: len(made.status()["gateways"]) == gateways)
        yield made


def until(holds, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def two(request, tmp_path):
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/shared.db"
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgres").database())
        yield stack.enter_context(world({"FARTHING_DATABASE": url}, tmp_path))


@pytest.fixture
def one(tmp_path):
    with world({"FARTHING_DATABASE": f"sqlite:///{tmp_path}/one.db"}, tmp_path, gateways=1) as made:
        yield made


SESSIONS = [f"session-{n}" for n in range(60)]


def test_a_canary_is_sticky_on_every_replica_and_a_rollback_is_in_force_within_a_second(two):
    told = two.start("--share", "50%")
    assert "followed by 2 of 2 gateways" in told
    first, second = two.targets(SESSIONS, of=0), two.targets(SESSIONS, of=1)
    assert first == second, "a session is on the same side everywhere"
    assert 15 <= first.count("large") <= 45
    assert two.targets(SESSIONS, of=0) == first

    two.run("rollout", "set", "--share", "80%")
    wider = two.targets(SESSIONS)
    assert all(now == "large" for then, now in zip(first, wider, strict=True) if then == "large"), "who was in stays in"
    assert wider.count("large") > first.count("large")

    in_force, candidate = two.ready()["policy"], two.ready()["on_trial"]["policy"]
    answers = {each.headers["x-farthing-policy"] for each in (two.ask(session) for session in SESSIONS[:20])}
    assert answers == {in_force, candidate}

    took = rolled_back(two)
    print(f"rollback seen from outside on both replicas after {took:.2f} s")
    assert took < 1.0
    assert set(two.targets(SESSIONS, of=0) + two.targets(SESSIONS, of=1)) == {"small"}


def rolled_back(two):
    """Seconds from the call that rolls back on one replica until none answers by the candidate any more."""
    inside = next(session for session in SESSIONS if two.ask(session).headers["x-farthing-target"] == "large")
    with ThreadPoolExecutor(2) as pool:
        last = [pool.submit(last_seen, two, inside, of) for of in (0, 1)]
        began = time.monotonic()
        assert "no longer on trial" in two.admin("POST", "/rollback")["told"]
        return max(each.result() for each in last) - began


def last_seen(two, session, of):
    """When a replica first answers by the policy in force."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if two.ask(session, of=of).headers["x-farthing-target"] == "small":
            return time.monotonic()
    raise AssertionError("it went on")


def test_a_canary_that_fails_is_held_at_none_by_its_condition_on_every_replica(tmp_path):
    env = {"FARTHING_DATABASE": f"sqlite:///{tmp_path}/two.db"}
    with world(env, tmp_path, gateways=2) as live:
        broken = {**CANDIDATE, "targets": {**CANDIDATE["targets"], "large": {**FAST, "error_rate": "100%"}}}
        (live.candidate / "policy.yaml").write_text(json.dumps(broken))
        told = live.run("rollout", "start", "--candidate", str(live.candidate), "--share", "5%",
                        "--abort-on", "errors>1", ok=False)  # fmt: skip
        assert "'errors>1' is no condition" in told
        live.start("--share", "30%", "--abort-on", "errors>+5%,cost>+100%")
        assert "abort on   errors>+5%,cost>+100%" in live.run("rollout", "status")
        candidate = live.ready()["on_trial"]["policy"]
        deadline = time.monotonic() + 40
        while live.ready()["on_trial"]["share"]:
            assert time.monotonic() < deadline
            for session in SESSIONS:
                live.ask(session, status=None)
        until(lambda: live.ready(of=1)["on_trial"]["share"] == 0)
        for of, gateway in enumerate(live.gateways):
            assert set(live.targets(SESSIONS[:20], of=of)) == {"small"}
            assert gateway.metric("farthing_rollout_aborted", hash=candidate, condition="errors>+5%") == 1
            assert gateway.metric("farthing_rollout_share", hash=candidate, mode="canary") == 0
            assert f"the canary {candidate} is aborted" in gateway.log
        status = live.run("rollout", "status")
        assert "ABORTED    errors>+5%: 100.00% of " in status
        assert live.status()["on_trial"]["aborted"].startswith("errors>+5%")
        assert "was aborted" in live.run("rollout", "promote", ok=False)
        assert "decides 1 % of requests" in live.run("rollout", "set", "--share", "1%")
        assert live.ready()["on_trial"]["aborted"] is None
        live.run("rollback")


def test_requests_under_way_end_under_the_policy_that_decided_them(two):
    two.start("--share", "100%")
    candidate = two.ready()["on_trial"]["policy"]

    async def both():
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            body = {"model": "slow", "messages": [{"role": "user", "content": "hi"}]}
            url = f"{two.gateways[0].url}/v1/chat/completions"
            under_way = asyncio.create_task(http.post(url, json=body))
            deadline = time.monotonic() + 5
            while not await asyncio.to_thread(two.gateways[0].metric, "farthing_in_flight"):
                assert time.monotonic() < deadline
            await asyncio.to_thread(two.admin, "POST", "/rollback")
            assert not under_way.done(), "the rollback came while it was under way"
            return await under_way

    answer = asyncio.run(both())
    assert (answer.status_code, answer.headers["x-farthing-policy"]) == (200, candidate)
    assert two.ask().headers["x-farthing-policy"] != candidate


def test_a_shadow_changes_no_answer_and_its_disagreements_are_recorded(one):
    before = one.ask("s").headers
    one.start("--shadow")
    candidate = one.ready()["on_trial"]["policy"]
    for n in range(20):
        headers = one.ask(f"s{n}").headers
        assert (headers["x-farthing-target"], headers["x-farthing-policy"]) == ("small", before["x-farthing-policy"])
        assert headers["x-farthing-route"] == before["x-farthing-route"]
    for _ in range(2):
        assert one.ask(model="slow").headers["x-farthing-target"] == "slow"
    gateway = one.gateways[0]
    until(lambda: gateway.metric("farthing_rollout_shadow_total", result="same") == 2)
    assert gateway.metric("farthing_rollout_shadow_total", result="other") == 20
    assert gateway.metric("farthing_rollout_moves_total", origin="small", target="large") == 20
    assert gateway.metric("farthing_rollout_share", hash=candidate, mode="shadow") == 1
    until(lambda: one.status()["counts"]["in_force"]["requests"] == 22)
    shadow = one.status()["counts"]["shadow"]
    assert (shadow["disagreement"], shadow["moves"]) == (20 / 22, {"small -> large": 20})
    assert "small -> large: 20" in one.run("rollout", "status")


def test_a_candidate_that_is_wrong_is_never_on_trial(one):
    (one.candidate / "policy.yaml").write_text("version: 1\ntargets: {a: {provider: sandbox, modle: x}}\n")
    told = one.run("rollout", "start", "--candidate", str(one.candidate), "--share", "50%", ok=False)
    assert "policy.yaml:2" in told
    assert "did you mean 'model'?" in told
    assert one.ready()["on_trial"] is None

    document = {**CANDIDATE, "targets": {**CANDIDATE["targets"], "paid": {"provider": "openai", "api_key": "env:NONE"}}}
    (one.candidate / "policy.yaml").write_text(json.dumps(document))
    told = one.run("rollout", "start", "--candidate", str(one.candidate), "--share", "50%", ok=False)
    assert "the environment variable NONE is not set" in told, "the gateway says what it lacks"
    assert one.ready()["on_trial"] is None
    assert set(one.targets(SESSIONS[:10])) == {"small"}
    assert one.gateways[0].metric("farthing_rollout_errors") == 1
    one.run("rollback")
    assert one.ready()["rollout_errors"] is None


def test_the_policy_in_force_goes_back_one_and_stays_there_until_the_files_change(one):
    first = one.ready()["policy"]
    gateway, file = one.gateways[0], one.gateways[0].policies / "policy.yaml"
    file.write_text(json.dumps(CANDIDATE))
    until(lambda: one.ask().headers["x-farthing-target"] == "large")
    second = one.ready()["policy"]
    until(lambda: len(one.run("history").splitlines()) == 3)

    told = one.run("rollback")
    assert f"{first} is in force in place of {second}" in told
    assert f"{first} is pinned wherever the files hold {second}" in told
    assert one.ask().headers["x-farthing-target"] == "small"
    assert (one.ready()["policy"], one.ready()["pinned"]) == (first, first)
    assert gateway.metric("farthing_policy_pinned", hash=first) == 1
    assert f"pinned over {second} of the files" in gateway.log

    file.write_text(json.dumps({**SERVED, "defaults": {"retries": {"attempts": 1}}}))
    until(lambda: one.ready()["pinned"] is None)
    assert one.ready()["policy"] not in (first, second)
    file.write_text(json.dumps(CANDIDATE))
    until(lambda: one.ready()["pinned"] == first)
    one.run("resume")
    assert one.ask().headers["x-farthing-target"] == "large"
    assert one.ready()["pinned"] is None


def test_a_pinned_policy_is_still_pinned_after_a_restart(tmp_path):
    env = {"FARTHING_DATABASE": f"sqlite:///{tmp_path}/one.db"}
    with world(env, tmp_path, gateways=1) as live:
        live.run("rollout", "start", "--candidate", str(live.candidate), "--shadow")
        told = live.run("rollout", "promote")
        assert "commit the candidate" in told
        assert live.ask().headers["x-farthing-target"] == "large"
        candidate = live.ready()["pinned"]
    with start_gateway(json.dumps(SERVED), {**env, "FARTHING_DATA_DIR": str(tmp_path / "data-0")}) as again:
        ready = httpx.get(f"{again.url}/health/ready", trust_env=False).json()
        assert (ready["policy"], ready["pinned"]) == (candidate, candidate)
        assert "pinned over" in again.log


def test_a_file_puts_a_candidate_on_trial_and_the_command_stops_it_until_the_file_changes(one):
    folder = one.gateways[0].policies
    (folder / "candidate").mkdir()
    (folder / "candidate/policy.yaml").write_text(json.dumps(CANDIDATE))
    rollout = folder / "rollout.yaml"
    rollout.write_text("version: 1\ncandidate: candidate\nmode: canary\nshare: 100%\n")
    until(lambda: one.ask().headers["x-farthing-target"] == "large")

    (folder / "candidate/policy.yaml").write_text("version: 1\ntargets: {large: {provider: sandbx}}\n")
    until(lambda: one.ready()["rollout_errors"] is not None)
    assert "policy.yaml:2" in one.ready()["rollout_errors"][0]
    assert one.ask().headers["x-farthing-target"] == "large", "the last good candidate stays on trial"
    (folder / "candidate/policy.yaml").write_text(json.dumps(CANDIDATE))
    until(lambda: one.ready()["rollout_errors"] is None)

    assert "change that file" in one.run(
        "rollout", "start", "--candidate", str(one.candidate), "--share", "5%", ok=False
    )
    one.run("rollback")
    assert one.ask().headers["x-farthing-target"] == "small"
    rollout.write_text("version: 1\ncandidate: candidate\nmode: canary\nshare: 99.99%\n")
    until(lambda: one.ask().headers["x-farthing-target"] == "large")


def test_without_books_the_file_is_followed(tmp_path):
    with start_gateway(json.dumps(SERVED), {"FARTHING_DATABASE": "none"}) as live:
        (live.policies / "candidate.d").mkdir()
        (live.policies / "candidate.d/p.yaml").write_text(json.dumps(CANDIDATE))
        (live.policies / "rollout.yaml").write_text("version: 1\ncandidate: candidate.d\nmode: canary\nshare: 100%\n")
        made = World([live], {}, tmp_path)
        until(lambda: made.ask().headers["x-farthing-target"] == "large")
        (live.policies / "rollout.yaml").write_text("version: 1\ncandidate: candidate.d\nmode: off\n")
        until(lambda: made.ask().headers["x-farthing-target"] == "small")


def test_a_candidate_lets_nobody_in_and_its_broken_target_opens_no_breaker_of_the_policy_in_force(tmp_path):
    keys = {"A": "sk-aaaaaa-0123456789-abcdef", "B": "sk-bbbbbb-9876543210-fedcba"}
    served = {**SERVED, "keys": {"a": {"tenant": "a", "secret": "env:A"}}}
    env = {"FARTHING_DATABASE": f"sqlite:///{tmp_path}/one.db", **keys}
    with world(env, tmp_path, gateways=1, policy=served) as live:
        broken = {
            **SERVED,
            "targets": {**SERVED["targets"], "small": {**FAST, "model": "sandbox-small", "error_rate": "100%"}},
            "keys": {name: {"tenant": name, "secret": f"env:{name.upper()}"} for name in "ab"},
        }
        (live.candidate / "policy.yaml").write_text(json.dumps(broken))
        live.start("--share", "50%")

        def status(session, key):
            body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
            headers = {"authorization": f"Bearer {keys[key]}", "x-farthing-session": session}
            url = f"{live.gateways[0].url}/v1/chat/completions"
            return httpx.post(url, json=body, headers=headers, timeout=10, trust_env=False).status_code

        assert {status(session, "B") for session in SESSIONS[:10]} == {401}
        for _ in range(2):
            seen = [status(session, "A") for session in SESSIONS]
        assert 15 <= seen.count(200) <= 45, "those that the policy in force decides are served"
        gateway = live.gateways[0]
        assert gateway.metric("farthing_breaker_state", target="small", state="closed") == 1
        until(lambda: live.status()["counts"]["candidate"]["errors"] > 0)
        assert live.status()["counts"]["in_force"]["errors"] == 0


async def test_targets_of_one_name_in_both_policies_are_not_mixed_up(tmp_path):
    async with Upstream() as here, Upstream() as there:
        policies = [
            {
                "version": 1,
                "targets": {
                    "up": {
                        "provider": "openai_compatible",
                        "base_url": f"{upstream.url}/v1",
                        "api_key": f"env:{key}",
                        "price": {"input": dollars, "output": dollars},
                    }
                },
                "routes": [{"name": "all", "match": {}, "target": "up"}],
            }
            for upstream, key, dollars in ((here, "HERE", 1), (there, "THERE", 1000))
        ]
        keys = {"HERE": "sk-here-0123456789-abcdef", "THERE": "sk-there-0123456789-abcdef"}
        env = {"FARTHING_DATABASE": f"sqlite:///{tmp_path}/one.db", **keys}

        def drive():
            with world(env, tmp_path, gateways=1, policy=policies[0]) as live:
                (live.candidate / "policy.yaml").write_text(json.dumps(policies[1]))
                live.start("--share", "50%")
                answers = [live.ask(session).headers for session in SESSIONS]
                return live.ready(), answers

        ready, answers = await asyncio.to_thread(drive)
        candidate = [each for each in answers if each["x-farthing-policy"] == ready["on_trial"]["policy"]]
        assert 15 <= len(candidate) <= 45
        for upstream, number, key in ((here, 60 - len(candidate), "HERE"), (there, len(candidate), "THERE")):
            assert len(upstream.requests) == number
            assert {request.header("authorization") for request in upstream.requests} == {f"Bearer {keys[key]}"}
        costs = {each["x-farthing-policy"]: float(each["x-farthing-cost-usd"]) for each in answers}
        assert costs[ready["on_trial"]["policy"]] == pytest.approx(1000 * costs[ready["policy"]])
