"""`farthing cache stats|purge|explain|feedback`: asks a running gateway's admin API and prints what it answers."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.errors import BadRequest, GatewayError
from gateway.protocol.openai import ENDPOINTS

URL = "http://127.0.0.1:4000"
TIMEOUT_S = 70.0
"""Longer than a store may take to delete."""
MOST_SHOWN = 120
PATHS = {endpoint: path for path, endpoint in ENDPOINTS.items()}
_MADE_BY = "farthing admin create --name NAME --role admin"

AdminKey = Callable[[], str]
Json = dict[str, Any]


class Refused(GatewayError):
    """The gateway was not reached, or said no; the message says what to do."""

    code = "refused"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", admin_key: AdminKey) -> None:
    """Adds the `cache` command; `admin_key` gives the credential of the settings, empty where there is none."""
    what = "see, explain and purge what a running gateway has stored"
    parser = commands.add_parser("cache", help=what, description=f"{what.capitalize()}.")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _action(actions, "stats", "what is stored, and whether each route serves similar requests", _stats, admin_key)
    _purge_parser(_action(actions, "purge", "forget the answers that match all that is given", _purge, admin_key))
    _explain_parser(_action(actions, "explain", "what the cache would do with a request, and why", _explain, admin_key))
    feedback = _action(actions, "feedback", "a stored answer was wrong for a request: forget it", _feedback, admin_key)
    feedback.add_argument("entry", help="as the header x-farthing-cache-entry named it")


def _action(
    actions: Any, name: str, what: str, run: Callable[[argparse.Namespace, "Gateway"], str], admin_key: AdminKey
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what.capitalize()}.")
    parser.add_argument("--url", default=URL, help="of the gateway [%(default)s]")
    parser.add_argument(
        "--admin-key-file", type=Path, metavar="FILE", help="holds the admin credential [FARTHING_ADMIN_KEY]"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")

    def func(arguments: argparse.Namespace) -> int:
        gateway = Gateway(arguments.url, _credential(arguments.admin_key_file, admin_key))
        sys.stdout.write(run(arguments, gateway))
        return 0

    parser.set_defaults(func=func)
    return parser


def _purge_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", help="of this tenant")
    parser.add_argument("--tag", help="with this tag of the policy's `cache: {tags: ...}`")
    parser.add_argument("--route", help="of this route")
    parser.add_argument("--key", help="with this exact key, as `explain` shows it")
    parser.add_argument("--entry", help="with this id, as x-farthing-cache-entry names it")
    parser.add_argument("--all", action="store_true", help="everything")


def _explain_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="?", help="the only user message of a chat request")
    parser.add_argument("--request", type=Path, metavar="FILE", help="the JSON body of a request, - for stdin")
    parser.add_argument("--endpoint", choices=tuple(PATHS), default="chat", help="what it was sent to [%(default)s]")
    parser.add_argument("--model", help="the model that the question is for")
    parser.add_argument("--tenant", help="who asks; not needed with a credential of one tenant")
    parser.add_argument("--tag", action="append", default=[], help="of the asking key; may be repeated")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="may be repeated")


def _credential(file: Path | None, admin_key: AdminKey) -> str:
    try:
        found = file.read_text(encoding="utf-8").strip() if file is not None else admin_key()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{file}: {exc}; fix: --admin-key-file FILE, which holds the credential alone") from exc
    if not found or not found.isascii() or not found.isprintable():
        raise BadRequest(f"no admin credential; fix: FARTHING_ADMIN_KEY or --admin-key-file ({_MADE_BY})")
    return found


class Gateway:
    """A running gateway's admin API."""

    def __init__(self, url: str, credential: str) -> None:
        self._url = url.rstrip("/")
        self._credential = credential

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """What it answers. Raises `Refused`."""
        import httpx  # noqa: PLC0415 - heavy

        headers = {"authorization": f"Bearer {self._credential}"}
        secure = self._url.startswith("https://")  # proxies and certificates of the environment: for others' machines
        try:
            with httpx.Client(timeout=TIMEOUT_S, trust_env=secure) as client:
                answer = client.request(method, f"{self._url}/admin/v1{path}", headers=headers, json=body)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise Refused(f"no gateway at {self._url} ({exc}); fix: run `farthing serve`, or --url") from exc
        try:
            found = answer.json()
            message = "" if answer.is_success else str(found["error"]["message"])
        except (ValueError, KeyError, TypeError) as exc:
            raise Refused(f"{self._url} is no Farthing gateway (status {answer.status_code}); fix: --url") from exc
        if message:
            raise Refused(_help(answer.status_code, message, str(found["error"].get("code"))))
        return dict(found)


def _help(status: int, message: str, code: str) -> str:
    if status == 401:
        return f"the gateway does not know this admin credential; fix: FARTHING_ADMIN_KEY ({_MADE_BY})"
    if status == 403:
        return f"{message} fix: a credential of the role admin, owner or tenant_admin"
    if status == 404 and code == "unknown_url":
        return "the gateway has no admin API: it keeps no books (FARTHING_DATABASE=none) or is older than this command"
    return message


def _stats(arguments: argparse.Namespace, gateway: Gateway) -> str:
    found = gateway.ask("GET", "/cache")
    return _json(found) if arguments.json else stats_text(found)


