"""The oracles of the Monte Carlo tests against every figure printed in the gallery, and against one another.

What a simulation is to be measured by has to be beyond doubt itself, so each oracle is reached on two ways that share
nothing: the Markov chain of the naive references by one on strings with another solver; Kosten's series by that chain;
Kaufman and Roberts's recursion by adding up the product form. Printed figures are met to the last printed digit.

Rows of the gallery: X1 (a tiny pool), K1 (fifty-percent rule), E1, E2 (Erlang), C1 (the highest occupied cell).
"""

import itertools
import math
import re

import numpy as np
import pytest
import scipy.sparse.linalg
from reference import REFERENCES
from reference.closed_forms import erlang_b, expected_max_occupied_excess, kaufman_roberts, mean_cell_index
from reference.markov_chain import explore, solve, stationary

POOL, RATE, SIZES = 8, 3.0, {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}  # X1

FITS = [
    ("first-fit", {}),
    ("first-fit", {"carve": "high"}),
    ("best-fit", {}),
    ("best-fit", {"carve": "high"}),
    ("best-fit", {"ties": "lifo"}),
    ("worst-fit", {}),
    ("worst-fit", {"carve": "high"}),
    ("next-fit", {}),
]
every_fit = pytest.mark.parametrize(
    ("name", "options"), FITS, ids=["-".join([name, *options.values()]) for name, options in FITS]
)


# --- X1: a pool of 8 granules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "printed"),
    [
        ("first-fit", {}, "0.24283466"),
        ("first-fit", {"carve": "high"}, "0.24091491"),
        ("best-fit", {}, "0.23894486"),
        ("worst-fit", {}, "0.24774935"),
        ("next-fit", {}, "0.24244692"),
        ("buddy", {}, "0.29055975"),
    ],
)
def test_tiny_pool(name, options, printed):
    exact = solve(name, POOL, RATE, SIZES, **options)
    assert f"{exact.blocking:.8f}" == printed
    assert exact.blocking == pytest.approx(sum(SIZES[s] * lost for s, lost in exact.blocking_of.items()), abs=1e-14)
    assert exact.blocking == pytest.approx(sum(exact.causes.values()), abs=1e-14)
    assert exact.free + exact.granted == pytest.approx(POOL, abs=1e-12)


def ideal_blocking(granules):
    """What a pool would lose of X1's requests if its blocks were moved together whenever that helps."""
    lost = kaufman_roberts(granules, {size: RATE * share for size, share in SIZES.items()})
    return sum(SIZES[size] * lost[size] for size in SIZES)


def test_tiny_pool_with_ideal_compaction():
    assert f"{ideal_blocking(POOL):.8f}" == "0.22631242"


@every_fit
def test_no_fit_beats_ideal_compaction(name, options):
    assert solve(name, 6, RATE, SIZES, **options).blocking > ideal_blocking(6)


@pytest.mark.parametrize("carve", ["low", "high"])
@pytest.mark.parametrize("name", ["first-fit", "best-fit", "worst-fit"])
def test_tiny_pool_of_strings(name, carve):
    """The figures nobody has printed (best and worst fit that carve the high end), and the printed ones once more."""
    exact, other = solve(name, POOL, RATE, SIZES, carve=carve), solve_strings(name, carve)
    assert exact.states == other["states"]
    assert exact.blocking_of == pytest.approx(other["blocking_of"], abs=1e-12)
    assert exact.holes == pytest.approx(other["holes"], abs=1e-12)
    assert exact.external_fragmentation == pytest.approx(other["external_fragmentation"], abs=1e-12)


FIRST_CHOICE = {
    "first-fit": lambda hole: hole.start(),
    "best-fit": lambda hole: (len(hole[0]), hole.start()),
    "worst-fit": lambda hole: (-len(hole[0]), hole.start()),
}


