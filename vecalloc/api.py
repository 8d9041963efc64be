"""What a script calls: load a trace, replay it, read the numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc import formats, metrics
from vecalloc import ledger as columns
from vecalloc.errors import InputError
from vecalloc.formats.slots import check
from vecalloc.ledger import Ledger
from vecalloc.simulate import Simulation, Switches
from vecalloc.spec import (
    CLOCKS,
    NO_REMEDY,
    Plan,
    check_reclaim,
    checked_choice,
    checked_granule,
    label_of_reclaim,
    make_plan,
    parse_policy,
    parse_reclaim,
    whole_number,
)
from vecalloc.trace import Trace, events_of, load_of
from vecalloc.workload.pins import compactor_of


def load_trace(path: str | Path) -> Trace:
    """Read a recorded trace.

    Parameters
    ----------
    path : str or Path
        A file in one of the formats of `vecalloc.formats`.

    Raises
    ------
    TraceError
        If the file cannot be read as a trace: names file, event and remedy.
    """
    return formats.read(path)


@dataclass(frozen=True, eq=False)
class Replay:
    """What came of a replay.

    Attributes
    ----------
    plan : Plan
        Policy, options and pool as used.
    on_failure : str
    reclaim : str
        The remedies in their canonical form; "none" without any.
    addresses : int64 (allocs,)
        Address of each alloc in order, in bytes, at its placement: passes may have moved the block since; -1 where no
        memory was available. With on_failure="stop" the last one is that of the request that failed, and all metrics
        are those of the events up to it.
    ledger : Ledger
        What the run wrote down (one replica).
    metered : bool
        Whether the ledger holds what `metrics` needs.
    seconds : float
        Processor time of the event loop, without compiling it; the only value here that differs from run to run.
    series : dict of str to array
        Values after each sampled event: event, requested, granted, free, largest, holes, blocks, high_water_mark; in
        bytes but for event, holes and blocks. Empty if nobody asked.
    hole_table : int64 (n, 2)
        The holes at the end, start and size in bytes.
    """

    plan: Plan
    on_failure: str
    reclaim: str
    addresses: NDArray[np.int64]
    ledger: Ledger
    metered: bool
    seconds: float
    series: dict[str, NDArray[np.int64]]
    hole_table: NDArray[np.int64]

    @cached_property
    def _account(self) -> metrics.Account:
        remedies = parse_reclaim(self.reclaim)
        grows = self.on_failure == "grow"
        return metrics.Account.of(self.ledger, self.plan.granule, self.plan.granules, grows, remedies)

    @property
    def passes(self) -> int:
        """Passes of compaction that moved something."""
        return int(self.ledger.counts[0, columns.PASSES])

    @property
    def failures(self) -> dict[str, int]:
        """Failed requests by cause."""
        return metrics.failures(self._account)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name (see `vecalloc.metrics`); an InputError if they were not asked for."""
        if not self.metered:
            raise InputError("the metrics were not asked for: replay with metrics=True")
        return metrics.measure(self._account)

    @property
    def geometry(self) -> dict[str, object]:
        """What the geometry switch wrote down (see `vecalloc.metrics.geometry`)."""
        return metrics.geometry(self.ledger, 0, self.plan.granule)

    def __repr__(self) -> str:
        failed = sum(self.failures.values())
        remedies = f" with {self.reclaim}" if self.reclaim != NO_REMEDY else ""
        return f"<Replay of {len(self.addresses):,} allocs by {self.plan.label}{remedies}, {failed:,} failed>"


def replay(
    trace: Trace,
    policy: str = "first-fit",
    pool: int | str = "1x",
    granule: int = 16,
    *,
    on_failure: str = "drop",
    reclaim: Any = None,
    seed: int = 0,
    metrics: bool = True,
    geometry: bool = False,
    bins: int = 1,
    every: int = 0,
    clock: str = "event",
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Replay:
    """Replay a trace against one policy.

    Parameters
    ----------
    trace : Trace
    policy : str
        `name` or `name[key=value,...]`.
    pool : int or str
        Bytes, a size such as "4MiB", or a factor of the trace's peak live extents such as "0.9x".
    granule : int
        Bytes, a power of two.
    on_failure : {"drop", "grow", "stop"}
        A request that does not fit is dropped, grows the pool, or ends the replay.
    reclaim : str, dict, list or None
        When passes of compaction move blocks, such as "compact[how=slide,budget=4]" (`vecalloc policies -v`).
    seed : int
        Which blocks are pinned, where `reclaim` pins a share of them.
    metrics, geometry : bool
        What to write down beside addresses and failures; geometry and a series imply metrics.
    bins : int
        Bins of the histogram of placed addresses (geometry).
    every : int
        Sample the time series each `every` events; 0: no series.
    clock : {"event", "time"}
        Time averages count each event as one unit of time, or use the times of the trace.
    progress : callable, optional
        Called from time to time with the number of events that are behind; what it raises ends the replay.
    **options
        Options of the policy by keyword.

    Raises
    ------
    InputError
        For a policy, option, pool, remedy or clock that cannot be used.
    """
    checked_choice(clock, "clock", CLOCKS)
    every = whole_number(every, "every", "of events")
    bins = whole_number(bins, "bins")
    if bins < 1:
        raise InputError(f"bins is {bins}: write at least 1")
    if not isinstance(trace, Trace):
        raise InputError(f"trace is {trace!r}: load it first, with load_trace")
    check(trace)
    _chosen, values = parse_policy(policy, options)
    events = events_of(trace, checked_granule(granule), values["header"], values["alignment"], clock == "time")
    plan = make_plan(policy, pool, granule, load_of(events), options)
    remedies = parse_reclaim(reclaim)
    check_reclaim(remedies, plan)
    compactor = compactor_of(remedies, whole_number(seed, "seed"), range(1), trace.slots)
    metered = metrics or geometry or every > 0
    simulation = Simulation(plan, 1, trace.slots, on_failure, Switches(metered, geometry, bins), compactor=compactor)
    simulation.prepare(events)
    if compactor:  # likewise: in a pool without blocks a pass changes nothing
        simulation.compact(np.zeros(1, np.int64), np.ones(1, np.int64))
    series: list[list[int]] = []
    start = thread_time()
    for position in simulation.feed(events, every or _STRETCH, keep_addresses=True):
        if every:
            series.append([position, *_sample(simulation.ledger.counts[0], plan.granule)])
        if progress:
            progress(position)
    seconds = thread_time() - start
    placed = simulation.ledger.addresses[0, : simulation.ledger.counts[0, columns.ALLOCS]]
    return Replay(
        plan,
        on_failure,
        label_of_reclaim(remedies),
        np.where(placed >= 0, placed * plan.granule, -1),
        simulation.ledger,
        metered,
        seconds,
        dict(zip(_SERIES, np.array(series, np.int64).reshape(-1, len(_SERIES)).T, strict=True)),
        simulation.holes() * plan.granule,
    )


_STRETCH = 1 << 21
"""Events between two looks at the outside world."""

_SERIES = ("event", "requested", "granted", "free", "largest", "holes", "blocks", "high_water_mark")


def _sample(counts: NDArray[np.int64], granule: int) -> list[int]:
    granted, limit = counts[columns.NOW_GRANTED], counts[columns.NOW_LIMIT]
    in_granules = [granted, limit - granted, counts[columns.NOW_LARGEST]]
    return [
        counts[columns.REQUESTED],
        *(granule * value for value in in_granules),
        counts[columns.NOW_HOLES],
        counts[columns.BLOCKS],
        granule * counts[columns.HIGH_WATER],
    ]
