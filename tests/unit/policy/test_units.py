import pytest

from gateway.policy import units


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("7d", 604800.0)]
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert units.seconds(text) == seconds


@pytest.mark.parametrize(
    "value", [2, 2.0, "2", "2 s", "0s", "-1s", "8d", "2s\n", "1e3s", "s", True, None, [], "9" * 500 + "s"]
)
def test_a_duration_without_a_unit_or_out_of_range_is_refused(value):
    with pytest.raises(units.BadValue):
        units.seconds(value)


@pytest.mark.parametrize(
    ("value", "fraction"), [("20%", 0.2), ("0%", 0.0), ("100%", 1.0), ("0.5%", 0.005), (0.2, 0.2), (0, 0.0)]
)
def test_a_percentage_becomes_a_fraction(value, fraction):
    assert units.fraction(value) == pytest.approx(fraction)


@pytest.mark.parametrize("value", [1, 20, "20", "101%", -0.1, True, "x%", float("nan")])
def test_a_percentage_that_could_mean_two_things_is_refused(value):
    with pytest.raises(units.BadValue):
        units.fraction(value)


@pytest.mark.parametrize(("text", "micro"), [("$0.80/1k", 800_000), ("0.8/1k", 800_000), ("$12/1k", 12_000_000)])
def test_a_cost_is_for_1000_requests(text, micro):
    assert units.cost_per_thousand(text) == micro


@pytest.mark.parametrize("value", ["$0.80", "0.8/k", "0/1k", "-1/1k", "1/1k/1k", 0.8, None, "1/1k\n", "9" * 50 + "/1k"])
def test_a_cost_of_something_else_is_refused(value):
    with pytest.raises(units.BadValue):
        units.cost_per_thousand(value)


@pytest.mark.parametrize(("value", "text"), [("$2.10", "2.10"), (2.1, "2.1"), (3, "3"), ("0", "0")])
def test_money_keeps_its_decimals(value, text):
    assert units.usd_text(value) == text


@pytest.mark.parametrize(
    ("value", "pico"), [(0.15, 150_000), ("$0.60", 600_000), (3, 3_000_000), ("0.000001", 1), (0, 0)]
)
def test_a_price_per_million_is_exact_in_pico_usd_per_token(value, pico):
    assert units.pico_usd_per_token(value) == pico


@pytest.mark.parametrize("value", ["0.0000001", "-1", "1,5", "€2", True, 1e-9, float("inf"), 2_000_000])
def test_a_price_that_cannot_be_exact_or_real_is_refused(value):
    with pytest.raises(units.BadValue):
        units.pico_usd_per_token(value)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_a_base_url_loses_its_trailing_slash_only(url, kept):
    assert units.base_url(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "api.openai.com/v1",
        "https://",
        "https:///v1",
        "https://user:pw@host/v1",
        "https://host/v1?x=1",
        "https://host/v1#x",
        "https://host:99999/v1",
        "https://host:0/v1",
        "https://ho st/v1",
        "https://hóst/v1",
        "https://[::1/v1",
        "https://host/v1/chat/completions",
        7,
    ],
)
def test_a_base_url_that_could_mislead_is_refused(url):
    with pytest.raises(units.BadValue):
        units.base_url(url)


def test_a_replica_url_ends_before_the_version():
    assert units.replica_url("http://vllm-0:8000/v1/") == "http://vllm-0:8000"
    assert units.replica_url("http://host/llama/v1") == "http://host/llama"


@pytest.mark.parametrize("value", ["sk-live-abcdef", "env:", "env:1X", "env:A B", "file:", "ENV:X", 5, "env:X\nfile:y"])
def test_a_literal_secret_is_refused_and_never_repeated(value):
    with pytest.raises(units.BadValue) as caught:
        units.secret_ref(value)
    assert "sk-live" not in caught.value.message + caught.value.fix
    assert "env:" in caught.value.fix


@pytest.mark.parametrize("value", ["a b", "", "-a", "é", "a\n", "a" * 129, 3, "a,b", 'a"'])
def test_a_name_that_would_break_a_header_or_a_metric_is_refused(value):
    with pytest.raises(units.BadValue):
        units.name(value)


@pytest.mark.parametrize("value", ["x\r\ny: z", "", "é", 3])
def test_a_header_value_that_could_split_a_request_is_refused(value):
    with pytest.raises(units.BadValue):
        units.header_value(value)
