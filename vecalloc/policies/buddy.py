"""buddy: the binary buddy system, the free block of the smallest order that is large enough at the lowest address.

    order 3    . . . . . . . .        alloc(2): split 8 -> 4 4 -> 2 2, keep the low half each time
    order 2            . . . .
    order 1    A A . .                free(A): its buddy is free, merge to 4; its buddy is free, merge to 8

Each order has a row of a 64-ary bitset for its free blocks; a word with a bit for each order that has any tells which
order to take from. The order of a live block is a byte at its start.

Source: Knowlton (1965); Knuth, TAOCP vol. 1, section 2.5, algorithms R and S.
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bits import at, bit, bits_from, ceil_log2, highest, lowest
from vecalloc.mechanisms.bitset import (
    Bitset,
    contains,
    discard,
    first,
    insert,
    insert_all,
    members_of,
    new_bitset,
    pick_bitset,
    rows_of,
)
from vecalloc.mechanisms.buddies import buddy_registers, cause_in_buddies, double_pool, largest_buddy
from vecalloc.mechanisms.changes import reindex_each
from vecalloc.mechanisms.registers import GRANTED, HOLES, LIMIT, NONE, ORDER, ORDERS_FREE
from vecalloc.policies.table import Rules


class State(NamedTuple):
    """Free blocks by order, orders of live blocks (uint8 by start), registers; with or without a replica axis."""

    free_blocks: Bitset
    order_at: np.ndarray
    registers: np.ndarray


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> State:
    """Return empty pools: one free block."""
    registers = buddy_registers(replicas, granules, grows)
    state = State(_rows(replicas, granules), np.zeros((replicas, granules), np.uint8), registers)
    for r in range(replicas):
        insert_all(state.free_blocks, r, int(registers[0, ORDER]), np.array([0]))
    return state


def _rows(replicas: int, granules: int) -> Bitset:
    return new_bitset(replicas, *(granules >> order for order in range(granules.bit_length())))


def make_room(state: State, replica: int, extent: int, most: int) -> State | None:
    """Return the pools with one replica's doubled until `extent` fits; None beyond `most` granules."""
    tables = [holes(state, r) for r in range(len(state.registers))]
    doubled = double_pool(state.registers[replica], extent, most)
    if doubled is None:
        return None
    reach = max(state.order_at.shape[1], 2 << doubled[-1])
    grown = State(_rows(len(tables), reach), np.zeros((len(tables), reach), np.uint8), state.registers)
    grown.order_at[:, : state.order_at.shape[1]] = state.order_at
    if tables[replica].tolist() == [[0, 1 << doubled[0]]]:
        tables[replica] = np.array([[0, 2 << doubled[-1]]])
    else:
        tables[replica] = np.array(tables[replica].tolist() + [[1 << order, 1 << order] for order in doubled])
    for r, table in enumerate(tables):
        for start, size in table.tolist():
            insert_all(grown.free_blocks, r, size.bit_length() - 1, np.array([start // size]))
    return grown


def holes(state: State, replica: int) -> np.ndarray:
    """All free blocks in address order: int64 (n, 2), start and size in granules."""
    starts = [members_of(state.free_blocks, replica, order) << order for order in range(rows_of(state.free_blocks))]
    sizes = np.repeat([1 << order for order in range(len(starts))], [len(row) for row in starts])
    table = np.stack([np.concatenate(starts), sizes], axis=1).astype(np.int64)
    return table[np.argsort(table[:, 0])]


def tags(state: State) -> np.ndarray:
    """Where each live block starts its order, uint8 (replicas, granules); elsewhere anything."""
    return state.order_at


@rows
def pick(state, r):
    """Replica r's rows, and its registers."""
    return State(pick_bitset(state.free_blocks, r), state.order_at[r], state.registers[r]), state.registers[r]


@inline
def _put(pool, order, i):
    """Block i of an order is free."""
    if insert(pool.free_blocks, order, i):
        pool.registers[ORDERS_FREE] |= bit(order)


@inline
def _take(pool, order, i):
    """Block i of an order is no free block any more."""
    if discard(pool.free_blocks, order, i):
        pool.registers[ORDERS_FREE] &= ~bit(order)


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    registers = pool.registers
    order = ceil_log2(extent)
    orders = registers[ORDERS_FREE] & bits_from(order)
    if orders == 0:
        return np.int64(NONE)
    found = lowest(orders)
    i = first(pool.free_blocks, found)
    _take(pool, found, i)
    address = i << found
    registers[HOLES] += found - order - 1
    registers[GRANTED] += np.int64(1) << order
    while found > order:
        found -= 1
        _put(pool, found, (address >> found) + 1)
    pool.order_at[at(address)] = order
    return address


@inline
def free(pool, address):
    """Give back the block at `address`, and merge it with its buddy as far as it goes."""
    registers = pool.registers
    order = np.int64(pool.order_at[at(address)])
    registers[GRANTED] -= np.int64(1) << order
    registers[HOLES] += 1
    i = address >> order
    while order < registers[ORDER] and contains(pool.free_blocks, order, i ^ 1) != 0:
        _take(pool, order, i ^ 1)
        registers[HOLES] -= 1
        i >>= 1
        order += 1
    _put(pool, order, i)


@inline
def _order_around(pool, address, order):
    """The order, at least `order`, of the free block that holds `address`; NONE if there is none."""
    orders = pool.registers[ORDERS_FREE] & bits_from(order)
    while orders != 0:
        order = lowest(orders)
        if contains(pool.free_blocks, order, address >> order) != 0:
            return order
        orders &= orders - 1
    return np.int64(NONE)


@inline
def claim(pool, address, granted):
    """Make a live block of [address, address + granted), a buddy that is free or part of one that is."""
    order = highest(granted)
    found = _order_around(pool, address, order)
    _take(pool, found, address >> found)
    pool.registers[HOLES] += found - order - 1
    pool.registers[GRANTED] += granted
    while found > order:
        found -= 1
        _put(pool, found, (address >> found) ^ 1)
    pool.order_at[at(address)] = order


@inline
def is_free(pool, address, granted):
    """1 if [address, address + granted) lies inside one free block, else 0."""
    if address + granted > pool.registers[LIMIT]:
        return np.int64(0)
    order = _order_around(pool, address, ceil_log2(granted))
    return np.int64(order >= 0 and address + granted <= ((address >> order) + 1) << order)


@inline
def forget(pool, start, size):
    """The free block of `size` at `start` is no more."""
    order = highest(size)
    _take(pool, order, start >> order)


@inline
def enter(pool, start, size):
    """A free block of `size` is new at `start`."""
    order = highest(size)
    _put(pool, order, start >> order)


@inline
def settle(pool, start, size):
    """A block of `size` was moved to `start`."""
    pool.order_at[at(start)] = highest(size)


largest = largest_buddy
cause = cause_in_buddies


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


@kernel
def reindex(pools, changes):
    """Tell the index of each replica that `changes` names what a pass did to its holes."""
    reindex_each(pick, forget, enter, settle, pools, changes)
