"""Fills a journal up to a limit of the file size, lifts the limit, and tells what happened as JSON."""

import json
import resource
import sys
from pathlib import Path

from gateway.ledger.journal import Journal, JournalError
from tests.support.ledger import admission, ended

LIMIT = 20_000


def main() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    journal = Journal(Path(sys.argv[1]))
    journal.recover()
    admitted = 0
    message = ""
    while not message:
        try:
            journal.admit(admission(admitted + 1))
            admitted += 1
        except JournalError as exc:
            message = exc.message
    for number in range(1, admitted):
        journal.close(ended(number))
    told = {"admitted": admitted, "message": message, "unwritten": journal.unwritten}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.admit(admission(admitted + 1))
    print(json.dumps(told | {"unwritten_after": journal.unwritten, "under_way": journal.under_way}))
    journal.sync()


main()
