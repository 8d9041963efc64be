"""Requests that wait, as events: what the process of one policy did, written down.

Where requests wait for room, the order of events comes about with the placements: there is none before a policy has
run. So its process is run here one request at a time, and after each its stack of spare slots tells what happened. A
death lays its slot on top of the stack, a placement takes the top one away, which stays where it was, unused:

    before                  9 8 5
    two deaths              9 8 5 2 7       free of the block in slot 2, then of that in slot 7
    the request is placed   9 8 5 2 | 7     alloc into slot 7

The loop is that of every experiment; it knows nothing of being watched.
"""

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError
from vecalloc.ledger import BLOCKS, FREES, QUEUE, UNSTABLE
from vecalloc.loops.waiting import SPARE
from vecalloc.process import Process


def record(process: Process, requests: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
    """Run a process of one replica, from its beginning, until so many requests are placed or dropped.

    Returns
    -------
    slot : int32 (events,)
    size : int64 (events,)
    time : float64 (events,)
        As in a Trace; requests that are dropped are no events. Where blocks do not die by themselves, the clock is that
        of the process: each alloc, free and dropped request takes a unit of time.

    Raises
    ------
    InputError
        If the process ends before as unstable.
    """
    slots: list[int] = []
    sizes: list[int] = []
    times: list[float] = []
    asked: dict[int, int] = {}
    dies: dict[int, float] = {}
    frees = blocks = 0
    for decided in range(1, requests + 1):
        process.run_until(decided)
        counts = process.ledger.counts[0]
        if counts[UNSTABLE]:
            raise _unstable(process, decided - 1, requests)
        deaths = int(counts[FREES]) - frees
        placed = int(counts[BLOCKS]) - blocks + deaths
        frees, blocks = int(counts[FREES]), int(counts[BLOCKS])

        flow = process.flow
        top = int(process.cursors[0, SPARE]) + placed
        spare = flow.slots[0, 0]
        now = float(flow.clock[0, 0])
        died = spare[top - deaths : top].tolist()
        if flow.life is None:
            now -= 1.0  # the clock is at the end of the request's own unit
            times += [now - deaths + k for k in range(deaths)]
        else:
            times += [dies[slot] for slot in died]
        slots += died
        sizes += [~asked[slot] for slot in died]
        if placed:
            slot = int(spare[top - 1])
            asked[slot] = int(flow.sizes[0, 0, slot])
            dies[slot] = float(flow.calendar.time[0, slot])
            slots.append(slot)
            sizes.append(asked[slot])
            times.append(now)
    return np.array(slots, np.int32), np.array(sizes, np.int64), np.array(times, np.float64)


def _unstable(process: Process, decided: int, requests: int) -> InputError:
    waiting, plan = int(process.ledger.counts[0, QUEUE]), process.plan
    queue = f" ({waiting:,} are in line)" if waiting else ""
    return InputError(
        f"after {decided:,} of {requests:,} requests there is no room for the next one in {plan.pool:,} bytes of "
        f"{plan.label}, nor will there be soon{queue}: ask for {decided:,} requests, a larger pool, or less load"
    )
