"""From ids that are never used again to slots that are.

A recording names its n-th block n. A Trace names a block by a slot that is free again after the block is:

    op     alloc alloc free  alloc free  free          the last slot freed is the first to be used again, so that
    id       0     1     0     2     1     2           there are never more slots than blocks live at once
    slot     0     1     0     0     1     0

One pass finds the slots, complements the size of each free (`trace.py`), and checks every event as it goes by.
"""

import numpy as np
from numpy.typing import NDArray

from vecalloc.formats import TraceError
from vecalloc.kernel import kernel
from vecalloc.trace import LARGEST_SIZE, Trace

ALLOC, FREE = 0, 1

FINE, BAD_OP, NEGATIVE_SIZE, TOO_LARGE, NOT_DENSE, UNKNOWN_ID, FREED_TWICE, SIZED_FREE = range(8)

DEAD = -1
"""The slot of an id whose block was freed."""


def recycle(
    op: NDArray[np.int8], id: NDArray[np.int32], size: NDArray[np.int64], name: str = "the trace"
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Turn ids into recycled slots, and sizes into those of a Trace.

    Parameters
    ----------
    op : int8 (events,)
        0 alloc, 1 free.
    id : int32 (events,)
        Which block, dense in order of birth: the n-th alloc, counted from 0, has id n.
    size : int64 (events,)
        Bytes requested; 0 in a free.
    name : str
        What to call the trace in an error: its file.

    Returns
    -------
    slot : int32 (events,)
    size : int64 (events,)
        As in an alloc; the complement of its block's in a free.

    Raises
    ------
    TraceError
        If an event is impossible.
    """
    slot = np.empty(len(op), np.int32)
    signed = np.empty(len(op), np.int64)
    births = np.count_nonzero(op == ALLOC)
    slot_of = np.empty(births, np.int32)
    emptied = np.empty(births, np.int32)
    asked = np.empty(births, np.int64)
    fault, event = _recycle(op, id, size, slot, signed, slot_of, emptied, asked)
    if fault != FINE:
        raise TraceError(f"{name}: event {event} (counted from 0): {_sentence(fault, event, op, id, size)}")
    return slot, signed


@kernel
def _recycle(op, id, size, slot, signed, slot_of, emptied, asked):  # type: ignore[no-untyped-def]
    """Fill `slot` and `signed`; return what is wrong and at which event, or FINE and the number of events.

    `slot_of` is kept an id, `asked` a slot; `emptied` is the stack of slots that were used and are free.
    """
    born = slots = height = 0
    for i in range(len(op)):
        if op[i] == ALLOC:
            if id[i] != born:
                return NOT_DENSE, i
            if size[i] < 0:
                return NEGATIVE_SIZE, i
            if size[i] > LARGEST_SIZE:
                return TOO_LARGE, i
            if height > 0:
                height -= 1
                place = emptied[height]
            else:
                place = np.int32(slots)
                slots += 1
            slot_of[born] = place
            asked[place] = size[i]
            born += 1
            slot[i] = place
            signed[i] = size[i]
        elif op[i] == FREE:
            if id[i] < 0 or id[i] >= born:
                return UNKNOWN_ID, i
            place = slot_of[id[i]]
            if place == DEAD:
                return FREED_TWICE, i
            if size[i] != 0:
                return (NEGATIVE_SIZE if size[i] < 0 else SIZED_FREE), i
            slot_of[id[i]] = DEAD
            emptied[height] = place
            height += 1
            slot[i] = place
            signed[i] = ~asked[place]
        else:
            return BAD_OP, i
    return FINE, len(op)


def check(trace: Trace) -> None:
    """Refuse a Trace that somebody made by hand and that says something impossible; what a reader made passes at once.

    Raises
    ------
    TraceError
        If lengths or types do not fit, a slot is negative or absurd, an event takes a slot that is taken or frees one
        that is free (or of another size), a size is too large, or times decrease: names the event.
    """
    if trace.checked:
        return
    for name, wanted in (("slot", np.int32), ("size", np.int64), ("time", np.float64)):
        column = getattr(trace, name)
        if name == "time" and column is None:
            continue
        if not isinstance(column, np.ndarray) or column.dtype != wanted or column.shape != trace.slot.shape[:1]:
            raise TraceError(f"the trace's {name} is not an array of {np.dtype(wanted)}, one an event")
    if len(trace) and (trace.slot.min() < 0 or trace.slots > len(trace)):
        raise TraceError("the trace's slots are not numbered from 0 and used again: number them so")
    if trace.time is not None and not (np.diff(trace.time) >= 0).all():
        event = int(np.flatnonzero(~(np.diff(trace.time) >= 0))[0]) + 1
        raise TraceError(f"event {event} (counted from 0) of the trace: its time is before that of the event before it")
    event = _first_impossible(trace.slot, trace.size, np.full(trace.slots, -1, np.int64))
    if event < len(trace):
        raise TraceError(
            f"event {event} (counted from 0) of the trace, slot {trace.slot[event]}, size {trace.size[event]}: an "
            f"alloc takes a free slot and at most {LARGEST_SIZE} bytes, a free repeats the size of its block as ~size"
        )


@kernel
def _first_impossible(slot, size, asked):  # type: ignore[no-untyped-def]
    """The first event that cannot be; `asked` is -1 for a free slot."""
    for i in range(len(slot)):
        s = slot[i]
        if size[i] >= 0:
            if asked[s] >= 0 or size[i] > LARGEST_SIZE:
                return i
            asked[s] = size[i]
        else:
            if asked[s] != ~size[i]:
                return i
            asked[s] = -1
    return len(slot)


def _sentence(fault: int, event: int, op: NDArray[np.int8], id: NDArray[np.int32], size: NDArray[np.int64]) -> str:
    """What is wrong with an event, and the remedy."""
    block, bytes_asked = int(id[event]), int(size[event])
    born = np.count_nonzero(op[:event] == ALLOC)
    if fault == BAD_OP:
        return f"op is {int(op[event])}; write 0 for an alloc, 1 for a free"
    if fault == NEGATIVE_SIZE:
        return f"size is {bytes_asked}; write the bytes requested (>= 0), 0 in a free"
    if fault == TOO_LARGE:
        return f"size is {bytes_asked}, more than the {LARGEST_SIZE} bytes that a request may have; drop the event"
    if fault == NOT_DENSE:
        return f"the alloc has id {block} where {born} is next; number the blocks 0, 1, 2, ... in order of birth"
    if fault == SIZED_FREE:
        return f"the free of id {block} has size {bytes_asked}; write 0 in a free"
    if fault == FREED_TWICE:
        first = int(np.flatnonzero((op[:event] == FREE) & (id[:event] == block))[0])
        return f"id {block} is freed, but event {first} has freed it already; drop one of the two frees"
    known = (
        f"only ids 0 to {born - 1} have been allocated before it" if born else "nothing has been allocated before it"
    )
    return f"id {block} is freed, but {known}; drop the free, or put its alloc first"
