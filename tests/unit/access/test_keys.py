import contextlib
import hashlib

import pytest

from gateway.access.keyring import Keyring, KeysUnavailable
from gateway.access.keys import OPEN, identify
from gateway.access.keys_database import KeyStore
from gateway.core.errors import Unauthorized
from gateway.core.exchange import Identity
from gateway.database import open_database
from tests.support.keys import NOW, ROOT, HandClock, draft

SECRET = b"sk-shop-0123456789"
SHOP = Identity("shop", "shop-prod")
KEYS = {hashlib.sha256(SECRET).hexdigest(): SHOP}


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + SECRET},
        {b"authorization": b"bearer  " + SECRET},
        {b"x-api-key": SECRET},
        {b"api-key": SECRET},
    ],
)
def test_every_usual_header_carries_a_key(headers):
    assert identify(KEYS, headers, may_be_open=True) is SHOP


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Basic " + SECRET},
        {b"authorization": b"Bearer " + SECRET[:-1]},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer ' OR 1=1 --"},
        {b"authorization": b"Bearer wrong", b"x-api-key": SECRET},
        {b"x-api-key": hashlib.sha256(SECRET).hexdigest().encode()},
    ],
)
def test_everything_else_is_refused_without_repeating_it(headers):
    with pytest.raises(Unauthorized) as refused:
        identify(KEYS, headers, may_be_open=True)
    assert SECRET.decode() not in refused.value.message


def test_without_keys_it_is_open_only_where_it_may_be():
    assert identify({}, {}, may_be_open=True) is OPEN
    with pytest.raises(Unauthorized):
        identify({}, {}, may_be_open=False)


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/keys.db"))) as opened:
        yield opened


def carrying(secret):
    return {b"x-api-key": secret.encode()}


def test_keys_of_the_policy_and_of_the_store_both_open(store):
    record, made = store.create_key(draft("bank"), ROOT, NOW)
    keyring = Keyring(store, HandClock())
    keyring.refresh()
    assert identify(KEYS, carrying(SECRET.decode()), may_be_open=False, keyring=keyring) is SHOP
    assert identify(KEYS, carrying(made.secret), may_be_open=False, keyring=keyring) == Identity("bank", record.id)
    with pytest.raises(Unauthorized) as refused:
        identify(KEYS, carrying(made.secret + "x"), may_be_open=True, keyring=keyring)
    assert refused.value.code == "invalid_api_key"


def test_one_key_in_the_store_closes_an_open_gateway_even_a_revoked_one(store):
    keyring = Keyring(store, HandClock())
    keyring.refresh()
    assert identify({}, {}, may_be_open=True, keyring=keyring) is OPEN
    record, _ = store.create_key(draft(), ROOT, NOW)
    store.revoke_key(record.id, ROOT, NOW)
    keyring.refresh()
    with pytest.raises(Unauthorized):
        identify({}, {}, may_be_open=True, keyring=keyring)


def test_while_the_store_is_away_policy_keys_serve_and_nothing_is_open(store):
    keyring = Keyring(store, HandClock())
    assert identify(KEYS, carrying(SECRET.decode()), may_be_open=True, keyring=keyring) is SHOP
    for keys in (KEYS, {}):
        with pytest.raises(KeysUnavailable):
            identify(keys, carrying("sk-farthing-unknown"), may_be_open=True, keyring=keyring)
