"""What the store of keys promises, on SQLite and on PostgreSQL."""

import threading

import msgspec
import pytest

from gateway.access.authority import Actor
from gateway.access.keys_database import KeyStore, ensure_owner
from gateway.access.keystore import AdminDraft, KeyDraft, KeyLimits, digest
from gateway.core.errors import BadRequest, Forbidden, NotFound
from gateway.database import DatabaseError, open_database
from tests.support.keys import NOW, ROOT, draft, new_admin, per_month


def actions(store, **filters):
    return [row.action for row in store.audit(**filters)]


def test_a_key_comes_back_as_it_was_made(store):
    limits = KeyLimits(("chat",), ("gpt-*", "ü-*"), NOW + 60, 600, 200_000, 50, per_month(500))
    asked = KeyDraft("ci ü", "shop", ("team-a",), limits, {"owner": "ada", "deep": {"list": [1, None, "\x00"]}})
    record, made = store.create_key(asked, ROOT, NOW)
    assert store.key(record.id) == record
    assert (record.name, record.tenant, record.tags) == ("ci ü", "shop", ("team-a",))
    assert (record.limits, record.metadata) == (limits, asked.metadata)
    assert (record.created_s, record.created_by, record.sha256) == (NOW, "cli:root", digest(made.secret))


def test_a_secret_is_43_random_characters_and_only_its_digest_is_stored(store, url):
    record, made = store.create_key(draft(), ROOT, NOW)
    assert made.secret.startswith("sk-farthing-")
    assert len(made.secret) == 12 + 43
    assert made.secret.startswith(record.prefix)
    assert len(record.prefix) == 16
    database = open_database(url)
    try:
        for table in ("access_keys", "access_tenants", "access_admins", "access_audit"):
            assert made.secret not in repr(database.query(f"SELECT * FROM {table}"))
    finally:
        database.close()


def test_lists_go_page_by_page_in_the_order_of_making(store):
    made = [store.create_key(draft(tenant), ROOT, NOW)[0].id for tenant in ("a", "b", "a", "b", "a")]
    assert [key.id for key in store.keys(limit=9)] == made
    assert [key.id for key in store.keys(tenant="b")] == [made[1], made[3]]
    assert [key.id for key in store.keys(after=made[1], limit=2)] == made[2:4]
    assert [key.id for key in store.keys(after="key_aaaaaaaaaa")] == []
    assert [tenant.name for tenant in store.tenants()] == ["a", "b"]


@pytest.mark.parametrize("id_", ["key_aaaaaaaaaa", "", "\x00", "' OR 1=1 --"])
def test_what_does_not_exist_is_not_found_and_not_repeated(store, id_):
    for read in (store.key, store.tenant, lambda id_: store.revoke_key(id_, ROOT, NOW)):
        with pytest.raises(NotFound) as missing:
            read(id_)
        assert not id_ or id_ not in missing.value.message


def test_a_tenant_comes_into_being_with_its_first_key(store):
    store.create_key(draft("shop"), ROOT, NOW)
    store.create_key(draft("shop"), ROOT, NOW)
    assert actions(store) == ["key.create", "key.create", "tenant.create"]
    assert store.tenant("shop").limits == KeyLimits()


def test_a_tenant_is_made_and_replaced_as_a_whole(store):
    store.put_tenant("shop", KeyLimits(rpm=60, budgets=per_month(500)), {"cost-centre": 7}, ROOT, NOW)
    store.put_tenant("shop", KeyLimits(tpm=9), {}, ROOT, NOW + 1)
    record = store.tenant("shop")
    assert (record.limits, record.metadata, record.created_s) == (KeyLimits(tpm=9), {}, NOW)
    assert actions(store) == ["tenant.update", "tenant.create"]


