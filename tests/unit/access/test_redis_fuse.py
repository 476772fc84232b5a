"""When calls to a silent Redis are not even tried."""

from gateway.access.redis_link import BLOWN_S, FAILURES_IN_A_ROW, Fuse


def blown(now):
    fuse = Fuse()
    for _ in range(FAILURES_IN_A_ROW):
        fuse.failed(now)
    return fuse


def test_it_holds_until_the_last_failure_in_a_row():
    fuse = Fuse()
    for _ in range(FAILURES_IN_A_ROW - 1):
        fuse.failed(10.0)
    assert fuse.admits(10.0)
    fuse.worked()
    fuse.failed(10.0)
    assert fuse.admits(10.0)


def test_blown_it_admits_one_call_a_second():
    fuse = blown(10.0)
    assert not fuse.admits(10.0)
    assert not fuse.admits(10.0 + BLOWN_S - 0.001)
    assert fuse.admits(10.0 + BLOWN_S)
    assert not fuse.admits(10.0 + BLOWN_S)
    assert fuse.admits(10.0 + 2 * BLOWN_S)


def test_one_answer_mends_it():
    fuse = blown(10.0)
    fuse.worked()
    assert [fuse.admits(10.0) for _ in range(3)] == [True] * 3
