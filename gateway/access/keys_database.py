"""Keys, tenants, admin credentials and their audit rows in SQLite or PostgreSQL.

Every change is one transaction: the version counter is locked first (so changes take turns, and versions rise in the
order of commits), who changes is read anew and checked, the row is written with its version, and so is its audit row.
Knows no HTTP and no clock. All calls block. Fails closed: without the database nothing is changed.
"""

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.access import authority, keystore
from gateway.access.authority import Actor, Permission
from gateway.access.keystore import (
    AdminDraft,
    AdminRecord,
    AuditRow,
    KeyDraft,
    KeyLimits,
    KeyRecord,
    Minted,
    TenantRecord,
)
from gateway.core.errors import BadRequest, Forbidden
from gateway.database import Cursor, Database

FIRST_RUN = Actor("system:first-run")
PAGE = 100
_LOCK_ID = 0x6661727468  # of PostgreSQL's advisory lock while tables are made
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS access_version (id INTEGER PRIMARY KEY, version BIGINT NOT NULL)",
    "INSERT INTO access_version (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING",
    """CREATE TABLE IF NOT EXISTS access_keys (
        id TEXT PRIMARY KEY, seq BIGINT NOT NULL, version BIGINT NOT NULL, tenant TEXT, record TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS access_tenants (
        id TEXT PRIMARY KEY, seq BIGINT NOT NULL, version BIGINT NOT NULL, tenant TEXT, record TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS access_admins (
        id TEXT PRIMARY KEY, seq BIGINT NOT NULL, version BIGINT NOT NULL, tenant TEXT, record TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS access_audit (
        seq BIGINT PRIMARY KEY, at_s DOUBLE PRECISION NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, tenant TEXT, before_json TEXT, after_json TEXT)""",
    "CREATE INDEX IF NOT EXISTS access_keys_version ON access_keys (version)",
    "CREATE INDEX IF NOT EXISTS access_keys_seq ON access_keys (seq)",
)
_TABLES: dict[Any, str] = {
    KeyRecord: "access_keys",
    TenantRecord: "access_tenants",
    AdminRecord: "access_admins",
}
_ID = re.compile(r"(key|adm)_[a-z2-7]{10}")
Record = TypeVar("Record", KeyRecord, TenantRecord, AdminRecord)


class Changes(msgspec.Struct, frozen=True):
    """All records that are newer than a version, and the version up to which none is missing."""

    version: int
    keys: list[KeyRecord]
    tenants: list[TenantRecord]
    admins: list[AdminRecord]


