"""static-partition, equal units: the free unit at the lowest address, taken whole.

    units of 4      [A A . .][. . . .][B B B B][. . . .]      a request of 1 .. 4 goes to the second

Freed units are members of a 64-ary bitset; units that were never in use need no mark, for they all lie above those that
were. In *grow* there is always one more of them.

Source: Silberschatz, Galvin, Gagne, Operating System Concepts, "multiple-partition method" with fixed partitions (MFT).
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import process_each, replay_each
from vecalloc.mechanisms.bits import highest
from vecalloc.mechanisms.bitset import (
    Bitset,
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
    largest_equal_unit,
    reach_in_units,
    take_fresh_unit,
    unit_table,
)
from vecalloc.mechanisms.registers import FREED, GRANTED, HOLES, NONE, UNIT
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
    unit = registers[UNIT]
    i = address >> highest(unit) if unit & (unit - 1) == 0 else address // unit  # a division costs 3 ns
    insert(pool.freed, 0, i)
    registers[FREED] += 1
    registers[HOLES] += 1
    registers[GRANTED] -= unit


largest = largest_equal_unit
cause = cause_in_equal_units


@kernel
def replay(pools, events, ledger, cursors, first, last):
    """Run replicas first .. last - 1 to the end of their stretch."""
    replay_each(pick, alloc, free, largest, cause, pools, events, ledger, cursors, first, last)


@kernel
def process(pools, flow, ledger, cursors, first, last):
    """Run replicas first .. last - 1 of requests that wait."""
    process_each(pick, alloc, free, largest, cause, pools, flow, ledger, cursors, first, last)
