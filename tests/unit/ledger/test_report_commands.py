"""`farthing ledger ...` on a ledger in SQLite: what is printed, and the exit status."""

import argparse
from pathlib import Path

import pytest

from gateway.core.errors import BadRequest
from gateway.database import open_database
from gateway.ledger.commands import Where, register, shown
from gateway.ledger.journal import Journal
from gateway.ledger.rows import closed
from gateway.ledger.store import LedgerStore
from tests.support.ledger import admission
from tests.support.ledger import ended as done
from tests.support.ledger_rows import ended

INVOICE = Path(__file__).parents[2] / "fixtures" / "invoices" / "openai_cost.csv"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def fill(url):
    def insert(*records):
        database = open_database(url)
        store = LedgerStore(database)
        store.migrate()
        store.insert([closed(record) for record in records])
        database.close()

    return insert


@pytest.fixture
def farthing(url, tmp_path):
    def run(*words):
        parser = argparse.ArgumentParser()
        register(parser.add_subparsers(), lambda: Where(url, tmp_path / "journal"))
        arguments = parser.parse_args(["ledger", *words])
        return arguments.func(arguments)

    return run


def test_a_report_is_printed(farthing, fill, capsys):
    fill(ended("2026-11-01", 1_500_000, tenant="shop"))
    assert farthing("report", "--by", "tenant", "--since", "2026-11-01") == 0
    assert "shop" in capsys.readouterr().out


def test_a_report_is_written_to_a_file(farthing, fill, tmp_path, capsys):
    fill(ended("2026-11-01", 5, tenant="shop"))
    assert farthing("report", "--by", "tenant", "--format", "csv", "--output", f"{tmp_path}/r.csv") == 0
    assert (tmp_path / "r.csv").read_text().startswith("tenant,requests,")
    assert capsys.readouterr().out == ""


def test_parquet_is_not_printed(farthing, fill):
    fill()
    with pytest.raises(BadRequest, match="fix: --output"):
        farthing("report", "--format", "parquet")


def test_an_empty_ledger_says_what_to_do(farthing, fill, capsys):
    fill()
    assert farthing("report") == 0
    assert "Send one through the gateway" in capsys.readouterr().out


def test_a_period_without_requests_says_so(farthing, fill, capsys):
    fill(ended("2026-11-01"))
    assert farthing("report", "--where", "tenant=nobody") == 0
    assert "No requests in this period with tenant=nobody" in capsys.readouterr().out


def test_a_database_that_is_not_there_is_not_made(farthing, tmp_path):
    with pytest.raises(BadRequest, match=r"no ledger at .* fix: run `farthing serve` first"):
        farthing("report")
    assert not (tmp_path / "ledger.db").exists()


def test_a_database_without_a_ledger_is_told_apart(farthing, url):
    open_database(url).close()
    with pytest.raises(BadRequest, match=r"no ledger in .* no such table"):
        farthing("verify")


def test_verify_exits_1_on_a_difference(farthing, fill, url, capsys):
    fill(ended("2026-11-01", 5))
    assert farthing("verify") == 0
    database = open_database(url)
    with database.transaction() as cursor:
        cursor.execute("UPDATE rollup_hour SET requests = 2")
    database.close()
    assert farthing("verify") == 1
    assert "the ledger does NOT add up" in capsys.readouterr().out
    assert farthing("verify", "--json") == 1


def test_reconcile_exits_1_only_above_the_limit_that_is_asked_for(farthing, fill, capsys):
    fill(ended("2026-11-01", 24_000, model="gpt-4o-2024-08-06", provider="openai_compatible"))
    assert farthing("reconcile", "--invoice", str(INVOICE)) == 0
    assert farthing("reconcile", "--invoice", str(INVOICE), "--fail-above", "3%") == 0
    assert farthing("reconcile", "--invoice", str(INVOICE), "--fail-above", "2%") == 1
    assert "the totals differ by 2.04%, more than 2.00%" in capsys.readouterr().out


@pytest.mark.parametrize("share", ["lots", "-1%", "nan"])
def test_a_limit_that_is_no_percentage_is_refused(farthing, share, capsys):
    with pytest.raises(SystemExit):
        farthing("reconcile", "--invoice", str(INVOICE), f"--fail-above={share}")
    assert "is no percentage; fix: 1% or 0.5%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory; fix: --invoice FILE"),
        (b"\xff\xfe\0\1", "not text in UTF-8; fix: the export as CSV or JSON"),
        (b"day,amount\n", "not an invoice: its columns are day, amount; fix: .*\n  OpenAI usage export"),
    ],
)
def test_an_invoice_that_cannot_be_read_is_named_with_the_fix(farthing, fill, tmp_path, content, says):
    fill()
    file = tmp_path / "november.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadRequest, match=rf"november\.csv: {says}"):
        farthing("reconcile", "--invoice", str(file))


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_a_report_that_cannot_be_written_is_refused_naming_the_file(farthing, fill, tmp_path, form):
    fill(ended("2026-11-01", 5))
    with pytest.raises(BadRequest, match=r"gone/report: No such file or directory.*; fix: --output FILE"):
        farthing("report", "--format", form, "--output", f"{tmp_path}/gone/report")


def test_journals_of_gateways_that_are_gone_are_stored_once(farthing, fill, tmp_path, capsys):
    fill()
    gone, running = Journal(tmp_path / "volumes" / "a"), Journal(tmp_path / "volumes" / "b")
    for number, journal in enumerate((gone, running)):
        journal.recover()
        journal.admit(admission(number))
        journal.close(done(number, admitted=True))
    gone.shut()
    assert farthing("replay", "--journal", str(tmp_path / "volumes")) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/volumes/b: in use" in told
    assert "stored 1 rows that were missing, from 1 journals" in told
    assert farthing("replay", "--journal", str(tmp_path / "volumes")) == 0
    assert "stored 0 rows" in capsys.readouterr().out
    running.shut()
    with pytest.raises(BadRequest, match=r"no journal at .* fix: --journal DIR"):
        farthing("replay")


def test_an_empty_report_takes_the_place_of_an_older_file(farthing, fill, tmp_path):
    fill()
    file = tmp_path / "report.txt"
    file.write_text("of yesterday")
    assert farthing("report", "--output", str(file)) == 0
    assert "is empty" in file.read_text()


def test_help_of_every_action_can_be_shown(farthing, capsys):
    for action in ("report", "verify", "reconcile", "replay"):
        with pytest.raises(SystemExit) as caught:
            farthing(action, "--help")
        assert caught.value.code == 0


def test_passwords_are_not_shown():
    assert shown("postgresql://me:secret@db/ledger") == "postgresql://me:***@db/ledger"
    assert shown("sqlite:///ledger.db") == "sqlite:///ledger.db"
