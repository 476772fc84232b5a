import argparse
import json
import re
import time

import pytest

from gateway.access.commands import allowance, count, duration_s, register
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import Allowance, digest
from gateway.core.errors import BadRequest, NotFound
from gateway.database import open_database
from gateway.settings import PREFIX, Settings


@pytest.fixture
def open_store(tmp_path):
    return lambda make=True: KeyStore(open_database(f"sqlite:///{tmp_path}/keys.db"))


@pytest.fixture
def farthing(open_store, capsys):
    """Runs a command as the command line would; what it printed."""
    parser = argparse.ArgumentParser(prog="farthing")
    register(parser.add_subparsers(required=True), open_store)

    def run(line: str, *more: str) -> str:
        arguments = parser.parse_args([*line.split(), *more])
        assert arguments.func(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def stored(open_store):
    def read(look):
        store = open_store()
        try:
            return look(store)
        finally:
            store.close()

    return read


FULL = (
    "keys create --tenant shop --name ci --models gpt-* --models o3 --routes chat --budget 500/month --budget 50/day "
    '--rpm 600 --tpm 200k --concurrency 50 --expires 90d --tag team-a --metadata {"owner":"ada"}'
)


def test_a_key_is_made_as_asked_and_its_secret_shown_once(farthing, stored):
    out = farthing(FULL)
    (secret,) = set(re.findall(r"sk-farthing-[\w-]{43}", out))
    assert "curl" in out
    (key,) = stored(lambda store: store.keys())
    assert key.sha256 == digest(secret)
    limits = key.limits
    assert (key.name, key.tenant, key.tags, key.metadata) == ("ci", "shop", ("team-a",), {"owner": "ada"})
    assert (limits.models, limits.routes) == (("gpt-*", "o3"), ("chat",))
    assert (limits.rpm, limits.tpm, limits.concurrency) == (600, 200_000, 50)
    assert limits.budgets == (Allowance("month", 500_000_000), Allowance("day", 50_000_000))
    assert limits.expires_s == pytest.approx(time.time() + 90 * 86_400, abs=60)
    for line in (f"keys show {key.id}", "keys list", "keys list --json", "tenants list", "admin list"):
        assert secret not in farthing(line)


def test_the_actor_is_the_user_of_the_machine(farthing, stored):
    farthing("keys create --tenant shop --name ci")
    assert {row.actor.partition(":")[0] for row in stored(lambda store: store.audit())} == {"cli"}


def test_json_carries_everything_and_the_secret(farthing):
    made = json.loads(farthing(FULL + " --json"))
    assert made["secret"].startswith("sk-farthing-")
    assert made["budgets"] == [
        {"period": "month", "limit_usd": "500.000000"},
        {"period": "day", "limit_usd": "50.000000"},
    ]
    (listed,) = json.loads(farthing("keys list --json"))
    del made["secret"]
    assert listed == made == json.loads(farthing(f"keys show {made['id']} --json"))


def test_a_list_is_a_table(farthing):
    farthing("keys create --tenant shop --name ci --budget 0.50/day")
    ended = json.loads(farthing("keys create --tenant bank --name old --json"))["id"]
    farthing(f"keys revoke {ended}")
    head, first, second = farthing("keys list").splitlines()
    assert head.split() == ["id", "name", "tenant", "secret", "state", "budgets"]
    assert first.split()[1:3] + first.split()[4:] == ["ci", "shop", "active", "$0.5/day"]
    assert "revoked" in second
    assert len(farthing("keys list --tenant shop").splitlines()) == 2


def test_a_rotation_prints_the_new_secret(farthing, stored):
    made = json.loads(farthing("keys create --tenant shop --name ci --json"))
    rotated = json.loads(farthing(f"keys rotate {made['id']} --grace 24h --json"))
    assert rotated["secret"] != made["secret"]
    key = stored(lambda store: store.key(made["id"]))
    assert (key.sha256, key.previous_sha256) == (digest(rotated["secret"]), digest(made["secret"]))
    assert key.previous_until_s == pytest.approx(time.time() + 86_400, abs=60)


def test_a_tenant_is_set_as_a_whole_and_keeps_its_metadata(farthing, stored):
    farthing("tenants set shop --rpm 60 --budget 500/month")
    farthing("tenants set shop --tpm 1.5m")
    assert stored(lambda store: store.tenant("shop")).limits.tpm == 1_500_000
    assert stored(lambda store: store.tenant("shop")).limits.rpm is None
    assert farthing("tenants list").splitlines()[1].split() == ["shop", "-", "1500000", "-", "-"]


def test_admin_credentials_are_made_listed_and_revoked(farthing):
    made = json.loads(farthing("admin create --name ada --role tenant_admin --tenant shop --rpm 10 --json"))
    assert made["secret"].startswith("sk-farthing-admin-")
    assert farthing("admin list").splitlines()[1].split() == [made["id"], "ada", "tenant_admin", "shop", "active"]
    farthing(f"admin revoke {made['id']}")
    assert "revoked" in farthing("admin list")
    assert "/admin/v1/keys" in farthing("admin create --name bob --role owner")


@pytest.mark.parametrize(
    ("line", "error", "fix"),
    [
        ("keys show key_aaaaaaaaaa", NotFound, "no such key"),
        ("keys create --tenant sh&op --name ci", BadRequest, "letters, digits"),
        ("keys create --tenant shop --name ci --budget 5/day --budget 6/day", BadRequest, "each period once"),
        ("admin create --name x --role tenant_admin", BadRequest, "needs a `tenant`"),
    ],
)
def test_what_cannot_be_is_told_with_what_to_do(farthing, line, error, fix):
    with pytest.raises(error, match=re.escape(fix)):
        farthing(line)


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("keys create --tenant shop --name ci --budget 500", "500/month"),
        ("keys create --tenant shop --name ci --budget 500/year", "day, week, month, total"),
        ("keys create --tenant shop --name ci --budget -5/day", "expected one argument"),
        ("keys create --tenant shop --name ci --tpm 1.5", "200k"),
        ("keys create --tenant shop --name ci --expires 90", "90d"),
        ("keys create --tenant shop --name ci --metadata [1]", "JSON object"),
        ("keys create --name ci", "--tenant"),
        ("admin create --name x --role root", "owner"),
    ],
)
def test_an_argument_that_cannot_be_read_is_told_with_an_example(farthing, capsys, line, fix):
    with pytest.raises(SystemExit):
        farthing(line)
    assert fix in capsys.readouterr().err