def solve_strings(name, carve):
    """The chain of X1 on strings such as "3--1..2-", a block its size and dashes, by elimination in a dense matrix."""
    memories = ["." * POOL]
    flow = {}
    for memory in memories:  # grows as it is walked
        for after, rate in jumps_of(memory, name, carve):
            if after not in memories:
                memories.append(after)
            flow[memory, after] = flow.get((memory, after), 0) + rate

    number = {memory: k for k, memory in enumerate(memories)}
    equations = np.zeros((len(memories), len(memories)))
    for (memory, after), rate in flow.items():
        equations[number[after], number[memory]] += rate
        equations[number[memory], number[memory]] -= rate
    equations[-1] = 1
    time = np.linalg.solve(equations, np.eye(len(memories))[-1])

    holes = [[len(hole) for hole in re.findall(r"\.+", memory)] for memory in memories]
    largest = np.array([max(lengths, default=0) for lengths in holes])
    return {
        "states": len(memories),
        "blocking_of": {size: time[largest < size].sum() for size in SIZES},
        "holes": time @ [len(lengths) for lengths in holes],
        "external_fragmentation": 1 - time @ largest / (time @ [sum(lengths) for lengths in holes]),
    }


def jumps_of(memory, name, carve):
    for size, share in SIZES.items():
        adequate = [hole for hole in re.finditer(r"\.+", memory) if len(hole[0]) >= size]
        if adequate:
            hole = min(adequate, key=FIRST_CHOICE[name])
            start = hole.start() if carve == "low" else hole.end() - size
            yield memory[:start] + str(size).ljust(size, "-") + memory[start + size :], RATE * share
    for block in re.finditer(r"\d-*", memory):
        yield memory[: block.start()] + "." * len(block[0]) + memory[block.end() :], 1.0


@pytest.mark.parametrize(
    ("name", "granules", "options"),
    [
        ("first-fit", 7, {}),
        ("best-fit", 7, {"ties": "lifo"}),
        ("next-fit", 6, {}),
        ("buddy", 8, {}),
        ("buddy", 8, {"order": "lifo"}),
        ("static-partition", 8, {"units": (3, 2, 1, 2)}),
    ],
)
def test_two_ways_to_the_shares_of_time(name, granules, options):
    """Uniformisation against elimination, on the same chain."""
    _, _, generator = explore(REFERENCES[name](granules, **options), RATE, SIZES)
    equations = scipy.sparse.vstack([generator.T.tocsr()[:-1], np.ones((1, generator.shape[0]))]).tocsc()
    direct = scipy.sparse.linalg.spsolve(equations, np.eye(generator.shape[0])[-1])
    assert np.abs(stationary(generator) - direct).max() < 1e-13


def test_lists_sorted_where_their_order_is_nothing():
    """Buddies at the lowest address: the chain with sorted lists of free blocks is the one without, in fewer states."""
    policy = REFERENCES["buddy"](8)
    sorted_, by_order = explore(policy, RATE, SIZES), explore(as_if_by_order(policy), RATE, SIZES)
    assert len(sorted_[0]) < len(by_order[0])
    busy = [
        np.bincount([len(state.blocks) for state in states], stationary(generator))
        for states, _, generator in (sorted_, by_order)
    ]
    assert busy[0] == pytest.approx(busy[1], abs=1e-13)


def as_if_by_order(policy):
    """The same policy, with a mark that makes the solver keep the order of its lists."""
    other = REFERENCES["buddy"](policy.limit)
    other.ties = "lifo"
    return other


def test_lifo_ties_see_no_difference_between_the_ends():
    """Best fit by age never looks at an address, so carving the other end is the same pool in a mirror."""
    low = solve("best-fit", 7, RATE, SIZES, ties="lifo")
    high = solve("best-fit", 7, RATE, SIZES, ties="lifo", carve="high")
    assert low.blocking == pytest.approx(high.blocking, abs=1e-13)
    assert low.holes == pytest.approx(high.holes, abs=1e-12)
    assert low.top < high.top


# --- K1: the fifty-percent rule in equilibrium -----------------------------------------------------------------------


