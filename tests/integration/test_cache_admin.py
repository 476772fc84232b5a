"""The cache's operations on a live gateway: from watching to a certificate, and by the command line to the end."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway.guarantee.certificate import load
from tests.integration.test_cache import KEYS, asks, caller, kept, policy, post
from tests.support.gateway import farthing_command, start_gateway
from tests.support.upstream import Upstream

CACHE = {"exact": "1h", "semantic": {"ttl": "1h", "max_error": "20%"}, "tags": ["handbook"]}
ASKED = "How do I reset the password of an account?"
AGAIN = "How can I reset the password of an account?"
THINGS = ("account", "card", "router", "printer", "phone", "laptop", "modem", "camera", "alarm", "watch")


@contextlib.asynccontextmanager
async def world(cache=CACHE):
    async with Upstream() as upstream:
        with start_gateway(policy(upstream.url, cache), KEYS) as gateway:
            yield gateway, caller(gateway)


def farthing(gateway, *arguments, credential=None):
    """The command beside the gateway, as an operator runs it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    secret = credential if credential is not None else owner(gateway)
    return subprocess.run(
        [*farthing_command(), *arguments],
        cwd=gateway.policies.parent,
        env=clean | {"FARTHING_ADMIN_KEY": secret},
        capture_output=True,
        text=True,
        timeout=60,
    )


def owner(gateway):
    return re.search(r"sk-farthing-admin-\S+", gateway.log)[0]


