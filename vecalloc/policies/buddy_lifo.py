"""buddy, LIFO: the binary buddy system in which each order is a stack.

A freed, merged or split-off block goes on top of its order's stack; a split pushes the high half. A block that merges
leaves the stack from wherever it stands, so the stacks are doubly linked lists: the links of a free block are kept by
its start, next and previous sharing a pair of granules (two free blocks of one granule side by side would be buddies,
or belong to different pairs). Links are int32 and hold start + 1, so that zeroed memory is empty lists: up to 2^30
granules. A byte at the start of each block says what it is: its order, plus FREE if it is free.

Source: as buddy; the order of the lists is Knuth's AVAILF, a stack (TAOCP vol. 1, section 2.5).
"""

from typing import NamedTuple

import numpy as np

from vecalloc.kernel import inline, kernel, rows
from vecalloc.ledger import ORDERS
from vecalloc.loops import process_each, replay_each, swap_each
from vecalloc.mechanisms.bits import at, bit, bits_from, ceil_log2, highest, lowest
from vecalloc.mechanisms.buddies import buddy_registers, cause_in_buddies, double_pool, largest_buddy
from vecalloc.mechanisms.changes import reindex_each
from vecalloc.mechanisms.registers import GRANTED, HOLES, LIMIT, NONE, ORDER, ORDERS_FREE
from vecalloc.policies.table import Rules

_FREE = 128


class State(NamedTuple):
    """Of one replica, or of many with a leading replica axis.

    Attributes
    ----------
    heads : int32[34]
        For each order the start + 1 of the block on top, 0 if there is none.
    links : int32[granules + 1]
        For the free block at s, at `s & ~1` the start + 1 of the block below it, beside it of the one above.
    tags : uint8[granules]
        At the start of each block its order, plus FREE if it is free; elsewhere anything without FREE.
    registers : int64
    """

    heads: np.ndarray
    links: np.ndarray
    tags: np.ndarray
    registers: np.ndarray


def new(replicas: int, granules: int, grows: bool, rules: Rules) -> State:
    """Return empty pools: one free block."""
    registers = buddy_registers(replicas, granules, grows)
    order = int(registers[0, ORDER])
    state = State(
        np.zeros((replicas, ORDERS), np.int32),
        np.zeros((replicas, granules + 1), np.int32),
        np.zeros((replicas, granules), np.uint8),
        registers,
    )
    state.heads[:, order] = 1
    state.tags[:, 0] = _FREE | order
    return state


def make_room(state: State, replica: int, extent: int, most: int) -> State | None:
    """Return the pools with one replica's doubled until `extent` fits; None beyond `most` granules."""
    doubled = double_pool(state.registers[replica], extent, most)
    if doubled is None:
        return None
    replicas, reach = state.tags.shape
    new_reach = max(reach, 2 << doubled[-1])
    links, tags = np.zeros((replicas, new_reach + 1), np.int32), np.zeros((replicas, new_reach), np.uint8)
    links[:, : reach + 1], tags[:, :reach] = state.links, state.tags
    heads = state.heads[replica]
    if tags[replica, 0] == _FREE | doubled[0]:  # the pool was one free block, and is one
        heads[doubled[0]], heads[doubled[-1] + 1] = 0, 1
        tags[replica, 0] = _FREE | (doubled[-1] + 1)
    else:
        for order in doubled:  # nothing of that order can be free yet: it was the order of the pool
            heads[order] = (1 << order) + 1
            tags[replica, 1 << order] = _FREE | order
    return State(state.heads, links, tags, state.registers)


def holes(state: State, replica: int) -> np.ndarray:
    """All free blocks in address order: int64 (n, 2), start and size in granules."""
    starts = np.flatnonzero(state.tags[replica] & _FREE)
    return np.stack([starts, np.int64(1) << (state.tags[replica, starts] & (_FREE - 1)).astype(np.int64)], axis=1)


def tags(state: State) -> np.ndarray:
    """Where each live block starts its order, uint8 (replicas, granules); elsewhere anything."""
    return state.tags


@rows
def pick(state, r):
    """Replica r's rows, and its registers."""
    return State(state.heads[r], state.links[r], state.tags[r], state.registers[r]), state.registers[r]


