"""Takes requests as a gateway does until it is killed, and tells each admission and end once it has returned."""

import sys
import time
from pathlib import Path
from random import Random

from gateway.core.clock import SystemClock
from gateway.database import open_database
from gateway.ledger import writer as module
from gateway.ledger.journal import Journal
from gateway.ledger.store import LedgerStore
from tests.support.ledger import admission, ended


def main() -> None:
    url, folder, first = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    module.SYNC_EVERY_S = 0.01  # so that checkpoints and deleted segments are in play within a short life
    store = LedgerStore(open_database(url))
    store.migrate()
    writer = module.LedgerWriter(
        Journal(folder, segment_bytes=30_000), store, SystemClock(), queue_rows=40, batch_rows=30, every_s=0.005
    )
    writer.replay()
    writer.start()
    random = Random(first)
    under_way: list[int] = []
    for number in range(first, first + 100_000):
        writer.admit(admission(number, reserved_micro_usd=5000))
        tell("A", number)
        under_way.append(number)
        while under_way and random.random() < 0.6:
            done = under_way.pop(random.randrange(len(under_way)))
            writer.close(ended(done, cost_micro_usd=100))
            tell("C", done)
        if random.random() < 0.02:
            time.sleep(0.01)


def tell(what: str, number: int) -> None:
    sys.stdout.write(f"{what} {number:032x}\n")
    sys.stdout.flush()


main()
