"""The pure decisions of the benchmark: what a run counts as, and what it is compared with."""

from tests.benchmarks.overhead import instructions, load, report, soak
from tests.benchmarks.overhead.gateways import BOOKS, FARTHING, LITELLM, NGINX, SGLANG, entries
from tests.benchmarks.overhead.measure import seconds_for
from tests.benchmarks.overhead.results import Case, Round, Row, Start

MANY = Case("json", 32)
WRK = '{"requests":%d,"bytes":9,"duration_us":2000000,"p50_us":1500,"p99_us":9000,"connect":0,"read":%d,"write":0,"status":%d,"timeout":0}\n'


def row(gateway: str, number: int = 1, case: Case = MANY, **figures: float | str) -> Row:
    usual: dict[str, float] = {
        "requests": 100,
        "cpu_us": 100.0,
        "beside_us": 0.0,
        "rps": 1.0,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
    }
    usual |= {"rss_mb": 80.0, "softirq_us": 1.0, "others": 0.0}
    return Row(
        **{"gateway": gateway, "case": case, "round": number, "instructions": None, "invalid": "", **usual, **figures}
    )


def round_of(*rows: Row, ready_s: float | None = 0.5) -> Round:
    return Round(rows[0].gateway, Start(rows[0].gateway, rows[0].round, ready_s, 0.6, 0.4), rows)


def verdicts(*rounds: Round) -> list[str]:
    return [goal.verdict for goal in report.goals(rounds, [], 32)]


def test_a_ratio_is_formed_within_a_round_and_its_median_shown_with_the_range():
    rows = [row(FARTHING, n, cpu_us=cpu) for n, cpu in ((1, 100.0), (2, 300.0), (3, 120.0))]
    rows += [row(SGLANG, n, cpu_us=cpu) for n, cpu in ((1, 100.0), (2, 200.0), (3, 100.0))]
    found = report.cpu_ratio(rows, SGLANG, MANY)
    assert found is not None
    assert found.show(2) == "1.20 [1.00-1.50]"


def test_a_round_without_the_peer_is_left_out_of_the_ratio():
    assert report.cpu_ratio([row(FARTHING, 1), row(SGLANG, 2)], SGLANG, MANY) is None


def test_goals_without_the_peers_they_need_are_skipped_not_passed():
    assert verdicts(round_of(row(FARTHING))) == [*["SKIP"] * 12, "PASS", "PASS"]


def test_a_goal_is_met_at_its_limit_and_missed_above_it():
    own = round_of(row(FARTHING, cpu_us=130.0))
    assert verdicts(own, round_of(row(SGLANG, cpu_us=100.0)))[0] == "PASS"
    assert verdicts(own, round_of(row(SGLANG, cpu_us=99.0)))[0] == "MISS"
    assert verdicts(own, round_of(row(LITELLM, cpu_us=6500.0)))[1] == "PASS"
    assert verdicts(own, round_of(row(LITELLM, cpu_us=6400.0)))[1] == "MISS"


def test_what_the_books_add_is_told_with_and_without_their_writer():
    own, books = round_of(row(FARTHING)), round_of(row(BOOKS, cpu_us=170.0, beside_us=20.0))
    found = {goal.text: (goal.verdict, goal.found) for goal in report.goals([], [own, books], 32)}
    assert found["json c=32 farthing-books takes at most 60 us more CPU on the request's path"] == ("PASS", "50.0 us")
    whole = found["json c=32 farthing-books takes at most 60 us more CPU, its storing of rows included"]
    assert whole == ("MISS", "70.0 us")


def test_what_the_books_add_is_told_as_a_share_too():
    turns = [round_of(row(FARTHING, cpu_us=200.0)), round_of(row(BOOKS, cpu_us=270.0, beside_us=20.0))]
    shown = [line.split("|")[1:4] for line in report.books(turns, [MANY]).splitlines() if BOOKS in line]
    assert [[cell.strip() for cell in line] for line in shown] == [
        [BOOKS, "50.0", "70.0"],
        [f"{BOOKS} / {FARTHING}", "0.25 x", "0.35 x"],
    ]