class KeyStore:
    """See the module. Makes its tables where they are missing; `randbytes` makes secrets and ids."""

    def __init__(self, database: Database, randbytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._database = database
        self._randbytes = randbytes
        with database.transaction() as cursor:
            if database.dialect == "postgresql":  # CREATE IF NOT EXISTS of two replicas at once may fail there
                cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK_ID,))
            for statement in _SCHEMA:
                cursor.execute(statement)

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def version(self) -> int:
        """The counter that every change moves."""
        return int(self._database.query("SELECT version FROM access_version WHERE id = 1")[0][0])

    def changes(self, since: int) -> Changes:
        """What has a version above `since`. May hold more than its own version says, never less."""
        version = self.version()
        return Changes(
            version, self._newer(KeyRecord, since), self._newer(TenantRecord, since), self._newer(AdminRecord, since)
        )

    def _newer(self, kind: type[Record], since: int) -> list[Record]:
        rows = self._database.query(f"SELECT record FROM {_TABLES[kind]} WHERE version > ?", (since,))  # noqa: S608 - a fixed name
        return [msgspec.json.decode(text, type=kind) for (text,) in rows]

    def _page(self, kind: type[Record], tenant: str | None, after: str | None, limit: int) -> list[Record]:
        table = _TABLES[kind]
        where: list[str] = []
        params: list[Any] = []
        if tenant is not None:
            where.append("tenant = ?")
            params.append(tenant)
        if after is not None:
            where.append(f"seq > (SELECT seq FROM {table} WHERE id = ?)")  # noqa: S608 - a fixed name
            params.append(after)
        clause = f"WHERE {' AND '.join(where)} " if where else ""
        sql = f"SELECT record FROM {table} {clause}ORDER BY seq LIMIT ?"  # noqa: S608 - fixed names
        rows = self._database.query(sql, (*params, limit))
        return [msgspec.json.decode(text, type=kind) for (text,) in rows]

    def keys(self, *, tenant: str | None = None, after: str | None = None, limit: int = PAGE) -> list[KeyRecord]:
        """Keys in the order they were made, revoked ones too; `after` is the id of the last one seen."""
        return self._page(KeyRecord, tenant, _plain_id(after), limit)

    def tenants(self, *, tenant: str | None = None, after: str | None = None, limit: int = PAGE) -> list[TenantRecord]:
        """As `keys`; `after` is a name."""
        return self._page(TenantRecord, tenant, after, limit)

    def admins(self, *, tenant: str | None = None, after: str | None = None, limit: int = PAGE) -> list[AdminRecord]:
        """As `keys`."""
        return self._page(AdminRecord, tenant, _plain_id(after), limit)

    def key(self, id_: str) -> KeyRecord:
        """Raises `NotFound`."""
        return self._one(KeyRecord, id_)

    def tenant(self, name: str) -> TenantRecord:
        """Raises `NotFound`."""
        return self._one(TenantRecord, name)

    def _one(self, kind: type[Record], id_: str) -> Record:
        rows = self._database.query(*_select(kind, id_))
        return _decoded(kind, rows)

    def audit(
        self, *, tenant: str | None = None, subject: str | None = None, before: int | None = None, limit: int = PAGE
    ) -> list[AuditRow]:
        """The newest rows first; `before` is the `seq` of the last one seen."""
        where: list[str] = ["1 = 1"]
        params: list[Any] = []
        for clause, value in (("tenant = ?", tenant), ("subject = ?", subject), ("seq < ?", before)):
            if value is not None:
                where.append(clause)
                params.append(value)
        rows = self._database.query(
            "SELECT seq, at_s, actor, action, subject, tenant, before_json, after_json FROM access_audit "  # noqa: S608
            f"WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?",
            (*params, limit),
        )
        return [
            AuditRow(*row[:6], *(None if text is None else msgspec.json.decode(text) for text in row[6:]))
            for row in rows
        ]

    def create_key(self, draft: KeyDraft, actor: Actor, now: float) -> tuple[KeyRecord, Minted]:
        """A new key, and its tenant if that is new. Raises `BadRequest` or `Forbidden`."""
        keystore.check_draft(draft, now)
        made = keystore.mint(keystore.KEY_SECRET, self._randbytes)
        with self._change(actor, "keys:write", now) as change:
            authority.check_key(change.actor, draft)
            record = KeyRecord(
                id=keystore.new_id("key", self._randbytes),
                name=draft.name,
                tenant=draft.tenant,
                created_s=now,
                created_by=change.actor.id,
                prefix=made.prefix,
                sha256=made.sha256,
                tags=draft.tags,
                limits=draft.limits,
                metadata=draft.metadata,
            )
            change.ensure_tenant(draft.tenant)
            change.write("key.create", None, record)
        return record, made

    def update_key(self, id_: str, edit: Callable[[KeyRecord], KeyRecord], actor: Actor, now: float) -> KeyRecord:
        """The key as `edit` makes it from the stored one: its name, tags, limits or metadata, nothing else."""
        with self._change(actor, "keys:write", now) as change:
            old = change.read_key(id_)
            _must_be_live(old)
            new = edit(old)
            draft = KeyDraft(new.name, old.tenant, new.tags, new.limits, new.metadata)
            keystore.check_draft(draft, now if new.limits.expires_s != old.limits.expires_s else None)
            authority.check_key(change.actor, new)
            new = msgspec.structs.replace(
                old, name=draft.name, tags=draft.tags, limits=draft.limits, metadata=draft.metadata
            )
            if new != old:
                change.write("key.update", old, new)
        return new

    def rotate_key(self, id_: str, grace_s: float, actor: Actor, now: float) -> tuple[KeyRecord, Minted]:
        """A new secret for the key; the one before it is good for `grace_s` more, the one before that no longer."""
        if not 0 <= grace_s <= keystore.MAX_GRACE_S:
            raise BadRequest("`grace_s` must be from 0 to 2592000 (30 days).", param="grace_s")
        made = keystore.mint(keystore.KEY_SECRET, self._randbytes)
        with self._change(actor, "keys:write", now) as change:
            old = change.read_key(id_)
            _must_be_live(old)
            authority.check_key(change.actor, old)
            new = msgspec.structs.replace(
                old,
                prefix=made.prefix,
                sha256=made.sha256,
                previous_sha256=old.sha256 if grace_s else None,
                previous_until_s=now + grace_s if grace_s else None,
            )
            change.write("key.rotate", old, new)
        return new, made

    def revoke_key(self, id_: str, actor: Actor, now: float) -> KeyRecord:
        """Ends the key for good, both secrets of a rotation; again on a revoked one, nothing happens."""
        with self._change(actor, "keys:write", now) as change:
            old = change.read_key(id_)
            if old.revoked_s is not None:
                return old
            new = msgspec.structs.replace(old, revoked_s=now, previous_sha256=None, previous_until_s=None)
            change.write("key.revoke", old, new)
        return new

    def put_tenant(
        self, name: str, limits: KeyLimits, metadata: dict[str, Any], actor: Actor, now: float
    ) -> TenantRecord:
        """Makes the tenant, or replaces its limits and metadata. Only budgets, rates and concurrency are taken."""
        keystore.check_name(name, "name")
        keystore.check_metadata(metadata)
        limits = msgspec.structs.replace(limits, routes=None, models=None, expires_s=None)
        keystore.check_limits(limits, now)
        with self._change(actor, "tenants:write", now) as change:
            authority.check_tenant(change.actor, limits)
            rows = change.cursor.execute(*_select(TenantRecord, name))
            if not rows:
                new = TenantRecord(name, now, change.actor.id, limits, metadata)
                change.write("tenant.create", None, new)
                return new
            old = _decoded(TenantRecord, rows)
            new = msgspec.structs.replace(old, limits=limits, metadata=metadata)
            if new != old:
                change.write("tenant.update", old, new)
        return new

    def create_admin(self, draft: AdminDraft, actor: Actor, now: float) -> tuple[AdminRecord, Minted]:
        """A new admin credential. Raises `BadRequest` or `Forbidden`."""
        keystore.check_draft(draft, now)
        with self._change(actor, "admins:write", now) as change:
            authority.check_admin(change.actor, draft)
            return self._new_admin(change, draft)

    def _new_admin(self, change: "_Change", draft: AdminDraft) -> tuple[AdminRecord, Minted]:
        made = keystore.mint(keystore.ADMIN_SECRET, self._randbytes)
        record = AdminRecord(
            id=keystore.new_id("adm", self._randbytes),
            name=draft.name,
            role=draft.role,
            tenant=draft.tenant,
            created_s=change.now,
            created_by=change.actor.id,
            prefix=made.prefix,
            sha256=made.sha256,
            limits=draft.limits,
        )
        change.write("admin.create", None, record)
        return record, made

    def revoke_admin(self, id_: str, actor: Actor, now: float) -> AdminRecord:
        """Ends a credential; never the last owner, which would lock everybody out of the API."""
        with self._change(actor, "admins:write", now) as change:
            old = _decoded(AdminRecord, change.cursor.execute(*_select(AdminRecord, id_)))
            if not authority.sees(change.actor, old.tenant):
                raise authority.no_such("admin")
            authority.check_removal(change.actor, old)
            if old.revoked_s is not None:
                return old
            if old.role == "owner" and not any(
                other.id != id_ and other.role == "owner" and other.active(now) for other in change.all_admins()
            ):
                raise BadRequest("This is the last owner; make another one first.", code="last_owner")
            new = msgspec.structs.replace(old, revoked_s=now)
            change.write("admin.revoke", old, new)
        return new

    def first_owner(self, now: float) -> Minted | None:
        """An owner if there has never been an admin credential; `None` otherwise. Replicas that race make one."""
        with self._change(FIRST_RUN, "admins:write", now) as change:
            if change.all_admins():
                return None
            return self._new_admin(change, AdminDraft("first owner", "owner"))[1]

    def note_cache(
        self, action: str, subject: str, tenant: str | None, what: dict[str, Any], actor: Actor, now: float
    ) -> None:
        """The audit row of a change to the cache, whose `after` is `what`. Raises `Forbidden`."""
        with self._change(actor, "cache:write", now) as change:
            change.note(action, subject, tenant, None, what)

    def policy_change(self, actor: Actor, now: float) -> contextlib.AbstractContextManager["_Change"]:
        """A transaction for a change of which policy serves; its `note` writes the audit row. Raises `Forbidden`."""
        return self._change(actor, "policy:write", now)

    @contextlib.contextmanager
    def _change(self, actor: Actor, permission: Permission, now: float) -> Iterator["_Change"]:
        """A transaction in which `actor` is who it is now: its credential may have been revoked a moment ago."""
        with self._database.transaction() as cursor:
            cursor.execute("UPDATE access_version SET version = version WHERE id = 1")
            if actor.id.startswith("adm_"):
                rows = cursor.execute(*_select(AdminRecord, actor.id))
                record = _decoded(AdminRecord, rows)
                if not record.active(now):
                    raise Forbidden("This credential is revoked or expired.", code="credential_ended")
                actor = authority.actor_of(record)
            authority.require(actor, permission)
            yield _Change(cursor, actor, now)