def _purge(arguments: argparse.Namespace, gateway: Gateway) -> str:
    names = ("tenant", "tag", "route", "key", "entry", "all")
    body = {name: value for name in names if (value := getattr(arguments, name))}
    if not body:
        raise BadRequest("say what to purge: --tenant, --tag, --route, --key, --entry, or --all")
    found = gateway.ask("POST", "/cache/purge", body)
    return _json(found) if arguments.json else f"{found['purged']} answers are forgotten\n"


def _feedback(arguments: argparse.Namespace, gateway: Gateway) -> str:
    found = gateway.ask("POST", "/cache/feedback", {"entry": arguments.entry})
    return _json(found) if arguments.json else f"{found['entry']} of the route {found['route']} is forgotten\n"


def _explain(arguments: argparse.Namespace, gateway: Gateway) -> str:
    headers = dict(_header(each) for each in arguments.header)
    body: Json = {"request": _request(arguments), "path": PATHS[arguments.endpoint], "headers": headers}
    body |= {"tags": arguments.tag} | ({"tenant": arguments.tenant} if arguments.tenant else {})
    found = gateway.ask("POST", "/cache/explain", body)
    return _json(found) if arguments.json else explanation_text(found)


def _request(arguments: argparse.Namespace) -> Json:
    if (arguments.request is None) == (arguments.question is None):
        raise BadRequest("name the question, or --request FILE with a whole request; not both")
    if arguments.question is not None:
        if not arguments.model or arguments.endpoint != "chat":
            raise BadRequest("a question alone needs --model, and is a chat request; for others --request FILE")
        return {"model": arguments.model, "messages": [{"role": "user", "content": arguments.question}]}
    try:
        raw = sys.stdin.buffer.read() if str(arguments.request) == "-" else arguments.request.read_bytes()
        return msgspec.json.decode(raw, type=Json)
    except (OSError, msgspec.DecodeError) as exc:
        raise BadRequest(f"{arguments.request}: {exc}; fix: the JSON body of a request") from exc


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise BadRequest(f"{text!r} is no header; fix: --header 'x-farthing-cache: exact'")
    return name.strip(), value.strip()


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def stats_text(found: Json) -> str:
    """`GET /admin/v1/cache` for a person."""
    lines: list[str] = []
    if (store := found["store"]) is not None:
        lines.append(
            f"stored    {store['entries']} answers, {store['bytes'] / 2**20:.1f} MiB, {store['scopes']} scopes"
        )
        lines.append(f"evicted   {store['evicted']}")
        lines.append(f"kept      {found['kept']}")
        for name in ("refused", "shadow_calls", "feedback_wrong"):
            if found[name]:
                counts = ", ".join(f"{reason} {count}" for reason, count in sorted(found[name].items()))
                lines.append(f"{name.split('_')[0]:<9} {counts}")
    if found["semantic_error"]:
        lines.append(f"no semantic cache: {found['semantic_error']}")
    head = ("route", "exact", "similar", "from score", "n", "error", "at most", "live", "right/wrong/unsure", "why not")
    rows = [_route(each) for each in found["routes"]]
    return "\n".join(lines) + ("\n\n" if lines else "") + (_table([head, *rows]) if rows else "")


def _route(each: Json) -> Sequence[str]:
    made, live, labels = each["certificate"] or {}, each["live"], each["labels"]
    return (
        each["route"],
        _time(each["exact_ttl_s"]),
        _time(each["semantic_ttl_s"]),
        f"{made['threshold']:.3f}" if made else "-",
        str(made.get("n", "-")),
        f"{made['realised']:.2%}" if made else "-",
        f"{made['upper_bound']:.2%} of {made['max_error']:.2%}" if made else "-",
        f"{live['realised']:.2%} of {live['seen']}" if live and live["realised"] is not None else "-",
        f"{labels['right']}/{labels['wrong']}/{labels['unsure']}" if labels else "-",
        "" if each["serves"] in (True, None) else each["why"],
    )


def explanation_text(found: Json) -> str:
    """`POST /admin/v1/cache/explain` for a person."""
    reason = f" ({found['reason']})" if found["reason"] else ""
    rows: list[tuple[str, Any]] = [
        ("decision", f"{found['decision']}{reason}: {found['why']}"),
        ("route", found["route"]),
        ("tenant", found["tenant"]),
        ("key", found["key"]),
        ("scope", found["scope"]),
        ("compared", _shown(found["text"]) if found["text"] is not None else None),
        ("standing", found["standing"]),
        ("threshold", f"{found['threshold']:.3f}" if found["threshold"] is not None else None),
    ]
    if (exact := found["exact"]) is not None:
        rows.append(("found", f"{exact['entry']}, {_time(exact['age_s'])} old, by {exact['target']}"))
    text = "".join(f"{name:<10} {value}\n" for name, value in rows if value is not None)
    near = found["neighbours"]
    return text + ("\n" + _neighbours(near) if near else "")


def _neighbours(near: Sequence[Json]) -> str:
    head = ("entry", "cosine", "score", "age", "", "question")
    rows = [
        (
            each["stored"]["entry"],
            f"{each['similarity']:.3f}",
            f"{each['score']:.3f}",
            _time(each["stored"]["age_s"]),
            "too old" if not each["fresh"] else each["veto"] or ("accepted" if each["accepted"] else "not accepted"),
            _shown(each["stored"]["question"] or "-"),
        )
        for each in near
    ]
    return _table([head, *rows])


def _shown(text: str) -> str:
    """A caller's text for a terminal: one line without control characters, and not without end."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= MOST_SHOWN else plain[: MOST_SHOWN - 3] + "..."


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.0f}s"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"
