"""static-partition, equal units: the free unit at the lowest address, taken whole.

    units of 4      [A A . .][. . . .][B B B B][. . . .]      a request of 1 .. 4 goes to the second

Freed units are members of a 64-ary bitset; units that were never in use need no mark, for they all lie above those that
were. In *grow* there is always one more of them.

Source: Silberschatz, Galvin, Gagne, Operating System Concepts, "multiple-partition method" with fixed partitions (MFT).
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bitset import (
    Bitset,
    contains,
    discard,
    extend_bitset,
    first,
    insert,
    members_of,
    new_bitset,
    pick_bitset,
)
from vecalloc.mechanisms.equal_units import (
    cause_in_equal_units,
    equal_unit_registers,
    is_in_equal_unit,
    largest_equal_unit,
    reach_in_units,
    take_fresh_unit,
    unit_at,
    unit_table,
)
from vecalloc.mechanisms.registers import FREED, GRANTED, HOLES, NONE, UNIT, UNITS
from vecalloc.policies.table import Rules


class State(NamedTuple):
    """Freed units and registers of one replica, or of many with a leading replica axis."""

    freed: Bitset
    registers: np.ndarray


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> State:
    """Return empty pools."""
    registers = equal_unit_registers(replicas, granules, grows, rules.unit)
    return State(new_bitset(replicas, granules // rules.unit + 1), registers)


def make_room(state: State, replica: int, extent: int, most: int) -> State | None:
    """Return the same pools in arrays for twice as many units; None beyond `most` granules."""
    units = reach_in_units(state.registers, most)
    return None if units is None else State(extend_bitset(state.freed, units + 1), state.registers)


def holes(state: State, replica: int) -> np.ndarray:
    """All free units in address order: int64 (n, 2), start and size in granules."""
    return unit_table(state.registers[replica], members_of(state.freed, replica))


@rows
def pick(state, r):
    """Replica r's rows, and its registers."""
    return State(pick_bitset(state.freed, r), state.registers[r]), state.registers[r]


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    registers = pool.registers
    unit = registers[UNIT]
    if extent > unit:
        return np.int64(NONE)
    if registers[FREED] == 0:
        return take_fresh_unit(registers)
    i = first(pool.freed, 0)
    discard(pool.freed, 0, i)
    registers[FREED] -= 1
    registers[HOLES] -= 1
    registers[GRANTED] += unit
    return i * unit


@inline
def free(pool, address):
    """Give back the block at `address`."""
    registers = pool.registers
    insert(pool.freed, 0, unit_at(registers, address))
    registers[FREED] += 1
    registers[HOLES] += 1
    registers[GRANTED] -= registers[UNIT]


@inline
def claim(pool, address, granted):
    """Make a live block of the free unit at `address`."""
    registers = pool.registers
    i = unit_at(registers, address)
    while registers[UNITS] <= i:  # those below one that is in use are free like any that were freed
        insert(pool.freed, 0, registers[UNITS])
        registers[UNITS] += 1
        registers[FREED] += 1
    discard(pool.freed, 0, i)
    registers[FREED] -= 1
    registers[HOLES] -= 1
    registers[GRANTED] += granted


@inline
def is_free(pool, address, granted):
    """1 if [address, address + granted) lies inside one free unit, else 0."""
    if not is_in_equal_unit(pool.registers, address, granted):
        return np.int64(0)
    i = unit_at(pool.registers, address)
    return np.int64(1) if i >= pool.registers[UNITS] else contains(pool.freed, 0, i)


largest = largest_equal_unit
cause = cause_in_equal_units


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
