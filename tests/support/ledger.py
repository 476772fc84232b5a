"""Admissions and records for tests of the ledger: any number of different requests, any field replaced."""

from random import Random
from typing import Any

import msgspec

from gateway.core.exchange import Admission, RequestRecord, Savings
from tests.support.records import record

WINDOWS = ("tenant:acme/month@1698796800", "key:key-1/day@1700006400")
STARTED_S = 1_700_000_000.5

ADMISSION = Admission(
    request_id="019a0000000070008000000000000001",
    started_s=STARTED_S,
    tenant="acme",
    key="key-1",
    tags=("batch",),
    dialect="openai",
    endpoint="chat",
    policy="abc123",
    route="default",
    requested_model="fast",
    target="gpt",
    provider="openai_compatible",
    model="gpt-4o-2024-08-06",
    stream=True,
    reserved_micro_usd=5000,
    windows=WINDOWS,
)


def request_id(number: int) -> str:
    return f"{number:032x}"


def admission(number: int = 1, **fields: Any) -> Admission:
    return msgspec.structs.replace(ADMISSION, request_id=request_id(number), **fields)


def ended(number: int = 1, **fields: Any) -> RequestRecord:
    """The end of `admission(number)`."""
    given = {
        "request_id": request_id(number),
        "started_s": STARTED_S,
        "tags": ("batch",),
        "admitted": True,
        "reserved_micro_usd": 5000,
        "savings": Savings(baseline=2000, routing=766),
        "windows": WINDOWS,
    }
    return record(**(given | fields))


def traffic(count: int, per_second: float = 100.0, seed: int = 1) -> list[RequestRecord]:
    """Requests of 10 tenants with 2 keys each on 3 routes, in the order of their start."""
    random = Random(seed)
    made = []
    for number in range(count):
        tenant, route = random.randrange(10), random.randrange(3)
        made.append(
            ended(
                number,
                started_s=STARTED_S + number / per_second,
                tenant=f"tenant-{tenant}",
                key=f"key-{tenant}-{random.randrange(2)}",
                route=f"route-{route}",
                model=f"model-{route}",
                outcome="ok" if random.random() < 0.97 else "upstream_error",
                cost_micro_usd=random.randrange(100_000) if random.random() < 0.97 else None,
                savings=Savings(random.randrange(1000), routing=random.randrange(-500, 500)),
                windows=(f"tenant:tenant-{tenant}/month@1698796800", f"all/day@{number // 8_640_000}"),
            )
        )
    return made
