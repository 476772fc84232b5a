"""What a log line looks like, what it never holds, and which requests are logged at which level."""

import io
import json
import logging
import sys

import pytest

from gateway.telemetry.log import AccessLog, handler, redact, setup
from tests.support.records import record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_to(stream, level=logging.INFO):
    logger = logging.Logger("farthing.test", level)  # noqa: LOG001 - outside the tree, so that nothing else hears it
    logger.addHandler(handler(stream))
    return logger


@pytest.fixture
def access_lines(monkeypatch):
    """Runs the access log at a level and returns the JSON lines it wrote."""

    def written(records, level=logging.INFO):
        stream = io.StringIO()
        monkeypatch.setattr("gateway.telemetry.log.access", log_to(stream, level))
        AccessLog()(records)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return written


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("sk-proj-abcdefgh12345678", "sk-***"),
        ("key sk-ant-api03-AbCd_efgh-1234 refused", "key sk-*** refused"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: Bearer ***"),
        ("authorization: bearer dGhpcyBpcyBhIHRva2Vu==", "authorization: bearer ***"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic ***"),
        ("{'x-api-key': 'abcdefgh12345'}", "{'x-api-key': '***'}"),
        ('"api_key": "abcdefgh12345"', '"api_key": "***"'),
        ("?api-version=1&token=abcdefghijkl&x=1", "?api-version=1&token=***&x=1"),
        ("gsk_abcdefgh12345678", "gsk_***"),
        ("AIzaSyA-1234567890abcdef", "AIza***"),
        ("postgres://farthing:hunter2@db:5432/ledger", "postgres://farthing:***@db:5432/ledger"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text, masked):
    assert redact(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "risk-assessment-model",
        "task-management finished",
        "monkey-patching-tests",
        "the bearer of news",
        "max_tokens=4096 input_tokens=12345678",
        "http://127.0.0.1:4000/v1/chat/completions",
        "gpt-4o-mini-2024-07-18",
        "2026-01-01T00:00:00.000+00:00",
        "019a0000000070008000000000000001",
    ],
)
def test_what_does_not_is_left_alone(text):
    assert redact(text) == text


def test_off_a_terminal_a_line_is_one_json_object():
    stream = io.StringIO()
    log_to(stream).warning("pool %s lost\n%d replicas", "a", 2)
    (line,) = stream.getvalue().splitlines()
    decoded = json.loads(line)
    assert decoded.pop("at").endswith("+00:00")
    assert decoded == {"level": "warning", "logger": "farthing.test", "message": "pool a lost\n2 replicas"}


def test_on_a_terminal_a_line_is_short_and_for_people():
    stream = Terminal()
    log_to(stream).info("policy loaded")
    assert stream.getvalue().endswith(" INFO    farthing.test: policy loaded\n")
    assert not stream.getvalue().startswith("{")


def test_fields_are_members_in_json_and_pairs_on_a_terminal():
    machine, people = io.StringIO(), Terminal()
    for stream in (machine, people):
        log_to(stream).info("request", {"status": 200, "target": "gpt"})
    assert json.loads(machine.getvalue())["status"] == 200
    assert people.getvalue().endswith("farthing.test: request status=200 target=gpt\n")


def test_a_field_cannot_stand_in_for_the_level_or_break_the_encoder():
    stream = io.StringIO()
    log_to(stream).info("x", {"level": "fake", "thing": object})
    decoded = json.loads(stream.getvalue())
    assert decoded["level"] == "info"
    assert decoded["thing"] == "<class 'object'>"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_secrets_in_messages_fields_and_tracebacks_are_masked(stream):
    log = log_to(stream)
    try:
        raise ValueError("refused sk-proj-abcdefgh12345678")
    except ValueError:
        log.exception("Bearer abcdefgh12345678", {"url": "http://u:hunter2@host/"})  # noqa: PLE1205 - fields
    text = stream.getvalue()
    assert "ValueError: refused sk-***" in text
    for secret in ("abcdefgh12345678", "hunter2"):
        assert secret not in text


def test_a_request_is_one_line_with_its_figures_and_no_prompt(access_lines):
    (line,) = access_lines([record()])
    line.pop("at")
    assert line == {
        "level": "info",
        "logger": "farthing.test",
        "message": "request",
        "request_id": "019a0000000070008000000000000001",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "ok",
        "error": None,
        "tenant": "acme",
        "key": "key-1",
        "route": "default",
        "target": "gpt",
        "policy": "abc123",
        "shadow": None,
        "requested_model": "fast",
        "model": "gpt-4o-2024-08-06",
        "attempts": 1,
        "input_tokens": 100,
        "output_tokens": 51,
        "cost_usd": "0.001234",
        "duration_ms": 2000.0,
        "ttft_ms": 500.0,
    }


def test_an_unknown_cost_is_logged_as_unknown(access_lines):
    (line,) = access_lines([record(cost_micro_usd=None, usage=None, ttft_s=None)])
    assert (line["cost_usd"], line["input_tokens"], line["ttft_ms"]) == ("unknown", None, None)


def test_at_level_warning_only_failures_are_logged(access_lines):
    outcomes = ["ok", "client_error", "client_disconnect", "upstream_error", "truncated", "internal_error"]
    lines = access_lines([record(outcome=outcome) for outcome in outcomes], logging.WARNING)
    assert [line["outcome"] for line in lines] == ["upstream_error", "truncated", "internal_error"]


def test_a_line_break_in_a_path_cannot_forge_a_line(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("gateway.telemetry.log.access", log_to(stream))
    AccessLog()([record(path="/x\n12:00:00 ERROR farthing: forged")])
    assert len(stream.getvalue().splitlines()) == 1


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {
        name: logging.getLogger(name).level
        for name in ("", "asyncio", "httpcore", "httpx", "urllib3", "uvicorn.error", "opentelemetry")
    }
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_the_set_up_sends_everything_at_the_level_to_stderr_once(restored_logging, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    earlier = io.StringIO()
    logging.getLogger().handlers[:] = [logging.StreamHandler(earlier)]
    setup("debug")
    setup("warning")
    logging.getLogger("farthing.x").info("unheard")
    logging.getLogger("farthing.x").warning("heard")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["heard"]
    assert earlier.getvalue() == ""
