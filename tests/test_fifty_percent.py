"""K1: what stands behind Knuth's fifty-percent rule, as an equality on every path and not only on average.

An alloc takes a hole away if it fits exactly, or else leaves their number as it is. A free adds a hole between two
blocks, and takes one away between two holes; a wall of the pool counts as a block. So for any policy that does not move
blocks:

    holes at the end - holes at the start
        = frees with a block on both sides - frees with a hole on both sides - exact fits

Source: Knuth, TAOCP vol. 1, section 2.5.
"""

import numpy as np
import pytest
from reference import REFERENCES

import vecalloc as va

VARIANTS = [
    ("first-fit", {}),
    ("first-fit", {"carve": "high"}),
    ("best-fit", {}),
    ("best-fit", {"carve": "high"}),
    ("best-fit", {"ties": "lifo"}),
    ("best-fit", {"ties": "lifo", "carve": "high"}),
    ("worst-fit", {}),
    ("worst-fit", {"carve": "high"}),
    ("next-fit", {}),
]
IDS = ["-".join([name, *options.values()]) for name, options in VARIANTS]
every_fit = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
SIZES = {
    "ones": lambda rng, n: np.ones(n, np.int64),
    "zero-to-nine": lambda rng, n: rng.integers(0, 10, n),
    "few": lambda rng, n: rng.choice([3, 4, 24, 100], n),
    "wide": lambda rng, n: np.minimum(np.exp(rng.normal(3, 2, n)).astype(np.int64), 5000),
}


def random_trace(rng, events, mean_live, sizes, empties=False):
    """Allocs and frees of blocks picked at random; at the end, if asked, everything is freed."""
    asked = sizes(rng, events)
    slot, size, live, spare, used = [], [], [], [], 0
    for wanted, at_random in zip(asked.tolist(), rng.random(events).tolist(), strict=True):
        if at_random < len(live) / (2 * mean_live):
            k = int(rng.integers(len(live)))
            live[k], live[-1] = live[-1], live[k]
            which, bytes_of = live.pop()
            spare.append(which)
            slot.append(which)
            size.append(~bytes_of)
        else:
            if not spare:
                spare.append(used)
                used += 1
            live.append((spare.pop(), wanted))
            slot.append(live[-1][0])
            size.append(wanted)
    for which, bytes_of in live if empties else []:
        slot.append(which)
        size.append(~bytes_of)
    return va.Trace(np.array(slot, np.int32), np.array(size, np.int64))


def sides(run):
    """The two sides of the equality: how many holes more there are (one hole at the start), and why."""
    geometry = run.geometry
    none, _, both = geometry["frees_by_neighbours"]
    return len(run.hole_table) - 1, none - both - geometry["exact_fits"]


@every_fit
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("pool", ["0.5x", "0.9x", "1x", "3x"])
@pytest.mark.parametrize("min_split", [1, 4])
def test_pathwise(name, options, sizes, pool, min_split):
    """Also with a least remainder: a hole that is used up, the rest granted with the block, counts as an exact fit."""
    for seed in range(3):
        trace = random_trace(np.random.default_rng([seed, 50]), 2000, 60, SIZES[sizes], empties=seed == 2)
        run = va.replay(trace, name, pool, 1, geometry=True, min_split=min_split, **options)
        more, why = sides(run)
        assert more == why
        assert sum(run.geometry["frees_by_neighbours"]) == run.metrics["frees"] - run.metrics["ignored_frees"]
        if seed == 2:
            assert run.hole_table.tolist() == [[0, run.plan.pool]]
        if pool == "0.5x":
            assert sum(run.failures.values()) > 0


@every_fit
def test_pathwise_at_every_moment(name, options):
    """Every prefix of a trace is a trace."""
    trace = random_trace(np.random.default_rng(5), 300, 12, SIZES["zero-to-nine"])
    series = va.replay(trace, name, 64, 1, geometry=True, every=1, **options).series
    for end in range(1, len(trace) + 1, 7):
        run = va.replay(va.Trace(trace.slot[:end], trace.size[:end]), name, 64, 1, geometry=True, **options)
        more, why = sides(run)
        assert more == why == series["holes"][end - 1] - 1


@pytest.mark.jitless
@pytest.mark.filterwarnings(
    "ignore:overflow encountered in scalar:RuntimeWarning"
)  # plain Python: words wrap on purpose
@every_fit
def test_each_term(name, options):
    """The three counts themselves, against the naive reference, not only their sum."""
    trace = random_trace(np.random.default_rng(11), 400, 15, SIZES["zero-to-nine"])
    reference = REFERENCES[name](80, **options)
    placed, exact, by_neighbours = {}, 0, [0, 0, 0]
    for slot, size in zip(trace.slot.tolist(), trace.size.tolist(), strict=True):
        before = dict(reference.holes())
        if size >= 0:
            placed[slot] = reference.alloc(max(size, 1))
            exact += before.get(placed[slot]) == max(size, 1)
        elif placed[slot] is not None:
            start, extent = placed[slot], max(~size, 1)
            ends = {at + length for at, length in before.items()}
            by_neighbours[(start in ends) + (start + extent in before)] += 1
            reference.free(start)
    geometry = va.replay(trace, name, 80, 1, geometry=True, **options).geometry
    assert geometry["exact_fits"] == exact > 0
    assert geometry["frees_by_neighbours"] == by_neighbours
    assert min(by_neighbours) > 0


def test_on_average():
    """In equilibrium: holes = p/2 blocks + ends/2, p the share of served requests that do not fit exactly."""
    trace = random_trace(np.random.default_rng(3), 60_000, 300, SIZES["wide"])
    run = va.replay(trace, "first-fit", "3x", 1, geometry=True)
    served = run.metrics["allocs"] - sum(run.failures.values())
    p = 1 - run.geometry["exact_fits"] / served
    # The model is a birth-death one, not Poisson deaths per block, so only about.
    assert run.metrics["holes"] == pytest.approx(p * run.metrics["blocks"] / 2 + run.geometry["ends"] / 2, rel=0.1)
