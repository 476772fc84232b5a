"""What `/metrics` reads live when it is scraped: the state of policy, breakers, pools, budgets, ledger."""

from collections.abc import Callable, Sequence

from gateway.access.alerts import Alerts
from gateway.access.embedded import EmbeddedAccounts
from gateway.books import Books
from gateway.cache.admin import CacheAdmin
from gateway.caching import Caching, Opened
from gateway.choosing import Choosing
from gateway.core.money import MICRO
from gateway.dispatch.breaker import BreakerRegistry
from gateway.ledger.writer import LedgerWriter
from gateway.policy.table import Policy
from gateway.policy.watch import PolicyHolder
from gateway.pool.registry import PoolRegistry
from gateway.pricing.live import HostedPrices
from gateway.rollout.serving import Serving
from gateway.rollout.tally import Counts, Side
from gateway.telemetry.prometheus import PrometheusMetrics, Read

Samples = list[tuple[tuple[str, ...], float]]


def policy(metrics: PrometheusMetrics, holder: PolicyHolder, current: Callable[[], Policy]) -> None:
    """The policy in force and its reloads."""
    metrics.gauge("farthing_policy_info", "The policy in force.", ("hash",), lambda: [((current().hash,), 1)])
    metrics.gauge(
        "farthing_policy_reload_success",
        "1 if the files on disk could be loaded, 0 if the last good ones are kept.",
        (),
        lambda: [((), holder.last_error is None)],
    )
    metrics.gauge(
        "farthing_policy_loaded_timestamp_seconds",
        "When the policy in force was loaded.",
        (),
        lambda: [((), holder.loaded_at)],
    )
    metrics.counter(
        "farthing_policy_reloads",
        "Reloads since the start.",
        ("result",),
        lambda: [(("ok",), holder.reloads_ok), (("failed",), holder.reloads_failed)],
    )


def rollout(metrics: PrometheusMetrics, serving: Serving) -> None:
    """What is pinned, what is on trial, and what is counted of it."""

    def counted(name: str, help_: str, labels: tuple[str, ...], samples: Callable[[Counts], Samples]) -> None:
        metrics.counter(name, help_, labels, lambda: samples(serving.tally.counts) if serving.trial is not None else [])

    metrics.gauge(
        "farthing_policy_pinned",
        "1 for a policy that is in force in place of the files'; absent while the files rule.",
        ("hash",),
        lambda: [((serving.pinned,), 1)] if serving.pinned is not None else [],
    )
    metrics.gauge(
        "farthing_rollout_share",
        "Share of requests that a policy on trial decides (canary) or is asked about (shadow); absent without one.",
        ("hash", "mode"),
        lambda: [((t.policy.hash, t.mode), 0 if serving.stale else t.share)] if (t := serving.trial) else [],
    )
    metrics.gauge(
        "farthing_rollout_aborted",
        "1 while a canary is held at 0 % because it broke a condition of --abort-on; absent otherwise.",
        ("hash", "condition"),
        lambda: (
            [((t.policy.hash, t.aborted.partition(":")[0]), 1)]
            if (t := serving.trial) is not None and t.aborted is not None
            else []
        ),
    )
    metrics.gauge(
        "farthing_rollout_errors",
        "What is asked for and cannot be done here: a candidate or a pinned policy that does not compile.",
        (),
        lambda: [((), len(serving.errors))],
    )
    counted(
        "farthing_rollout_requests",
        "Requests since the trial began, by the policy that decided them and how they ended.",
        ("policy", "result"),
        lambda counts: [((side, result), n) for side, each in sides(counts) for result, n in results(each)],
    )
    counted(
        "farthing_rollout_cost_usd",
        "What they cost, as far as it is known.",
        ("policy",),
        lambda counts: [((side,), each.micro_usd / MICRO) for side, each in sides(counts)],
    )
    counted(
        "farthing_rollout_shadow",
        "Requests shown to the policy in shadow, by how its decision compares.",
        ("result",),
        lambda counts: [
            ((result,), getattr(counts.shadow, result)) for result in ("same", "other", "undecided", "failed", "cached")
        ],
    )
    counted(
        "farthing_rollout_moves",
        "Requests that the policy in shadow would have sent elsewhere.",
        ("origin", "target"),
        lambda counts: [(pair(moved), n) for moved, n in counts.shadow.moves.items()],
    )
    metrics.gauge(
        "farthing_rollout_shadow_cost_usd",
        "What requests would have cost more under the policy in shadow, at the same tokens; may be negative.",
        (),
        lambda: [((), serving.tally.counts.shadow.micro_usd / MICRO)] if serving.trial is not None else [],
    )


def sides(counts: Counts) -> list[tuple[str, Side]]:
    """Both policies' counts."""
    return [("in_force", counts.in_force), ("candidate", counts.candidate)]


def results(side: Side) -> list[tuple[str, int]]:
    """Requests by how they ended."""
    return [
        ("ok", side.requests - side.errors - side.refused),
        ("error", side.errors),
        ("refused", side.refused),
    ]


