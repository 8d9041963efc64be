"""Compaction, too slow to be wrong: blocks of a reference policy are moved together, granule by granule.

    c = Compactor(policy, how="slide", when="failure", budget=None, pinned=())     policy: new, of REFERENCES
        how      "slide" | "first-window" | "two-finger" (buddy: slide only)
        when     "failure" | {"every": n} | {"external_fragmentation": x} (first-window: failure only)
        budget   c * (moved + cost) <= allocated; None: no limit
        pinned   the numbers of the allocs whose blocks never move (anything that says `n in pinned`)
    c.alloc(name, extent, pinned=False)    address, or None with c.cause; one event, with the pass that comes before it
    c.free(name)                           one event too; the block of a failed alloc is counted (c.ignored) and ignored
    c.do(op, extent_of)                    the same for an operation of traces.py; names are then alloc numbers
    c.compact(extent=None)                 a pass at once, no event, whatever the budget (the counters do count it):
                                           [(old, new), ...] in address order of old; first-window needs the extent
    c.map()                                the pool as text, from the contents (names: single letters)
    c.check()                              every live granule is where it belongs, once; the policy's lists agree

    c.policy                 holes(), blocks, limit, cursor ... as after the last event
    c.blocks                 {name: (start, granted)}       c.pinned_names    names that do not move (may be changed)
    c.addresses              one per alloc, -1 = failed     c.failures        by cause, in the ledger's order
    c.passes, c.blocks_moved, c.granules_moved, c.longest, c.refused, c.allocated, c.events, c.ignored

The ways are functions of a pool's blocks, [(start, granted, fixed), ...] in address order, and of its limit; they say
who moves, [(old, new, granted), ...] in order of moving, and move nothing themselves. `adopt` tells a policy.
"""

from .buddy import Buddy, order_of
from .next_fit import NextFit
from .static_partition import StaticPartition


def slide(blocks, limit, extent=None):
    """Every block comes down to the one before it; nobody passes one that is fixed."""
    moves, end = [], 0
    for start, size, fixed in blocks:
        if start > end and not fixed:
            moves.append((start, end, size))
            start = end
        end = start + size
    return moves


def first_window(blocks, limit, extent):
    """The cheapest run of neighbouring holes that has the extent; ties to the lowest address."""
    holes = free_runs(blocks, limit)
    windows = []
    for i in range(len(holes)):
        for j in range(i, len(holes)):
            low, high = holes[i][0], holes[j][0] + holes[j][1]
            between = [block for block in blocks if low < block[0] < high]
            if sum(size for _, size in holes[i : j + 1]) >= extent and not any(fixed for _, _, fixed in between):
                windows.append((sum(size for _, size, _ in between), low, between))
    if not windows:
        return []
    _, low, between = min(windows)
    moves = []
    for start, size, _ in between:
        moves.append((start, low, size))
        low += size
    return moves


def two_finger(blocks, limit, extent=None):
    """The lowest hole is filled from its low end by the highest block that it can hold, and so on upwards."""
    blocks, moves, p = list(blocks), [], 0
    while holes := [hole for hole in free_runs(blocks, limit) if hole[0] >= p]:
        start, size = holes[0]
        fitting = [block for block in blocks if block[0] > start and block[1] <= size and not block[2]]
        if not fitting:
            p = start + size
            continue
        block = fitting[-1]
        moves.append((block[0], start, block[1]))
        blocks.remove(block)
        blocks.append((start, block[1], block[2]))
        blocks.sort()
        p = start + block[1]
    return moves


def slide_buddies(blocks, limit, extent=None):
    """Every block takes the lowest free place below it that is aligned to its size."""
    used, moves = cells_of(blocks, limit), []
    for start, size, fixed in blocks:
        places = [place for place in range(0, start, size) if not any(used[place : place + size])]
        if places and not fixed:
            moves.append((start, places[0], size))
            used[start : start + size] = [False] * size
            used[places[0] : places[0] + size] = [True] * size
    return moves


WAYS = {"slide": slide, "first-window": first_window, "two-finger": two_finger}


