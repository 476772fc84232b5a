"""The command line: `farthing serve | policy | keys | tenants | admin | ledger | prices`.

Parses arguments, prints, exits; what commands do lives in the rooms. Heavy imports happen in the command that needs
them, so that `farthing --help` answers at once.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.core.errors import GatewayError
from gateway.settings import Settings, SettingsError, environment, load, unknown

if TYPE_CHECKING:
    from gateway.access.keys_database import KeyStore
    from gateway.ledger.commands import Where


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; errors are one message on stderr and status 1 or 2."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.func(arguments)
    except SettingsError as exc:
        sys.stderr.write(f"farthing: {exc}\n")
        return 2
    except GatewayError as exc:
        sys.stderr.write(f"farthing: {exc.message}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farthing",
        description="A cost-aware LLM gateway: the OpenAI API in front of vLLM pools and external APIs.",
    )
    parser.add_argument("--version", action="version", version=f"farthing {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _serve_parser(commands)
    _policy_parser(commands)
    _register_rooms(commands)
    return parser


def _register_rooms(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from gateway.access import commands as access  # noqa: PLC0415 - light, but not for `import gateway.cli`
    from gateway.ledger import commands as ledger  # noqa: PLC0415
    from gateway.pricing import commands as pricing  # noqa: PLC0415

    access.register(commands, _open_keys)
    ledger.register(commands, _where)
    pricing.register(commands)


def _with_books() -> Settings:
    settings = load()
    if not settings.keeps_books:
        raise SettingsError("FARTHING_DATABASE=none keeps no books; fix: name the database that the gateway uses")
    return settings


def _open_keys() -> "KeyStore":
    from gateway.access.keys_database import KeyStore  # noqa: PLC0415
    from gateway.books import open_data  # noqa: PLC0415

    return KeyStore(open_data(_with_books()))


def _where() -> "Where":
    from gateway.ledger.commands import Where  # noqa: PLC0415

    settings = _with_books()
    return Where(settings.database_url, settings.journal_dir)


def _serve_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fields = Settings.model_fields
    settings = "\n".join(
        f"  FARTHING_{name.upper():<22} {field.description} [{field.default}]" for name, field in fields.items()
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
    policy = commands.add_parser("policy", help="check policy files", description="Works on policy files.")
    actions = policy.add_subparsers(title="actions", required=True, metavar="ACTION")
    lint = actions.add_parser("lint", help="report every error and warning", description="Checks policy files.")
    lint.add_argument("path", nargs="?", type=Path, help="directory or file [the one that `serve` would use]")
    lint.add_argument("--strict", action="store_true", help="exit 1 on warnings too")
    lint.set_defaults(func=_lint)
    schema = actions.add_parser("schema", help="print the JSON Schema for editors")
    schema.set_defaults(func=_schema)


def _lint(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime  # noqa: PLC0415

    from gateway import app  # noqa: PLC0415
    from gateway.policy.commands import lint_command  # noqa: PLC0415
    from gateway.pricing.resolve import price_of  # noqa: PLC0415

    path = arguments.path or app.policies_directory(load())
    book = app.load_prices(path if path.is_dir() else path.parent)
    today = datetime.now(UTC).date()
    return lint_command(
        path,
        environment(),
        lambda target: price_of(target, target.model or "", book, today) is not None,
        strict=arguments.strict,
    )


def _schema(_: argparse.Namespace) -> int:
    from gateway.policy.commands import schema_command  # noqa: PLC0415

    return schema_command()


if __name__ == "__main__":
    sys.exit(main())
