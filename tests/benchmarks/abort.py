"""How many requests on trial it takes until a condition of `--abort-on` holds a canary up: `python -m tests.benchmarks.abort`.

Simulated trials with a twentieth of the requests, one condition each, looked at after every further 2 % of requests.
"""

import numpy as np

from gateway.rollout.guard import broken, parse_guard
from gateway.rollout.tally import Counts, Side

SHARE, RUNS, MOST = 0.05, 60, 200_000
IN_FORCE = 0.005


def looks():
    """Requests of both sides at each look, those on trial in their share."""
    on_trial = 2
    while on_trial < MOST * SHARE:
        yield on_trial, int(on_trial / SHARE) - on_trial
        on_trial = max(on_trial + 1, int(on_trial * 1.02))


def until(text, draw):
    """Requests on trial at the first look that aborts, median and nine in ten; infinite where none does."""
    condition, found = parse_guard(text), []
    for _ in range(RUNS):
        sides = draw()
        found.append(next((n for n, m in looks() if broken(condition, counts(sides, n, m)) is not None), np.inf))
    return [float(np.sort(found)[int(RUNS * part)]) for part in (0.5, 0.9)]


def counts(sides, n, m):
    new, old = ([int(total[at - 1]) for total in side] for side, at in zip(sides, (n, m), strict=True))
    return Counts(
        Side(requests=m, errors=old[0], micro_usd=old[1], squares=old[2]),
        Side(requests=n, errors=new[0], micro_usd=new[1], squares=new[2]),
    )


def main():
    dice = np.random.default_rng(1)
    sizes = int(MOST * SHARE), MOST

    def failing(rates):
        sides = [dice.random(size) < rate for size, rate in zip(sizes, rates, strict=True)]
        return [(np.cumsum(side), np.zeros(len(side)), np.zeros(len(side))) for side in sides]

    def costing(times):
        sides = [dice.lognormal(6, 1, size) * by for size, by in zip(sizes, (times, 1), strict=True)]
        return [(np.zeros(len(side)), np.cumsum(side), np.cumsum(side * side)) for side in sides]

    for rate in (0.03, 0.04, 0.05, 0.1, 0.5, 1.0):
        print(
            f"errors>+2%, {IN_FORCE:.1%} in force, {rate:.0%} on trial",
            until("errors>+2%", lambda: failing((rate, IN_FORCE))),
        )
    for times in (1.2, 1.3, 1.5, 2.0):
        print(f"cost>+10%, {times} times the cost", until("cost>+10%", lambda: costing(times)))


if __name__ == "__main__":
    main()
