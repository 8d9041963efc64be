"""Units of one size: what is common to every order in which they are given out.

Freed units are kept by the policy in its own order. Units from UNITS on have never been in use: they are free as long
as they lie in the pool, and in *grow* the pool takes one more when it has to.
"""

import numpy as np

from vecalloc.kernel import inline
from vecalloc.mechanisms.bits import highest
from vecalloc.mechanisms.registers import (
    CAPACITY,
    GRANTED,
    GROWS,
    HOLES,
    LIMIT,
    NONE,
    REACH,
    TOO_LARGE,
    UNIT,
    UNITS,
    new_registers,
)


def equal_unit_registers(replicas: int, granules: int, grows: bool, unit: int) -> np.ndarray:
    """Return the registers of empty pools of `granules` granules in units of `unit`; a rest at the end is unused."""
    count = granules // unit
    registers = new_registers(replicas)
    registers[:, UNIT] = unit
    registers[:, LIMIT] = count * unit
    registers[:, HOLES] = count
    registers[:, GROWS] = grows
    registers[:, REACH] = count * unit
    return registers


def reach_in_units(registers: np.ndarray, most: int) -> int | None:
    """Let the arrays reach twice as far; return how many units that is, or None beyond `most` granules."""
    unit, reach = int(registers[0, UNIT]), int(registers[0, REACH])
    new = min(2 * reach, most // unit * unit)
    if new <= reach:
        return None
    registers[:, REACH] = new
    return new // unit


def unit_table(registers: np.ndarray, freed: np.ndarray) -> np.ndarray:
    """All free units of a replica in address order: int64 (n, 2); `freed` are the numbers of the freed ones."""
    unit = int(registers[UNIT])
    numbers = np.concatenate([np.sort(freed), np.arange(registers[UNITS], registers[LIMIT] // unit)])
    return np.stack([numbers * unit, np.full(len(numbers), unit)], axis=1).astype(np.int64)


@inline
def unit_at(registers, address):
    """The number of the unit that holds this address."""
    unit = registers[UNIT]
    return address >> highest(unit) if unit & (unit - 1) == 0 else address // unit  # a division costs 3 ns


@inline
def is_in_equal_unit(registers, address, granted):
    """Whether [address, address + granted) lies inside one unit of the pool."""
    end = (unit_at(registers, address) + 1) * registers[UNIT]
    return address + granted <= end and end <= registers[LIMIT]


@inline
def take_fresh_unit(registers):
    """The lowest unit that has never been in use, or NONE."""
    unit = registers[UNIT]
    address = registers[UNITS] * unit
    if address == registers[LIMIT]:
        if registers[GROWS] == 0 or address == registers[REACH]:
            return np.int64(NONE)
        registers[LIMIT] += unit
        registers[HOLES] += 1
    registers[UNITS] += 1
    registers[HOLES] -= 1
    registers[GRANTED] += unit
    return address


@inline
def largest_equal_unit(pool):
    """The size of a unit if one is free, else 0."""
    return pool.registers[UNIT] if pool.registers[HOLES] > 0 else np.int64(0)


@inline
def cause_in_equal_units(pool, extent):
    """A request is larger than a unit, or all units are taken."""
    return TOO_LARGE if extent > pool.registers[UNIT] else CAPACITY
