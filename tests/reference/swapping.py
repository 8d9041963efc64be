"""Processes that are swapped, in plain Python: a heap of phase ends, a list of who waits and a list for the disk.

    s = Swapping(policy, processes, disk=(latency, bandwidth), remedies=["compact", "swap"], victim="lru", ...)
    s.run(decided)         until so many new processes are placed or dropped; without a number, until nothing happens
    s.addresses            of the first placements, in order of process number; -1 = dropped
    s.log, s.maps          [(time, kind, process number, address), ...] and the memory map after each of these events

A process waits in the one line (as a new one, or as one that returns), is read from the disk, works, is idle in
memory, is written to the disk, is idle there, or is gone. Its idle time runs by the clock wherever it is:

    place  ->  working  -> idle ->  working  ...  -> finish                      in memory
                            |        ^
                           out       in-done
                            v        |
               written (out-done) -> active: in the line -> return (reading)     by way of the disk

Where the words leave a case open, this is the reading taken:

Time
  An event happens at exactly the time it was due; a transfer ends at start + (latency + size / bandwidth), a phase at
  now + length. Phase ends that come about at the instant itself (phases of length zero) are of the same group, and the
  lowest process number of those due is always next. The run stops in the middle of an instant, right after the
  placement or drop that makes up the number. The clock stands at the last event.
The line
  A head that has victims chosen for it, or that need only wait for the writes under way, waits: the remedies after swap
  are not tried. The cause of a delay is the policy's own, which `budget` or `swap-space` replaces when a remedy says so
  (the last to say so wins); it is counted once a stay in the line, for new and returning processes together. One that
  is placed at its first try, but later than it joined, is delayed by `queue`. A head that waits is tried again after
  every group, remedies included: a pass may be made, or refused, at each try. `queue_limit` is looked at when a new
  process joins. With relocate=False a returning process's cause is that of its old granted size, and nothing compacts.
Transfers
  A process whose idle time ends while it is being written may be placed (elsewhere, so with relocate=True) before that
  write is done: it then has two blocks for a while, both in memory. Transfers and bytes count, and images end, when a
  transfer is done; an image begins with the decision. The disk is busy from a transfer's start to its end, and counts
  up to the last event. Images are only of what was rolled out, not of new processes to be loaded.
Victims
  "Largest" and "smallest" go by the extent asked for, not by the granted size. `random` takes a word for every pick
  (for a single candidate too, and before the swap space is looked at); the picks are from a copy of the array of idle
  processes, which shrinks like the array, so a choice that fails leaves the array as it was, but not the words.
  `smallest-sufficient` tries processes in order of (extent, number), each freed and claimed back, until one suffices;
  if none does, the largest is taken. For an old range, a process that works or is read in there is noticed before
  anybody is taken, and no word is; the victims are hypothetically freed one by one like any others.
Compaction
  What is pinned is a process, by its number, in every one of its places; it may be a victim all the same.
Slow-down
  Its bin is floor(64 * log2(slow-down)), at least 0; a process without any length has a slow-down of 1.
"""

import heapq
from math import floor, inf, log2

from .buddy import Buddy
from .compaction import WAYS, adopt, slide_buddies
from .static_partition import StaticPartition
from .waiting import Waiting

RULES = {
    "lru": lambda process: (process.idle_since, process.number),
    "largest-idle": lambda process: (-process.extent, process.number),
    "lowest-priority": lambda process: (process.priority, process.number),
}


class Process:
    def __init__(self, number, arrival, size, extent, priority, phases):
        assert size >= 0 and extent >= 1 and phases
        self.number, self.arrival, self.size, self.extent, self.priority = number, arrival, size, extent, priority
        self.phases = phases
        self.phase = 0
        self.doing = "waiting"  # to be placed or read; then "working", "idle", in the end "gone"
        self.here = False  # in memory, and not in transfer
        self.block = None  # its last (start, granted)
        self.joined = arrival  # the line
        self.tried = False  # did not fit at its first try as head
        self.idle_since = None
        self.worked = 0.0

    def length(self):
        """How long it takes if it never waits."""
        total = 0.0
        for k, (active, idle) in enumerate(self.phases):
            total += active
            if k < len(self.phases) - 1:
                total += idle
        return total