def test_many_turns_are_told_by_their_middle_half():
    found = report.middle([1.0, 2.0, 3.0, 4.0, 500.0, None])
    assert found is not None
    assert found.show(0) == "3 [2-4]"
    assert report.middle([7.0, 9.0]) == report.spread([7.0, 9.0])


def test_the_package_that_was_asked_for_is_what_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compiled").mkdir()
    monkeypatch.setenv("PYTHONPATH", "compiled")
    gateway = entries(tmp_path, tmp_path / "farthing")[FARTHING].configure(1, tmp_path)
    assert gateway.env["PYTHONPATH"] == str(tmp_path / "compiled")


def test_added_latency_is_read_at_one_connection():
    one = Case("json", 1)
    peer = round_of(row(NGINX, case=one, p50_ms=0.1), row(NGINX, p50_ms=9.0))
    own = round_of(row(FARTHING, case=one, p50_ms=0.7), row(FARTHING, p50_ms=9.1))
    assert verdicts(own, peer)[3] == "MISS"


def test_the_greatest_memory_of_any_row_is_what_counts():
    assert (
        verdicts(round_of(row(FARTHING, rss_mb=60.0), row(FARTHING, case=Case("sse", 32), rss_mb=121.0)))[-1] == "MISS"
    )


def test_rows_that_are_not_valid_count_for_nothing_and_are_named():
    broken = round_of(row(SGLANG, cpu_us=1.0, invalid="3 answers not 2xx"))
    assert verdicts(round_of(row(FARTHING)), broken)[0] == "SKIP"
    assert f"INVALID  {SGLANG} json c=32, round 1: 3 answers not 2xx" in report.figures([broken], [MANY])


def test_a_busy_machine_is_named():
    assert "BUSY" in report.figures([round_of(row(FARTHING, others=0.3))], [MANY])
    assert "BUSY" not in report.figures([round_of(row(FARTHING, others=0.01))], [MANY])


def test_wrk_errors_and_bad_statuses_are_faults():
    assert load.read_summary("text\n" + WRK % (10, 0, 0)).faults == ""
    assert load.read_summary(WRK % (10, 2, 3)).faults == "3 answers not 2xx, 2 read errors"
    assert load.read_summary(WRK % (0, 0, 0)).faults == "no request completed"
    assert load.read_summary(WRK % (10, 0, 0)).rps == 5.0


def test_slow_gateways_are_measured_longer_up_to_a_limit():
    assert seconds_for(32, 10_000.0, 5) == 5
    assert seconds_for(32, 12.8, 5) == 10
    assert seconds_for(32, 0.0, 5) == 20
    assert seconds_for(32, 1.0, 30) == 30


def test_a_soak_counts_growth_after_its_first_tenth_only():
    flat = soak.Soak((soak.Point(10, 80.0), soak.Point(20, 84.9), soak.Point(30, 84.9)), 1, 0, "")
    assert soak.goal(flat).verdict == "PASS"
    assert soak.goal(soak.Soak((soak.Point(10, 80.0), soak.Point(20, 85.1)), 1, 0, "")).verdict == "MISS"
    assert soak.goal(soak.Soak(flat.points, 1, 1, "EOF")).verdict == "MISS"


def test_the_slope_is_that_of_the_least_squares_line():
    assert soak.slope([(0, 1), (1, 3), (2, 5)]) == 2.0
    assert soak.slope([(1, 4)]) == 0.0


def test_instructions_are_read_where_the_processor_counts_them():
    assert instructions.read_count("123456,,instructions,1000,100.00,,\n") == 123456
    assert instructions.read_count("<not supported>,,instructions,0,100.00,,\n") is None
    assert instructions.read_count("") is None
