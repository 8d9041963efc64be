"""static-partition, unequal units: the smallest free unit that is large enough, the lowest of its size, taken whole.

Free units are members, by rank, of a 64-ary bitset: the first member from the first rank of the smallest size that is
large enough is the unit sought (see mechanisms/units.py).

Source: as static_partition; best-fit over partitions of several sizes, as in OS/360 MFT.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.bitset import (
    Bitset,
    contains,
    discard,
    insert,
    insert_all,
    last,
    members_of,
    new_bitset,
    next_member,
    pick_bitset,
)
from vecalloc.mechanisms.registers import GRANTED, HOLES, LIMIT, NONE, new_registers
from vecalloc.mechanisms.units import (
    Units,
    add_unit,
    cause_in_units,
    class_for,
    class_of,
    is_in_unit,
    new_units,
    pick_units,
    rank_at,
    unit_table,
)
from vecalloc.policies.table import Rules


class State(NamedTuple):
    """Layout, free units by rank, and registers of one replica, or of many with a leading replica axis."""

    units: Units
    ranks: Bitset
    registers: np.ndarray


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> State:
    """Return empty pools."""
    sizes = np.array(rules.units, np.int64)
    registers = new_registers(replicas)
    registers[:, LIMIT] = sizes.sum()
    registers[:, HOLES] = len(sizes)
    state = State(new_units(replicas, sizes), new_bitset(replicas, len(sizes)), registers)
    for r in range(replicas):
        insert_all(state.ranks, r, 0, np.arange(len(sizes)))
    return state


def make_room(state: State, replica: int, extent: int, most: int) -> State | None:
    """Return the same pools with one more unit, of the smallest size that is large enough; None beyond `most`."""
    size = int(state.units.sizes[np.searchsorted(state.units.sizes, extent)])
    if state.registers[replica, LIMIT] + size > most:
        return None
    free_units = [holes(state, r)[:, 0] for r in range(len(state.registers))]
    free_units[replica] = np.append(free_units[replica], state.registers[replica, LIMIT])
    units = add_unit(state.units, replica, size)
    grown = State(units, new_bitset(len(state.registers), units.starts.shape[1]), state.registers)
    grown.registers[replica, LIMIT] += size
    grown.registers[replica, HOLES] += 1
    for r, starts in enumerate(free_units):
        count = units.firsts[r, -1]
        ranks = units.ranks[r, :count]
        insert_all(grown.ranks, r, 0, ranks[np.searchsorted(units.starts[r, ranks], starts)])
    return grown


def holes(state: State, replica: int) -> np.ndarray:
    """All free units in address order: int64 (n, 2), start and size in granules."""
    return unit_table(state.units, replica, members_of(state.ranks, replica))


@rows
def pick(state, r):
    """Replica r's rows, and its registers."""
    return State(pick_units(state.units, r), pick_bitset(state.ranks, r), state.registers[r]), state.registers[r]


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    units, registers = pool.units, pool.registers
    smallest = class_for(units, extent)
    if smallest == len(units.sizes):
        return np.int64(NONE)
    rank = next_member(pool.ranks, 0, units.firsts[at(smallest)])
    if rank < 0:
        return np.int64(NONE)
    discard(pool.ranks, 0, rank)
    registers[HOLES] -= 1
    registers[GRANTED] += units.sizes[at(class_of(units, rank))]
    return units.starts[at(rank)]


@inline
def free(pool, address):
    """Give back the block at `address`."""
    rank = rank_at(pool.units, address)
    insert(pool.ranks, 0, rank)
    pool.registers[HOLES] += 1
    pool.registers[GRANTED] -= pool.units.sizes[at(class_of(pool.units, rank))]


@inline
def claim(pool, address, granted):
    """Make a live block of the free unit at `address`."""
    discard(pool.ranks, 0, rank_at(pool.units, address))
    pool.registers[HOLES] -= 1
    pool.registers[GRANTED] += granted


@inline
def is_free(pool, address, granted):
    """1 if [address, address + granted) lies inside one free unit, else 0."""
    rank = rank_at(pool.units, address)
    return contains(pool.ranks, 0, rank) if is_in_unit(pool.units, rank, address, granted) else np.int64(0)


@inline
def largest(pool):
    """The size of the largest free unit."""
    rank = last(pool.ranks, 0)
    return pool.units.sizes[at(class_of(pool.units, rank))] if rank >= 0 else np.int64(0)


cause = cause_in_units


@kernel
def replay(pools, events, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 to the end of their stretch."""
    replay_each(pick, alloc, free, largest, cause, pools, events, ledger, passes, cursors, first, last)


@kernel
def process(pools, flow, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 of requests that wait."""
    process_each(pick, alloc, free, largest, cause, pools, flow, ledger, passes, cursors, first, last)


@kernel
def swap(pools, crowds, ledger, passes, cursors, first, last):
    """Run replicas first .. last - 1 of processes that are swapped."""
    swap_each(pick, alloc, free, largest, cause, claim, is_free, pools, crowds, ledger, passes, cursors, first, last)
