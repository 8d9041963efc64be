"""Every policy and option against its naive reference: every address, every hole, every cause, after every event.

The audit knows no policy: no overlap, nothing out of bounds, nothing lost, maximal holes (or buddies).
"""

import numpy as np
import pytest
from audit import audit
from hypothesis import given
from hypothesis import strategies as st
from traces import Reference, operations, random_operations, trace_of

import vecalloc as va
from vecalloc import ledger as c
from vecalloc.kernel import JIT
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import label_of, make_plan, parse_policy
from vecalloc.trace import events_of

VARIANTS = [
    ("first-fit", {}),
    ("first-fit", {"carve": "high"}),
    ("first-fit", {"min_split": 3}),
    ("first-fit", {"min_split": 4, "carve": "high"}),
    ("best-fit", {}),
    ("best-fit", {"carve": "high"}),
    ("best-fit", {"min_split": 3}),
    ("best-fit", {"ties": "lifo"}),
    ("best-fit", {"ties": "lifo", "carve": "high"}),
    ("best-fit", {"ties": "lifo", "min_split": 3}),
    ("worst-fit", {}),
    ("worst-fit", {"carve": "high"}),
    ("worst-fit", {"min_split": 3}),
    ("next-fit", {}),
    ("next-fit", {"min_split": 3}),
    ("buddy", {}),
    ("buddy", {"order": "lifo"}),
    ("static-partition", {"unit": 5}),
    ("static-partition", {"unit": 8, "order": "lifo"}),
    ("static-partition", {"units": (4, 9, 2, 9, 16, 4)}),
    ("static-partition", {"units": (4, 9, 2, 9, 16, 4), "order": "lifo"}),
]
IDS = [label_of(*parse_policy(name, options)) for name, options in VARIANTS]
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)


def pool_for(name, options, wanted):
    """A pool of about this many granules that the policy accepts."""
    wanted = max(wanted, sum(options.get("units", ())), options.get("unit", 1))
    return 1 << (wanted - 1).bit_length() if name == "buddy" else wanted


def follow(name, options, pool, ops, on_failure, look=True):
    """Run engine and reference side by side, and compare after every event."""
    grows = on_failure == "grow"
    trace = trace_of(ops)
    plan = make_plan(name, pool, 1, options=options)
    simulation = Simulation(plan, 1, trace.slots, on_failure, Switches(geometry=look))
    reference = Reference(name, pool, grows, **options)
    addresses = []
    for op, _ in zip(ops, simulation.feed(events_of(trace, 1), 1 if look else 0, keep_addresses=True), strict=look):
        reference.do(op)
        holes = [tuple(hole) for hole in simulation.holes().tolist()]
        if look:
            assert holes == reference.policy.holes()
            compare_state(simulation, reference, name, options)
    if not look:
        for op in ops[1:]:
            reference.do(op)
        assert [tuple(hole) for hole in simulation.holes().tolist()] == reference.policy.holes()
        compare_state(simulation, reference, name, options)
    addresses = simulation.ledger.addresses[0].tolist()
    assert addresses == reference.addresses
    assert simulation.ledger.counts[0, c.FAILED : c.FAILED + 3].tolist() == list(reference.failures.values())
    return simulation, reference


def compare_state(simulation, reference, name, options):
    """What the ledger says of the present state, against the reference's lists."""
    holes, blocks = reference.policy.holes(), sorted(reference.policy.blocks.items())
    granted, count, limit, largest = simulation.ledger.counts[0, c.NOW_GRANTED : c.NOW_LARGEST + 1].tolist()
    assert count == len(holes)
    assert largest == max((size for _, size in holes), default=0)
    assert granted == sum(size for _, size in blocks)
    assert limit - granted == sum(size for _, size in holes)
    units = None
    if name == "static-partition":
        tiles = sorted([*blocks, *holes])
        units = [size for _, size in tiles]
        assert [start for start, _ in tiles] == [sum(units[:k]) for k in range(len(units))]
    audit(limit, blocks, holes, buddies=name == "buddy", units=units)


@pytest.mark.jitless
@every_variant
@given(ops=operations(), wanted=st.integers(1, 90))
def test_every_address_hole_and_cause(name, options, ops, wanted):
    follow(name, options, pool_for(name, options, wanted), ops, "drop")


@pytest.mark.jitless
@every_variant
@given(ops=operations(longest=40), wanted=st.integers(1, 40))
def test_growing_pools(name, options, ops, wanted):
    follow(name, options, pool_for(name, options, wanted), ops, "grow")


def small(rng):
    return rng.integers(1, 40)


def lognormal(rng):
    return min(int(rng.lognormal(3, 2)), 200_000)


