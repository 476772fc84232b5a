"""What a request may ask of the cache."""

import pytest

from gateway.cache.controls import Controls, controls
from gateway.core.errors import BadRequest
from tests.support.calls import call

NEITHER = Controls(read=False, write=False)
ANEW = Controls(read=False)


def asked(*headers):
    one = call({"messages": []})
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return controls(
        type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, "headers": pairs, "index": dict(pairs)})
    )


def cc(value):
    return asked(("cache-control", value))


def ours(value):
    return asked(("x-farthing-cache", value))


def test_unsaid_is_all_of_it():
    assert (
        asked()
        == asked(("accept", "*/*"))
        == Controls(read=True, write=True, semantic=True, only=False, max_age_s=None)
    )


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("no-store", NEITHER),
        ("No-Store", NEITHER),
        ("no-cache", ANEW),
        ("max-age=60", Controls(max_age_s=60)),
        ("max-age=0", Controls(max_age_s=0)),
        ('max-age="60"', Controls(max_age_s=60)),
        ("max-age=60, only-if-cached", Controls(only=True, max_age_s=60)),
        ("max-age=60,max-age=5", Controls(max_age_s=5)),
        ("max-age=99999999999999999999", Controls(max_age_s=2**31)),
        ("max-age=4000000000", Controls(max_age_s=2**31)),
        ("max-age", Controls(max_age_s=0)),
        ("max-age=soon", Controls(max_age_s=0)),
        ("max-age=-1", Controls(max_age_s=0)),
        ("max-age=１", Controls(max_age_s=0)),
        ("max-stale=5, min-fresh=3, no-transform, stale-if-error, x=y", Controls()),
        ("", Controls()),
        (" , ,", Controls()),
        ("no-cache, no-store", NEITHER),
    ],
)
def test_cache_control(value, meant):
    assert cc(value) == meant


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("off", NEITHER),
        (" OFF ", NEITHER),
        ("refresh", ANEW),
        ("exact", Controls(semantic=False)),
        ("only", Controls(only=True)),
        ("exact, only", Controls(semantic=False, only=True)),
        ("off, exact", Controls(read=False, write=False, semantic=False)),
        ("", Controls()),
    ],
)
def test_the_gateways_own_words(value, meant):
    assert ours(value) == meant


@pytest.mark.parametrize("value", ["of", "no-store", "off, refresh", "off, only", "refresh only", "semantic", "true"])
def test_a_word_that_is_not_understood_is_refused_not_guessed(value):
    with pytest.raises(BadRequest) as error:
        ours(value)
    assert error.value.param == "x-farthing-cache"


def test_the_stricter_of_the_two_holds():
    assert asked(("cache-control", "no-store"), ("x-farthing-cache", "exact")) == Controls(
        read=False, write=False, semantic=False
    )
    assert asked(("cache-control", "no-cache"), ("x-farthing-cache", "off")) == NEITHER


def test_repeated_headers_all_count():
    assert asked(("cache-control", "max-age=60"), ("cache-control", "no-store")) == Controls(
        read=False, write=False, max_age_s=60
    )
    with pytest.raises(BadRequest):
        asked(("x-farthing-cache", "nonsense"), ("x-farthing-cache", "off"))
