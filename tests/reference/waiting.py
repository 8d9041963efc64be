"""Requests that wait, in plain Python: first come, first served, with a heap of deaths and a list of who waits."""

import heapq

from .compaction import Compactor
from .still import Still


class Asked(Compactor):
    """A compactor that makes a pass when it is asked to, and not before each alloc and free."""

    asked = False

    def is_due(self, extent=None):
        return self.asked

    def would_help(self, extent):
        return super().is_due(extent)

    def ask(self, extent=None):
        """Make a pass; "refused" if the budget forbids it, else "made"."""
        self.asked = True
        refused = self.begin_event(extent)
        self.asked = False
        return "refused" if refused else "made"


class Waiting:
    """A reference policy fed by requests that wait for room.

    Parameters
    ----------
    policy : object
        A naive reference: alloc, free, cause.
    arrivals : list of float or None
        When each request arrives; None: there is always one more.
    sizes : list of int
        Granules.
    lives : list of float or None
        None: a block is picked at random whenever a request does not fit.
    words : iterator of int, optional
        Random 64-bit words (signed), for picking.
    queue_limit : int
    compaction : dict, optional
        how, when and budget of a Compactor; without, blocks never move.
    pinned : collection of int
        Requests whose blocks never move.
    """

    def __init__(self, policy, arrivals, sizes, lives, words=None, queue_limit=1 << 20, compaction=None, pinned=()):
        self.policy, self.arrivals, self.sizes, self.lives = policy, arrivals, sizes, lives
        self.words, self.queue_limit = words, queue_limit
        self.heap = Still(policy) if compaction is None else Asked(policy, **compaction)
        self.when = compaction["when"] if compaction else None
        self.pinned = pinned
        self.addresses = []
        self.failed = 0
        self.delayed = {"queue": 0, "capacity": 0, "fragmentation": 0}
        if compaction is not None:
            self.delayed["budget"] = 0
        self.frees = 0
        self.now = 0.0
        self.waited_time = 0.0  # integral of how many wait
        self.live_time = 0.0  # integral of live granules
        self.live = {}  # request -> size, in the order that victims are picked from
        self.unstable = False
        self.deaths, self.line, self.came = [], [], 0
        self.blocked = False  # the first in line does not fit
        self.fresh = set()  # arrived when nobody waited
        self.tried = set()  # did not fit at once
        self.looked = 0  # events when somebody last looked whether a pass is due
        self.passed = None  # what came of the pass before the next event, if there was one

    def run(self, decided):
        """Until so many requests are placed or dropped."""
        deaths, line = self.deaths, self.line
        while len(self.addresses) < decided and not self.unstable:
            # Whoever can be placed is placed; who cannot is tried again when somebody has died.
            while not self.blocked and len(self.addresses) < decided:
                self.look()
                if self.arrivals is None:
                    if not line:
                        self.fresh.add(self.came)
                        self.arrive()
                elif not line:
                    break
                first = line[0]
                if self.when == "failure" and self.heap.would_help(self.sizes[first]):
                    self.passed = self.heap.ask(self.sizes[first])
                address = self.heap.alloc(first, self.sizes[first], pinned=first in self.pinned)
                if address is None and self.heap.cause != "too-large":
                    if first not in self.tried:
                        self.tried.add(first)
                        refused = self.passed == "refused" and self.heap.cause == "fragmentation"
                        self.delayed["budget" if refused else self.heap.cause] += 1
                    self.blocked = True
                    continue
                if address is None:
                    self.failed += 1
                    self.addresses.append(-1)
                else:
                    if first not in self.fresh and first not in self.tried:
                        self.delayed["queue"] += 1
                    self.addresses.append(address)
                    self.live[first] = self.sizes[first]
                    if self.lives is not None:
                        heapq.heappush(deaths, (self.now + self.lives[first], first))
                self.passed = None
                line.pop(0)
                if self.lives is None:
                    self.pass_time(1.0, 0)
            if len(self.addresses) == decided:
                return
            # Time goes on.
            self.look()
            if self.lives is None:
                if not self.live:
                    self.unstable = True
                    return
                self.free(list(self.live)[self.pick(len(self.live))], swap=True)
                self.pass_time(1.0, 0)
                continue
            arrival = self.arrivals[self.came] if self.arrivals is not None else float("inf")
            if deaths and deaths[0][0] <= arrival:
                moment = deaths[0][0]
                self.pass_time(moment - self.now, len(line) if self.arrivals is not None else 0)
                while deaths and deaths[0][0] == moment:
                    self.free(heapq.heappop(deaths)[1])
            elif self.arrivals is None:
                self.unstable = True
                return
            else:
                self.pass_time(arrival - self.now, len(line))
                if not line:
                    self.fresh.add(self.came)
                self.arrive()
                if len(line) > self.queue_limit:
                    self.unstable = True
                    return

    def arrive(self):
        self.line.append(self.came)
        self.came += 1

    def look(self):
        """A pass that comes before this step, whatever the step is: at most one for each number of events."""
        if self.when in (None, "failure") or self.passed is not None:
            return
        events = len(self.addresses) + self.frees
        if "every" in self.when:
            due = events // self.when["every"] > self.looked // self.when["every"]
        else:
            due = self.heap.would_help(None)
        self.looked = events
        if due:
            self.passed = self.heap.ask()

    def free(self, request, swap=False):
        self.heap.free(request)
        self.frees += 1
        self.blocked = False
        self.passed = None
        if not swap:
            del self.live[request]
            return
        order = list(self.live.items())  # the last one takes its place
        at = [k for k, _ in order].index(request)
        order[at] = order[-1]
        order.pop()
        self.live = dict(order)

    def pick(self, count):
        """A number below count: the top 32 bits of a word, scaled; rejected where that would not be uniform."""
        while True:
            bits = (next(self.words) % 2**64) >> 32
            if bits * count % 2**32 >= 2**32 % count:
                return bits * count // 2**32

    def pass_time(self, lasts, waiting):
        self.waited_time += lasts * waiting
        self.live_time += lasts * sum(self.live.values())
        self.now = self.now + lasts
