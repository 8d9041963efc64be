"""Which blocks must not move: a random share of the allocs of a replica, from a stream of their own."""

import numpy as np
from numpy.typing import NDArray

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
