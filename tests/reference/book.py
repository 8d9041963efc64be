"""What a run comes to, straight from the definitions: lists of blocks and holes, summed up after every event.

    book = Book(policy, pool, extent_of, bins)   before the first event; `policy` is a naive reference
    book = Book(policy, pool, extent_of, bins, heap)             `heap` is a Compactor of the policy: blocks move
    book.alloc(name, size, lasts)                an alloc, and how long the state after it lasts
    book.free(name, lasts)
    book.metrics(granule, grows, bandwidth), book.geometry(granule, orders), book.failures, book.addresses, book.history

Everything is in granules inside and recomputed from the policy's own lists; nothing is carried along but sums.
"""

from .buddy import Buddy, order_of
from .static_partition import StaticPartition
from .still import Still


class Book:
    def __init__(self, policy, pool, extent_of, bins=1, heap=None):
        self.policy, self.extent_of = policy, extent_of
        self.heap = Still(policy) if heap is None else heap
        policy.alloc, policy.free = self.watched(policy.alloc), self.watched(policy.free)
        self.pool, self.bins, self.width = pool, bins, -(-pool // bins)
        self.requests = {}  # every request that would live if all were served: name -> bytes
        self.placed = {}  # name -> bytes
        self.failures = {"too-large": 0, "capacity": 0, "fragmentation": 0} | ({} if heap is None else {"budget": 0})
        self.addresses, self.history = [], []
        self.frees = self.ignored = self.load = self.most_placed = 0
        self.high = self.peak = self.high_at_peak = self.requested_at_high = 0
        self.exact = self.placed_sum = 0
        self.neighbours = [0, 0, 0]
        self.passed_up, self.histogram = {}, [0] * bins

    def watched(self, act):
        """The policy's own alloc or free; what it was asked, and the holes and the limit then: after a pass, if any."""

        def act_noted(asked):
            self.asked, self.holes, self.limit = asked, self.policy.holes(), self.policy.limit
            return act(asked)

        return act_noted

    def alloc(self, name, size, lasts):
        policy, extent = self.policy, self.extent_of(size)
        self.requests[name] = size
        self.load = max(self.load, sum(map(self.extent_of, self.requests.values())))
        start = self.heap.alloc(name, extent)
        if start is None:
            self.failures[self.heap.cause] += 1
        else:
            self.placed[name] = size
            if isinstance(policy, Buddy):
                found = self.order_found(extent)
                self.note_placed(start, found == order_of(extent), found)
            else:
                self.note_placed(start, isinstance(policy, StaticPartition) or len(policy.holes()) < len(self.holes))
        self.addresses.append(-1 if start is None else start)
        self.note(lasts)

    def note_placed(self, start, used_up, found=0):
        policy = self.policy
        end = start + policy.blocks[start]
        if end > self.high:
            self.high, self.requested_at_high = end, self.requested()
        if self.requested() > self.peak:
            self.peak, self.high_at_peak = self.requested(), self.high
        self.most_placed = max(self.most_placed, sum(map(self.extent_of, self.placed.values())))
        self.exact += used_up
        self.placed_sum += start
        self.histogram[min(start // self.width, self.bins - 1)] += 1
        for order in range(order_of(policy.blocks[start]), found):
            self.passed_up[order] = self.passed_up.get(order, 0) + 1

    def order_found(self, extent):
        """The order of the buddy that was just split (or taken whole), from the free blocks before the request."""
        adequate = [size for _, size in self.holes if size >= 2 ** order_of(extent)]
        if adequate:
            return order_of(min(adequate))
        # The pool doubled: the whole of it, or its new half.
        return self.policy.pool_order - (self.holes != [(0, self.limit)])

    def free(self, name, lasts):
        del self.requests[name]
        self.frees += 1
        _, granted = self.heap.blocks.get(name, (None, 0))
        self.heap.free(name)
        if self.placed.pop(name, None) is None:
            self.ignored += 1
        else:
            start, end = self.asked, self.asked + granted
            touching = sum(a + size == start or a == end for a, size in self.holes)
            self.neighbours[0 if isinstance(self.policy, StaticPartition) else min(touching, 2)] += 1
        self.note(lasts)

    def requested(self):
        return sum(self.placed.values())

    def note(self, lasts):
        """Write down the state after an event."""
        holes, blocks, limit = self.policy.holes(), self.policy.blocks, self.policy.limit
        top = max((start + size for start, size in blocks.items()), default=0)
        free = sum(size for _, size in holes)
        largest = max((size for _, size in holes), default=0)
        half_used = {}
        for _, size in holes:
            if size < limit:
                half_used[size] = half_used.get(size, 0) + 1
        self.history.append({
            "lasts": lasts, "requested": self.requested(), "granted": sum(blocks.values()), "limit": limit,
            "free": free, "largest": largest, "holes": len(holes), "blocks": len(blocks), "high": self.high, "top": top,
            "scattered": 1 - largest / free if free else 0.0, "half_used": half_used,
            "ends": (limit > 0 and 0 not in blocks) + (top < limit),
        })  # fmt: skip

    def integral(self, of):
        return sum(moment["lasts"] * moment[of] for moment in self.history)

    def metrics(self, granule, grows, bandwidth=float("inf")):
        heap = self.heap
        duration, last = sum(moment["lasts"] for moment in self.history), self.history[-1]
        granted, requested = self.integral("granted") * granule, self.integral("requested")
        free = self.integral("free")
        space = self.integral("limit") if grows else self.pool * duration
        return {
            "allocs": len(self.addresses),
            "frees": self.frees,
            "ignored_frees": self.ignored,
            "failure_ratio": ratio(sum(self.failures.values()), len(self.addresses)),
            "too_large_ratio": ratio(self.failures["too-large"], len(self.addresses)),
            "capacity_ratio": ratio(self.failures["capacity"], len(self.addresses)),
            "fragmentation_ratio": ratio(self.failures["fragmentation"], len(self.addresses)),
            "budget_ratio": ratio(self.failures.get("budget", 0), len(self.addresses)),
            "swap_space_ratio": 0,
            "delayed_ratio": 0,  # in recorded orders nobody waits
            "queue": 0,
            "wait": 0,
            "peak_live": self.load * granule,
            "peak_placed": self.most_placed * granule,
            "high_water_mark": self.high * granule,
            "overhead": ratio(self.high, self.load),
            "internal_fragmentation": 1 - requested / granted if granted else 0,
            "external_fragmentation": 1 - ratio(self.integral("largest"), self.integral("free")) if free else 0,
            "external_fragmentation_events": sum(m["scattered"] for m in self.history) / len(self.history),
            "utilisation": ratio(requested, space * granule),
            "holes": ratio(self.integral("holes"), duration),
            "blocks": ratio(self.integral("blocks"), duration),
            "holes_per_block": ratio(self.integral("holes"), self.integral("blocks")),
            "johnstone_wilson_1": ratio(self.integral("high") * granule - requested, requested),
            "johnstone_wilson_2": ratio(self.high_at_peak * granule - self.peak, self.peak),
            "johnstone_wilson_3": ratio(self.high * granule - self.requested_at_high, self.requested_at_high),
            "johnstone_wilson_4": ratio(self.high * granule - self.peak, self.peak),
            "passes_ratio": ratio(heap.passes, len(self.addresses)),
            "refused_ratio": ratio(heap.refused, heap.passes + heap.refused),
            "moved_ratio": ratio(heap.granules_moved, heap.allocated),
            "blocks_moved_ratio": ratio(heap.blocks_moved, len(self.addresses)),
            "moving_time": ratio(heap.granules_moved * granule / bandwidth, len(self.addresses)),
            "longest_pass": heap.longest * granule,
            "longest_pause": heap.longest * granule / bandwidth,
            "live_requested": last["requested"],
            "granted_now": last["granted"] * granule,
            "free_now": last["free"] * granule,
            "largest_now": last["largest"] * granule,
            "holes_now": last["holes"],
            "blocks_now": last["blocks"],
        }

    def geometry(self, granule, orders):
        duration = sum(moment["lasts"] for moment in self.history)
        told = {
            "exact_fits": self.exact,
            "ends": ratio(self.integral("ends"), duration),
            "top": ratio(self.integral("top"), duration) * granule,
            "placed_sum": self.placed_sum * granule,
            "histogram": self.histogram,
        }
        if not isinstance(self.policy, Buddy):
            return told | {"frees_by_neighbours": self.neighbours}
        half_used = [sum(m["lasts"] * m["half_used"].get(2**o, 0) for m in self.history) for o in range(orders)]
        return told | {
            "passed_up": [self.passed_up.get(o, 0) for o in range(orders)],
            "half_used": [ratio(half, duration) for half in half_used],
        }


def ratio(part, whole):
    return part / whole if whole else 0.0