def cells_of(blocks, limit):
    used = [False] * limit
    for start, size, _ in blocks:
        used[start : start + size] = [True] * size
    return used


def free_runs(blocks, limit):
    """The maximal free runs below the limit, (start, size) in address order."""
    runs, end = [], 0
    for start, size in [*(block[:2] for block in blocks), (limit, 0)]:
        if start > end:
            runs.append((end, start - end))
        end = start + size
    return runs


def free_buddies(blocks, limit):
    """The maximal free blocks that are a power of two and aligned to it, (start, size) in address order."""

    def halve(start, size):
        if not any(used[start : start + size]):
            return [(start, size)]
        if size == 1:
            return []
        return halve(start, size // 2) + halve(start + size // 2, size // 2)

    used = cells_of(blocks, limit)
    return halve(0, limit)


def adopt(policy, moves):
    """Make a policy's own lists say that these blocks were moved, in this order."""
    for old, new, size in moves:
        assert policy.blocks.pop(old) == size
        assert new not in policy.blocks
        policy.blocks[new] = size
    blocks = sorted((start, size, False) for start, size in policy.blocks.items())
    before = policy.holes()
    if isinstance(policy, Buddy):
        after = free_buddies(blocks, policy.limit)
        for start, size in before:
            if (start, size) not in after:
                policy.free_blocks[order_of(size)].remove(start)
        for start, size in after:  # on top of its order; the others keep their places
            if (start, size) not in before:
                policy.free_blocks[order_of(size)].append(start)
        return
    if policy.grows:
        policy.limit = max((start + size for start, size, _ in blocks), default=0)
    after = free_runs(blocks, policy.limit)
    for hole in before:
        if hole not in after:
            policy.remove_hole(hole)
    for hole in after:  # newest last: on top of its size; the others keep their places
        if hole not in before:
            policy.add_hole(hole)
    if isinstance(policy, NextFit) and moves:
        _, new, size = moves[-1]
        policy.cursor = new + size


class Compactor:
    def __init__(self, policy, how="slide", when="failure", budget=None, pinned=()):
        assert not isinstance(policy, StaticPartition), "units do not move"
        assert not policy.blocks, "a new policy"
        assert how in WAYS
        assert how == "slide" or not isinstance(policy, Buddy), "buddies only slide"
        assert when == "failure" or list(when) in (["every"], ["external_fragmentation"])
        assert how != "first-window" or when == "failure", "a window is opened for a request"
        assert budget is None or budget > 1
        self.policy, self.how, self.when, self.budget, self.pinned = policy, how, when, budget, pinned
        self.blocks = {}  # name -> (start, granted)
        self.pinned_names = set()
        self.memory = []  # what every granule holds: (name, offset) or None
        self.addresses = []
        self.cause = None
        self.failures = {"too-large": 0, "capacity": 0, "fragmentation": 0, "budget": 0}
        self.events = self.ignored = 0
        self.passes = self.blocks_moved = self.granules_moved = self.longest = self.refused = self.allocated = 0

    # --- events ------------------------------------------------------------------------------------------------------

    def alloc(self, name, extent, pinned=False):
        assert name not in self.blocks
        refused = self.begin_event(extent)
        address = self.policy.alloc(extent)
        self.cause = None
        if address is None:
            self.cause = self.policy.cause(extent)
            if refused and self.cause == "fragmentation":
                self.cause = "budget"
            self.failures[self.cause] += 1
        else:
            granted = self.policy.blocks[address]
            self.blocks[name] = address, granted
            self.allocated += granted
            if pinned or len(self.addresses) in self.pinned:
                self.pinned_names.add(name)
            for offset in range(granted):
                self.put(address + offset, (name, offset))
        self.addresses.append(-1 if address is None else address)
        return address

    def free(self, name):
        self.begin_event()
        if name not in self.blocks:
            self.ignored += 1
            return
        start, granted = self.blocks.pop(name)
        self.pinned_names.discard(name)
        self.policy.free(start)
        for offset in range(granted):
            assert self.take(start + offset) == (name, offset)

    def do(self, op, extent_of=lambda size: max(size, 1)):
        if isinstance(op, tuple):
            self.free(op[1])
        else:
            self.alloc(len(self.addresses), extent_of(op))

    # --- when --------------------------------------------------------------------------------------------------------

    def begin_event(self, extent=None):
        """The pass that comes before an event, if one does; True: there was none because of the budget."""
        due = self.is_due(extent)
        self.events += 1
        if not due:
            return False
        moves = self.plan(extent)
        cost = sum(size for _, _, size in moves)
        if moves and self.budget is not None and self.budget * (self.granules_moved + cost) > self.allocated:
            self.refused += 1
            return True
        self.carry_out(moves)
        return False

    def is_due(self, extent=None):
        """Does a pass come before this event, an alloc of an extent or a free?"""
        sizes = [size for _, size in self.policy.holes()]
        free, largest = sum(sizes), max(sizes, default=0)
        if self.when == "failure":
            if extent is None:
                return False
            needed = 2 ** order_of(extent) if isinstance(self.policy, Buddy) else extent
            return largest < needed <= free
        if "every" in self.when:
            return self.events > 0 and self.events % self.when["every"] == 0
        return free > 0 and free - largest >= self.when["external_fragmentation"] * free

    def compact(self, extent=None):
        moves = self.plan(extent)
        self.carry_out(moves)
        return sorted((old, new) for old, new, _ in moves)

    # --- a pass ------------------------------------------------------------------------------------------------------

    def plan(self, extent):
        assert self.how != "first-window" or extent is not None, "a window is opened for a request"
        way = slide_buddies if isinstance(self.policy, Buddy) else WAYS[self.how]
        return way(self.in_order(), self.policy.limit, extent)

    def in_order(self):
        return sorted((start, size, name in self.pinned_names) for name, (start, size) in self.blocks.items())

    def carry_out(self, moves):
        if not moves:
            return
        for old, new, size in moves:
            name = next(name for name, block in self.blocks.items() if block == (old, size))
            assert name not in self.pinned_names
            self.blocks[name] = new, size
            for offset in range(size):  # downwards, so a block may overlap its own new place
                self.put(new + offset, self.take(old + offset))
        adopt(self.policy, moves)
        cost = sum(size for _, _, size in moves)
        self.passes += 1
        self.blocks_moved += len(moves)
        self.granules_moved += cost
        self.longest = max(self.longest, cost)

    def put(self, at, content):
        while len(self.memory) <= at:
            self.memory.append(None)
        assert self.memory[at] is None, f"granule {at} is overwritten"
        self.memory[at] = content

    def take(self, at):
        content, self.memory[at] = self.memory[at], None
        return content

    # --- looking -----------------------------------------------------------------------------------------------------

    def map(self):
        assert all(content is None or len(content[0]) == 1 for content in self.memory)
        cells = ["." if content is None else content[0] for content in self.memory]
        assert set(cells[self.policy.limit :]) <= {"."}
        return "".join(cells)[: self.policy.limit].ljust(self.policy.limit, ".")

    def check(self):
        policy, blocks = self.policy, self.in_order()
        expected = [None] * max(len(self.memory), policy.limit)
        for name, (start, size) in self.blocks.items():
            assert start + size <= policy.limit
            assert expected[start : start + size] == [None] * size, f"{name} overlaps another"
            expected[start : start + size] = [(name, offset) for offset in range(size)]
        assert self.memory == expected[: len(self.memory)], "a granule was lost, duplicated or reordered"
        assert set(expected[len(self.memory) :]) <= {None}
        assert policy.blocks == {start: size for start, size, _ in blocks}
        assert self.pinned_names <= self.blocks.keys()
        if isinstance(policy, Buddy):
            assert policy.holes() == free_buddies(blocks, policy.limit)
            return
        assert policy.holes() == free_runs(blocks, policy.limit)
        if hasattr(policy, "by_age"):
            assert sorted(policy.by_age) == policy.holes()
        if policy.grows:
            assert policy.limit == max((start + size for start, size, _ in blocks), default=0)
