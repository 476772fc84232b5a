"""The crash suite's audit finds each fault that it exists to find: sound books pass, and one change of them does not."""

import dataclasses

import pytest

from tests.suites.crash.books import Billed, Ledger, Row, audit, leaked, misjudged, overshot, read_bill
from tests.suites.crash.load import Answer
from tests.suites.crash.signing import Ask, whole

LIMITS = {"all/total": 10_000, "tenant:shop/total": 1_000}
WINDOWS = ["all/total@0", "tenant:shop/total@0"]


class Books:
    """A whole answer, a caller who left, a crash, a refusal: four requests whose books are sound."""

    def __init__(self) -> None:
        asks = {name: Ask("shop", f"{name}-nonce", 4, 0, 0) for name in ("whole", "left", "crashed", "refused")}
        self.bill = {
            "whole": Billed("whole-nonce", "shop", 80, finished=True),
            "left": Billed("left-nonce", "shop", 60, finished=False),
            "crashed": Billed("crashed-nonce", "shop", 70, finished=False),
        }
        self.rows = [
            Row("whole", "shop", "ok", 200, "reported", 300, 80, WINDOWS, 0.0),
            Row("left", "shop", "client_disconnect", 200, "estimated", 300, 90, WINDOWS, 0.0),
            Row("crashed", "shop", "crashed", 0, "estimated", 300, 300, WINDOWS, 0.0),
        ]
        self.spend = dict.fromkeys(WINDOWS, 470)
        self.rolled_up = (3, 470)
        self.answers = [
            Answer(asks["whole"], False, None, 200, "whole", "whole", whole(asks["whole"]), told_micro=80),
            Answer(asks["left"], True, 2, 200, "left", "left", whole(asks["left"])[:20]),
            Answer(asks["crashed"], True),
            Answer(
                asks["refused"], False, None, 429, "refused", "whole", error="insufficient_quota", message=_refusal()
            ),
        ]

    def wrong(self) -> list[str]:
        ledger = Ledger(self.rows, self.spend, self.rolled_up)
        return audit(ledger, self.bill, self.answers, LIMITS).wrong

    def row(self, place: int, **changed) -> None:
        self.rows[place] = self.rows[place]._replace(**changed)

    def charge(self, place: int, micro: int) -> None:
        """Another amount, with all sums made to fit it."""
        more = micro - (self.rows[place].charged or 0)
        self.row(place, charged=micro)
        self.spend = {window: spent + more for window, spent in self.spend.items()}
        self.rolled_up = (self.rolled_up[0], self.rolled_up[1] + more)


def _refusal(used: str = "0.00077", held: str = "0.0003", needed: str = "0.0004") -> str:
    return (
        f"The budget tenant:shop/total is exhausted: ${used} of $0.001 are used, ${held} of it held by requests under way, "
        f"and this request can cost up to ${needed}. It does not reset. A lower max_tokens lowers what a request can cost."
    )


def _without_row(books: Books) -> None:
    row = books.rows.pop(0)
    books.spend = {window: spent - (row.charged or 0) for window, spent in books.spend.items()}
    books.rolled_up = (2, 390)


def _twice(books: Books) -> None:
    books.rows.append(books.rows[0])
    books.spend = {window: spent + 80 for window, spent in books.spend.items()}
    books.rolled_up = (4, 550)


def _booked_but_refused(books: Books) -> None:
    books.rows.append(Row("refused", "shop", "client_error", 429, None, 0, 0, WINDOWS, 0.0))
    books.rolled_up = (4, 470)


def _of_nobody(books: Books) -> None:
    books.rows.append(Row("stray", "shop", "ok", 200, "reported", 0, 0, WINDOWS, 0.0))
    books.rolled_up = (4, 470)


def _sent_twice(books: Books) -> None:
    books.bill["again"] = books.bill["whole"]
    books.rows.append(books.rows[0]._replace(request_id="again", charged=0))
    books.rolled_up = (4, 470)


def _over_the_limit(books: Books) -> None:
    books.charge(2, 900)


def _answer(books: Books, place: int, **changed) -> None:
    books.answers[place] = dataclasses.replace(books.answers[place], **changed)


