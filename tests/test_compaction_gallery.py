"""Compaction against what is known: the pool of Kaufman and Roberts, and Robson's adversary on a budget.

A pool whose blocks slide together before any request fails for fragmentation is a *stochastic knapsack*: where blocks
lie is nothing, only how much is live. So each fit refuses the very same requests, and how many of which size follows
from Kaufman and Roberts's recursion, whatever the law of the lifetimes. Two fingers do not always open a hole that is
large enough, and leave a pool between this one and one without compaction: that one is solved as a Markov chain, which
also knows how often blocks move, in which way, under which fit.

Rows of the gallery: E2 (blocking by size), X1 (a tiny pool), R1 (the adversary).
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from reference import REFERENCES
from reference.buddy import Buddy, order_of
from reference.closed_forms import kaufman_roberts
from reference.compaction import WAYS, Compactor, adopt, slide_buddies
from reference.markov_chain import explore, solve, stationary, summary
from test_robson import PUBLISHED
from test_validity import LIFETIMES, WARMUP_TIME, assert_within, pair_of, ratio

import vecalloc as va
from vecalloc.batch import Batch, simulate_batch
from vecalloc.reclaim import compactor as engine
from vecalloc.reclaim.table import Compact
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import make_plan
from vecalloc.statistics import estimate_ratio
from vecalloc.trace import Events
from vecalloc.workload import sample, workload_of

FITS = ["first-fit", "best-fit", "worst-fit", "next-fit"]
POOL, RATE, SIZES = 8, 3.0, {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}
REQUESTS = {"sizes": {"table": [[1, 1], [2, 1], [3, 1]]}, "rate": RATE}
LAWS = ["exponential", "constant", "hyperexponential"]
SEED = 3

IDEAL = kaufman_roberts(POOL, {size: RATE * share for size, share in SIZES.items()})
IDEAL_BUDDIES = kaufman_roberts(POOL, {1: 1.0, 2: 1.0, 4: 1.0})  # a block of 3 takes 4

CASES = [(policy, how) for policy in FITS for how in ("slide", "first-window", "two-finger")] + [("buddy", "slide")]
every_fit = pytest.mark.parametrize("policy", FITS)
every_law = pytest.mark.parametrize("law", LAWS)
every_case = pytest.mark.parametrize(("policy", "how"), CASES)


# --- the tiny pool, exactly ------------------------------------------------------------------------------------------


IN_VAIN = -1
"""A request that failed although blocks were moved for it: `explore` is to go where they are now."""


class Compacting:
    """A reference with a pass before a request that would fail for fragmentation."""

    how = "slide"

    def moves(self, extent):
        """Those of the pass that would come before such a request."""
        sizes = [size for _, size in self.holes()]
        needed = 2 ** order_of(extent) if isinstance(self, Buddy) else extent
        if not max(sizes, default=0) < needed <= sum(sizes):
            return []
        way = slide_buddies if isinstance(self, Buddy) else WAYS[self.how]
        return way([(start, size, False) for start, size in sorted(self.blocks.items())], self.limit, extent)

    def alloc(self, extent):
        moves = self.moves(extent)
        adopt(self, moves)
        start = super().alloc(extent)
        return IN_VAIN if moves and start is None else start


class FirstFit(Compacting, REFERENCES["first-fit"]):
    pass


class BestFit(Compacting, REFERENCES["best-fit"]):
    pass


class WorstFit(Compacting, REFERENCES["worst-fit"]):
    pass


class NextFit(Compacting, REFERENCES["next-fit"]):
    pass


class Buddies(Compacting, REFERENCES["buddy"]):
    pass


COMPACTING = {
    "first-fit": FirstFit, "best-fit": BestFit, "worst-fit": WorstFit, "next-fit": NextFit, "buddy": Buddies
}  # fmt: skip


@cache
def exact_of(policy, how):
    """Equilibrium of X1's pool with compaction, and what is moved: passes, blocks and granules for each request."""
    pool = COMPACTING[policy](POOL)
    pool.how = how
    states, requests, generator = explore(pool, RATE, SIZES)
    for told in requests:
        told |= {extent: (None, "fragmentation", False) for extent in told if told[extent][0] == IN_VAIN}
    time = stationary(generator)
    moved = np.zeros(3)
    for spent, state in zip(time.tolist(), states, strict=True):
        for extent, share in SIZES.items():
            moves = state.moves(extent)
            moved += spent * share * np.array([len(moves) > 0, len(moves), sum(size for _, _, size in moves)])
    return summary(states, requests, time.tolist(), POOL, RATE, SIZES), moved


