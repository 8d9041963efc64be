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
from vecalloc import batch
from vecalloc.batch import Batch, simulate_batch
from vecalloc.reclaim import compactor as engine
from vecalloc.reclaim.table import Compact
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import make_plan
from vecalloc.trace import Events
from vecalloc.workload import sample, workload_of

FITS = ["first-fit", "best-fit", "worst-fit", "next-fit"]
POOL, RATE, SIZES = 8, 3.0, {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}
REQUESTS = {"sizes": {"table": [[1, 1], [2, 1], [3, 1]]}, "rate": RATE}
WARMUP = int(WARMUP_TIME * RATE)
LAWS = ["exponential", "constant", "hyperexponential"]
SEED = 3

IDEAL = kaufman_roberts(POOL, {size: RATE * share for size, share in SIZES.items()})
IDEAL_BUDDIES = kaufman_roberts(POOL, {1: 1.0, 2: 1.0, 4: 1.0})  # a block of 3 takes 4

CASES = [(policy, how) for policy in FITS for how in ("slide", "first-window", "two-finger")] + [("buddy", "slide")]
every_fit = pytest.mark.parametrize("policy", FITS)
every_law = pytest.mark.parametrize("law", LAWS)
every_case = pytest.mark.parametrize(
    ("policy", "how"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[0] == "next-fit" else []) for case in CASES],
)
every_way = pytest.mark.parametrize("how", ["slide", "first-window", "two-finger"])


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


def counted(trace, granted):
    """Which requests fail where only the number of live granules counts."""
    failed, live, holder = [], 0, {}
    for slot, size in zip(trace.slot.tolist(), trace.size.tolist(), strict=True):
        if size < 0:
            live -= holder.pop(slot)
        else:
            failed.append(live + granted[size] > POOL)
            holder[slot] = 0 if failed[-1] else granted[size]
            live += holder[slot]
    return failed


@every_law
def test_who_fails_has_nothing_to_do_with_addresses(law):
    """Request by request: every fit refuses those for which there is no room at all, buddies those of powers of two."""
    trace = sample(20_000, SEED, lifetimes=LIFETIMES[law], **REQUESTS)
    expected = counted(trace, {1: 1, 2: 2, 3: 3})
    for policy, how in CASES:
        run = va.replay(trace, policy, POOL, 1, reclaim=f"compact[how={how}]")
        failed = (run.addresses == -1).tolist()
        if how == "two-finger":
            assert failed != expected and run.failures["fragmentation"] > 0
            continue
        assert failed == (expected if policy != "buddy" else counted(trace, {1: 1, 2: 2, 3: 4}))
        assert run.failures["capacity"] == sum(failed) == sum(run.failures.values())
        assert run.passes > 200


def failures_by_size(law, policy, how, replicas, requests=40_000):
    """Failed requests and all requests, after a warm-up: sizes, 2, replicas."""
    traces = [sample(requests, SEED, r, lifetimes=LIFETIMES[law], **REQUESTS) for r in replicas]
    events, slots = min(map(len, traces)), max(trace.slots for trace in traces)
    slot, size = (np.stack([getattr(t, name)[:events] for t in traces]) for name in ("slot", "size"))
    extents = np.where(size < 0, -~size, size)
    compactor = engine.Compactor(Compact(how=how), len(traces), slots)
    pools = Simulation(make_plan(policy, POOL, 1), len(traces), slots, "drop", Switches(False), 1, compactor)
    for _ in pools.feed(Events(slot, extents, extents, None), keep_addresses=True):
        pass
    found = np.zeros((len(SIZES), 2, len(traces)), np.int64)
    for r, addresses in enumerate(pools.ledger.addresses):
        asked = size[r][size[r] > 0]
        failed = addresses[: len(asked)] == -1
        for k, s in enumerate(SIZES):
            counts = asked[WARMUP:] == s
            found[k, :, r] = (counts & failed[WARMUP:]).sum(), counts.sum()
    return found


@every_law
def test_blocking_by_size_whatever_the_lifetimes(law):
    """E2, each fit on its own share of the replicas."""
    parts = [failures_by_size(law, policy, "slide", range(48 * k, 48 * (k + 1))) for k, policy in enumerate(FITS)]
    for lost, (failed, asked) in zip(IDEAL.values(), np.concatenate(parts, axis=2), strict=True):
        assert_within(ratio(failed, asked), lost, 2e-3)


@pytest.mark.parametrize("policy", ["first-fit", "best-fit", "worst-fit"])
def test_blocking_by_size_with_two_fingers(policy):
    """Closely enough to see that it is another pool."""
    exact, _ = exact_of(policy, "two-finger")
    failures = failures_by_size("exponential", policy, "two-finger", range(48))
    for lost, ideal, (failed, asked) in zip(exact.blocking_of.values(), IDEAL.values(), failures, strict=True):
        found = ratio(failed, asked)
        assert_within(found, lost, 4e-3)
        assert abs(found.mean - ideal) > found.half_width