def cache(gateway, action, *arguments):
    done = farthing(gateway, "cache", action, *arguments, "--url", gateway.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def explained(gateway):
    return json.loads(cache(gateway, "explain", AGAIN, "--model", "m", "--tenant", "shop", "--json"))


async def similar(http, gateway):
    """Questions with neighbours, until twenty of them have been judged."""
    for thing in THINGS:
        for form in ("How do I reset the password of the {}?", "How can I reset the password of the {}?",
                     "How could I reset the password of the {}?", "How may I reset the password of the {}?"):  # fmt: skip
            await post(http, asks(form.format(thing)))
        if gateway.metric("farthing_cache_labels_total", route="r", verdict="right") >= 20:
            return


async def test_a_route_watches_is_calibrated_and_serves_within_seconds():
    async with world() as (gateway, http), http:
        early = farthing(gateway, "calibrate", "cache", "--route", "r", "--policies", str(gateway.policies))
        assert (early.returncode, "no labels of the route 'r'" in early.stderr) == (2, True), early.stderr
        await similar(http, gateway)
        assert (explained(gateway)["decision"], explained(gateway)["reason"]) == ("miss", "shadow")
        arguments = ("calibrate", "cache", "--route", "r", "--policies", str(gateway.policies), "--json")
        for _ in range(10):  # labels are stored every two seconds
            tried = farthing(gateway, *arguments, "--dry-run")
            if tried.returncode == 0 and json.loads(tried.stdout.splitlines()[-1])["rows"] >= 20:
                break
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert not (gateway.policies / "certificates").exists()
        strict = farthing(gateway, *arguments, "--max-error", "0.1%", "--dry-run")
        assert (strict.returncode, "not certified" in strict.stdout) == (1, True)
        done = farthing(gateway, *arguments)
        found = json.loads(done.stdout.splitlines()[-1])
        assert (found["written"], found["certified"]["n"]) == (True, found["n"])
        assert found["certified"]["upper_bound"] <= 0.2
        assert Path(found["path"]).parent == gateway.policies / "certificates"
        assert re.fullmatch(r"cache-r-[0-9a-f]{8}\.json", Path(found["path"]).name)
        async with asyncio.timeout(8):
            while not explained(gateway)["serves"]:
                await asyncio.sleep(0.2)
        for spaces in range(20):  # a machine that is busy may need several tries, for a late look-up is a miss
            answer = await post(http, asks(AGAIN + " " * spaces))
            if answer.headers["x-farthing-cache"] == "semantic":
                break
        assert answer.headers["x-farthing-cache"] == "semantic"
        said = explained(gateway)
        assert (said["standing"], said["threshold"]) == ("certified", found["certified"]["threshold"])
        assert re.search(r"^r +1h +1h +0\.\d{3} ", cache(gateway, "stats"), re.MULTILINE)


def test_pairs_of_a_file_certify_a_route_without_a_gateway(tmp_path):
    (tmp_path / "policy.yaml").write_text(policy("http://127.0.0.1:1", CACHE))
    pairs = [
        {"a": f"How do I reset the password of the {thing}?", "b": f"How can I reset the password of the {other}?",
         "duplicate": int(thing == other)}
        for thing in THINGS for other in (thing, THINGS[0])
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    command = [*farthing_command(), "calibrate", "cache", "--policies", ".", "--pairs", "pairs.jsonl", "--json"]

    def run(*arguments):
        return subprocess.run([*command, *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True)

    done = run("--route", "r")
    found = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, found["rows"], found["beside"]) == (0, 20, []), done.stderr
    assert load((tmp_path / found["path"]).read_bytes()).versions == found["versions"]
    assert "few requests" in done.stdout
    elsewhere = run("--route", "r", "--out", "made.json")
    assert (elsewhere.returncode, (tmp_path / "made.json").is_file()) == (0, True)
    none = run("--route", "other")
    assert (none.returncode, "(those that have: r)" in none.stderr) == (2, True), none.stderr
    assert run("--route", "r", "--max-error", "100%").returncode == 2


async def test_answers_are_purged_by_tag_and_one_that_was_wrong_by_its_entry():
    async with world() as (gateway, http), http:
        first = await post(http, asks("hello there"))
        await kept(gateway)
        await post(http, asks("another question"))
        await kept(gateway, 2)
        assert (await post(http, asks("hello there"))).headers["x-farthing-cache"] == "exact"
        entry = first.headers["x-farthing-request-id"]
        assert cache(gateway, "feedback", entry) == f"{entry} of the route r is forgotten\n"
        assert (await post(http, asks("hello there"))).headers["x-farthing-cache"] == "miss"
        await kept(gateway, 3)
        assert cache(gateway, "purge", "--tag", "handbook", "--tenant", "lab") == "0 answers are forgotten\n"
        assert cache(gateway, "purge", "--tag", "handbook") == "2 answers are forgotten\n"
        assert (await post(http, asks("another question"))).headers["x-farthing-cache"] == "miss"
        stats = json.loads(cache(gateway, "stats", "--json"))
        assert stats["feedback_wrong"] == {"r": 1}
        again = farthing(gateway, "cache", "feedback", entry, "--url", gateway.url)
        assert (again.returncode, again.stderr) == (2, "farthing: There is no such entry.\n")


async def test_an_explanation_reads_like_one_and_shows_no_control_characters():
    async with world() as (gateway, http), http:
        body = asks("hello there, \x1b[31mred\x1b[0m friend")
        await post(http, body)
        await kept(gateway)
        request = gateway.policies.parent / "request.json"
        request.write_text(json.dumps(body))
        text = cache(gateway, "explain", "--request", str(request), "--tenant", "shop")
        assert text.startswith("decision   exact: the answer to exactly this request is stored\nroute      r\n")
        text = cache(gateway, "explain", "hello there, red friend", "--model", "m", "--tenant", "shop")
        assert "\x1b" not in text


@pytest.mark.parametrize("action", [["stats"], ["purge", "--all"], ["feedback", "x"]])
async def test_who_may_not_is_told_what_to_do(action):
    async with world() as (gateway, http), http:
        wrong = farthing(gateway, "cache", *action, "--url", gateway.url, credential="sk-farthing-admin-wrong")
        assert (wrong.returncode, "FARTHING_ADMIN_KEY" in wrong.stderr) == (2, True)
        auditor = json.loads(farthing(gateway, "admin", "create", "--name", "a", "--role", "auditor", "--json").stdout)[
            "secret"
        ]
        told = farthing(gateway, "cache", *action, "--url", gateway.url, credential=auditor)
        assert told.returncode == (0 if action == ["stats"] else 2)
        assert action == ["stats"] or "role" in told.stderr


def test_without_a_gateway_or_a_credential_it_says_so(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    for more, said in (
        ({}, "FARTHING_ADMIN_KEY"),
        ({"FARTHING_ADMIN_KEY": "sk-farthing-admin-x"}, "no gateway at http://127.0.0.1:9"),
    ):
        command = [*farthing_command(), "cache", "stats", "--url", "http://127.0.0.1:9"]
        done = subprocess.run(command, cwd=tmp_path, env=clean | more, capture_output=True, text=True, timeout=30)
        assert (done.returncode, said in done.stderr) == (2, True)


async def test_a_gateway_that_caches_nothing_says_so():
    async with world({}) as (gateway, http), http:
        done = farthing(gateway, "cache", "stats", "--url", gateway.url)
        assert (done.returncode, "No route caches; fix:" in done.stderr) == (2, True)
