"""`farthing keys|tenants|admin`: makes, shows, rotates and ends credentials, directly in the database of the settings.

Whoever may read that database owns the gateway, so the actor is `cli:USER` with the role of an owner; every change has
its audit row. A secret is printed once, when it is made.
"""

import argparse
import os
import pwd
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.access.authority import Actor
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import AdminDraft, Allowance, KeyDraft, KeyLimits, Minted, shown
from gateway.core.money import micro_usd, usd

ROLES = ("owner", "admin", "tenant_admin", "auditor")
_PERIODS = ("day", "week", "month", "total")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000}
_PAGE = 1000
_KEY_ID = "key_..., as `farthing keys list` shows it"

Open = Callable[[bool], KeyStore]
_Commands = Any  # argparse's subparsers have no public type


def register(commands: _Commands, open_store: Open) -> None:
    """Adds the commands. `open_store` opens the store of the settings when a command runs; it is closed after it.

    It makes one that is not there only when it is told so, by the commands that put something into it.
    """
    _register_keys(_group(commands, "keys", "make, show, rotate and revoke callers' keys"), open_store)
    _register_tenants(_group(commands, "tenants", "show tenants and set their budgets"), open_store)
    _register_admins(_group(commands, "admin", "make, show and revoke admin credentials"), open_store)


def _group(commands: _Commands, name: str, what: str) -> _Commands:
    parser = commands.add_parser(name, help=what, description=f"{what.capitalize()}.")
    return parser.add_subparsers(title="actions", required=True, metavar="ACTION")


def _action(
    actions: _Commands, name: str, what: str, run: Callable[[KeyStore, argparse.Namespace], None], open_store: Open
) -> argparse.ArgumentParser:
    make = name in {"create", "set"}
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what.capitalize()}.")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def func(arguments: argparse.Namespace) -> int:
        with _opened(open_store, make) as store:
            run(store, arguments)
        return 0

    parser.set_defaults(func=func)
    return parser


@contextmanager
def _opened(open_store: Open, make: bool) -> Iterator[KeyStore]:
    store = open_store(make)
    try:
        yield store
    finally:
        store.close()


def _register_keys(actions: _Commands, open_store: Open) -> None:
    create = _action(actions, "create", "make a key and print its secret once", _create_key, open_store)
    create.add_argument("--name", required=True, help="what it is for")
    create.add_argument("--tenant", required=True, help="whose it is; a new name makes a new tenant")
    create.add_argument("--tag", action="append", default=[], help="a label that routes can match; may be repeated")
    _limit_arguments(create, "the key")
    create.add_argument("--metadata", type=_metadata, default={}, metavar="JSON", help="a JSON object to keep with it")
    listing = _action(actions, "list", "list keys, revoked ones too", _list_keys, open_store)
    listing.add_argument("--tenant", help="only this tenant's")
    _action(actions, "show", "show one key", _show_key, open_store).add_argument("id", help=_KEY_ID)
    rotate = _action(actions, "rotate", "give a key a new secret and print it once", _rotate_key, open_store)
    rotate.add_argument("id", help=_KEY_ID)
    rotate.add_argument(
        "--grace", type=duration_s, default=0, metavar="TIME", help="how long the old secret stays good: 24h [0s]"
    )
    _action(actions, "revoke", "end a key for good", _revoke_key, open_store).add_argument("id", help=_KEY_ID)


def _register_tenants(actions: _Commands, open_store: Open) -> None:
    _action(actions, "list", "list tenants", _list_tenants, open_store)
    put = _action(actions, "set", "make a tenant or replace its limits", _put_tenant, open_store)
    put.add_argument("name", help="a new name makes a new tenant; limits that are left out are none")
    _count_arguments(put, "each of its keys without own")


def _register_admins(actions: _Commands, open_store: Open) -> None:
    create = _action(actions, "create", "make an admin credential and print its secret once", _create_admin, open_store)
    create.add_argument("--name", required=True, help="whose it is")
    create.add_argument("--role", required=True, choices=ROLES, help="what it may do")
    create.add_argument("--tenant", help="the only tenant it sees (needed for tenant_admin, possible for auditor)")
    _limit_arguments(create, "each key made with it")
    _action(actions, "list", "list admin credentials", _list_admins, open_store)
    revoke = _action(actions, "revoke", "end an admin credential", _revoke_admin, open_store)
    revoke.add_argument("id", help="adm_..., as `farthing admin list` shows it")