@inline
def _push(pool, order, start):
    """The block at `start` is free: on top of its order's stack."""
    head = np.int64(pool.heads[at(order)])
    pair = start & ~np.int64(1)
    pool.links[at(pair)] = head
    pool.links[at(pair + 1)] = 0
    pool.heads[at(order)] = start + 1
    pool.tags[at(start)] = order | _FREE
    if head != 0:
        pool.links[at(((head - 1) & ~np.int64(1)) + 1)] = start + 1
    else:
        pool.registers[ORDERS_FREE] |= bit(order)


@inline
def _unlink(pool, order, start):
    """The free block at `start` leaves its order's stack."""
    pair = start & ~np.int64(1)
    below = np.int64(pool.links[at(pair)])
    above = np.int64(pool.links[at(pair + 1)])
    if below != 0:
        pool.links[at(((below - 1) & ~np.int64(1)) + 1)] = above
    if above != 0:
        pool.links[at((above - 1) & ~np.int64(1))] = below
    else:
        pool.heads[at(order)] = below
        if below == 0:
            pool.registers[ORDERS_FREE] &= ~bit(order)
    pool.tags[at(start)] = 0


@inline
def _pop(pool, order):
    """Take the top of an order's stack; its tag is the caller's to set."""
    start = np.int64(pool.heads[at(order)]) - 1
    below = np.int64(pool.links[at(start & ~np.int64(1))])
    pool.heads[at(order)] = below
    if below != 0:
        pool.links[at(((below - 1) & ~np.int64(1)) + 1)] = 0
    else:
        pool.registers[ORDERS_FREE] &= ~bit(order)
    return start


@inline
def alloc(pool, extent):
    """Return the address of a new block in granules, or NONE."""
    registers = pool.registers
    order = ceil_log2(extent)
    orders = registers[ORDERS_FREE] & bits_from(order)
    if orders == 0:
        return np.int64(NONE)
    found = lowest(orders)
    address = _pop(pool, found)
    registers[HOLES] += found - order - 1
    registers[GRANTED] += bit(order)
    while found > order:
        found -= 1
        _push(pool, found, address + bit(found))
    pool.tags[at(address)] = order
    return address


@inline
def free(pool, address):
    """Give back the block at `address`, and merge it with its buddy as far as it goes."""
    registers = pool.registers
    order = np.int64(pool.tags[at(address)])
    registers[GRANTED] -= bit(order)
    freed, top = order, registers[ORDER]
    while order < top:
        buddy = address ^ bit(order)
        if pool.tags[at(buddy)] != order | _FREE:
            break
        _unlink(pool, order, buddy)
        address &= ~bit(order)
        order += 1
    registers[HOLES] += 1 - (order - freed)
    _push(pool, order, address)


@inline
def _order_around(pool, address, order):
    """The order, at least `order`, of the free block that holds `address`; NONE if there is none."""
    orders = pool.registers[ORDERS_FREE] & bits_from(order)
    while orders != 0:
        order = lowest(orders)
        if pool.tags[at(address & bits_from(order))] == order | _FREE:
            return order
        orders &= orders - 1
    return np.int64(NONE)


@inline
def claim(pool, address, granted):
    """Make a live block of [address, address + granted), a buddy that is free or part of one that is.

    The free block is split down to it, and each split pushes the half that does not hold the address.
    """
    order = highest(granted)
    found = _order_around(pool, address, order)
    _unlink(pool, found, address & bits_from(found))
    pool.registers[HOLES] += found - order - 1
    pool.registers[GRANTED] += granted
    while found > order:
        found -= 1
        _push(pool, found, (address ^ bit(found)) & bits_from(found))
    pool.tags[at(address)] = order


@inline
def is_free(pool, address, granted):
    """1 if [address, address + granted) lies inside one free block, else 0."""
    if address + granted > pool.registers[LIMIT]:
        return np.int64(0)
    order = _order_around(pool, address, ceil_log2(granted))
    return np.int64(order >= 0 and address + granted <= ((address >> order) + 1) << order)


@inline
def forget(pool, start, size):
    """The free block of `size` at `start` is no more: it leaves its stack from wherever it stands."""
    _unlink(pool, highest(size), start)


@inline
def enter(pool, start, size):
    """A free block of `size` is new at `start`: it goes on top."""
    _push(pool, highest(size), start)


@inline
def settle(pool, start, size):
    """A block of `size` was moved to `start`."""
    pool.tags[at(start)] = highest(size)


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
