import asyncio
import os

import pytest

from gateway.core.errors import PolicyError
from gateway.policy.load import load_policy
from gateway.policy.secrets import Secrets
from gateway.policy.watch import PolicyHolder

GOOD = "version: 1\ntargets: {{{}: {{provider: sandbox}}}}\n"


class Watched:
    def __init__(self, path, env=None):
        self.path = path
        self.now = 100.0
        self.changes = []
        self.secrets = Secrets(env or {}, path)
        self.holder = PolicyHolder(
            path,
            lambda: load_policy(path, self.secrets),
            wall=lambda: self.now,
            on_change=self.changes.append,
            also=lambda: self.secrets.files,
        )

    @property
    def names(self):
        return list(self.holder.current.targets)


@pytest.fixture
def watched(tmp_path):
    (tmp_path / "p.yaml").write_text(GOOD.format("a"))
    return Watched(tmp_path)


def test_the_first_load_fails_closed(tmp_path):
    (tmp_path / "p.yaml").write_text("version: 7\n")
    with pytest.raises(PolicyError, match=r"p\.yaml:1"):
        Watched(tmp_path)


async def test_nothing_is_loaded_while_nothing_changes(watched):
    before = watched.holder.current
    assert await watched.holder.poll() is None
    assert watched.holder.current is before
    assert watched.holder.loaded_at == 100.0


async def test_a_change_replaces_the_policy_as_a_whole(watched):
    (watched.path / "p.yaml").write_text(GOOD.format("bb"))
    watched.now = 200.0
    assert await watched.holder.poll() is True
    assert watched.names == ["bb"]
    assert watched.changes == [watched.holder.current]
    assert (watched.holder.loaded_at, watched.holder.reloads_ok, watched.holder.reloads_failed) == (200.0, 1, 0)
    assert await watched.holder.poll() is None


async def test_a_broken_change_keeps_the_last_good_policy_and_says_why(watched):
    before = watched.holder.current
    (watched.path / "p.yaml").write_text("version: 1\ntargts: {}\n")
    assert await watched.holder.poll() is False
    assert watched.holder.current is before
    assert "p.yaml:2: targts: unknown key" in watched.holder.last_error
    assert (watched.holder.reloads_ok, watched.holder.reloads_failed, watched.changes) == (0, 1, [])
    assert await watched.holder.poll() is None
    (watched.path / "p.yaml").write_text(GOOD.format("fixed"))
    assert await watched.holder.poll() is True
    assert watched.holder.last_error is None


async def test_files_that_come_and_go_are_changes(watched):
    (watched.path / "q.yaml").write_text(GOOD.format("b"))
    assert await watched.holder.poll() is True
    assert watched.names == ["a", "b"]
    (watched.path / "p.yaml").unlink()
    assert await watched.holder.poll() is True
    assert watched.names == ["b"]
    (watched.path / "q.yaml").unlink()
    assert await watched.holder.poll() is False
    assert watched.names == ["b"]


async def test_a_config_map_that_swaps_its_links_is_a_change(tmp_path):
    for version, name in (("v1", "a"), ("v2", "b")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "p.yaml").write_text(GOOD.format(name))
        os.utime(tmp_path / version / "p.yaml", ns=(1, 1))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    watched = Watched(tmp_path)
    (tmp_path / "..tmp").symlink_to("v2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert await watched.holder.poll() is True
    assert watched.names == ["b"]


async def test_a_secret_file_that_changes_is_a_change(tmp_path):
    (tmp_path / "p.yaml").write_text("version: 1\ntargets: {t: {provider: openai, api_key: file:key}}\n")
    (tmp_path / "key").write_text("first")
    watched = Watched(tmp_path)
    assert await watched.holder.poll() is None
    (tmp_path / "key").write_text("second!")
    assert await watched.holder.poll() is True
    assert watched.holder.current.targets["t"].headers == (("authorization", "Bearer second!"),)


async def test_a_secret_file_that_a_reload_names_first_is_no_second_change(watched):
    (watched.path / "key").write_text("first")
    (watched.path / "p.yaml").write_text("version: 1\ntargets: {t: {provider: openai, api_key: file:key}}\n")
    assert await watched.holder.poll() is True
    assert await watched.holder.poll() is None


def test_a_reload_on_demand_loads_also_without_a_change(watched):
    assert watched.holder.reload() is True
    assert watched.holder.reloads_ok == 1
    (watched.path / "p.yaml").write_text("[")
    assert watched.holder.reload() is False
    assert watched.names == ["a"]


async def test_a_write_during_a_load_is_seen_at_the_next_look(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(GOOD.format("a"))
    secrets = Secrets({}, tmp_path)
    pending = ["longer-name", "first"]

    def load():
        policy = load_policy(tmp_path, secrets)
        if pending:
            file.write_text(GOOD.format(pending.pop()))
        return policy

    holder = PolicyHolder(tmp_path, load, wall=lambda: 0.0)
    assert await holder.poll() is True
    assert list(holder.current.targets) == ["first"]
    assert await holder.poll() is True
    assert list(holder.current.targets) == ["longer-name"]
    assert await holder.poll() is None


async def test_watching_outlives_a_defect_of_a_listener_and_records_it(watched):
    ticks = asyncio.Queue()

    async def tick(interval):
        assert interval == 3.0
        await ticks.get()
        ticks.task_done()

    def listener(policy):
        if "bad" in policy.targets:
            raise RuntimeError("listener")

    watched.holder._on_change = listener
    watching = asyncio.create_task(watched.holder.watch(3.0, tick))
    good = asyncio.Event()
    (watched.path / "p.yaml").write_text(GOOD.format("bad"))
    ticks.put_nowait(None)
    await asyncio.wait_for(until(lambda: watched.holder.reloads_failed == 1), 10)
    assert watched.holder.last_error == "RuntimeError: listener"
    watched.holder._on_change = lambda policy: good.set()
    (watched.path / "p.yaml").write_text(GOOD.format("better"))
    ticks.put_nowait(None)
    await asyncio.wait_for(good.wait(), 10)
    assert watched.names == ["better"]
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def until(condition):
    while not condition():
        await asyncio.sleep(0)
