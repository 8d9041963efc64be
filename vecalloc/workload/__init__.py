"""Where synthetic traces come from: sizes, lifetimes, arrivals, phases.

laws, sizes        any law of scipy, a mixture, a table, a recorded histogram, a fleet -> numbers, whole bytes
arrivals, phases   when requests come
streams            which random numbers are whose
requests           all of this for one replica, chunk by chunk
processes          the same for processes, which work and idle
order              births and deaths merged into events: once for all policies
recorded_process   what the process of one policy did, as events, where requests wait
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError
from vecalloc.spec import ON_FAILURES, Plan, checked_choice, make_plan, parse_size, whole_number
from vecalloc.trace import Trace
from vecalloc.workload.processes import Processes
from vecalloc.workload.requests import Requests, Workload, births_of, workload_of
from vecalloc.workload.streams import CHUNK

__all__ = ["Processes", "Requests", "Workload", "births_of", "sample", "workload_of"]

_QUEUE_LIMIT = 1 << 20
"""Requests that may wait before a sample is given up: as many as in an experiment that says nothing else."""


def sample(
    requests: int = 10_000,
    seed: int = 0,
    replica: int = 0,
    pool: int | str | None = None,
    policy: str | None = None,
    granule: int | str = 16,
    on_failure: str | None = None,
    **workload: Any,
) -> Trace:
    """Draw one replica's requests as a Trace.

    Where requests that do not fit wait for room, the order of events comes about with a policy's placements. There the
    policy is run, and what it did is recorded: `replay` with the same policy, pool and granule serves every alloc of
    the trace, at the address that it had then. Other policies can replay it too: they meet the order of this one.

    Parameters
    ----------
    requests : int
        How many requests there are. The trace ends when one more would arrive; where requests wait, as soon as the last
        of them is placed or dropped.
    seed, replica : int
        Which draws: replica r of an experiment with this seed and workload meets the same requests (and, if they wait,
        places them at the same addresses).
    pool : int or str, optional
        Bytes, or a size such as "4MiB": what a `load` refers to, and where requests wait for room.
    policy : str, optional
        `name` or `name[key=value,...]`. Needed where requests wait, refused where they do not: the order of events is
        the same for all policies then.
    granule : int or str
        Of the policy's pool: bytes, a power of two.
    on_failure : {"drop", "grow", "stop", "wait"}, optional
        What becomes of a request that does not fit. The first three have the same trace. By default "drop", but "wait"
        if there is always one more request (arrivals "saturated" and "fill-then-free").
    **workload
        sizes, lifetimes, arrivals, batch, load, rate, phases as in the [workload] of an experiment.

    Returns
    -------
    Trace
        With times (in "fill-then-free" every alloc, free and dropped request takes one unit). Blocks that outlive it
        are not freed. At equal times frees come before allocs; but where requests wait, a block that lives no time at
        all is freed after the allocs of all that were placed at that instant.

        Where requests wait, those that an empty pool could not hold are dropped: they are left out, and
        `meta["dropped"]` says how many they were.

    Raises
    ------
    InputError
        For a workload, policy or pool that cannot be used, is missing or would have no effect; where requests wait, for
        a line of more than 2^20 of them, or one that nothing will ever make room for.

    Examples
    --------
    >>> trace = sample(1000, sizes={"dist": "expon", "scale": 100}, lifetimes={"dist": "expon", "scale": 5}, rate=10)
    >>> trace.allocs
    1000

    Fill a pool, and whenever a request does not fit, free a block at random:

    >>> import vecalloc as va
    >>> asked = {"sizes": {"dist": "expon", "scale": 100}, "arrivals": "fill-then-free"}
    >>> trace = sample(1000, pool="16KiB", policy="first-fit", **asked)
    >>> sum(va.replay(trace, "first-fit", "16KiB").failures.values())
    0
    >>> sum(va.replay(trace, "worst-fit", "16KiB").failures.values()) > 0
    True
    """
    checked = workload_of(workload, "sample")
    if checked.processes:
        raise InputError(
            f"sample.work is {workload['work']!r}: when processes leave depends on the policy and what is swapped, so "
            "there is no trace before they have run: use an experiment"
        )
    total = whole_number(requests, "requests", "of requests")
    if _waits(checked, on_failure):
        plan = _plan_of(checked, policy, pool, granule)
        source = _source_of(checked, plan.pool, seed, replica, total)
        events = _as_placed(checked, source, plan, total)
        known = {"on_failure": "wait", "policy": plan.label, "pool": plan.pool, "granule": plan.granule}
        known["dropped"] = total - int(np.count_nonzero(events[1] >= 0))
    else:
        _check_fixed(checked, policy, pool)
        source = _source_of(checked, parse_size(pool, "pool") if pool is not None else 1, seed, replica, total)
        events = _in_fixed_order(source, total)
        known = {}
    meta = {"source": "vecalloc.workload.sample", "seed": seed, "replica": replica, "workload": checked.canonical()}
    return Trace(*events, meta | known, checked=True)


def _waits(workload: Workload, on_failure: str | None) -> bool:
    """Whether requests that do not fit wait for room."""
    if on_failure is not None:
        checked_choice(on_failure, "sample.on_failure", (*ON_FAILURES, "wait"))
    if workload.waits_only and on_failure not in (None, "wait"):
        raise InputError(
            f"sample.on_failure is {on_failure!r}, but with arrivals = {workload.arrivals.kind!r} requests wait: "
            "leave it out"
        )
    return workload.waits_only or on_failure == "wait"


def _check_fixed(workload: Workload, policy: str | None, pool: int | str | None) -> None:
    """Check what goes with a workload in which nothing waits."""
    if policy is not None:
        raise InputError(
            f"sample.policy is {policy!r}, but where nothing waits the order of events is the same for all policies: "
            "leave it out, and name it in replay; or write on_failure = 'wait'"
        )
    if workload.load is not None and pool is None:
        raise InputError("sample.load refers to a pool: give pool, or a rate")


def _plan_of(workload: Workload, policy: str | None, pool: int | str | None, granule: int | str) -> Plan:
    """Whose order of events is to be recorded."""
    if policy is None or pool is None:
        which = f"arrivals is {workload.arrivals.kind!r}" if workload.waits_only else "on_failure is 'wait'"
        needed = [("policy (such as 'first-fit')", policy), ("pool (such as '1MiB')", pool)]
        missing = " and ".join(name for name, value in needed if value is None)
        raise InputError(
            f"sample.{which}: which block dies when depends on the policy and its pool there, so give {missing}"
        )
    return make_plan(policy, pool, granule)


def _source_of(workload: Workload, pool: int, seed: int, replica: int, total: int) -> Requests:
    """The replica's requests."""
    seed, replica = whole_number(seed, "seed"), whole_number(replica, "replica")
    return Requests(workload, workload.rate_in(pool), seed, replica, total)


