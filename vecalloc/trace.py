"""The Trace: a program seen by its allocator, and the Events that a policy sees of it.

A **Trace** is what a program asked for, in bytes: a sequence of allocs and frees that name their block by a *slot*. A
slot is used again after its block is freed, so there are only as many as blocks live at once, and what is kept a slot
stays in the cache.

    alloc of 100 bytes into slot 0      slot 0, size 100
    alloc of   0 bytes into slot 1      slot 1, size   0
    free of the block in slot 0         slot 0, size ~100 = -101

A free repeats (complemented) what its block had asked for, so that running sums need no table. The n-th alloc of a
trace is alloc n in every output. A realloc is the free of the old block, then the alloc of the new one.

**Events** are the same in the terms of one pool: extents in whole granules, header and alignment included, negative in
a free. They carry a leading replica axis, and are all that the kernels know of a workload.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError

LARGEST_SIZE = 1 << 61
"""Requests above this many bytes are refused: sums of them would leave int64."""

LARGEST_SUM = 1 << 62
"""Granules that all requests of a trace may add up to: running sums of them stay in int64."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A program's allocs and frees in order.

    Attributes
    ----------
    slot : int32 (events,)
        Which block an event is about; slots are recycled.
    size : int64 (events,)
        Bytes requested by an alloc (>= 0); the complement `~bytes` of its block's request in a free (< 0).
    time : float64 (events,), optional
        When each event happened, not decreasing; None if the trace has no clock but its own order.
    meta : dict
        What is known about the recording (source, command, ...).
    anomalies : dict of str to int
        What a reader dropped or mended, by kind.
    checked : bool
        Whether whoever made it has seen to it that every event is possible; else `replay` looks.
    """

    slot: NDArray[np.int32]
    size: NDArray[np.int64]
    time: NDArray[np.float64] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)
    checked: bool = field(default=False, repr=False)

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def is_alloc(self) -> NDArray[np.bool_]:
        """Which events are allocs, bool (events,)."""
        return self.size >= 0

    @property
    def allocs(self) -> int:
        """How many allocs there are."""
        return int(np.count_nonzero(self.size >= 0))

    @property
    def slots(self) -> int:
        """How many slots there are: the most blocks that are live at once."""
        return int(self.slot.max(initial=-1)) + 1

    def __repr__(self) -> str:
        return f"<Trace of {len(self):,} events, {self.allocs:,} allocs, at most {self.slots:,} live>"


class Events(NamedTuple):
    """Chunks of traces in granules, one row a replica.

    Attributes
    ----------
    slot : int32 (replicas, events)
    requested : int64 (replicas, events)
        Bytes requested, negative in a free.
    extent : int64 (replicas, events)
        Granules needed (>= 1), negative in a free.
    time : float64 (replicas, events + 1) or None
        When each event happens, and when the chunk ends; None: every event lasts one unit of time.
    """

    slot: np.ndarray
    requested: np.ndarray
    extent: np.ndarray
    time: np.ndarray | None


def extents_of(sizes: NDArray[np.int64], granule: int, header: int = 0, alignment: int = 1) -> NDArray[np.int64]:
    """Granules that requests of these sizes need: header added, rounded up, at least one granule.

    Parameters
    ----------
    sizes : int64 array
        Requests in bytes, >= 0.
    granule, header, alignment : int
        In bytes; granule and alignment are powers of two.

    Returns
    -------
    int64 array
        In granules.
    """
    step = max(granule, alignment)
    extents = sizes + (header + step - 1)
    extents >>= step.bit_length() - 1
    np.maximum(extents, 1, out=extents)
    extents <<= (step // granule).bit_length() - 1
    return extents


def events_of(trace: Trace, granule: int, header: int = 0, alignment: int = 1, timed: bool = False) -> Events:
    """The events of a trace in granules, as one replica.

    Raises
    ------
    InputError
        If `timed` and the trace has no times, or if the requests add up to more than an int64 holds.
    """
    if timed and trace.time is None:
        raise InputError("the trace carries no times: use the event index as clock (--clock event)")
    freed = trace.size >> 63  # -1 in a free, else 0: a complement and a negation without a branch
    requested = trace.size - freed
    extent = extents_of(trace.size ^ freed, granule, header, alignment)
    if (total := float(extent.sum(dtype=np.float64))) > LARGEST_SUM:
        raise InputError(
            f"the requests of the trace add up to {total:.3g} granules of {granule} bytes, more than the "
            f"{LARGEST_SUM} that can be counted: drop the absurd ones, or choose a larger granule"
        )
    extent ^= freed
    extent -= freed
    time = np.append(trace.time, trace.time[-1:])[None] if timed and trace.time is not None else None
    return Events(trace.slot[None], requested[None], extent[None], time)


def load_of(events: Events) -> int:
    """LOAD: the most granules that are live at once if every request is served, over all replicas."""
    return int(np.cumsum(events.extent, axis=1).max(initial=0))
