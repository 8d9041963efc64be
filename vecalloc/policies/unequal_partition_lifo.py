"""static-partition, unequal units, LIFO: of the smallest free units that are large enough, the one freed last.

A stack of free units for each size, the lowest address on top at first; a 64-ary bitset says which stacks hold any.

Source: as unequal_partition, with the order of free lists that are pushed and popped at their heads.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bits import at
from vecalloc.mechanisms.bitset import Bitset, discard, insert, insert_all, last, new_bitset, next_member, pick_bitset
from vecalloc.mechanisms.registers import GRANTED, HOLES, LIMIT, NONE, new_registers
from vecalloc.mechanisms.units import (
    Units,
    add_unit,
    cause_in_units,
    class_for,
    class_of,
    is_in_unit,
    leave_stack,
    new_units,
    pick_units,
    place_in_stack,
    rank_at,
)
from vecalloc.policies.table import Rules


class State(NamedTuple):
    """Of one replica, or of many with a leading replica axis.

    Attributes
    ----------
    units : Units
    stacks : int64[units]
        Addresses of free units; the stack of a class begins at the rank of its first unit.
    depths : int64[classes]
    classes : Bitset
        One row: the classes with a free unit.
    registers : int64
    """

    units: Units
    stacks: np.ndarray
    depths: np.ndarray
    classes: Bitset
    registers: np.ndarray


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> State:
    """Return empty pools."""
    sizes = np.array(rules.units, np.int64)
    units = new_units(replicas, sizes)
    registers = new_registers(replicas)
    registers[:, LIMIT] = sizes.sum()
    registers[:, HOLES] = len(sizes)
    stacks = np.zeros_like(units.starts)
    for first, end in zip(units.firsts[0], units.firsts[0, 1:], strict=False):
        stacks[:, first:end] = units.starts[:, first:end][:, ::-1]
    state = State(units, stacks, np.diff(units.firsts, axis=1), new_bitset(replicas, len(units.sizes)), registers)
    for r in range(replicas):
        insert_all(state.classes, r, 0, np.arange(len(units.sizes)))
    return state


def make_room(state: State, replica: int, extent: int, most: int) -> State | None:
    """Return the same pools with one more unit, of the smallest size that is large enough; None beyond `most`."""
    wanted = int(np.searchsorted(state.units.sizes, extent))
    size = int(state.units.sizes[wanted])
    limit = int(state.registers[replica, LIMIT])
    if limit + size > most:
        return None
    before = state.units.firsts[replica].copy()
    units = add_unit(state.units, replica, size)
    stacks = np.zeros_like(units.starts)
    stacks[:, : state.stacks.shape[1]] = state.stacks
    for c, (old, new_first) in enumerate(zip(before[:-1], units.firsts[replica], strict=False)):
        depth = state.depths[replica, c]
        stacks[replica, new_first : new_first + depth] = state.stacks[replica, old : old + depth]
    grown = state._replace(units=units, stacks=stacks)
    grown.stacks[replica, units.firsts[replica, wanted] + state.depths[replica, wanted]] = limit
    grown.depths[replica, wanted] += 1
    insert_all(grown.classes, replica, 0, np.array([wanted]))
    grown.registers[replica, LIMIT] += size
    grown.registers[replica, HOLES] += 1
    return grown


def holes(state: State, replica: int) -> np.ndarray:
    """All free units in address order: int64 (n, 2), start and size in granules."""
    tables = [
        np.stack([state.stacks[replica, first : first + depth], np.full(depth, size)], axis=1)
        for size, first, depth in zip(
            state.units.sizes, state.units.firsts[replica], state.depths[replica], strict=False
        )
    ]
    table = np.concatenate(tables)
    return table[np.argsort(table[:, 0])]


@rows
def pick(state, r):
    """Replica r's rows, and its registers."""
    pool = State(
        pick_units(state.units, r), state.stacks[r], state.depths[r], pick_bitset(state.classes, r), state.registers[r]
    )
    return pool, pool.registers


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    units, registers = pool.units, pool.registers
    c = class_for(units, extent)
    if c == len(units.sizes):
        return np.int64(NONE)
    c = next_member(pool.classes, 0, c)
    if c < 0:
        return np.int64(NONE)
    pool.depths[at(c)] -= 1
    if pool.depths[at(c)] == 0:
        discard(pool.classes, 0, c)
    registers[HOLES] -= 1
    registers[GRANTED] += units.sizes[at(c)]
    return pool.stacks[at(units.firsts[at(c)] + pool.depths[at(c)])]


@inline
def free(pool, address):
    """Give back the block at `address`."""
    units = pool.units
    c = class_of(units, rank_at(units, address))
    pool.stacks[at(units.firsts[at(c)] + pool.depths[at(c)])] = address
    if pool.depths[at(c)] == 0:
        insert(pool.classes, 0, c)
    pool.depths[at(c)] += 1
    pool.registers[HOLES] += 1
    pool.registers[GRANTED] -= units.sizes[at(c)]


@inline
def claim(pool, address, granted):
    """Make a live block of the free unit at `address`: it leaves its stack from wherever it stands."""
    units = pool.units
    c = class_of(units, rank_at(units, address))
    bottom = units.firsts[at(c)]
    leave_stack(pool.stacks, bottom, bottom + pool.depths[at(c)], address)
    pool.depths[at(c)] -= 1
    if pool.depths[at(c)] == 0:
        discard(pool.classes, 0, c)
    pool.registers[HOLES] -= 1
    pool.registers[GRANTED] += granted


@inline
def is_free(pool, address, granted):
    """1 if [address, address + granted) lies inside one free unit, else 0."""
    units = pool.units
    rank = rank_at(units, address)
    if not is_in_unit(units, rank, address, granted):
        return np.int64(0)
    c = class_of(units, rank)
    bottom = units.firsts[at(c)]
    return np.int64(place_in_stack(pool.stacks, bottom, bottom + pool.depths[at(c)], units.starts[at(rank)]) >= bottom)


@inline
def largest(pool):
    """The size of the largest free unit."""
    c = last(pool.classes, 0)
    return pool.units.sizes[at(c)] if c >= 0 else np.int64(0)


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