def _limit_arguments(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument("--routes", action="append", metavar="GLOB", help="routes it may take [any]; may be repeated")
    parser.add_argument("--models", action="append", metavar="GLOB", help="models it may name [any]; may be repeated")
    parser.add_argument("--expires", type=duration_s, metavar="TIME", help="how long it is good: 90d [for ever]")
    _count_arguments(parser, whose)


def _count_arguments(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--budget", type=allowance, action="append", default=[], metavar="USD/PERIOD", help="500/month; may be repeated"
    )
    parser.add_argument("--rpm", type=count, metavar="N", help=f"requests per minute of {whose}")
    parser.add_argument("--tpm", type=count, metavar="N", help=f"tokens per minute of {whose}: 200k")
    parser.add_argument("--concurrency", type=count, metavar="N", help=f"requests under way at once of {whose}")


def allowance(text: str) -> Allowance:
    """`500/month`, `$0.50/day`: dollars per day, week, month or in total."""
    found = re.fullmatch(r"\$?(\d{1,10}(?:\.\d{1,6})?)/([a-z]+)", text)
    if found is None or found[2] not in _PERIODS:
        raise argparse.ArgumentTypeError(f"{text!r}: write USD/PERIOD with {', '.join(_PERIODS)}, such as 500/month")
    return Allowance(found[2], micro_usd(found[1]))  # type: ignore[arg-type]  # one of _PERIODS


def count(text: str) -> int:
    """`600`, `200k`, `1.5m`: a whole number."""
    found = re.fullmatch(r"(\d{1,10}(?:\.\d{1,3})?)([km]?)", text.lower())
    thousandths = int(float(found[1]) * 1000) * _THOUSANDS[found[2]] if found else 1
    if thousandths % 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number, such as 600 or 200k")
    return thousandths // 1000


def duration_s(text: str) -> int:
    """`30s`, `24h`, `90d`, `2w` in seconds."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number and s, m, h, d or w, such as 24h or 90d")
    return int(found[1]) * _SECONDS[found[2]]


def _metadata(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as exc:
        raise argparse.ArgumentTypeError('write a JSON object, such as \'{"owner": "ada"}\'') from exc


def actor() -> Actor:
    """Who runs the command: `cli:USER`, who may open the database and so owns it."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Actor(f"cli:{user}")


def _limits(arguments: argparse.Namespace, now: float) -> KeyLimits:
    return KeyLimits(
        routes=tuple(arguments.routes) if arguments.routes else None,
        models=tuple(arguments.models) if arguments.models else None,
        expires_s=now + arguments.expires if arguments.expires is not None else None,
        rpm=arguments.rpm,
        tpm=arguments.tpm,
        concurrency=arguments.concurrency,
        budgets=tuple(arguments.budget),
    )


def _create_key(store: KeyStore, arguments: argparse.Namespace) -> None:
    now = time.time()
    draft = KeyDraft(
        arguments.name, arguments.tenant, tuple(arguments.tag), _limits(arguments, now), arguments.metadata
    )
    record, made = store.create_key(draft, actor(), now)
    _tell_secret(arguments, shown(record), made)


def _list_keys(store: KeyStore, arguments: argparse.Namespace) -> None:
    records = _all(lambda after: store.keys(tenant=arguments.tenant, after=after, limit=_PAGE), lambda each: each.id)
    rows = [
        (each.id, each.name, each.tenant, each.prefix + "...", _state(each, each.limits), _budgets(each.limits))
        for each in records
    ]
    _tell_list(arguments, ("id", "name", "tenant", "secret", "state", "budgets"), rows, records)


def _show_key(store: KeyStore, arguments: argparse.Namespace) -> None:
    _tell(arguments, shown(store.key(arguments.id)))


def _rotate_key(store: KeyStore, arguments: argparse.Namespace) -> None:
    record, made = store.rotate_key(arguments.id, arguments.grace, actor(), time.time())
    _tell_secret(arguments, shown(record), made)


def _revoke_key(store: KeyStore, arguments: argparse.Namespace) -> None:
    _tell(arguments, shown(store.revoke_key(arguments.id, actor(), time.time())))


def _list_tenants(store: KeyStore, arguments: argparse.Namespace) -> None:
    records = _all(lambda after: store.tenants(after=after, limit=_PAGE), lambda each: each.name)
    rows = [
        (each.name, each.limits.rpm, each.limits.tpm, each.limits.concurrency, _budgets(each.limits))
        for each in records
    ]
    _tell_list(arguments, ("name", "rpm", "tpm", "concurrency", "budgets"), rows, records)


def _put_tenant(store: KeyStore, arguments: argparse.Namespace) -> None:
    known = {each.name: each for each in store.tenants(tenant=arguments.name)}.get(arguments.name)
    limits = KeyLimits(
        rpm=arguments.rpm, tpm=arguments.tpm, concurrency=arguments.concurrency, budgets=tuple(arguments.budget)
    )
    metadata = known.metadata if known is not None else {}
    _tell(arguments, shown(store.put_tenant(arguments.name, limits, metadata, actor(), time.time())))


def _create_admin(store: KeyStore, arguments: argparse.Namespace) -> None:
    now = time.time()
    draft = AdminDraft(arguments.name, arguments.role, arguments.tenant, _limits(arguments, now))
    record, made = store.create_admin(draft, actor(), now)
    _tell_secret(arguments, shown(record), made)


def _list_admins(store: KeyStore, arguments: argparse.Namespace) -> None:
    records = _all(lambda after: store.admins(after=after, limit=_PAGE), lambda each: each.id)
    rows = [(each.id, each.name, each.role, each.tenant, _state(each, each.limits)) for each in records]
    _tell_list(arguments, ("id", "name", "role", "tenant", "state"), rows, records)


def _revoke_admin(store: KeyStore, arguments: argparse.Namespace) -> None:
    _tell(arguments, shown(store.revoke_admin(arguments.id, actor(), time.time())))


def _all(page: Callable[[str | None], list[Any]], cursor: Callable[[Any], str]) -> list[Any]:
    """All pages of a list."""
    found = page(None)
    last = len(found)
    while last == _PAGE:
        more = page(cursor(found[-1]))
        found += more
        last = len(more)
    return found


def _state(record: Any, limits: KeyLimits) -> str:
    if record.revoked_s is not None:
        return f"revoked {_date(record.revoked_s)}"
    if limits.expires_s is None:
        return "active"
    return f"{'expired' if limits.expires_s <= time.time() else 'until'} {_date(limits.expires_s)}"


def _budgets(limits: KeyLimits) -> str:
    return " ".join(f"${_dollars(each.limit_micro_usd)}/{each.period}" for each in limits.budgets)


def _dollars(micro: int) -> str:
    return usd(micro).rstrip("0").rstrip(".")


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}Z"