_Columns = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]
"""Slots, sizes and times, as in a Trace."""


def _as_placed(workload: Workload, source: Requests, plan: Plan, total: int) -> _Columns:
    """The events of one policy, whose placements say who dies when."""
    from vecalloc.process import Process  # and numba with it: a workload is checked without
    from vecalloc.workload.recorded_process import record

    timed, mortal = workload.arrivals.timed, workload.lifetimes is not None
    process = Process(plan, [source], timed, mortal, workload.rate_in(plan.pool), _QUEUE_LIMIT)
    return record(process, total)


def _in_fixed_order(source: Requests, total: int) -> _Columns:
    """The events that are the same for all policies."""
    from vecalloc.workload.order import Ordering  # and numba with it

    ordering = Ordering(1, 1, np.zeros((1, 0), np.int64))
    slots, sizes, times = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for _ in range(-(-total // CHUNK)):
        for stretch in ordering.stretches(births_of([source], 1, [(0, 1)])):
            events = int(stretch.counts[0])
            freed = stretch.extents[0, 0, :events] >> 63
            slots.append(stretch.slot[0, :events].copy())
            sizes.append(stretch.requested[0, :events] + freed)  # a free has the complement of its size
            times.append(stretch.time[0, :events].copy())
    return np.concatenate(slots), np.concatenate(sizes), np.concatenate(times)