def test_with_two_fingers_the_law_of_the_lifetimes_matters():
    largest = ratio(*failures_by_size("constant", "first-fit", "two-finger", range(48))[-1])
    assert largest.high < exact_of("first-fit", "two-finger")[0].blocking_of[3]


def estimate(lines, metric, policy):
    return ratio(*pair_of(lines, metric, policy, POOL))


def assert_tiny_pools(policies, how, replicas, half_width, relative):
    """X1 with compaction, through all that a study goes through, and what each policy has to move for it."""
    policies = tuple(policy for policy in policies if (policy, how) in CASES)
    lines = simulate_batch(
        Batch(
            workload=workload_of(REQUESTS | {"lifetimes": LIFETIMES["exponential"]}),
            pool=POOL,
            granule=1,
            policies=policies,
            ids=policies,
            on_failure="drop",
            queue_limit=1,
            seed=SEED,
            requests=20_000,
            warmup=("requests", WARMUP),
            first=0,
            last=replicas,
            reclaim="compact" if how == "slide" else f"compact[how={how}]",
        )
    )
    for row, policy in enumerate(policies):
        mine = {name: values[lines["row"] == row] for name, values in lines.items()}
        exact, (passes, blocks_moved, moved) = exact_of(policy, how)
        assert_within(estimate(mine, "failure_ratio", policy), exact.blocking, half_width)
        assert_within(estimate(mine, "passes_ratio", policy), passes, relative * passes)
        assert_within(estimate(mine, "blocks_moved_ratio", policy), blocks_moved, relative * blocks_moved)
        assert_within(ratio(mine["moved"], mine["allocs"]), moved, relative * moved)
        for metric, value in {
            "capacity_ratio": exact.causes["capacity"],
            "fragmentation_ratio": exact.causes["fragmentation"],
            "holes": exact.holes,
            "blocks": exact.blocks,
            "utilisation": exact.utilisation,
            "external_fragmentation": exact.external_fragmentation,
        }.items():
            assert_within(estimate(mine, metric, policy), value)


@every_way
def test_tiny_pools(monkeypatch, how):
    monkeypatch.setattr(batch, "TOGETHER", 64)  # the larger the group, the cheaper a pass
    assert_tiny_pools(["first-fit", "best-fit", "buddy"], how, 64, 2e-3, 0.03)


@pytest.mark.slow
@every_way
def test_tiny_pools_closely(monkeypatch, how):
    monkeypatch.setattr(batch, "TOGETHER", 64)
    assert_tiny_pools([*FITS, "buddy"], how, 1024, 5e-4, 0.01)


