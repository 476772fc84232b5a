"""Appends to a journal until it is killed, and tells each id over standard output once its admission has returned."""

import sys
from pathlib import Path

from gateway.ledger.journal import Journal
from tests.support.ledger import admission, ended


def main() -> None:
    journal = Journal(Path(sys.argv[1]), segment_bytes=16_384)
    journal.recover()
    number = 0
    while True:
        number += 1
        admitted = admission(number)
        journal.admit(admitted)
        sys.stdout.write(f"{admitted.request_id}\n")
        sys.stdout.flush()
        if number % 3:
            journal.close(ended(number))


main()
