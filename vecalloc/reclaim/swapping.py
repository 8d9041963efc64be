"""Swapping: one disk that does one transfer after the other, and the rules by which idle processes are chosen for it.

    lru                    who has been idle the longest
    largest-idle           who asked for the most granules
    smallest-sufficient    the smallest whose leaving alone opens a hole that is large enough; else the largest
    random                 any, equally likely
    lowest-priority        who matters least

Ties go to the process that arrived first. If whoever the rule names does not fit into what is left of the swap space,
nobody leaves, even if somebody smaller would fit: a rule that is passed over would be another rule. A transfer takes
latency + bytes / bandwidth, the same in both directions.

Source: Silberschatz, Galvin and Gagne, *Operating System Concepts*, chapter on main memory (swapping and its time).
"""

import numpy as np

from vecalloc.kernel import inline, outline
from vecalloc.mechanisms.bits import at
from vecalloc.reclaim.crowd import (
    BANDWIDTH,
    EXTENT,
    IMPORTANCE,
    LARGEST_IDLE,
    LATENCY,
    LRU,
    NUMBER,
    OLD,
    OLD_GRANTED,
    SINCE,
    SIZE,
    TRANSFER_COUNT,
    TRANSFER_FIRST,
)

IN, OUT = 0, 1
"""Directions of a transfer."""

T_SLOT, T_DIRECTION, T_START, T_GRANTED = range(4)
"""Rows of `transfers`."""


@inline
def transfer_at(crowd, cursor, k):
    """The place in the ring of the k-th transfer that is not done."""
    i = cursor[TRANSFER_FIRST] + k
    return i - len(crowd.ends) if i >= len(crowd.ends) else i


@inline
def add_transfer(crowd, cursor, slot, direction):
    """Queue the whole of a process on the disk, to or from the block that it has now."""
    begin = crowd.clock[0]
    count = cursor[TRANSFER_COUNT]
    if count > 0:
        begin = max(begin, crowd.ends[at(transfer_at(crowd, cursor, count - 1))])
    i = at(transfer_at(crowd, cursor, count))
    crowd.ends[i] = begin + (crowd.disk[LATENCY] + crowd.facts[SIZE, at(slot)] / crowd.disk[BANDWIDTH])
    crowd.transfers[T_SLOT, i] = slot
    crowd.transfers[T_DIRECTION, i] = direction
    crowd.transfers[T_START, i] = crowd.facts[OLD, at(slot)]
    crowd.transfers[T_GRANTED, i] = crowd.facts[OLD_GRANTED, at(slot)]
    cursor[TRANSFER_COUNT] = count + 1


@inline
def next_transfer_ends(crowd, cursor):
    """When the disk will be done with what it does now; never, if it does nothing."""
    return crowd.ends[at(cursor[TRANSFER_FIRST])] if cursor[TRANSFER_COUNT] > 0 else np.inf


@inline
def drop_transfer(crowd, cursor):
    """The disk is done with what it did."""
    cursor[TRANSFER_FIRST] = transfer_at(crowd, cursor, np.int64(1))
    cursor[TRANSFER_COUNT] -= 1


@outline
def best_by_rule(crowd, rule, candidates, count):
    """Which of the candidates the rule takes: lru, largest-idle or lowest-priority; a place in their list."""
    best = np.int64(0)
    for i in range(1, count):
        if _comes_before(crowd, rule, candidates[at(i)], candidates[at(best)]):
            best = np.int64(i)
    return best


@inline
def _comes_before(crowd, rule, one, other):
    first = crowd.facts[NUMBER, at(one)] < crowd.facts[NUMBER, at(other)]
    if rule == LARGEST_IDLE:
        a, b = crowd.facts[EXTENT, at(one)], crowd.facts[EXTENT, at(other)]
        return a > b or (a == b and first)
    by = SINCE if rule == LRU else IMPORTANCE
    t, u = crowd.times[by, at(one)], crowd.times[by, at(other)]
    return t < u or (t == u and first)


@outline
def heap_by_size(crowd, candidates, heap, count):
    """Copy the candidates into a heap whose top is the smallest."""
    for i in range(count):
        heap[at(i)] = candidates[at(i)]
    for i in range(count // 2 - 1, -1, -1):
        _sift(crowd, heap, np.int64(i), count)


@inline
def take_smallest(crowd, heap, count):
    """Take the smallest of so many out of the heap."""
    top = heap[0]
    heap[0] = heap[at(count - 1)]
    _sift(crowd, heap, np.int64(0), count - 1)
    return top


@outline
def _sift(crowd, heap, i, end):
    """Let the entry at i sink below all that are smaller."""
    entry = heap[at(i)]
    while True:
        child = 2 * i + 1
        if child >= end:
            break
        if child + 1 < end and _is_smaller(crowd, heap[at(child + 1)], heap[at(child)]):
            child += 1
        if not _is_smaller(crowd, heap[at(child)], entry):
            break
        heap[at(i)] = heap[at(child)]
        i = child
    heap[at(i)] = entry


@inline
def _is_smaller(crowd, one, other):
    a, b = crowd.facts[EXTENT, at(one)], crowd.facts[EXTENT, at(other)]
    return a < b or (a == b and crowd.facts[NUMBER, at(one)] < crowd.facts[NUMBER, at(other)])


@inline
def place_of(candidates, slot):
    """Where a slot stands among the candidates, of which it is one."""
    i = np.int64(0)
    while candidates[at(i)] != slot:
        i += 1
    return i