FAULTS = {
    "a missing row": (_without_row, "I1 whole: accepted, and not in the ledger"),
    "a double row": (_twice, "I1 whole: 2 rows of one request"),
    "a request that was sent as two": (_sent_twice, "I1 whole-nonce: 2 bills of one request"),
    "a refused request with a row": (_booked_but_refused, "I1 refused: refused, and in the ledger"),
    "a row that nobody knows": (_of_nobody, "I1 stray: ok 200 in the ledger, and nobody knows it"),
    "another tenant's row": (lambda books: books.row(0, tenant="mill"), "I1 whole: of shop, booked on mill"),
    "an undercharge": (lambda books: books.charge(0, 79), "I2 whole: ok charged 79, billed 80, not flagged"),
    "an overcharge": (lambda books: books.charge(0, 81), "I2 whole: ok charged 81, billed 80, not flagged"),
    "an estimate below the bill": (lambda books: books.charge(1, 59), "I2 left: client_disconnect, estimated at 59"),
    "a cost that is not known": (lambda books: books.row(0, charged=None), "I2 whole: ok of unknown cost"),
    "a cost told wrong": (lambda books: _answer(books, 0, told_micro=81), "I2 whole: told 81, charged 80"),
    "a window that forgot": (lambda books: books.spend.update({WINDOWS[1]: 390}), "committed 390, its rows say 470"),
    "an overshoot": (_over_the_limit, "I3 tenant:shop/total@0: 1070 spent of 1000"),
    "roll-ups that forgot": (lambda books: setattr(books, "rolled_up", (3, 469)), "I3 the roll-ups say (3, 469)"),
    "another caller's words": (lambda books: _answer(books, 0, text="mill/1/0 "), "I4 whole"),
    "a refusal with room": (lambda books: _answer(books, 3, message=_refusal(needed="0.00023")), "I5 refused: phantom 429"),
    "a refusal for what no row spent": (
        lambda books: _answer(books, 3, message=_refusal(used="0.000771")),
        "I5 refused: phantom 429, 471 of tenant:shop/total called spent, its rows say 470",
    ),
    "a refusal that names no budget": (lambda books: _answer(books, 3, message="No."), "I5 refused: does not say"),
    "half an answer called whole": (lambda books: _answer(books, 0, text=whole(books.answers[0].ask)[:9]), "I6 whole"),
    "a stream without its end": (lambda books: _answer(books, 1, end="silent cut"), "I6 left: the stream ended"),
}  # fmt: skip


def test_sound_books_pass():
    assert Books().wrong() == []


@pytest.mark.parametrize("name", FAULTS)
def test_the_audit_finds(name):
    books = Books()
    spoil, said = FAULTS[name]
    spoil(books)
    wrong = books.wrong()
    assert any(said in line for line in wrong), wrong


@pytest.mark.parametrize(
    ("committed", "reserved", "wrong"), [(600, 400, False), (600, 401, True), (600, -1, True), (-1, 0, True)]
)
def test_a_look_at_a_budget_finds_an_overshoot(committed, reserved, wrong):
    budgets = {"all/total": {"committed": committed, "reserved": reserved, "limit": 1000}}
    assert bool(overshot(budgets)) == wrong


def test_a_reservation_that_nobody_gives_back_is_found():
    budget = {"committed": 5, "reserved": 0, "limit": 10}
    assert leaked({"a": budget, "b": {**budget, "reserved": 1}}) == {"b": 1}


@pytest.mark.parametrize(
    ("left", "needed", "status", "wrong"),
    [
        (100, 100, 200, None),
        (100, 101, 429, None),
        (100, 100, 429, "phantom 429"),
        (100, 100, 503, "phantom 429"),
        (100, 101, 200, "overshoot"),
    ],
)
def test_a_request_that_just_fits_must_pass_and_one_token_more_must_not(left, needed, status, wrong):
    answer = Answer(
        Ask("shop", "n", 1, 0, 0), False, None, status, error="insufficient_quota" if status == 429 else None
    )
    found = misjudged(left, needed, answer)
    assert (found is None) == (wrong is None)
    assert wrong is None or found.startswith(wrong)


def test_a_bill_adds_the_calls_of_a_request_and_counts_what_is_under_way_as_nothing(tmp_path):
    path = tmp_path / "bill.jsonl"
    path.write_text(
        '{"begin": "1-1", "id": "r", "nonce": "n", "tenant": "shop", "prompt": 10}\n'
        '{"end": "1-1", "words": 2, "finished": false}\n'
        '{"begin": "1-2", "id": "r", "nonce": "n", "tenant": "shop", "prompt": 10}\n'
        '{"begin": "1-3", "id": "s", "nonce": "m", "tenant": "mill", "prompt": 10}\n'
        '{"end": "1-2", "words": 4, "finished": true}\n'
    )
    assert read_bill(path) == {
        "r": Billed("n", "shop", 2 * 10 * 3 + 6 * 11, finished=True),
        "s": Billed("m", "mill", 0, finished=False),
    }
