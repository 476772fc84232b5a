import hashlib

import pytest

from gateway.access.keys import OPEN, identify
from gateway.core.errors import Unauthorized
from gateway.core.exchange import Identity

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