def pair(moved: str) -> tuple[str, str]:
    """Origin and target of a move."""
    origin, _, target = moved.partition(" -> ")
    return origin, target


def upstreams(
    metrics: PrometheusMetrics, breakers: BreakerRegistry, pools: PoolRegistry, monotonic: Callable[[], float]
) -> None:
    """Breakers of targets, health of replicas."""
    metrics.gauge(
        "farthing_breaker_state",
        "1 for the state that a target's breaker is in.",
        ("target", "state"),
        lambda: [((name, breaker.state(monotonic()).value), 1) for name, breaker in breakers.items()],
    )
    metrics.gauge(
        "farthing_replica_healthy",
        "1 while a replica answers its health probe.",
        ("pool", "replica"),
        lambda: [
            ((state.pool.name, replica.url), replica.healthy) for state in pools.all() for replica in state.replicas
        ],
    )


def budgets(metrics: PrometheusMetrics, books: Books, alerts: Alerts) -> None:
    """Budgets, their alerts, and the store that holds them."""
    metrics.gauge(
        "farthing_budget_usd",
        "Budgets in dollars, by what of their window is committed, reserved, remaining; and their limit.",
        ("budget", "part"),
        lambda: [
            ((spent.window.budget.id, part), amount / MICRO)
            for spent in books.spent()
            for part, amount in (
                ("committed", spent.committed),
                ("reserved", spent.reserved),
                ("remaining", spent.remaining),
                ("limit", spent.window.budget.limit_micro_usd),
            )
        ],
    )
    metrics.counter("farthing_budget_alerts", "Soft limits passed.", (), lambda: [((), alerts.raised)])
    metrics.counter(
        "farthing_budget_alerts_undelivered", "Alerts the webhook did not take.", (), lambda: [((), alerts.undelivered)]
    )
    accounts = books.accounts
    if not isinstance(accounts, EmbeddedAccounts):
        metrics.counter(
            "farthing_budgets_unavailable",
            "Requests refused because Redis was away or empty.",
            (),
            lambda: [((), accounts.unavailable)],
        )
        metrics.counter(
            "farthing_budgets_alone",
            "Requests decided without Redis because it was away.",
            (),
            lambda: [((), accounts.alone)],
        )
        metrics.gauge(
            "farthing_settlements_waiting",
            "Ends of reservations not yet in Redis.",
            (),
            lambda: [((), accounts.waiting)],
        )


def ledger(metrics: PrometheusMetrics, writer: LedgerWriter) -> None:
    """The journal and how far the store is behind it."""
    journal = writer.journal
    metrics.gauge("farthing_ledger_lag_rows", "Rows that wait for the store.", (), lambda: [((), writer.lag().rows)])
    metrics.gauge(
        "farthing_ledger_lag_seconds", "Age of the oldest row that waits.", (), lambda: [((), writer.lag().seconds)]
    )
    metrics.gauge("farthing_ledger_up", "1 while the store takes rows.", (), lambda: [((), writer.error is None)])
    metrics.counter("farthing_ledger_rows", "Rows stored.", (), lambda: [((), writer.stored)])
    metrics.counter(
        "farthing_ledger_store_errors", "Batches the store refused.", (), lambda: [((), writer.store_errors)]
    )
    metrics.gauge("farthing_journal_bytes", "Size of the journal.", (), lambda: [((), journal.size_bytes)])
    metrics.counter(
        "farthing_journal_refused", "Requests the journal could not take.", (), lambda: [((), journal.refused)]
    )


