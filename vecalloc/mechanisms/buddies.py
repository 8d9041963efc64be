"""Buddies: what is common to every order in which free blocks are given out.

A pool of 2^n granules is a block of order n; a block of order o starts at a multiple of 2^o and its buddy is the block
whose address differs in bit o alone.
"""

import numpy as np

from vecalloc.kernel import inline
from vecalloc.mechanisms.bits import ceil_log2, highest
from vecalloc.mechanisms.registers import (
    CAPACITY,
    FRAGMENTATION,
    GRANTED,
    GROWS,
    HOLES,
    LIMIT,
    ORDER,
    ORDERS_FREE,
    TOO_LARGE,
    new_registers,
)


def buddy_registers(replicas: int, granules: int, grows: bool) -> np.ndarray:
    """Return the registers of empty pools of 2^n granules."""
    registers = new_registers(replicas)
    registers[:, LIMIT] = granules
    registers[:, GROWS] = grows
    registers[:, ORDER] = granules.bit_length() - 1
    registers[:, ORDERS_FREE] = granules
    registers[:, HOLES] = 1
    return registers


def double_pool(registers: np.ndarray, extent: int, most: int) -> list[int] | None:
    """Double one replica's pool until `extent` fits: change its registers, and say what became free.

    Returns
    -------
    list of int, or None
        The orders of the pool before each doubling. If the pool was one free block, it is one of the next order now;
        else a free block of that order stands in its new upper half. None if `most` granules are not enough; the
        registers are left alone then.
    """
    order, unused = int(registers[ORDER]), int(registers[ORDERS_FREE])
    need = (extent - 1).bit_length()
    doubled = []
    while not unused >> need:
        if 2 << order > most:
            return None
        doubled.append(order)
        unused = 2 << order if unused == 1 << order else unused | 1 << order
        order += 1
    registers[HOLES] += len(doubled) if unused != 1 << order else 0
    registers[ORDER], registers[LIMIT], registers[ORDERS_FREE] = order, 1 << order, unused
    return doubled


@inline
def largest_buddy(pool):
    """The size of the largest free block in granules; 0 if there is none."""
    orders = pool.registers[ORDERS_FREE]
    return np.int64(1) << highest(orders) if orders != 0 else np.int64(0)


@inline
def cause_in_buddies(pool, extent):
    """Why a block for `extent` granules, rounded up to a power of two, could not be had."""
    registers = pool.registers
    needed = np.int64(1) << ceil_log2(extent)
    if needed > registers[LIMIT] and registers[GROWS] == 0:
        return TOO_LARGE
    return CAPACITY if needed > registers[LIMIT] - registers[GRANTED] else FRAGMENTATION