class Swapping:
    """A reference policy fed by processes that work and idle in turn.

    Parameters
    ----------
    policy : object
        A naive reference: alloc, free, cause, holes, claim, is_free.
    processes : list of (float, int, int, float, list of (float, float))
        Arrival, bytes, granules, priority, (active, idle) phases; in order of arrival.
    disk : (float, float)
        Latency, bytes a unit of time.
    remedies : list of str
        "compact" and "swap", in the order they are tried.
    victim : str
        "lru", "largest-idle", "smallest-sufficient", "random" or "lowest-priority".
    swap_space : int
        Bytes; without it there is no limit.
    relocate : bool
        A process may return to another place than its old one.
    load : bool
        New processes are read from the disk.
    words : iterator of int, optional
        Random 64-bit words (signed), for picking.
    queue_limit : int
    how, budget, pinned
        Of compaction, as Compactor takes them; `pinned` holds process numbers.
    """

    def __init__(
        self,
        policy,
        processes,
        disk=(0.0, inf),
        remedies=(),
        victim="lru",
        swap_space=inf,
        relocate=True,
        load=False,
        words=None,
        queue_limit=1 << 20,
        how="slide",
        budget=None,
        pinned=(),
    ):
        assert set(remedies) <= {"compact", "swap"} and len(set(remedies)) == len(remedies)
        assert victim in (*RULES, "smallest-sufficient", "random")
        if "compact" in remedies:
            assert relocate, "a process that may not return elsewhere may not be moved"
            assert not isinstance(policy, StaticPartition), "units do not move"
            assert how == "slide" or not isinstance(policy, Buddy), "buddies only slide"
        self.policy = policy
        self.processes = [Process(number, *process) for number, process in enumerate(processes)]
        assert all(a.arrival <= b.arrival for a, b in zip(self.processes, self.processes[1:], strict=False))
        (self.latency, self.bandwidth), self.swap_space = disk, swap_space
        self.remedies, self.victim, self.relocate, self.load = list(remedies), victim, relocate, load
        self.words, self.queue_limit = words, queue_limit
        self.how, self.budget, self.pinned = how, budget, pinned

        self.now, self.came = 0.0, 0
        self.ends = []  # of phases, a heap of (time, process number)
        self.transfers = []  # of the disk, in order: (end, "out" | "in", process, block)
        self.line = []
        self.idle = []  # in memory and not being written, in the order that victims are picked from
        self.images = {}  # on the swap space: process number -> bytes
        self.owners = {}  # start of a block -> process
        self.memory = [None] * policy.limit  # what every granule holds: (process number, offset)

        self.addresses, self.log, self.maps = [], [], []
        self.unstable = False
        self.dropped = self.completed = self.frees = 0
        self.delayed = {"queue": 0, "capacity": 0, "fragmentation": 0, "budget": 0, "swap-space": 0}
        self.swaps_in = self.swaps_out = self.bytes_in = self.bytes_out = 0
        self.waited_new = self.waited_returning = 0.0  # sums
        self.slowdown, self.slowdowns = 0.0, {}  # sum; histogram: bin -> processes
        # Integrals over time: blocks in memory, processes at work, the line, images, and whether the disk is busy.
        self.block_time = self.working_time = self.line_time = self.image_time = self.busy_time = 0.0
        self.passes = self.blocks_moved = self.granules_moved = self.longest = self.refused = self.allocated = 0

    pick = Waiting.pick

    # --- what happens, in order --------------------------------------------------------------------------------------

    def run(self, decided=inf):
        """Until so many new processes are placed or dropped, or nothing more happens."""
        self.serve_line(decided)
        while len(self.addresses) < decided and not self.unstable:
            arrival = self.processes[self.came].arrival if self.came < len(self.processes) else inf
            due = min([end for end, *_ in self.transfers[:1] + self.ends[:1]], default=inf)
            if arrival == due == inf:
                return
            self.pass_time(min(arrival, due))
            if due <= arrival:
                self.do_what_is_due()
                self.serve_line(decided)
            else:
                self.line.append(self.processes[self.came])
                self.came += 1
                self.unstable = len(self.line) > self.queue_limit
                if len(self.line) == 1:
                    self.serve_line(decided)

    def pass_time(self, until):
        lasts = until - self.now
        working = [process for process in self.processes if process.doing == "working"]
        for process in working:
            process.worked += lasts
        self.block_time += lasts * len(self.policy.blocks)
        self.working_time += lasts * len(working)
        self.line_time += lasts * len(self.line)
        self.image_time += lasts * len(self.images)
        self.busy_time += lasts * (len(self.transfers) > 0)
        self.now = until

    def do_what_is_due(self):
        while self.transfers and self.transfers[0][0] == self.now:
            _, direction, process, block = self.transfers.pop(0)
            if direction == "out":
                self.note_written(process, block)
            else:
                self.note_read(process)
        while self.ends and self.ends[0][0] == self.now:
            process = self.processes[heapq.heappop(self.ends)[1]]
            if process.doing == "idle":
                self.wake(process)
            elif process.phase == len(process.phases) - 1:
                self.finish(process)
            else:
                self.rest(process)

    def note(self, kind, process, address):
        """Write down an event that has just happened."""
        self.log.append((self.now, kind, process.number, address))
        self.maps.append(
            [(start, size, self.owners[start].number) for start, size in sorted(self.policy.blocks.items())]
        )

    # --- phases ------------------------------------------------------------------------------------------------------

    def work(self, process):
        process.doing, process.here = "working", True
        heapq.heappush(self.ends, (self.now + process.phases[process.phase][0], process.number))

    def rest(self, process):
        process.doing, process.idle_since = "idle", self.now
        self.idle.append(process)
        heapq.heappush(self.ends, (self.now + process.phases[process.phase][1], process.number))
        self.note("idle", process, process.block[0])

    def wake(self, process):
        """The idle time is over: it works on at once, or returns by way of the line."""
        process.phase += 1
        if process.here:
            remove(self.idle, process)
            self.work(process)
            self.note("active", process, process.block[0])
        else:
            process.doing, process.joined, process.tried = "waiting", self.now, False
            self.line.append(process)
            self.note("active", process, -1)

    def finish(self, process):
        self.vacate(process.block)
        process.doing, process.here = "gone", False
        self.completed += 1
        length = process.length()
        slowdown = (self.now - process.arrival) / length if length > 0 else 1.0
        self.slowdown += slowdown
        at = floor(64 * log2(max(slowdown, 1.0)))
        self.slowdowns[at] = self.slowdowns.get(at, 0) + 1
        self.note("finish", process, process.block[0])

    # --- memory ------------------------------------------------------------------------------------------------------

    def occupy(self, process, address):
        """It was placed here, by the policy."""
        process.block = address, self.policy.blocks[address]
        self.owners[address] = process
        self.allocated += process.block[1]
        for offset in range(process.block[1]):
            assert self.memory[address + offset] is None, f"granule {address + offset} is overwritten"
            self.memory[address + offset] = process.number, offset

    def vacate(self, block):
        start, granted = block
        assert self.policy.blocks[start] == granted
        self.policy.free(start)
        self.frees += 1
        process = self.owners.pop(start)
        for offset in range(granted):
            assert self.memory[start + offset] == (process.number, offset), "a granule was lost"
            self.memory[start + offset] = None

    # --- the disk ----------------------------------------------------------------------------------------------------

    def transfer(self, direction, process):
        """Queue the whole of it on the disk, to or from the block that it has now."""
        begin = max(self.now, self.transfers[-1][0]) if self.transfers else self.now
        end = begin + (self.latency + process.size / self.bandwidth)
        self.transfers.append((end, direction, process, process.block))

    def roll_out(self, process):
        remove(self.idle, process)
        process.here = False
        self.images[process.number] = process.size
        self.transfer("out", process)
        self.note("out", process, process.block[0])

    def note_written(self, process, block):
        self.swaps_out += 1
        self.bytes_out += process.size
        self.vacate(block)
        self.note("out-done", process, block[0])

    def note_read(self, process):
        self.swaps_in += 1
        self.bytes_in += process.size
        self.images.pop(process.number, None)  # new ones have none
        self.work(process)
        self.note("in-done", process, process.block[0])

    # --- the line ----------------------------------------------------------------------------------------------------

    def serve_line(self, decided):
        while self.line and len(self.addresses) < decided and not self.unstable and self.try_head():
            pass

    def try_head(self):
        """True: it has left the line."""
        process = self.line[0]
        address = self.find_room(process)
        if address is None:
            cause = self.policy.cause(self.needed(process))
            if cause == "too-large":
                assert process.block is None, "what had room once is not too large"
                self.line.pop(0)
                process.doing = "gone"
                self.dropped += 1
                self.addresses.append(-1)
                self.note("drop", process, -1)
                return True
            address, cause = self.seek_remedy(process, cause)
        if address is None:
            if not process.tried:
                self.delayed[cause] += 1
                process.tried = True
            return False
        if not process.tried and self.now > process.joined:
            self.delayed["queue"] += 1
        self.line.pop(0)
        self.place(process, address)
        return True

    def place(self, process, address):
        returns = process.block is not None
        self.occupy(process, address)
        if returns:
            self.waited_returning += self.now - process.joined
        else:
            self.waited_new += self.now - process.joined
            self.addresses.append(address)
        if returns or self.load:
            self.transfer("in", process)
        else:
            self.work(process)
        self.note("return" if returns else "place", process, address)

    def is_bound(self, process):
        """It can go to its old range only."""
        return process.block is not None and not self.relocate

    def needed(self, process):
        return process.block[1] if self.is_bound(process) else process.extent

    def find_room(self, process):
        if not self.is_bound(process):
            return self.policy.alloc(process.extent)
        start, granted = process.block
        if not self.policy.is_free(start, granted):
            return None
        self.policy.claim(start, granted)
        return start

    def seek_remedy(self, process, why):
        """(address, None), or (None, the cause)."""
        cause = why
        for remedy in self.remedies:
            if remedy == "swap":
                victims, refusal = self.choose_victims(process)
                if victims is not None:
                    for victim in victims:
                        self.roll_out(victim)
                    return None, cause
                cause = refusal or cause
            elif why == "fragmentation":
                if not self.compact(process.extent):
                    cause = "budget"
                    continue
                address = self.find_room(process)
                if address is not None:
                    return address, None
        return None, cause

    # --- victims -----------------------------------------------------------------------------------------------------

    def choose_victims(self, process):
        """(victims, None), none of them if the writes under way suffice; or (None, "swap-space" or None)."""
        freed, left, victims, refusal = [], list(self.idle), [], None
        space = self.swap_space - sum(self.images.values())
        for _, direction, _, block in self.transfers:
            if direction == "out":
                self.policy.free(block[0])
                freed.append(block)
        while not self.has_opened(process):
            victim = self.next_victim(process, left)
            if victim is None or victim.size > space:
                refusal = None if victim is None else "swap-space"
                victims = None
                break
            space -= victim.size
            remove(left, victim)
            victims.append(victim)
            self.policy.free(victim.block[0])
            freed.append(victim.block)
        for block in reversed(freed):
            self.policy.claim(*block)
        return victims, refusal

    def has_opened(self, process):
        if self.is_bound(process):
            return self.policy.is_free(*process.block)
        return max((size for _, size in self.policy.holes()), default=0) >= process.extent

    def next_victim(self, process, left):
        """The next by the rule, of those left; None: taking them would not help."""
        if self.is_bound(process):
            return self.next_in_range(process.block, left)
        if not left:
            return None
        if self.victim == "random":
            return left[self.pick(len(left))]
        if self.victim == "smallest-sufficient":
            return self.smallest_sufficient(process, left)
        return min(left, key=RULES[self.victim])

    def next_in_range(self, block, left):
        begin, end = block[0], block[0] + block[1]
        there = [
            self.owners[start]
            for start, size in sorted(self.policy.blocks.items())
            if start < end and begin < start + size
        ]
        if not all(other in left for other in there):  # of the others, those that are written are supposed to be gone
            return None
        return there[0]

    def smallest_sufficient(self, process, left):
        for candidate in sorted(left, key=lambda candidate: (candidate.extent, candidate.number)):
            self.policy.free(candidate.block[0])
            suffices = self.has_opened(process)
            self.policy.claim(*candidate.block)
            if suffices:
                return candidate
        return min(left, key=RULES["largest-idle"])

    # --- compaction --------------------------------------------------------------------------------------------------

    def compact(self, extent):
        """Make a pass, if it would move anything; False: the budget does not allow it."""
        in_transfer = [start for _, _, _, (start, _) in self.transfers]
        blocks = [
            (start, size, start in in_transfer or self.owners[start].number in self.pinned)
            for start, size in sorted(self.policy.blocks.items())
        ]
        way = slide_buddies if isinstance(self.policy, Buddy) else WAYS[self.how]
        moves = way(blocks, self.policy.limit, extent)
        if not moves:
            return True
        cost = sum(size for _, _, size in moves)
        if self.budget is not None and self.budget * (self.granules_moved + cost) > self.allocated:
            self.refused += 1
            return False
        for old, new, size in moves:
            process = self.owners.pop(old)
            self.owners[new] = process
            process.block = new, size
            for offset in range(size):  # downwards, so a block may overlap its own new place
                assert self.memory[old + offset] == (process.number, offset), "a granule was lost"
                assert self.memory[new + offset] is None, "a granule is overwritten"
                self.memory[new + offset], self.memory[old + offset] = self.memory[old + offset], None
        adopt(self.policy, moves)
        self.passes += 1
        self.blocks_moved += len(moves)
        self.granules_moved += cost
        self.longest = max(self.longest, cost)
        return True


def remove(processes, process):
    """Take it out of an array: the last one takes its place."""
    at = processes.index(process)
    processes[at] = processes[-1]
    processes.pop()