def test_an_update_changes_what_may_change_and_nothing_else(store):
    record, _ = store.create_key(draft(rpm=5), ROOT, NOW)
    forged = {"name": "prod", "tenant": "other", "sha256": "0" * 64, "revoked_s": 1.0, "limits": KeyLimits(rpm=6)}
    after = store.update_key(record.id, lambda old: msgspec.structs.replace(old, **forged), ROOT, NOW)
    assert after == msgspec.structs.replace(record, name="prod", limits=KeyLimits(rpm=6))
    assert store.key(record.id) == after


def test_an_update_that_changes_nothing_leaves_no_trace(store):
    record, _ = store.create_key(draft(), ROOT, NOW)
    version = store.version()
    store.update_key(record.id, lambda old: old, ROOT, NOW)
    assert store.version() == version


def test_an_expired_key_can_still_be_renamed_and_prolonged(store):
    record, _ = store.create_key(draft(expires_s=NOW + 10), ROOT, NOW)
    store.update_key(record.id, lambda old: msgspec.structs.replace(old, name="old"), ROOT, NOW + 20)
    after = store.update_key(
        record.id, lambda old: msgspec.structs.replace(old, limits=KeyLimits(expires_s=NOW + 99)), ROOT, NOW + 20
    )
    assert (after.name, after.limits.expires_s) == ("old", NOW + 99)


def test_a_rotation_without_grace_forgets_the_old_secret(store):
    record, old = store.create_key(draft(), ROOT, NOW)
    rotated, new = store.rotate_key(record.id, 0, ROOT, NOW)
    assert (rotated.id, rotated.sha256, rotated.previous_sha256) == (record.id, digest(new.secret), None)
    assert old.sha256 != new.sha256


def test_a_rotation_with_grace_keeps_the_old_secret_for_that_long(store):
    record, old = store.create_key(draft(), ROOT, NOW)
    rotated, _ = store.rotate_key(record.id, 3600, ROOT, NOW)
    assert (rotated.previous_sha256, rotated.previous_until_s) == (old.sha256, NOW + 3600)
    assert store.key(record.id) == rotated


@pytest.mark.parametrize("grace_s", [-1, 31 * 86_400, float("nan")])
def test_a_grace_has_bounds(store, grace_s):
    record, _ = store.create_key(draft(), ROOT, NOW)
    with pytest.raises(BadRequest):
        store.rotate_key(record.id, grace_s, ROOT, NOW)


def test_a_revoked_key_is_over_for_good(store):
    record, _ = store.create_key(draft(), ROOT, NOW)
    store.rotate_key(record.id, 3600, ROOT, NOW)
    gone = store.revoke_key(record.id, ROOT, NOW + 5)
    assert (gone.revoked_s, gone.previous_sha256) == (NOW + 5, None)
    assert store.revoke_key(record.id, ROOT, NOW + 9) == gone
    for change in (
        lambda: store.rotate_key(record.id, 0, ROOT, NOW),
        lambda: store.update_key(record.id, lambda x: x, ROOT, NOW),
    ):
        with pytest.raises(BadRequest, match="for good"):
            change()
    assert actions(store, subject=record.id) == ["key.revoke", "key.rotate", "key.create"]


def test_every_change_moves_the_version_and_only_what_changed_is_newer(store):
    first, _ = store.create_key(draft("a"), ROOT, NOW)
    since = store.version()
    second, _ = store.create_key(draft("b"), ROOT, NOW)
    changes = store.changes(since)
    assert changes.version == store.version() > since
    assert [key.id for key in changes.keys] == [second.id]
    assert [tenant.name for tenant in changes.tenants] == ["b"]
    since = store.version()
    store.revoke_key(first.id, ROOT, NOW)
    assert [key.id for key in store.changes(since).keys] == [first.id]
    assert store.changes(store.version()).keys == []


def test_a_change_to_the_cache_is_on_the_audit_and_changes_no_record(store):
    before = store.version()
    store.note_cache("cache.purge", "tag=ü", "shop", {"tag": "ü"}, ROOT, NOW)
    row = store.audit(limit=1)[0]
    assert (row.action, row.subject, row.tenant, row.actor) == ("cache.purge", "tag=ü", "shop", "cli:root")
    assert (row.before, row.after, row.at_s) == (None, {"tag": "ü"}, NOW)
    changes = store.changes(before)
    assert (changes.version > before, changes.keys, changes.tenants, changes.admins) == (True, [], [], [])