def few(rng):
    return rng.choice([1, 2, 33, 35, 64, 65, 500, 5000])


@every_variant
@pytest.mark.parametrize(
    ("pool", "sizes", "live"),
    [(3_001, small, 120), (4_096, small, 250), (65_537, few, 150), (1 << 20, lognormal, 700), (1 << 31, lognormal, 90)],
    ids=["odd", "full", "few-sizes", "large", "huge"],
)
def test_long_runs(name, options, pool, sizes, live):
    if pool == 1 << 31 and "lifo" in options.values():
        pool = 1 << 30
    rng = np.random.default_rng([pool, live])
    ops, rest = random_operations(rng, 3000 if JIT else 300, live, sizes)
    pool = pool_for(name, options, pool)
    if name == "static-partition":
        options = {k: (tuple(max(1, pool // 200) * u for u in v) if k == "units" else v) for k, v in options.items()}
        options = {k: (max(1, pool // 400) if k == "unit" else v) for k, v in options.items()}
    follow(name, options, pool, ops, "drop", look=False)
    # Everything is freed: one hole again (buddy: one block; static: all units).
    simulation, reference = follow(name, options, pool, ops + rest, "drop", look=False)
    holes = simulation.holes().tolist()
    if name != "static-partition":
        assert holes == [[0, pool]]
    assert not reference.policy.blocks


@every_variant
def test_long_runs_that_grow(name, options):
    rng = np.random.default_rng(7)
    ops, rest = random_operations(rng, 3000 if JIT else 300, 200, small)
    pool = pool_for(name, options, 1)
    follow(name, options, pool, ops, "grow", look=False)
    simulation, _ = follow(name, options, pool, ops + rest, "grow", look=False)
    if name not in ("static-partition", "buddy"):
        assert len(simulation.holes()) == 0 and simulation.ledger.counts[0, c.NOW_LIMIT] == 0


def with_times(rng, trace):
    return va.Trace(trace.slot, trace.size, np.cumsum(rng.exponential(size=len(trace))))


@pytest.mark.parametrize("timed", [False, True], ids=["event", "time"])
@every_variant
def test_replicas_and_threads_do_not_matter(name, options, timed):
    pool = pool_for(name, options, 400)
    plan = make_plan(name, pool, 1, options=options)
    rngs = [np.random.default_rng(k) for k in range(5)]
    traces = [with_times(rng, trace_of(random_operations(rng, 400, 30, small)[0])) for rng in rngs]
    slots = max(trace.slots for trace in traces)
    events = [events_of(trace, 1, timed=timed) for trace in traces]
    columns = zip(*events, strict=True)
    together = type(events[0])(*(None if column[0] is None else np.concatenate(column) for column in columns))
    for on_failure in ("drop", "grow"):
        results = []
        for workers in (1, 3):
            simulation = Simulation(plan, 5, slots, on_failure, workers=workers)
            for _ in simulation.feed(together, every=150, keep_addresses=True):
                pass
            results.append(simulation)
        for r, one in enumerate(events):
            alone = Simulation(plan, 1, slots, on_failure)
            for _ in alone.feed(one, keep_addresses=True):
                pass
            allocs = alone.ledger.addresses.shape[1]
            for simulation in results:
                assert np.array_equal(simulation.ledger.addresses[r, :allocs], alone.ledger.addresses[0])
                assert np.array_equal(simulation.ledger.counts[r], alone.ledger.counts[0])
                assert np.array_equal(simulation.ledger.integrals[r], alone.ledger.integrals[0])
                assert simulation.ledger.integrals.dtype == (np.float64 if timed else np.int64)
                assert simulation.ledger.scatter[r] == alone.ledger.scatter[0]
                assert np.array_equal(simulation.holes(r), alone.holes())


@pytest.mark.parametrize("header", [0, 4, 16, 24])
@pytest.mark.parametrize("alignment", [1, 8, 64])
@pytest.mark.parametrize("name", ["first-fit", "best-fit", "worst-fit", "next-fit", "buddy"])
def test_header_and_alignment(name, header, alignment):
    ops, _ = random_operations(np.random.default_rng(header + alignment), 300, 20, lambda rng: rng.integers(0, 300))
    step = max(16, alignment)
    reference = Reference(name, 256, extent_of=lambda size: max(1, -(-(size + header) // step)) * step // 16)
    for op in ops:
        reference.do(op)
    run = va.replay(trace_of(ops), name, 4096, 16, header=header, alignment=alignment)
    assert run.addresses.tolist() == [a * 16 if a >= 0 else -1 for a in reference.addresses]
    assert run.failures == reference.failures
