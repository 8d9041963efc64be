"""Compaction, after every event: the memory map, the holes, every counter, against the naive reference.

The reference moves contents granule by granule and proves that none is lost or doubled; here the engine's blocks are
compared with it, so what holds for the one holds for the other.
"""

import numpy as np
import pytest
from audit import audit
from hypothesis import given
from hypothesis import strategies as st
from reference import REFERENCES
from reference.compaction import Compactor as ReferenceCompactor
from traces import operations, random_operations, trace_of

from vecalloc import ledger as c
from vecalloc.kernel import JIT
from vecalloc.mechanisms.bitset import Bitset, members_of
from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.table import Compact
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import label_of, make_plan, parse_policy
from vecalloc.trace import events_of

pytestmark = pytest.mark.jitless

FITS = (
    "first-fit", "best-fit", "worst-fit", "next-fit", "best-fit[ties=lifo]",
    "first-fit[carve=high]", "best-fit[min_split=3]", "next-fit[min_split=2]",
)  # fmt: skip
BUDDIES = ("buddy", "buddy[order=lifo]")
HOWS = ("slide", "first-window", "two-finger")
CASES = [(label, how) for label in FITS for how in HOWS] + [(label, "slide") for label in BUDDIES]

AT = {"every": st.integers(1, 5), "external_fragmentation": st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])}

every_case = pytest.mark.parametrize(("label", "how"), CASES, ids=lambda value: str(value))


@st.composite
def rules(draw, how):
    when = draw(st.sampled_from(["failure", "failure", "every", "external_fragmentation"]))
    if how == "first-window":
        when = "failure"
    return Compact(
        how=how,
        when=when,
        budget=draw(st.sampled_from([None, None, 1.25, 2.0, 5.5])),
        **({when: draw(AT[when])} if when in AT else {}),
    )


def reference_of(label, granules, grows, rule, pinned):
    policy, options = parse_policy(label)
    shown = {k: v for k, v in options.items() if k in ("carve", "ties", "order", "min_split")}
    shown = {k: v for k, v in shown.items() if v != policy.option(k).default}
    when = rule.when if rule.when == "failure" else {rule.when: getattr(rule, rule.when)}
    made = REFERENCES[policy.name](granules, grows=grows, **shown)
    return ReferenceCompactor(made, rule.how, when, rule.budget, pinned)


def follow(label, granules, ops, rule, pinned=(), on_failure="drop", geometry=False):
    """Run the operations side by side; compare after every event."""
    trace = trace_of(ops)
    plan = make_plan(label, granules, 1)
    flags = np.array([n in pinned for n in range(trace.allocs + 1)], np.uint8)
    compactor = Compactor(rule, 1, trace.slots, [lambda count: flags[:count]] if len(pinned) else [])
    switches = Switches(True, geometry)
    simulation = Simulation(plan, 1, trace.slots, on_failure, switches, compactor=compactor)
    reference = reference_of(label, granules, on_failure == "grow", rule, pinned)
    feed = simulation.feed(events_of(trace, 1), 1, keep_addresses=True)
    for op, _ in zip(ops, feed, strict=True):
        reference.do(op)
        reference.check()
        compare(simulation, reference, plan)
    assert simulation.ledger.addresses[0].tolist() == reference.addresses
    return simulation, reference


def compare(simulation, reference, plan):
    ledger = simulation.ledger
    counts = ledger.counts[0]
    holes = [tuple(hole) for hole in simulation.holes().tolist()]
    assert holes == sorted(reference.policy.holes())
    starts = sorted(start for start, _ in reference.blocks.values())
    assert sorted(p for p in ledger.places[0].tolist() if p >= 0) == starts
    told = [counts[k] for k in (c.PASSES, c.BLOCKS_MOVED, c.MOVED, c.LONGEST_PASS, c.PASSES_REFUSED, c.ALLOCATED)]
    assert told == [
        reference.passes, reference.blocks_moved, reference.granules_moved, reference.longest, reference.refused,
        reference.allocated,
    ]  # fmt: skip
    assert counts[c.FAILED : c.FAILED + 4].tolist() == list(reference.failures.values())[:4]
    assert counts[c.NOW_LARGEST] == max((size for _, size in holes), default=0)
    assert counts[c.NOW_HOLES] == len(holes)
    assert counts[c.NOW_GRANTED] == sum(size for _, size in reference.blocks.values())
    assert counts[c.NOW_LIMIT] == reference.policy.limit
    blocks = [(start, size) for start, size in reference.blocks.values()]
    audit(reference.policy.limit, blocks, holes, buddies=plan.policy.name == "buddy")


@every_case
@pytest.mark.skipif(JIT, reason="the same paths as the long runs, too many events to step through compiled kernels")
@given(data=st.data(), ops=operations(most=20), size=st.integers(1, 40))
def test_every_event(label, how, data, ops, size):
    granules = 1 << (size - 1).bit_length() if label.startswith("buddy") else size
    rule = data.draw(rules(how))
    pinned = data.draw(st.sets(st.integers(0, 40)))
    grow = data.draw(st.booleans())
    follow(label, granules, ops, rule, pinned, "grow" if grow else "drop")


@pytest.mark.parametrize(("label", "how"), [case for case in CASES if not JIT or "min_split" not in case[0]])
@pytest.mark.parametrize("has_budget", [False, True])
def test_long_runs(label, how, has_budget):
    rng = np.random.default_rng(5)
    ops, freed = random_operations(rng, 1200, 40, lambda rng: rng.geometric(0.12))
    rule = Compact(how=how, budget={"slide": 4.0, "two-finger": 6.0, "first-window": 20.0}[how] if has_budget else None)
    pinned = set() if has_budget else set(rng.integers(0, 1200, 120).tolist())
    simulation, reference = follow(label, 512 if label.startswith("buddy") else 310, ops + freed, rule, pinned)
    assert reference.passes > 2
    assert len(simulation.holes()) == 1  # everything has been freed
    assert (reference.refused > 0) == has_budget


@pytest.mark.parametrize("label", ["first-fit", "buddy"])
def test_geometry_follows_the_blocks(label):
    """What geometry says of ends, bottom and half-used pairs is that of the blocks where they are."""
    rng = np.random.default_rng(6)
    ops, _ = random_operations(rng, 400, 30, lambda rng: rng.geometric(0.15))
    simulation, reference = follow(label, 256, ops, Compact(), geometry=True)
    assert reference.passes > 5
    where = simulation.ledger.geometry
    ends = members_of(Bitset(where.ends, where.ends_table), 0)
    assert ends.tolist() == sorted(start + size for start, size in reference.blocks.values())
    bottom = any(start == 0 for start, _ in reference.blocks.values())
    assert simulation.ledger.counts[0, c.BOTTOM_TAKEN] == bottom
    if label == "buddy":
        half_used = {}
        for _, size in reference.policy.holes():
            half_used[size] = half_used.get(size, 0) + 1
        assert where.orders.half_used[0, :9].tolist() == [half_used.get(1 << o, 0) for o in range(9)]


def test_labels():
    """Every case is a policy in its canonical form."""
    assert all(label_of(*parse_policy(label)) == label for label, _ in CASES)