def test_values_are_read_exactly():
    assert allowance("0.000001/total") == Allowance("total", 1)
    assert allowance("$12.34/week") == Allowance("week", 12_340_000)
    assert [count(text) for text in ("1", "200k", "1.5M", "0.5k", "2.007k")] == [1, 200_000, 1_500_000, 500, 2007]
    assert [duration_s(text) for text in ("30s", "5m", "24h", "90d", "2w")] == [30, 300, 86_400, 7_776_000, 1_209_600]


def test_only_what_puts_something_into_the_store_may_make_one(open_store, capsys):
    asked = []

    def opened(make):
        asked.append(make)
        return open_store()

    parser = argparse.ArgumentParser(prog="farthing")
    register(parser.add_subparsers(required=True), opened)
    for line in ("keys create --tenant shop --name ci", "keys list", "tenants set shop", "tenants list", "admin list"):
        arguments = parser.parse_args(line.split())
        arguments.func(arguments)
    assert asked == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("keys create --tenant shop --name ci", "GATEWAY_KEY"),
        ("admin create --name ada --role owner", "FARTHING_ADMIN_KEY"),
    ],
)
def test_the_variable_that_is_suggested_is_no_misspelt_setting(farthing, line, name):
    assert f"export {name}=sk-farthing-" in farthing(line)
    assert not name.startswith(PREFIX) or name.removeprefix(PREFIX).lower() in Settings.model_fields