def test_who_may_not_purge_leaves_no_row(store):
    auditor, _ = new_admin(store, "auditor")
    with pytest.raises(Forbidden):
        store.note_cache("cache.purge", "all=True", None, {"all": True}, auditor, NOW)
    assert "cache.purge" not in actions(store)


def test_the_audit_says_who_changed_what_when_and_how(store):
    tenant_admin, _ = new_admin(store, "tenant_admin", "shop")
    record, _ = store.create_key(draft(rpm=5), tenant_admin, NOW + 1)
    store.update_key(record.id, lambda old: msgspec.structs.replace(old, limits=KeyLimits(rpm=9)), ROOT, NOW + 2)
    row = store.audit(limit=1)[0]
    assert (row.actor, row.at_s, row.action, row.subject, row.tenant) == (
        "cli:root", NOW + 2, "key.update", record.id, "shop",
    )  # fmt: skip
    assert (row.before["rpm"], row.after["rpm"]) == (5, 9)
    made = store.audit(subject=record.id)[-1]
    assert (made.actor, made.before, made.after["name"]) == (tenant_admin.id, None, "ci")


def test_the_audit_goes_page_by_page_from_the_newest(store):
    for name in "abc":
        store.create_key(draft(name=name), ROOT, NOW)
    newest = store.audit(limit=2)
    older = store.audit(limit=9, before=newest[-1].seq)
    seqs = [row.seq for row in newest + older]
    assert seqs == sorted(seqs, reverse=True)
    assert len(seqs) == 4
    assert actions(store, tenant="nobody") == []


def test_a_refused_change_leaves_neither_row_nor_audit_nor_version(store):
    auditor, _ = new_admin(store, "auditor")
    version = store.version()
    with pytest.raises(Forbidden):
        store.create_key(draft(), auditor, NOW)
    with pytest.raises(ZeroDivisionError):
        record, _ = store.create_key(draft(), ROOT, NOW)
        store.update_key(record.id, lambda _: 1 / 0, ROOT, NOW)
    assert store.version() == version + 2, "the tenant and the key only"
    assert actions(store)[:2] == ["key.create", "tenant.create"]


def test_what_an_actor_may_is_read_in_the_transaction_of_the_change(store):
    admin, _ = new_admin(store, "admin")
    forged = msgspec.structs.replace(admin, role="owner")
    with pytest.raises(Forbidden):
        store.create_admin(AdminDraft("me", "owner"), forged, NOW)
    store.revoke_admin(admin.id, ROOT, NOW)
    with pytest.raises(Forbidden, match="revoked"):
        store.create_key(draft(), admin, NOW)


def test_an_expired_credential_changes_nothing(store):
    admin, _ = new_admin(store, "admin", expires_s=NOW + 10)
    record, _ = store.create_key(draft(), ROOT, NOW)
    with pytest.raises(Forbidden, match="expired"):
        store.revoke_key(record.id, admin, NOW + 10)
    store.revoke_key(record.id, admin, NOW + 9)


def test_a_tenant_admin_sees_and_changes_its_own_tenant_only(store):
    actor, _ = new_admin(store, "tenant_admin", "shop")
    other, _ = store.create_key(draft("bank"), ROOT, NOW)
    with pytest.raises(Forbidden):
        store.create_key(draft("bank"), actor, NOW)
    for change in (
        lambda: store.revoke_key(other.id, actor, NOW),
        lambda: store.rotate_key(other.id, 0, actor, NOW),
        lambda: store.update_key(other.id, lambda old: old, actor, NOW),
    ):
        with pytest.raises(NotFound):
            change()
    with pytest.raises(Forbidden):
        store.put_tenant("shop", KeyLimits(), {}, actor, NOW)
    auditor, _ = new_admin(store, "auditor", "bank")
    with pytest.raises(NotFound):
        store.revoke_admin(auditor.id, actor, NOW)


