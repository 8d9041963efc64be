"""What people do today: a Monte Carlo study of best-fit in plain Python, with sorted lists and a heap of deaths.

As well as the language allows: two lists kept by `bisect` (holes by size and address, holes by address), C speed
inside; nothing is measured but failures and time integrals. The model is vecalloc's: Poisson arrivals, lognormal sizes
(ceil'd and clipped), exponential lifetimes, what does not fit is dropped.
"""

import heapq
import random
from bisect import bisect_left, insort
from math import ceil, exp


def study(granules, granule, rate, sigma, scale, largest, requests, seed):
    """Run one replica: the share of requests that failed, and holes per block (time averages)."""
    rng = random.Random(seed)
    by_size = [(granules, 0)]
    starts, sizes = [0], {0: granules}
    deaths, live = [], {}
    failed = blocks = 0
    time = last = hole_time = block_time = 0.0
    for number in range(requests):
        while deaths and deaths[0][0] <= time:
            death, which = heapq.heappop(deaths)
            hole_time += (death - last) * len(starts)
            block_time += (death - last) * blocks
            last = death
            start, size = live.pop(which)
            blocks -= 1
            at = bisect_left(starts, start)
            if at < len(starts) and starts[at] == start + size:
                neighbour = starts.pop(at)
                size += (other := sizes.pop(neighbour))
                del by_size[bisect_left(by_size, (other, neighbour))]
            if at and starts[at - 1] + sizes[starts[at - 1]] == start:
                start, other = starts[at - 1], sizes[starts[at - 1]]
                del by_size[bisect_left(by_size, (other, start))]
                size += other
            else:
                starts.insert(at, start)
            sizes[start] = size
            insort(by_size, (size, start))
        hole_time += (time - last) * len(starts)
        block_time += (time - last) * blocks
        last = time
        asked = min(largest, ceil(scale * exp(sigma * rng.gauss(0.0, 1.0))))
        extent = max(1, -(-asked // granule))
        life = rng.expovariate(1.0)
        at = bisect_left(by_size, (extent, -1))
        if at == len(by_size):
            failed += 1
        else:
            size, start = by_size.pop(at)
            place = bisect_left(starts, start)
            del sizes[start]
            if size > extent:
                starts[place] = start + extent
                sizes[start + extent] = size - extent
                insort(by_size, (size - extent, start + extent))
            else:
                del starts[place]
            live[number] = (start, extent)
            blocks += 1
            heapq.heappush(deaths, (time + life, number))
        time += rng.expovariate(rate)
    return failed / requests, hole_time / block_time
