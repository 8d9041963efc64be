"""Compaction of buddies: in address order each block goes to the lowest free place below it that is aligned for it.

    A . B . C C . .      ->      A B . . C C . .      ->      A B C C . . . .

A block of 2^order granules starts at a multiple of that. Its lowest free place is the start of the lowest free buddy of
its order or a larger one, so a 64-ary bitset of free buddies by order answers it. It is filled anew for each pass, from
the gaps between live blocks: whose they are, and in what order free buddies would be given out, is not known here.
"""

import numpy as np

from vecalloc.kernel import inline, kernel, outline
from vecalloc.mechanisms.bits import at, bit, bits_from, highest, lowest
from vecalloc.mechanisms.bitset import Bitset, contains, discard, first, insert
from vecalloc.mechanisms.registers import HOLES, ORDER
from vecalloc.reclaim.compaction import note_pass
from vecalloc.reclaim.layout import differ, note_owners


@kernel
def compact_buddies(registers, tags, ledger, passes, free, owner, changes, refused):
    """Make a pass in each of the replicas that `changes` names.

    Parameters
    ----------
    registers : int64 (replicas, COUNT)
    tags : uint8 (replicas, granules)
        The order of each live block at its start.
    ledger : Ledger
    passes : Passes
    free : Bitset
        Of one replica, a row an order; empty, and empty again in the end.
    owner, changes, refused
        As for `compact_holes`.
    """
    one = Bitset(free.words[0], free.table)
    for k in range(len(changes.replica)):
        r = changes.replica[k]
        places = ledger.places[r]
        order = registers[r, ORDER]
        starts = np.sort(places[places >= 0])
        orders = np.empty(len(starts), np.int64)
        for b in range(len(starts)):
            orders[b] = tags[r, starts[b]]
        note_owners(owner, places)
        room = (len(starts) + 1) * (order + 1)
        before = np.empty((room, 2), np.int64)
        after = np.empty((room, 2), np.int64)
        h = _gaps(starts, orders, order, before)
        to = np.empty(len(starts), np.int64)
        _plan(starts, orders, order, owner, passes.pinned[r], before, h, one, to)
        line = np.argsort(to)
        a = _gaps(to[line], orders[line], order, after)
        _empty(one, after, a)
        moved = 0
        granules = np.int64(0)
        for b in range(len(starts)):
            if to[b] != starts[b]:
                moved += 1
                granules += 1 << orders[b]
        changes.count[k] = 0
        refused[k] = note_pass(ledger.counts[r], passes.limits, moved, granules)
        if moved == 0 or refused[k] != 0:
            continue
        registers[r, HOLES] = a
        changes.count[k, 0], changes.count[k, 1] = differ(before, h, after, a, changes.gone[k], changes.come[k])
        m = 0
        for b in range(len(starts)):
            if to[b] != starts[b]:
                changes.moved[k, m, 0] = starts[b]
                changes.moved[k, m, 1] = to[b]
                changes.moved[k, m, 2] = 1 << orders[b]
                places[owner[starts[b]]] = to[b]
                m += 1
        changes.count[k, 2] = m


@outline
def _gaps(starts, orders, order, table):
    """The free buddies between blocks in address order: start and size; return how many.

    Free buddies are as large as they can be: in a gap, from its low end on, the largest that is aligned and fits.
    """
    n = len(starts)
    count = np.int64(0)
    p = np.int64(0)
    for b in range(n + 1):
        end = starts[at(b)] if b < n else np.int64(1) << order
        while p < end:
            size = np.int64(1) << highest(end - p)
            if p != 0:
                size = min(size, np.int64(1) << lowest(p))
            table[at(count), 0] = p
            table[at(count), 1] = size
            count += 1
            p += size
        if b < n:
            p = end + (np.int64(1) << orders[at(b)])
    return count


@outline
def _plan(starts, orders, order, owner, pinned, before, h, free, to):
    """Say where each block goes; `free` holds the free buddies afterwards."""
    there = np.int64(0)
    for i in range(h):
        o = highest(before[at(i), 1])
        insert(free, o, before[at(i), 0] >> o)
        there |= bit(o)
    for b in range(len(starts)):
        start = starts[at(b)]
        to[at(b)] = start
        if pinned[at(owner[at(start)])] != 0:
            continue
        o = orders[at(b)]
        found, place = _lowest_place(free, there, o)
        if place < 0 or place > start:
            continue
        to[at(b)] = place
        if discard(free, found, place >> found):
            there &= ~bit(found)
        while found > o:
            found -= 1
            insert(free, found, (place >> found) + 1)
            there |= bit(found)
        i = start >> o
        while o < order and contains(free, o, i ^ 1) != 0:
            if discard(free, o, i ^ 1):
                there &= ~bit(o)
            i >>= 1
            o += 1
        insert(free, o, i)
        there |= bit(o)


@inline
def _lowest_place(free, there, order):
    """Of the free buddies of an order or more, the order and start of the lowest; start -1 if there is none."""
    orders = there & bits_from(order)
    found = np.int64(0)
    place = np.int64(-1)
    while orders != 0:
        o = lowest(orders)
        orders &= orders - 1
        start = first(free, o) << o
        if place < 0 or start < place:
            found = o
            place = start
    return found, place


@outline
def _empty(free, table, count):
    """Take the free buddies of a table out of the set, which is empty then."""
    for i in range(count):
        o = highest(table[at(i), 1])
        discard(free, o, table[at(i), 0] >> o)
