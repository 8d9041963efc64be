"""static-partition, equal units, LIFO: the unit that was freed last, taken whole.

A stack of freed units; while it is empty, units that were never in use follow in address order.

Source: as static_partition; the order of a free list that is pushed and popped at its head (Kenwright 2012).
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bits import at
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
from vecalloc.mechanisms.units import leave_stack, place_in_stack
from vecalloc.policies.table import Rules


class State(NamedTuple):
    """Addresses of freed units (int32, the last freed on top) and registers, with or without a replica axis."""

    stack: np.ndarray
    registers: np.ndarray


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> State:
    """Return empty pools."""
    registers = equal_unit_registers(replicas, granules, grows, rules.unit)
    return State(np.zeros((replicas, granules // rules.unit), np.int32), registers)


def make_room(state: State, replica: int, extent: int, most: int) -> State | None:
    """Return the same pools in arrays for twice as many units; None beyond `most` granules."""
    units = reach_in_units(state.registers, most)
    if units is None:
        return None
    stack = np.zeros((len(state.stack), units), np.int32)
    stack[:, : state.stack.shape[1]] = state.stack
    return State(stack, state.registers)


def holes(state: State, replica: int) -> np.ndarray:
    """All free units in address order: int64 (n, 2), start and size in granules."""
    registers = state.registers[replica]
    return unit_table(registers, state.stack[replica, : registers[FREED]].astype(np.int64) // registers[UNIT])


@rows
def pick(state, r):
    """Replica r's rows, and its registers."""
    return State(state.stack[r], state.registers[r]), state.registers[r]


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    registers = pool.registers
    unit = registers[UNIT]
    if extent > unit:
        return np.int64(NONE)
    depth = registers[FREED]
    if depth == 0:
        return take_fresh_unit(registers)
    registers[FREED] = depth - 1
    registers[HOLES] -= 1
    registers[GRANTED] += unit
    return np.int64(pool.stack[at(depth - 1)])


@inline
def free(pool, address):
    """Give back the block at `address`."""
    registers = pool.registers
    depth = registers[FREED]
    pool.stack[at(depth)] = address
    registers[FREED] = depth + 1
    registers[HOLES] += 1
    registers[GRANTED] -= registers[UNIT]


@inline
def _stack_up_to(pool, i):
    """Put the units up to i that were never in use on the stack: below all others, the lowest on top."""
    registers, stack = pool.registers, pool.stack
    fresh = i + 1 - registers[UNITS]
    for k in range(registers[FREED] - 1, -1, -1):
        stack[at(k + fresh)] = stack[at(k)]
    for k in range(fresh):
        stack[at(k)] = (i - k) * registers[UNIT]
    registers[FREED] += fresh
    registers[UNITS] = i + 1


@inline
def claim(pool, address, granted):
    """Make a live block of the free unit at `address`: it leaves the stack from wherever it stands."""
    registers = pool.registers
    i = unit_at(registers, address)
    if i >= registers[UNITS]:
        _stack_up_to(pool, i)
    leave_stack(pool.stack, 0, registers[FREED], address)
    registers[FREED] -= 1
    registers[HOLES] -= 1
    registers[GRANTED] += granted


@inline
def is_free(pool, address, granted):
    """1 if [address, address + granted) lies inside one free unit, else 0."""
    registers = pool.registers
    if not is_in_equal_unit(registers, address, granted):
        return np.int64(0)
    i = unit_at(registers, address)
    return np.int64(i >= registers[UNITS] or place_in_stack(pool.stack, 0, registers[FREED], i * registers[UNIT]) >= 0)


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