def cache(metrics: PrometheusMetrics, caching: Caching, admin: CacheAdmin) -> None:
    """What is stored, what was refused, and how the certificates stand."""

    def read(samples: Callable[[Opened], Sequence[tuple[tuple[str, ...], float]]]) -> Read:
        return lambda: samples(caching.opened) if caching.opened is not None else []

    metrics.counter(
        "farthing_cache_feedback",
        "Answers removed because somebody said that they were wrong.",
        ("route",),
        lambda: [((route,), n) for route, n in admin.feedback_wrong.items()],
    )
    metrics.gauge("farthing_cache_entries", "Answers stored.", (), read(lambda o: [((), o.stats.entries)]))
    metrics.gauge("farthing_cache_bytes", "Their size.", (), read(lambda o: [((), o.stats.bytes)]))
    metrics.gauge("farthing_cache_scopes", "Partitions with vectors.", (), read(lambda o: [((), o.stats.scopes)]))
    metrics.counter(
        "farthing_cache_evicted", "Answers that gave way to others.", (), read(lambda o: [((), o.stats.evicted)])
    )
    metrics.counter("farthing_cache_answers_kept", "Answers stored.", (), read(lambda o: [((), o.filler.kept)]))
    metrics.counter(
        "farthing_cache_answers_refused",
        "Answers that were not stored, by reason.",
        ("reason",),
        read(lambda o: [((reason,), n) for reason, n in o.filler.refused.items()] + [(("queue",), o.filler.dropped)]),
    )
    metrics.counter(
        "farthing_cache_store_failures",
        "Look-ups that the store did not answer: late, failed, or not tried behind its breaker.",
        ("kind",),
        read(lambda o: [(("late",), o.store.late), (("failed",), o.store.failed), (("refused",), o.store.refused)]),
    )
    metrics.counter(
        "farthing_cache_labels",
        "Fresh answers beside stored ones: right, wrong, or unsure.",
        ("route", "verdict"),
        read(
            lambda o: [
                ((route, verdict), n)
                for verdict, counts in (
                    ("right", o.labels.right),
                    ("wrong", o.labels.wrong),
                    ("unsure", o.labels.unsure),
                )
                for route, n in counts.items()
            ]
        ),
    )
    metrics.counter(
        "farthing_cache_shadow_calls",
        "Hits asked anew, by what came of it.",
        ("result",),
        read(lambda o: [((result,), n) for result, n in o.shadow.calls.items()] if o.shadow is not None else []),
    )
    metrics.gauge(
        "farthing_cache_certified",
        "1 while a route's semantic cache serves.",
        ("route",),
        read(lambda o: [((route,), standing.serves) for route, standing in o.standings()]),
    )
    metrics.gauge(
        "farthing_cache_drifted",
        "1 while a route's questions score otherwise than when its certificate came into force.",
        ("route",),
        read(lambda o: [((route,), drifted) for route, drifted in o.drifted()]),
    )
    metrics.gauge(
        "farthing_cache_error",
        "Share of all requests with a wrong answer: the target, the certified bound, and what live labels say.",
        ("route", "part"),
        read(lambda o: [((route, part), value) for route, part, value in o.errors()]),
    )


def routing(metrics: PrometheusMetrics, choosing: Choosing) -> None:
    """Which routes choose by a threshold that holds, and what live traffic says of it."""
    watcher = choosing.watcher
    metrics.gauge(
        "farthing_routing_certified",
        "1 while a route's threshold has a certificate that holds.",
        ("route",),
        lambda: [((route,), each.threshold.certificate is not None) for route, each in watcher.standings()],
    )
    metrics.gauge(
        "farthing_routing_threshold",
        "Scores up to it go to the weak target; absent while everything goes to the strong one.",
        ("route",),
        lambda: [
            ((route,), each.threshold.value) for route, each in watcher.standings() if each.threshold.value is not None
        ],
    )
    metrics.gauge(
        "farthing_routing_calibration_stale",
        "1 while live traffic speaks against a route's calibration: its scores have moved, or labels refute it.",
        ("route",),
        lambda: [
            ((route,), each.stale is not None) for route, each in watcher.standings() if each.calibration is not None
        ],
    )
    metrics.gauge(
        "farthing_routing_strong_share",
        "Share of the last 1,000 requests that the route chose for which went to the strong target.",
        ("route",),
        lambda: [((route,), share) for route, share in watcher.shares.all()],
    )
    metrics.gauge(
        "farthing_routing_loss",
        "Quality lost over all requests of the route: the target, the certified bound, and what live labels say.",
        ("route", "part"),
        lambda: [((route, part), value) for route, part, value in watcher.losses()],
    )


def learning(metrics: PrometheusMetrics, choosing: Choosing) -> None:
    """What routing asks for itself: ratings of requests, answers compared, labels at hand."""

    def judged() -> list[tuple[tuple[str, ...], float]]:
        judge = choosing.stage.judge
        return [(labels, n) for labels, n in judge.results.items()] if judge is not None else []

    metrics.counter(
        "farthing_routing_ratings",
        "Judges asked how difficult a request is, by what came of it.",
        ("route", "result"),
        judged,
    )
    metrics.counter(
        "farthing_routing_comparisons",
        "Requests whose other target was to be asked too, by what came of it.",
        ("route", "result"),
        lambda: [(labels, n) for labels, n in choosing.comparing.results.items()],
    )
    metrics.gauge(
        "farthing_routing_labels",
        "Labelled requests in memory for the neighbours' tier.",
        (),
        lambda: [((), choosing.neighbours.rows)] if choosing.neighbours is not None else [],
    )


def hosted(metrics: PrometheusMetrics, prices: HostedPrices) -> None:
    """What pools of GPUs do and cost."""
    metrics.gauge(
        "farthing_pool_utilisation",
        "Share of the pool's GPU time that did work, over a day.",
        ("pool",),
        lambda: [((e.pool,), e.utilisation) for e in prices.snapshot() if e.utilisation is not None],
    )
    metrics.gauge(
        "farthing_pool_idle_usd",
        "What the pool cost over the last day and no request was charged for.",
        ("pool",),
        lambda: [((each.pool,), each.idle / MICRO) for each in prices.snapshot()],
    )
