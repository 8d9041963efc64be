"""Where synthetic traces come from: sizes, lifetimes, arrivals, phases.

laws, sizes        any law of scipy, a mixture, a table, a recorded histogram, a fleet -> numbers, whole bytes
arrivals, phases   when requests come
streams            which random numbers are whose
requests           all of this for one replica, chunk by chunk
order              births and deaths merged into events: once for all policies
"""

from typing import Any

import numpy as np

from vecalloc.errors import InputError
from vecalloc.spec import parse_size, whole_number
from vecalloc.trace import Trace
from vecalloc.workload.requests import Requests, Workload, births_of, workload_of
from vecalloc.workload.streams import CHUNK

__all__ = ["Requests", "Workload", "births_of", "sample", "workload_of"]


def sample(
    requests: int = 10_000, seed: int = 0, replica: int = 0, pool: int | str | None = None, **workload: Any
) -> Trace:
    """Draw one replica's requests as a Trace.

    Parameters
    ----------
    requests : int
        How many requests arrive; the trace ends when the next one would.
    seed, replica : int
        Which draws: replica r of an experiment with this seed and workload meets the same requests.
    pool : int or str, optional
        Bytes that a `load` refers to.
    **workload
        sizes, lifetimes, arrivals, batch, load, rate, phases as in the [workload] of an experiment.

    Returns
    -------
    Trace
        With times. Blocks that outlive it are not freed.

    Raises
    ------
    InputError
        For a workload that cannot be used, or one whose order of events depends on the policy.

    Examples
    --------
    >>> trace = sample(1000, sizes={"dist": "expon", "scale": 100}, lifetimes={"dist": "expon", "scale": 5}, rate=10)
    >>> trace.allocs
    1000
    """
    from vecalloc.workload.order import Ordering  # and numba with it: a workload is checked without

    checked = workload_of(workload, "sample")
    if checked.waits_only:
        raise InputError(
            f"sample.arrivals is {checked.arrivals.kind!r}: which block dies when depends on the policy there, so "
            "there is no trace before a policy has run: use an experiment"
        )
    if checked.load is not None and pool is None:
        raise InputError("sample.load refers to a pool: give pool, or a rate")
    total = whole_number(requests, "requests", "of requests")
    rate = checked.rate_in(parse_size(pool, "pool") if pool is not None else 1)
    source = Requests(checked, rate, whole_number(seed, "seed"), whole_number(replica, "replica"), total)
    ordering = Ordering(1, 1, np.zeros((1, 0), np.int64))
    slots, sizes, times = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for _ in range(-(-total // CHUNK)):
        for stretch in ordering.stretches(births_of([source], 1, [(0, 1)])):
            events = int(stretch.counts[0])
            freed = stretch.extents[0, 0, :events] >> 63
            slots.append(stretch.slot[0, :events].copy())
            sizes.append(stretch.requested[0, :events] + freed)  # a free has the complement of its size
            times.append(stretch.time[0, :events].copy())
    meta = {"source": "vecalloc.workload.sample", "seed": seed, "replica": replica, "workload": checked.canonical()}
    return Trace(np.concatenate(slots), np.concatenate(sizes), np.concatenate(times), meta, checked=True)
