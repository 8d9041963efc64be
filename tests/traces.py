"""Traces for tests: made by hypothesis or by a seeded generator, and what a naive reference answers to them.

An *operation* is a positive number (alloc that many bytes), zero (alloc nothing) or a pair ("free", k): free the
block of alloc k, whether or not that alloc was served.
"""

import numpy as np
from hypothesis import strategies as st
from reference import REFERENCES

import vecalloc as va


@st.composite
def operations(draw, most=24, longest=60):
    """Allocs of small, odd, equal and impossible sizes, and frees in any order."""
    ops, live, allocs = [], [], 0
    for _ in range(draw(st.integers(1, longest))):
        if live and draw(st.booleans()):
            ops.append(("free", live.pop(draw(st.integers(0, len(live) - 1)))))
        else:
            ops.append(draw(st.one_of(st.integers(0, 6), st.integers(0, most))))
            live.append(allocs)
            allocs += 1
    return ops


def random_operations(rng, events, mean_live, sizes):
    """About `mean_live` blocks alive; sizes drawn by `sizes(rng)`; then everything is freed."""
    ops, live, allocs = [], [], 0
    for _ in range(events):
        if rng.random() < len(live) / (2 * mean_live):
            k = int(rng.integers(len(live)))
            live[k], live[-1] = live[-1], live[k]
            ops.append(("free", live.pop()))
        else:
            ops.append(int(sizes(rng)))
            live.append(allocs)
            allocs += 1
    return ops, [("free", k) for k in rng.permutation(live).tolist()]


def trace_of(ops):
    """The operations as a Trace, slots recycled."""
    slot_of, size_of, spare, slots, sizes, next_slot = {}, [], [], [], [], 0
    for op in ops:
        if isinstance(op, tuple):
            slot = slot_of.pop(op[1])
            spare.append(slot)
            sizes.append(~size_of[op[1]])
        else:
            if not spare:
                spare.append(next_slot)
                next_slot += 1
            slot = spare.pop()
            slot_of[len(size_of)] = slot
            size_of.append(op)
            sizes.append(op)
        slots.append(slot)
    return va.Trace(np.array(slots, np.int32), np.array(sizes, np.int64))


class Reference:
    """A naive reference driven by operations, with the causes of its failures."""

    def __init__(self, name, granules, grows=False, extent_of=lambda size: max(size, 1), **options):
        self.policy = REFERENCES[name](granules, grows=grows, **options)
        self.extent_of = extent_of
        self.addresses = []
        self.failures = {"too-large": 0, "capacity": 0, "fragmentation": 0}

    def do(self, op):
        if isinstance(op, tuple):
            if self.addresses[op[1]] >= 0:
                self.policy.free(self.addresses[op[1]])
            return
        address = self.policy.alloc(self.extent_of(op))
        if address is None:
            self.failures[self.policy.cause(self.extent_of(op))] += 1
        self.addresses.append(-1 if address is None else address)
