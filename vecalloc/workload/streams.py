"""Randomness by name: chunk c of stream x of replica r is a function of (seed, r, x, c), and of nothing else.

Each gets a Philox generator of its own, keyed by numpy's `SeedSequence`. So all policies of a cell meet the same
requests, and nothing depends on threads, processes, batches or restarts. Source: Salmon et al. (2011), *Parallel random
numbers: as easy as 1, 2, 3*.
"""

import numpy as np

CHUNK = 1 << 14
"""Draws of a chunk; the last one of a replica is as long as what is left."""

SIZES, LIFETIMES, ARRIVALS, PLACEMENT, PINNED, VICTIMS, PHASES, WORK, ACTIVE, IDLE, PRIORITY = range(11)
"""The streams. Their numbers are part of every result: new ones are added at the end."""


def generator_of(seed: int, replica: int, stream: int, chunk: int) -> np.random.Generator:
    """The generator of one chunk of one stream of one replica."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(replica, stream, chunk))))
