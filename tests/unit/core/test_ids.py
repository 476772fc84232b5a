import random
import uuid

from gateway.core.ids import uuid7


def test_an_id_is_a_uuid_of_version_7():
    made = uuid.UUID(uuid7(1_700_000_000.123, random.Random(1).getrandbits))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_700_000_000_123


def test_ids_sort_by_time_and_do_not_repeat():
    bits = random.Random(2).getrandbits
    ids = [uuid7(1_700_000_000 + i / 1000, bits) for i in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