@every_case
def test_compaction_as_a_markov_chain(policy, how):
    """What always opens a hole makes any policy the stochastic knapsack; two fingers do not, and help all the same."""
    exact, moved = exact_of(policy, how)
    assert (moved > 0).all()
    if how == "two-finger":
        ideal = sum(SIZES[size] * lost for size, lost in IDEAL.items())
        assert ideal < exact.blocking < solve(policy, POOL, RATE, SIZES).blocking
        assert exact.causes["fragmentation"] > 0
    else:
        assert exact.causes["fragmentation"] == 0
        lost = list((IDEAL_BUDDIES if policy == "buddy" else IDEAL).values())
        assert list(exact.blocking_of.values()) == pytest.approx(lost, abs=1e-13)


# --- the tiny pool, simulated ----------------------------------------------------------------------------------------


def tiny_pools(policies, how, replicas):
    """What an experiment with this remedy would be told, by policy."""
    batch = Batch(
        workload=workload_of(REQUESTS | {"lifetimes": LIFETIMES["exponential"]}),
        pool=POOL,
        granule=1,
        policies=tuple(policies),
        ids=tuple(policies),
        on_failure="drop",
        queue_limit=1,
        seed=SEED,
        requests=20_000,
        warmup=("requests", 100),
        first=0,
        last=replicas,
        reclaim="compact" if how == "slide" else f"compact[how={how}]",
    )
    lines = simulate_batch(batch)
    return {policy: {name: x[lines["row"] == k] for name, x in lines.items()} for k, policy in enumerate(policies)}


def estimate(lines, metric, policy):
    return ratio(*pair_of(lines, metric, policy, POOL))


@pytest.mark.parametrize("how", ["slide", "first-window", "two-finger"])
def test_tiny_pools(how):
    """X1 with compaction, through all that a study goes through: the ideal value, and what it costs under which fit."""
    policies = [policy for policy, way in CASES if way == how]
    for policy, lines in tiny_pools(policies, how, 230).items():
        exact, (passes, blocks_moved, moved) = exact_of(policy, how)
        assert_within(estimate(lines, "failure_ratio", policy), exact.blocking, 1e-3)
        for metric, value in {
            "capacity_ratio": exact.causes["capacity"],
            "fragmentation_ratio": exact.causes["fragmentation"],
            "holes": exact.holes,
            "blocks": exact.blocks,
            "utilisation": exact.utilisation,
            "external_fragmentation": exact.external_fragmentation,
        }.items():
            assert_within(estimate(lines, metric, policy), value)
        assert_within(estimate(lines, "passes_ratio", policy), passes, 0.015 * passes)
        assert_within(estimate(lines, "blocks_moved_ratio", policy), blocks_moved, 0.015 * blocks_moved)
        assert_within(ratio(lines["moved"], lines["allocs"]), moved, 0.015 * moved)


def failures_by_size(law, policy, how, replicas, requests=40_000):
    """Of each replica, for each size, how many requests failed and were made after a warm-up: sizes, replicas, 2."""
    traces = [sample(requests, SEED, r, lifetimes=LIFETIMES[law], **REQUESTS) for r in replicas]
    events, slots = min(map(len, traces)), max(trace.slots for trace in traces)
    slot = np.stack([trace.slot[:events] for trace in traces])
    size = np.stack([trace.size[:events] for trace in traces])
    extent = np.where(size < 0, ~size * -1, size)
    compactor = engine.Compactor(Compact(how=how), len(traces), slots)
    pools = Simulation(make_plan(policy, POOL, 1), len(traces), slots, "drop", Switches(False), 1, compactor)
    for _ in pools.feed(Events(slot, extent, extent, None), keep_addresses=True):
        pass
    found = np.zeros((len(SIZES), len(traces), 2))
    for r, addresses in enumerate(pools.ledger.addresses):
        asked = size[r][size[r] > 0][WARMUP:]
        failed = addresses[WARMUP : WARMUP + len(asked)] == -1
        for k, s in enumerate(SIZES):
            found[k, r] = failed[asked == s].sum(), (asked == s).sum()
    return found
