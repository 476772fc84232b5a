"""The command line: `farthing serve | policy | keys | tenants | admin | ledger | prices | cache | calibrate | eval`.

Parses arguments, prints, exits; what commands do lives in the rooms. Heavy imports happen in the command that needs
them, so that `farthing --help` answers at once.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.core.errors import BadRequest, GatewayError
from gateway.settings import Settings, SettingsError, environment, load, unknown

if TYPE_CHECKING:
    from gateway.access.authority import Actor
    from gateway.access.keys_database import KeyStore
    from gateway.cache.labels import LabelStore
    from gateway.commands import Rules
    from gateway.core.exchange import Target
    from gateway.database import Database
    from gateway.ledger.commands import Where
    from gateway.policy.caching import CacheRule
    from gateway.policy.choosing import Classify
    from gateway.policy.table import Policy
    from gateway.pricing.book import ModelPrice, PriceBook
    from gateway.rollout.operate import Operations


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 1 where its answer is no, 2 with a message on stderr on errors."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(words).parse_args(words)
    try:
        status: int = arguments.func(arguments)
        sys.stdout.flush()
    except SettingsError as exc:
        sys.stderr.write(f"farthing: {exc}\n")
        return 2
    except GatewayError as exc:
        sys.stderr.write(f"farthing: {exc.message}\n")
        return 2
    except BrokenPipeError:  # the reader has seen enough, as `| head` has; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    return status


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """What reads `words`. The rooms' own commands stay out of a gateway that serves: some need numpy."""
    parser = argparse.ArgumentParser(
        prog="farthing",
        description="A cost-aware LLM gateway: the OpenAI API in front of vLLM pools and external APIs.",
        epilog="exit status: 0; 1 where the answer is no (a check fails, nothing can be certified, policies differ);\n"
        "2 where there is none (wrong arguments, files or settings, something is not there or is down)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"farthing {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _serve_parser(commands)
    _policy_parser(commands)
    if words[:1] != ["serve"]:
        _register_rooms(commands)
    return parser


def _register_rooms(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from gateway.access import commands as access  # noqa: PLC0415 - light, but not for `import gateway.cli`
    from gateway.ledger import commands as ledger  # noqa: PLC0415
    from gateway.pricing import commands as pricing  # noqa: PLC0415

    access.register(commands, _open_keys)
    ledger.register(commands, _where)
    pricing.register(commands)
    _register_cache(commands)


def _register_cache(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from gateway.cache import calibrate_commands, evaluate  # noqa: PLC0415
    from gateway.cache import commands as cache  # noqa: PLC0415
    from gateway.ledger.period import moment  # noqa: PLC0415

    cache.register(commands, lambda: load().admin_key)
    calibrate = _group(commands, "calibrate", "certify what a policy promises")
    setup = calibrate_commands.Setup(_cache_rules, _labels, lambda: load().encoder, moment)
    calibrate_commands.register(calibrate, setup)
    measure = _group(commands, "eval", "measure decisions on labelled data")
    evaluate.register(measure)
    _register_routing(calibrate, measure)


def _register_routing(
    calibrate: "argparse._SubParsersAction[argparse.ArgumentParser]",
    measure: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    from gateway.ledger.period import moment  # noqa: PLC0415
    from gateway.routing import calibrate_commands, evaluate  # noqa: PLC0415

    setup = calibrate_commands.Setup(_choosing_rules, lambda: load().encoder, _database, _price_of, moment)
    calibrate_commands.register(calibrate, setup)
    evaluate.register(measure)


def _group(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    parser = commands.add_parser(name, help=what, description=f"{what.capitalize()}.")
    return parser.add_subparsers(title="what", required=True, metavar="WHAT")


def _without_secrets(path: Path | None) -> "tuple[Path, Policy]":
    """The folder of a policy, by default of the one in force, and the policy; its secrets are not read."""
    from gateway import app  # noqa: PLC0415
    from gateway.policy.compile import compile_policy  # noqa: PLC0415
    from gateway.policy.lint import placeholder  # noqa: PLC0415
    from gateway.policy.load import read_document  # noqa: PLC0415

    path = path or app.policies_directory(load())
    policy = compile_policy(read_document(path), lambda reference: placeholder("unread", reference))
    return (path if path.is_dir() else path.parent), policy


def _cache_rules(path: Path | None) -> "Rules[CacheRule]":
    from gateway.commands import Rules  # noqa: PLC0415

    folder, policy = _without_secrets(path)
    return Rules(folder, policy.caching)


def _choosing_rules(path: Path | None) -> "Rules[Classify]":
    from gateway.choosing import rules  # noqa: PLC0415
    from gateway.commands import Rules  # noqa: PLC0415

    folder, policy = _without_secrets(path)
    return Rules(folder, {rule.route: rule for rule in rules(policy)})


@contextlib.contextmanager
def _labels() -> "Iterator[LabelStore]":
    from gateway.cache.labels import LabelStore  # noqa: PLC0415

    with _database() as database:
        yield LabelStore(database)


@contextlib.contextmanager
def _database() -> "Iterator[Database]":
    """The gateway's own, which must be there already."""
    from gateway.books import open_data  # noqa: PLC0415

    settings = _with_books()
    _expect_database(settings)
    database = open_data(settings)
    try:
        yield database
    finally:
        database.close()


def _expect_database(settings: Settings) -> None:
    """Raises `BadRequest` rather than have an empty database made where the gateway's is not."""
    scheme, _, path = settings.database_url.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():
        raise BadRequest(f"no database at {path}; fix: set FARTHING_DATABASE or FARTHING_DATA_DIR to the gateway's")


def _with_books() -> Settings:
    settings = load()
    if not settings.keeps_books:
        raise SettingsError("FARTHING_DATABASE=none keeps no books; fix: name the database that the gateway uses")
    return settings


def _open_keys(make: bool) -> "KeyStore":
    from gateway.access.keys_database import KeyStore  # noqa: PLC0415
    from gateway.books import open_data  # noqa: PLC0415

    settings = _with_books()
    if not make:
        _expect_database(settings)
    return KeyStore(open_data(settings))


def _where() -> "Where":
    from gateway.ledger.commands import Where  # noqa: PLC0415

    settings = _with_books()
    return Where(settings.database_url, settings.journal_dir)


def _serve_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fields = Settings.model_fields
    settings = "\n".join(
        f"  FARTHING_{name.upper():<22} {field.description}{_default(field.default)}" for name, field in fields.items()
    )
    serve = commands.add_parser(
        "serve",
        help="run the gateway",
        description="Serves the OpenAI API. Where requests go is written in the YAML files of the policy directory;\n"
        "without targets there, it uses OPENAI_API_KEY / ANTHROPIC_API_KEY, else an OpenAI-compatible\n"
        "server on localhost:8000 or :11434, else a built-in sandbox that simulates a model.",
        epilog=f"settings from the environment (arguments win):\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--host", help=f"address to listen on [{fields['host'].default}]")
    serve.add_argument("--port", type=int, help=f"port to listen on, 0 for a free one [{fields['port'].default}]")
    serve.add_argument(
        "--policies", type=Path, metavar="DIR", help=f"directory of policy files [{fields['policies'].default}]"
    )
    serve.set_defaults(func=_serve)


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    return f" [{str(value).lower() if isinstance(value, bool) else value}]"


def _serve(arguments: argparse.Namespace) -> int:
    settings = load({name: getattr(arguments, name) for name in ("host", "port", "policies")})
    from gateway import app  # noqa: PLC0415 - the whole gateway, for this command only
    from gateway.telemetry.log import setup  # noqa: PLC0415

    setup(settings.log_level)
    if names := unknown():
        logging.getLogger("farthing").warning("no such setting: %s (see farthing serve --help)", ", ".join(names))
    gateway, notes = app.build(settings, environment())
    app.serve(gateway, lambda url: print(app.greeting(gateway, url, notes), flush=True))
    return 0


def _policy_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    policy = commands.add_parser(
        "policy", help="check, try and roll out policies", description="Checks, tries and rolls out policies."
    )
    actions = policy.add_subparsers(title="actions", required=True, metavar="ACTION")
    lint = actions.add_parser("lint", help="report every error and warning", description="Checks policy files.")
    lint.add_argument("path", nargs="?", type=Path, help="directory or file [the one that `serve` would use]")
    lint.add_argument("--strict", action="store_true", help="exit 1 on warnings too")
    lint.set_defaults(func=_lint)
    schema = actions.add_parser(
        "schema", help="print the JSON Schema for editors", description="Prints the JSON Schema of policy files."
    )
    schema.set_defaults(func=_schema)
    _register_simulation(actions)
    _register_rollouts(actions)


def _register_rollouts(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from gateway.rollout import commands as rollout  # noqa: PLC0415 - light, but not for `import gateway.cli`

    rollout.register(actions, rollout.Setup(_policies, _open_rollouts, _actor))


@contextlib.contextmanager
def _open_rollouts() -> "Iterator[Operations]":
    from gateway.access.keys_database import KeyStore  # noqa: PLC0415
    from gateway.rollout.operate import Operations  # noqa: PLC0415
    from gateway.rollout.store import RolloutStore  # noqa: PLC0415

    with _database() as database:
        yield Operations(RolloutStore(database), KeyStore(database).policy_change)


def _actor() -> "Actor":
    from gateway.access.commands import actor  # noqa: PLC0415

    return actor()


def _register_simulation(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from gateway.simulate import commands as simulate  # noqa: PLC0415 - light, but not for `import gateway.cli`

    setup = simulate.Setup(_policies, _prices, lambda: load().encoder, lambda: _with_books().database_url)
    simulate.register(actions, setup)


def _policies() -> Path:
    from gateway import app  # noqa: PLC0415

    return app.policies_directory(load())


def _prices(folder: Path) -> "PriceBook":
    from gateway import app  # noqa: PLC0415

    return app.load_prices(folder)


def _price_of(folder: Path) -> "Callable[[Target], ModelPrice | None]":
    """Reads a target's price of today by the book of a policy's folder."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from gateway.pricing.resolve import price_of  # noqa: PLC0415

    book, today = _prices(folder), datetime.now(UTC).date()
    return lambda target: price_of(target, target.model or "", book, today)


def _lint(arguments: argparse.Namespace) -> int:
    from gateway import app  # noqa: PLC0415
    from gateway.core.exchange import Usage  # noqa: PLC0415
    from gateway.policy.commands import lint_command  # noqa: PLC0415
    from gateway.policy.lint_routing import INPUT_PER_OUTPUT  # noqa: PLC0415

    path = arguments.path or app.policies_directory(load())
    price_of = _price_of(path if path.is_dir() else path.parent)

    def cost(target: "Target") -> float | None:
        price = price_of(target)
        if price is None:
            return None
        return float(price.cost_total(Usage(uncached_input=INPUT_PER_OUTPUT * 1_000_000, output=1_000_000)))

    return lint_command(
        path,
        environment(),
        lambda target: price_of(target) is not None,
        strict=arguments.strict,
        cost=cost,
    )


def _schema(_: argparse.Namespace) -> int:
    from gateway.policy.commands import schema_command  # noqa: PLC0415

    return schema_command()


if __name__ == "__main__":
    sys.exit(main())
