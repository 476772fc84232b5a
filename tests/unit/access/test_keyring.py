import asyncio
import contextlib

import msgspec
import pytest

from gateway.access.keyring import Keyring, KeysUnavailable, held_of
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import KeyLimits, KeyRecord, digest
from gateway.core.errors import Unauthorized
from gateway.core.exchange import Identity
from gateway.database import DatabaseError, open_database
from tests.support.keys import NOW, ROOT, HandClock, draft, new_admin


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/keys.db"))) as opened:
        yield opened


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def keyring(store, clock):
    return Keyring(store, clock)


def test_nothing_is_known_before_the_first_refresh(keyring):
    for look_up in (lambda: keyring.find("x"), lambda: keyring.find_admin("x"), lambda: keyring.empty):
        with pytest.raises(KeysUnavailable) as refused:
            look_up()
        assert (refused.value.status, refused.value.retryable) == (503, True)


def test_a_key_is_found_by_its_digest_alone(store, keyring):
    record, made = store.create_key(draft(models=("gpt-*",)), ROOT, NOW)
    keyring.refresh()
    held = keyring.find(made.sha256)
    assert held.identity == Identity("shop", record.id)
    assert held.limits.models == ("gpt-*",)
    for other in (made.secret, made.prefix, record.id, made.sha256[:-1], made.sha256.upper()):
        assert keyring.find(other) is None


def test_a_revoked_key_says_so(store, keyring):
    record, made = store.create_key(draft(), ROOT, NOW)
    store.revoke_key(record.id, ROOT, NOW)
    keyring.refresh()
    with pytest.raises(Unauthorized) as refused:
        keyring.find(made.sha256)
    assert refused.value.code == "revoked_api_key"
    assert not keyring.empty, "a gateway whose only key is revoked is not open"


def test_a_key_expires_by_the_clock_without_a_refresh(store, keyring, clock):
    _, made = store.create_key(draft(expires_s=NOW + 10), ROOT, NOW)
    keyring.refresh()
    clock.advance(9.9)
    assert keyring.find(made.sha256) is not None
    clock.advance(0.1)
    with pytest.raises(Unauthorized) as refused:
        keyring.find(made.sha256)
    assert refused.value.code == "expired_api_key"


def test_both_secrets_of_a_rotation_serve_until_the_grace_ends(store, keyring, clock):
    record, old = store.create_key(draft(), ROOT, NOW)
    keyring.refresh()
    _, new = store.rotate_key(record.id, 30, ROOT, NOW)
    keyring.refresh()
    assert keyring.find(old.sha256).identity == keyring.find(new.sha256).identity
    clock.advance(30)
    with pytest.raises(Unauthorized, match="expired"):
        keyring.find(old.sha256)
    assert keyring.find(new.sha256) is not None


def test_a_second_rotation_ends_the_first_secret(store, keyring):
    record, first = store.create_key(draft(), ROOT, NOW)
    keyring.refresh()
    _, second = store.rotate_key(record.id, 30, ROOT, NOW)
    keyring.refresh()
    _, third = store.rotate_key(record.id, 30, ROOT, NOW)
    keyring.refresh()
    assert keyring.find(first.sha256) is None
    assert keyring.find(second.sha256) is not None
    assert keyring.find(third.sha256) is not None


def test_a_revocation_ends_both_secrets(store, keyring):
    record, old = store.create_key(draft(), ROOT, NOW)
    _, new = store.rotate_key(record.id, 30, ROOT, NOW)
    keyring.refresh()
    store.revoke_key(record.id, ROOT, NOW)
    keyring.refresh()
    assert keyring.find(old.sha256) is None
    with pytest.raises(Unauthorized, match="revoked"):
        keyring.find(new.sha256)


def test_a_grace_does_not_outlive_the_key():
    record = KeyRecord("key_a", "ci", "shop", NOW, "", "", "new", limits=KeyLimits(expires_s=NOW + 5))
    rotated = msgspec.structs.replace(record, previous_sha256="old", previous_until_s=NOW + 30)
    assert {sha256: held.ends_s for sha256, held in held_of(rotated, None).items()} == {"new": NOW + 5, "old": NOW + 5}


def test_a_tenant_changes_the_limits_of_its_keys_alone(store, keyring):
    shop, _ = store.create_key(draft("shop"), ROOT, NOW)
    bank, _ = store.create_key(draft("bank"), ROOT, NOW)
    keyring.refresh()
    before = keyring.by_id[bank.id]
    store.put_tenant("shop", KeyLimits(rpm=3), {}, ROOT, NOW)
    keyring.refresh()
    assert [rate.per_minute for rate in keyring.by_id[shop.id].applies.rates] == [3]
    assert keyring.by_id[bank.id] is before


def test_a_view_that_is_held_does_not_change(store, keyring):
    store.create_key(draft(), ROOT, NOW)
    keyring.refresh()
    held = keyring.by_hash
    before = dict(held)
    store.create_key(draft(), ROOT, NOW)
    keyring.refresh()
    assert held == before
    assert len(keyring.by_hash) == 2


def test_a_store_that_is_away_serves_the_last_view_for_a_minute_then_fails_closed(store, keyring, clock):
    _, made = store.create_key(draft(), ROOT, NOW)
    _, secret = new_admin(store, "owner")
    keyring.refresh()
    store.close()
    with pytest.raises(DatabaseError):
        keyring.refresh()
    clock.advance(60)
    assert keyring.find(made.sha256) is not None
    clock.advance(0.1)
    for look_up in (lambda: keyring.find(made.sha256), lambda: keyring.find_admin(secret)):
        with pytest.raises(KeysUnavailable):
            look_up()


def test_an_expired_or_revoked_credential_is_no_credential(store, keyring, clock):
    admin, secret = new_admin(store, "admin", expires_s=NOW + 10)
    gone, gone_secret = new_admin(store, "admin")
    store.revoke_admin(gone.id, ROOT, NOW)
    keyring.refresh()
    assert keyring.find_admin(secret).id == admin.id
    assert keyring.find_admin(gone_secret) is None
    assert keyring.find_admin(digest(secret)) is None
    clock.advance(10)
    assert keyring.find_admin(secret) is None


class Counting(Keyring):
    refreshes = 0

    def refresh(self):
        self.refreshes += 1
        return super().refresh()


async def test_an_outage_is_logged_once_however_often_it_is_met(store, clock, caplog):
    keyring = Counting(store, clock)
    task = asyncio.create_task(keyring.run(interval_s=0.001))
    try:
        async with asyncio.timeout(10):
            while not keyring.refreshes:
                await asyncio.sleep(0)
            store.close()
            begun = keyring.refreshes
            while keyring.refreshes < begun + 4:
                await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