# --- R1: Robson's adversary follows the blocks that move --------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """experiments/robson_compaction.py as a module."""
    path = Path(__file__).parents[1] / "experiments" / "robson_compaction.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def robson_by_name(policy, how, budget, most, largest):
    """The adversary against the naive reference, one block and one granule at a time; the memory used, and the pool.

    Blocks have names, so nobody has to follow them; the budget is looked at after every request.
    """
    pool = Compactor(REFERENCES[policy](1, grows=True), how, budget=budget)
    used, f, name = 0, 0, 0
    for i in range(largest.bit_length()):
        size = 2**i
        if i > 0:
            occupying = {g: [x for x in pool.blocks if occupies(*pool.blocks[x], g, size)] for g in (f, f + size // 2)}
            spoilt = {g: sum(size - pool.blocks[x][1] for x in names) for g, names in occupying.items()}
            f = max(spoilt, key=spoilt.get)
            for x in list(pool.blocks):
                if x not in occupying[f]:
                    pool.free(x)
        while sum(granted for _, granted in pool.blocks.values()) + size <= most:
            pool.alloc(name, size)
            if budget is not None:
                assert budget * pool.granules_moved <= pool.allocated - size
            used, name = max(used, pool.policy.limit), name + 1
    return used, pool


def occupies(start, granted, f, modulus):
    return any(address % modulus == f for address in range(start, start + granted))


def assert_like_the_reference(script, policy, how, budget, most, largest):
    used, reference = robson_by_name(policy, how, budget, most, largest)
    reclaim = f"compact[how={how}]" if budget is None else f"compact[how={how},budget={budget}]"
    pool = va.Pool(most, policy, granule=1, on_failure="grow", reclaim=reclaim)
    script.robson(pool, most, largest)
    stats = pool.stats()
    assert pool.blocks()[:, [0, 2]].tolist() == sorted(map(list, reference.blocks.values()))
    assert stats["high_water_mark"] == used
    assert stats["longest_pass"] == reference.longest
    assert stats["passes_ratio"] == reference.passes / len(reference.addresses)
    assert stats["moved_ratio"] == reference.granules_moved / reference.allocated


@every_way
@every_fit
@pytest.mark.parametrize("budget", [None, 1.01, 1.5, 3, 12])
def test_the_adversary_meets_the_reference(script, policy, how, budget):
    assert_like_the_reference(script, policy, how, budget, 64, 16)


class Watched:
    """A pool that is asked for one block after the other, to see after each what was moved for it."""

    def __init__(self, pool, budget):
        self.pool, self.budget = pool, budget
        self.sizes = {}  # by address
        self.allocated = self.granules_moved = 0

    def alloc_many(self, sizes):
        before, placed = {start: start for start in self.sizes}, []
        for size in sizes.tolist():
            start = self.pool.alloc(size)
            now = dict(self.pool.moved.tolist())
            if now:
                self.granules_moved += sum(self.sizes[x] for x in now)
                assert self.budget is None or self.budget * self.granules_moved <= self.allocated
                self.sizes = {now.get(x, x): size for x, size in self.sizes.items()}
                before = {old: now.get(x, x) for old, x in before.items()}
                placed = [now.get(x, x) for x in placed]
            placed.append(start)
            self.sizes[start] = size
            self.allocated += size
        moved = sorted((old, x) for old, x in before.items() if old != x)
        self.moved = np.array(moved, np.int64).reshape(-1, 2)
        return np.array(placed, np.int64)

    def free_many(self, starts):
        for start in starts.tolist():
            del self.sizes[start]
        self.pool.free_many(starts)


BUDGETS = [None, 1.01, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32]

RECORDED = {
    "slide": (
        [512, 512, 512, 512, 830, 1092, 1288, 1521, 1985, 1985, 1985, 1985, 1985],
        [1221, 1221, 1221, 1221, 926, 514, 255, 255, 0, 0, 0, 0, 0],
    ),
    "two-finger": (
        [512, 512, 512, 512, 512, 1082, 1330, 1521, 1985, 1985, 1985, 1985, 1985],
        [995, 995, 995, 995, 995, 528, 380, 248, 0, 0, 0, 0, 0],
    ),
    "first-window": (
        [513, 513, 513, 534, 566, 649, 617, 761, 809, 1001, 1049, 1209, 1321],
        [1738, 1738, 1738, 1542, 1112, 721, 581, 380, 265, 170, 124, 84, 62],
    ),
}
"""M = 512, n = 64, any fit, with each of these budgets: the memory used, and the granules moved."""


@every_way
@every_fit
def test_memory_on_a_budget(script, policy, how):
    for budget, *recorded in zip(BUDGETS, *RECORDED[how], strict=True):
        reclaim = f"compact[how={how}]" if budget is None else f"compact[how={how},budget={budget}]"
        pool = Watched(va.Pool(512, policy, granule=1, on_failure="grow", reclaim=reclaim), budget)
        script.robson(pool, 512, 64)
        row = script.measure(policy, how, budget, 512, 64)
        assert [pool.pool.stats()["high_water_mark"], pool.granules_moved] == recorded
        assert row["memory_ratio"] == recorded[0] / 512
        assert row["moved_ratio"] == recorded[1] / pool.allocated


@pytest.mark.slow
@pytest.mark.parametrize("how", RECORDED)
def test_the_reference_needs_as_much_memory(how):
    """All budgets but with windows, of which it looks at all: there a budget takes half a minute."""
    for budget, *recorded in zip(BUDGETS, *RECORDED[how], strict=True):
        if how != "first-window" or budget in (1.5, 4):
            used, reference = robson_by_name("first-fit", how, budget, 512, 64)
            assert [used, reference.granules_moved] == recorded


@every_way
@every_fit
@pytest.mark.parametrize("largest", PUBLISHED)
def test_who_has_next_to_no_budget_moves_nothing(script, policy, how, largest):
    row = script.measure(policy, how, 1e9, 512, largest)
    assert row["memory_ratio"] * 512 == PUBLISHED[largest] == script.bound(512, largest)
    assert row["moved_ratio"] == 0 and row["refused_ratio"] == 1


@every_fit
@pytest.mark.parametrize("how", ["slide", "first-window"])
@pytest.mark.parametrize("largest", PUBLISHED)
def test_who_may_move_everything_hardly_grows(script, policy, how, largest):
    """The pool grows when less is free than is asked for, n or less; what is live, with that request, is M or less."""
    row = script.measure(policy, how, None, 512, largest)
    assert 512 <= 512 * row["memory_ratio"] < 512 + largest
