"""Which blocks must not move: a random share of the allocs of a replica, from a stream of their own."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vecalloc.reclaim.compactor import Compactor
from vecalloc.reclaim.table import Compact, Remedy
from vecalloc.workload.streams import CHUNK, PINNED, generator_of


class Pins:
    """The allocs of one replica in order: which of their blocks are pinned.

    Parameters
    ----------
    share : float
        Of the allocs, served or not.
    seed, replica : int
    """

    def __init__(self, share: float, seed: int, replica: int):
        self._share, self._seed, self._replica = share, seed, replica
        self._chunk = 0
        self._drawn = np.zeros(0, np.uint8)

    def __call__(self, count: int) -> NDArray[np.uint8]:
        """Of the next `count` allocs, which are pinned: uint8 (count,), 0 or 1."""
        while len(self._drawn) < count:
            draws = generator_of(self._seed, self._replica, PINNED, self._chunk).random(CHUNK)
            self._drawn = np.concatenate([self._drawn, (draws < self._share).astype(np.uint8)])
            self._chunk += 1
        flags, self._drawn = self._drawn[:count], self._drawn[count:]
        return flags


def compactor_of(remedies: Iterable[Remedy], seed: int, replicas: range, slots: int) -> Compactor | None:
    """Who makes the passes in these replicas and pins their blocks; None if no remedy is a compaction."""
    rules = next((remedy for remedy in remedies if isinstance(remedy, Compact)), None)
    if rules is None:
        return None
    pins = [Pins(rules.pinned, seed, r) for r in replicas] if rules.pinned > 0 else []
    return Compactor(rules, len(replicas), slots, pins)