def test_no_way_leads_past_the_limits_of_the_minter(store):
    """Neither a new key, nor an edit, nor the new secret of a key that an owner made larger."""
    actor, _ = new_admin(store, "tenant_admin", "shop", rpm=10)
    own, _ = store.create_key(draft(rpm=10), actor, NOW)
    large, _ = store.create_key(draft(rpm=11), ROOT, NOW)
    for change in (
        lambda: store.create_key(draft(rpm=11), actor, NOW),
        lambda: store.create_key(draft(), actor, NOW),
        lambda: store.update_key(own.id, lambda old: msgspec.structs.replace(old, limits=KeyLimits()), actor, NOW),
        lambda: store.rotate_key(large.id, 0, actor, NOW),
        lambda: store.create_admin(AdminDraft("x", "tenant_admin", "shop"), actor, NOW),
        lambda: store.put_tenant("shop", KeyLimits(), {}, new_admin(store, "admin", rpm=10)[0], NOW),
    ):
        with pytest.raises(Forbidden, match="exceeds"):
            change()
    store.revoke_key(large.id, actor, NOW)


def test_the_first_run_makes_one_owner_once(store):
    secret = ensure_owner(store, NOW)
    assert secret is not None
    assert secret.startswith("sk-farthing-admin-")
    assert ensure_owner(store, NOW) is None
    (owner,) = store.admins()
    assert (owner.role, owner.sha256) == ("owner", digest(secret))
    assert actions(store) == ["admin.create"]


def test_replicas_that_start_together_make_one_owner(open_store):
    stores = [open_store() for _ in range(4)]
    found = []
    threads = [threading.Thread(target=lambda each=each: found.append(ensure_owner(each, NOW))) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([secret for secret in found if secret is not None]) == 1
    assert len(stores[0].admins()) == 1


def test_replicas_that_start_together_can_all_make_the_tables(url):
    failures = []

    def start():
        try:
            KeyStore(open_database(url)).close()
        except DatabaseError as exc:
            failures.append(exc.message)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_last_owner_stays(store):
    ensure_owner(store, NOW)
    (owner,) = store.admins()
    new_admin(store, "admin")
    with pytest.raises(BadRequest, match="last owner"):
        store.revoke_admin(owner.id, ROOT, NOW)
    second, _ = new_admin(store, "owner")
    store.revoke_admin(owner.id, ROOT, NOW)
    with pytest.raises(BadRequest, match="last owner"):
        store.revoke_admin(second.id, ROOT, NOW)


def test_an_admin_cannot_revoke_an_owner(store):
    ensure_owner(store, NOW)
    (owner,) = store.admins()
    admin, _ = new_admin(store, "admin")
    with pytest.raises(Forbidden):
        store.revoke_admin(owner.id, admin, NOW)


def test_changes_of_many_writers_are_all_kept_and_numbered_apart(open_store):
    """Four replicas change at once: no change is lost and versions rise without a repeat."""
    stores = [open_store() for _ in range(4)]
    key, _ = stores[0].create_key(draft(), ROOT, NOW)

    def work(store, name):
        for count in range(5):
            store.create_key(draft(name=f"{name}-{count}"), Actor(f"cli:{name}"), NOW)
            store.update_key(
                key.id, lambda old: msgspec.structs.replace(old, tags=(*old.tags, f"{name}{count}")), ROOT, NOW
            )

    threads = [threading.Thread(target=work, args=(store, f"w{i}")) for i, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].keys()) == 21
    assert len(stores[0].key(key.id).tags) == 20, "every edit built on the one before it"
    seqs = [row.seq for row in stores[0].audit()]
    assert len(seqs) == len(set(seqs)) == 42
    assert max(seqs) == stores[0].version()
