"""Current and candidate policy, each with a calibration of its own: neither is without one at any moment of a rollout."""

import asyncio
import contextlib
import json
import os
import random
import subprocess

import httpx

from gateway.database import open_database
from tests.integration.test_routing_calibration import asked, labelled, policy, send, until
from tests.support.gateway import farthing_command, start_gateway
from tests.support.upstream import Upstream


async def test_a_candidate_with_its_own_certificate_is_tried_promoted_and_rolled_back_without_a_gap(tmp_path):
    dice, data = random.Random(5), tmp_path / "data"
    data.mkdir()

    def farthing(*arguments):
        env = {**os.environ, "FARTHING_DATA_DIR": str(data), "HOOK": "http://127.0.0.1:1/"}
        done = subprocess.run(
            [*farthing_command(), *arguments], capture_output=True, text=True, timeout=60, check=False, env=env
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def run(*arguments):
        return await asyncio.to_thread(farthing, *arguments)

    async def weak(http, count=40):
        """The share of easy requests that the weak target answers."""
        said = await send(http, [asked(dice, 3) for _ in range(count)])
        assert not [each for each in said if "why=uncertified" in each]
        return sum("choice=weak" in each for each in said) / count

    async with Upstream() as upstream:
        now = policy(upstream, {"max_quality_loss": "3%"})
        new = json.loads(now)
        new["targets"]["small"]["model"] = "l9"
        candidate = tmp_path / "candidate"
        candidate.mkdir()
        (candidate / "policy.yaml").write_text(json.dumps(new))
        with start_gateway(now, {"FARTHING_DATA_DIR": str(data), "HOOK": "http://127.0.0.1:1/"}) as gateway:
            calibrate = ("calibrate", "routing", "--route", "choice", "--policies", str(gateway.policies))
            await asyncio.to_thread(labelled, data, 600, dice)
            await run(*calibrate)
            await asyncio.to_thread(labelled, data, 600, dice, "l9")
            said = await run(*calibrate, "--candidate", str(candidate))
            assert "kept for policies that they fit" in said
            first, second = sorted(
                (gateway.policies / "certificates").glob("routing-choice-*.json"), key=lambda path: path.stat().st_mtime
            )
            async with httpx.AsyncClient(base_url=gateway.url, timeout=30, trust_env=False) as http:
                await until(lambda: gateway.metric("farthing_routing_certified", route="choice") == 1)
                await run("policy", "rollout", "start", "--candidate", str(candidate), "--share", "50%")
                assert await weak(http) > 0.9
                models = {json.loads(each.body)["model"] for each in upstream.requests}
                assert {"l8", "l9"} <= models, "both policies chose, each its own weak target"
                status = await run("policy", "rollout", "status")
                assert f"in force   routing choice: {first.name}" in status
                assert f"candidate  routing choice: {second.name}" in status

                await run("policy", "rollout", "promote")
                assert await weak(http) > 0.9
                assert gateway.metric("farthing_routing_certified", route="choice") == 1
                await run("policy", "rollback")
                assert await weak(http) > 0.9
                assert gateway.metric("farthing_routing_certified", route="choice") == 1
                await until(lambda: gateway.metric("farthing_ledger_rows_total") >= 120)
                hashes = [json.loads(each.read_bytes())["hash"][:8] for each in (first, second)]
                assert certificates_by_model(data) == [("l8", hashes[0]), ("l9", hashes[1])]


def certificates_by_model(data):
    """What the rows of weak answers name: each model, and the certificate that chose it."""
    database = open_database(f"sqlite:///{data}/farthing.db")
    with contextlib.closing(database):
        return database.query(
            "SELECT DISTINCT model, route_certificate FROM requests WHERE route_strong = 0 ORDER BY model"
        )