def _print_json(value: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(value)).decode())  # noqa: T201


def _tell(arguments: argparse.Namespace, fields: dict[str, Any]) -> None:
    """One record, a line for each field that is set."""
    if arguments.json:
        _print_json(fields)
        return
    given = {name: value for name, value in fields.items() if value not in (None, [], (), {}) and name != "object"}
    width = max(map(len, given))
    for name, value in given.items():
        text = _date(value) if name.endswith("_s") else value if isinstance(value, str) else _plain(value)
        print(f"{name.removesuffix('_s'):<{width}}  {text}")  # noqa: T201


def _plain(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _tell_secret(arguments: argparse.Namespace, fields: dict[str, Any], made: Minted) -> None:
    """The record, its secret, and how to use it."""
    if arguments.json:
        _print_json(fields | {"secret": made.secret})
        return
    _tell(arguments, fields)
    admin = fields["object"] == "admin"
    path, name = ("/admin/v1/keys", "FARTHING_ADMIN_KEY") if admin else ("/v1/models", "GATEWAY_KEY")
    print(  # noqa: T201
        f"\nThe secret is shown this once and kept nowhere:\n  export {name}={made.secret}\n"
        "try (with the address of your gateway):\n"
        f'  curl http://127.0.0.1:4000{path} -H "Authorization: Bearer ${name}"'
    )


def _tell_list(
    arguments: argparse.Namespace, head: Sequence[str], rows: Sequence[Sequence[Any]], records: Sequence[Any]
) -> None:
    if arguments.json:
        _print_json([shown(record) for record in records])
        return
    table = [head, *[[("-" if cell in (None, "") else str(cell)) for cell in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201