@pytest.mark.parametrize("min_split", [1, 2])
@every_fit
def test_fifty_percent(name, options, min_split):
    exact = solve(name, 7, 2.5, {1: 0.5, 2: 0.3, 4: 0.2}, min_split=min_split, **options)
    assert exact.holes == pytest.approx((exact.inexact * exact.blocks + exact.ends) / 2, abs=1e-12)
    assert (exact.granted == pytest.approx(exact.requested, abs=1e-12)) == (min_split == 1)


# --- E1, E2: Erlang's formula ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCES)
def test_blocks_of_one_granule_are_lines_of_an_exchange(name):
    exact = solve(name, 4, 2.5, {1: 1.0})
    assert exact.blocking == pytest.approx(erlang_b(4, 2.5), abs=1e-13)
    assert exact.blocks == pytest.approx(2.5 * (1 - erlang_b(4, 2.5)), abs=1e-12)
    assert exact.causes["capacity"] == pytest.approx(exact.blocking, abs=1e-14)


def test_static_partition_is_erlangs():
    assert f"{erlang_b(10, 5):.8f}" == "0.01838457"
    assert f"{solve('static-partition', 20, 5, {1: 0.5, 2: 0.5}, unit=2).blocking:.8f}" == "0.01838457"


@pytest.mark.parametrize(
    ("rho", "printed"), [(1, "1.781546"), (10, "6.901330"), (100, "52.833262"), (1000, "503.908871")]
)
def test_mean_cell_index(rho, printed):
    assert f"{mean_cell_index(rho):.6f}" == printed


def test_ideal_compaction():
    lost = kaufman_roberts(8, {1: 1, 2: 1, 3: 1})
    assert {s: f"{share:.8f}" for s, share in lost.items()} == {1: "0.10221232", 2: "0.21924384", 3: "0.35748111"}


@pytest.mark.parametrize("loads", [{1: 1.0, 2: 1.0, 3: 1.0}, {2: 0.3, 3: 2.5, 7: 0.9}, {1: 4.0, 12: 1.0}])
def test_ideal_compaction_by_enumeration(loads):
    """Numbers of blocks (n_1, n_2, ...) that fit have probability proportional to the product of load^n / n!."""
    units, weight, lost = 11, 0.0, dict.fromkeys(loads, 0.0)
    for numbers in itertools.product(*(range(units // s + 1) for s in loads)):
        taken = sum(n * s for n, s in zip(numbers, loads, strict=True))
        if taken <= units:
            here = math.prod(load**n / math.factorial(n) for n, load in zip(numbers, loads.values(), strict=True))
            weight += here
            for s in loads:
                lost[s] += here * (taken + s > units)
    assert kaufman_roberts(units, loads) == pytest.approx({s: share / weight for s, share in lost.items()}, abs=1e-14)


# --- C1: the highest occupied cell -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rho", "printed"),
    [
        (0.5, "0.079574"),
        (1, "0.232764"),
        (2, "0.587558"),
        (5, "1.547126"),
        (10, "2.754973"),
        (20, "4.554510"),
        (50, "8.325459"),
        (100, "12.781488"),
        (1000, "48.577300"),
    ],
)
def test_highest_occupied_cell(rho, printed):
    assert f"{expected_max_occupied_excess(rho):.6f}" == printed


def test_cells_against_the_chain():
    """First fit with blocks of one granule, in a pool whose end is met once in 10^9 requests."""
    exact = solve("first-fit", 12, 1.0, {1: 1.0})
    assert exact.blocking < 1e-9
    assert exact.top - exact.blocks == pytest.approx(expected_max_occupied_excess(1.0), abs=1e-8)
    assert exact.address + 1 == pytest.approx(mean_cell_index(1.0), abs=1e-8)


def test_waste_is_never_more_than_a_third_of_what_is_occupied():
    waste = {rho: expected_max_occupied_excess(rho) / rho for rho in np.arange(0.1, 12, 0.1)}
    assert max(waste.values()) < 1 / 3
    assert 3 < max(waste, key=waste.get) < 4


def test_more_digits_change_nothing():
    assert expected_max_occupied_excess(30, digits=25) == pytest.approx(expected_max_occupied_excess(30), abs=1e-10)
