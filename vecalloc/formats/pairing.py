"""From pointers, which come back, to slots: which free belongs to which alloc.

A recording names a block by its address, and the program's own allocator gives the same address again later. One hash
table knows what became of every address so far; the slots are recycled as in `slots.py` (the last one freed is the
first to be used again), so a recording and its `.npz` give the same Trace.

    + 0x10 0x20 - 0x10 + 0x10          a block each at 0x10 and 0x20; then another one at 0x10
      0    1      0      0             their slots

What cannot be true is mended and counted, for no recorder is perfect:

    unknown_frees    nothing was ever allocated there (before the recording began, perhaps): dropped
    double_frees     what was there has been freed: dropped
    missed_frees     an alloc where a block lives: its free was missed, and is put in just before

The work is done chunk by chunk, so a recording of any length takes the memory of its addresses and of the Trace.
"""

import numpy as np
from numpy.typing import NDArray

from vecalloc.kernel import inline, kernel

ALLOC, FREE = 0, 1

UNKNOWN_FREES, DOUBLE_FREES, MISSED_FREES, _SLOTS, _EMPTIED, _KNOWN = range(6)
"""Columns of the counters: anomalies; slots used so far; height of the stack of emptied slots; addresses known."""

ANOMALIES = {"unknown_frees": UNKNOWN_FREES, "double_frees": DOUBLE_FREES, "missed_frees": MISSED_FREES}

_NEVER, _DEAD = -2, -1
"""What the table says of an address: nothing was allocated there; what was there has been freed; else a slot."""


class Pairing:
    """Pairs frees with allocs, chunk by chunk.

    Attributes
    ----------
    anomalies : dict of str to int
        What was dropped or mended so far, by kind; kinds that did not happen are left out.
    """

    def __init__(self) -> None:
        self._counters = np.zeros(6, np.int64)
        self._addresses = np.zeros(1 << 10, np.int64)
        self._slots = np.full(1 << 10, _NEVER, np.int32)
        self._sizes = np.zeros(1 << 10, np.int64)
        self._emptied = np.zeros(1 << 10, np.int32)

    @property
    def anomalies(self) -> dict[str, int]:
        """What was dropped or mended so far, by kind."""
        return {kind: int(self._counters[column]) for kind, column in ANOMALIES.items() if self._counters[column]}

    def feed(
        self, op: NDArray[np.int8], address: NDArray[np.int64], size: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Pair the next chunk of a recording.

        Parameters
        ----------
        op : int8 (n,)
            0 alloc, 1 free.
        address : int64 (n,)
        size : int64 (n,)
            Bytes requested by an alloc.

        Returns
        -------
        slot : int32 (m,), size : int64 (m,)
            As in a Trace.
        source : int64 (m,)
            Which event of the chunk each comes from.
        """
        most = 2 * len(op)  # a missed free makes two events of one
        slot, signed, source = np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.int64)
        done = count = 0
        while done < len(op):
            self._make_room(min(len(op) - done, len(self._addresses) >> 2))
            done, count = _pair(
                op, address, size, done, count, slot, signed, source,
                self._addresses, self._slots, self._sizes, self._emptied, self._counters,
            )  # fmt: skip
        return slot[:count], signed[:count], source[:count]

    def _make_room(self, more: int) -> None:
        """Room for `more` addresses and slots: the table never gets fuller than a half."""
        known = int(self._counters[_KNOWN])
        if 2 * (known + more) > len(self._addresses):
            addresses = np.zeros(2 * len(self._addresses), np.int64)
            slots = np.full(len(addresses), _NEVER, np.int32)
            _copy_table(self._addresses, self._slots, addresses, slots)
            self._addresses, self._slots = addresses, slots
        while self._counters[_SLOTS] + more > len(self._sizes):
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
            self._emptied = np.concatenate([self._emptied, np.zeros_like(self._emptied)])


@inline
def _home(address, mask):  # type: ignore[no-untyped-def]
    """Where the search for an address begins: neighbours on the heap are neighbours in the table."""
    h = address >> 4
    return (h ^ (h >> 11) ^ (h >> 29)) & mask


@kernel
def _pair(op, address, size, first, count, slot, signed, source, addresses, slots, sizes, emptied, counters):  # type: ignore[no-untyped-def]
    """Pair events from `first` on until the chunk ends or the table is half full; return where that was, and count."""
    mask = len(addresses) - 1
    for i in range(first, len(op)):
        if 2 * counters[_KNOWN] > mask or counters[_SLOTS] >= len(sizes):
            return i, count
        h = _home(address[i], mask)
        while slots[h] != _NEVER and addresses[h] != address[i]:
            h = (h + 1) & mask
        place = slots[h]
        if op[i] == ALLOC:
            if place == _NEVER:
                addresses[h] = address[i]
                counters[_KNOWN] += 1
            if place >= 0:
                slot[count] = place
                signed[count] = ~sizes[place]
                source[count] = i
                count += 1
                counters[MISSED_FREES] += 1
            elif counters[_EMPTIED] > 0:
                counters[_EMPTIED] -= 1
                place = emptied[counters[_EMPTIED]]
            else:
                place = np.int32(counters[_SLOTS])
                counters[_SLOTS] += 1
            slots[h] = place
            sizes[place] = size[i]
            signed[count] = size[i]
        elif place >= 0:
            slots[h] = _DEAD
            emptied[counters[_EMPTIED]] = place
            counters[_EMPTIED] += 1
            signed[count] = ~sizes[place]
        else:
            counters[UNKNOWN_FREES if place == _NEVER else DOUBLE_FREES] += 1
            continue
        slot[count] = place
        source[count] = i
        count += 1
    return len(op), count


@kernel
def _copy_table(old_addresses, old_slots, addresses, slots):  # type: ignore[no-untyped-def]
    """Put every known address into a larger table."""
    mask = len(addresses) - 1
    for i in range(len(old_addresses)):
        if old_slots[i] != _NEVER:
            h = _home(old_addresses[i], mask)
            while slots[h] != _NEVER:
                h = (h + 1) & mask
            addresses[h] = old_addresses[i]
            slots[h] = old_slots[i]
