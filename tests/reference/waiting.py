"""Requests that wait, in plain Python: first come, first served, with a heap of deaths and a list of who waits."""

import heapq


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
    """

    def __init__(self, policy, arrivals, sizes, lives, words=None, queue_limit=1 << 20):
        self.policy, self.arrivals, self.sizes, self.lives = policy, arrivals, sizes, lives
        self.words, self.queue_limit = words, queue_limit
        self.addresses = []
        self.failed = 0
        self.delayed = {"queue": 0, "capacity": 0, "fragmentation": 0}
        self.frees = 0
        self.now = 0.0
        self.waited_time = 0.0  # integral of how many wait
        self.live_time = 0.0  # integral of live granules
        self.live = {}  # request -> size, in the order that victims are picked from
        self.unstable = False

    def run(self, decided):
        """Until so many requests are placed or dropped."""
        deaths, line, came = [], [], 0
        fresh = set()  # arrived when nobody waited
        delayed = set()
        while len(self.addresses) < decided:
            # Whoever can be placed is placed.
            blocked = False
            while not blocked and len(self.addresses) < decided:
                if self.arrivals is None:
                    if not line:
                        line.append(came)
                        fresh.add(came)
                        came += 1
                elif not line:
                    break
                first = line[0]
                address = self.policy.alloc(self.sizes[first])
                if address is None and (cause := self.policy.cause(self.sizes[first])) != "too-large":
                    if first not in delayed:
                        delayed.add(first)
                        self.delayed[cause] += 1
                    blocked = True
                    continue
                if address is None:
                    self.failed += 1
                    self.addresses.append(-1)
                else:
                    if first not in fresh and first not in delayed:
                        self.delayed["queue"] += 1
                    self.addresses.append(address)
                    self.live[first] = self.sizes[first]
                    if self.lives is not None:
                        heapq.heappush(deaths, (self.now + self.lives[first], first))
                line.pop(0)
                if self.lives is None:
                    self.pass_time(1.0, 0)
            if len(self.addresses) == decided:
                return
            # Time goes on.
            if self.lives is None:
                if not self.live:
                    self.unstable = True
                    return
                self.free(list(self.live)[self.pick(len(self.live))], swap=True)
                self.pass_time(1.0, 0)
                continue
            arrival = self.arrivals[came] if self.arrivals is not None else float("inf")
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
                    fresh.add(came)
                line.append(came)
                came += 1
                if len(line) > self.queue_limit:
                    self.unstable = True
                    return

    def free(self, request, swap=False):
        self.policy.free(self.addresses[request])
        self.frees += 1
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