class _Change:
    """What happens inside one transaction."""

    def __init__(self, cursor: Cursor, actor: Actor, now: float) -> None:
        self.cursor = cursor
        self.actor = actor
        self.now = now

    def read_key(self, id_: str) -> KeyRecord:
        """Raises `NotFound` for unknown keys and those of tenants that the actor does not see."""
        record = _decoded(KeyRecord, self.cursor.execute(*_select(KeyRecord, id_)))
        if not authority.sees(self.actor, record.tenant):
            raise authority.no_such("key")
        return record

    def all_admins(self) -> list[AdminRecord]:
        """Every credential, ended ones too."""
        rows = self.cursor.execute("SELECT record FROM access_admins")
        return [msgspec.json.decode(text, type=AdminRecord) for (text,) in rows]

    def ensure_tenant(self, name: str) -> None:
        """A tenant comes into being with its first key."""
        if not self.cursor.execute(*_select(TenantRecord, name)):
            self.write("tenant.create", None, TenantRecord(name, self.now, self.actor.id))

    def write(self, action: str, old: Record | None, new: Record) -> None:
        """The row under a new version, and its audit row under the same number."""
        subject, tenant = (new.name, new.name) if isinstance(new, TenantRecord) else (new.id, new.tenant)
        seq = self.note(action, subject, tenant, None if old is None else keystore.shown(old), keystore.shown(new))
        self.cursor.execute(
            f"INSERT INTO {_TABLES[type(new)]} (id, seq, version, tenant, record) VALUES (?, ?, ?, ?, ?) "  # noqa: S608
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version, record = excluded.record",
            (subject, seq, seq, tenant, _text(new)),
        )

    def note(
        self, action: str, subject: str, tenant: str | None, before: dict[str, Any] | None, after: dict[str, Any]
    ) -> int:
        """The audit row under a new version, which is returned."""
        rows = self.cursor.execute("UPDATE access_version SET version = version + 1 WHERE id = 1 RETURNING version")
        seq = int(rows[0][0])
        self.cursor.execute(
            "INSERT INTO access_audit (seq, at_s, actor, action, subject, tenant, before_json, after_json) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                seq,
                self.now,
                self.actor.id,
                action,
                subject,
                tenant,
                None if before is None else _text(before),
                _text(after),
            ),
        )
        return seq


def ensure_owner(store: KeyStore, now: float) -> str | None:
    """The secret of the first owner, once: on the first run of all. `None` ever after."""
    made = store.first_owner(now)
    return None if made is None else made.secret


def _must_be_live(record: KeyRecord) -> None:
    if record.revoked_s is not None:
        raise BadRequest("The key is revoked for good; make a new one.", code="key_revoked")


def _plain_id(text: str | None) -> str | None:
    """`text` if it can be an id: a cursor that is none is the caller's mistake, not the database's trouble."""
    if text is not None and not _ID.fullmatch(text):
        raise BadRequest("`after` is not the id of a record.", param="after")
    return text


def _select(kind: type[Record], id_: str) -> tuple[str, Sequence[Any]]:
    if "\x00" in id_:  # PostgreSQL takes no such text
        id_ = ""
    return f"SELECT record FROM {_TABLES[kind]} WHERE id = ?", (id_,)  # noqa: S608 - a fixed name


def _decoded(kind: type[Record], rows: list[tuple[Any, ...]]) -> Record:
    if not rows:
        raise authority.no_such(_TABLES[kind].removeprefix("access_").removesuffix("s"))
    return msgspec.json.decode(rows[0][0], type=kind)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
