import pytest

from gateway import settings


def test_arguments_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("FARTHING_PORT", "5000")
    monkeypatch.setenv("FARTHING_HOST", "::1")
    loaded = settings.load({"port": 6000, "host": None})
    assert (loaded.port, loaded.host, loaded.loopback) == (6000, "::1", True)


@pytest.mark.parametrize(("name", "value"), [("PORT", "many"), ("LOG_LEVEL", "loud"), ("MAX_BODY_MIB", "0")])
def test_a_wrong_value_is_named(monkeypatch, name, value):
    monkeypatch.setenv(f"FARTHING_{name}", value)
    with pytest.raises(settings.SettingsError, match=f"FARTHING_{name}"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOG_LEVEL", "loud", "FARTHING_LOG_LEVEL: must be debug, info, warning or error"),
        ("REPLICAS", "2", "FARTHING_REPLICAS > 1 needs FARTHING_REDIS and"),
        ("QDRANT", "http://q:6333", "FARTHING_QDRANT holds vectors only"),
    ],
)
def test_what_is_wrong_is_said_without_the_words_of_the_library(monkeypatch, name, value, said):
    monkeypatch.setenv(f"FARTHING_{name}", value)
    with pytest.raises(settings.SettingsError) as raised:
        settings.load()
    assert str(raised.value).startswith(said)


def test_a_misspelt_setting_is_reported_and_what_kubernetes_adds_is_not(monkeypatch):
    for name in ("FARTHING_PROT", "FARTHING_SERVICE_HOST", "FARTHING_PORT_4000_TCP"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("FARTHING_PORT", "tcp://10.0.0.1:4000")
    assert settings.unknown() == ["FARTHING_PROT"]
    assert settings.load().port == 4000


@pytest.mark.parametrize(
    ("host", "loopback"), [("localhost", True), ("127.0.0.5", True), ("0.0.0.0", False), ("gw", False)]
)
def test_only_loopback_addresses_count_as_loopback(host, loopback):
    assert settings.load({"host": host}).loopback is loopback
