"""The tables of an experiment file, with what each key is and what is wrong between the keys of one table.

The descriptions stand behind the word *write* where they serve as a remedy, and in the JSON Schema that editors show.
"""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Annotated, Literal

from pydantic import Field, Tag

from vecalloc.errors import did_you_mean
from vecalloc.experiment.complaints import MISSING, Complaint
from vecalloc.experiment.fields import (
    Granule,
    Metric,
    Names,
    OneLine,
    PoolSize,
    Range,
    Table,
    Values,
    Warmup,
    WarmupField,
)
from vecalloc.experiment.laws import ANY_LAW, BY_KIND, Law, LawTable, SizeLaw
from vecalloc.experiment.remedies import Reclaim
from vecalloc.experiment.toml import as_toml, shown

DEFAULT_METRICS = (
    "failure_ratio",
    "too_large_ratio",
    "capacity_ratio",
    "fragmentation_ratio",
    "internal_fragmentation",
    "external_fragmentation",
    "utilisation",
    "holes_per_block",
)

MOST_CELLS = 10**6
MOST_RANGES = 1000
"""Of a design; scipy's Sobol sequence has 21,201 dimensions."""


# --- what is simulated -----------------------------------------------------------------------------------------------


class Pool(Table, title="pool"):
    """What is allocated from."""

    size: PoolSize = Field(description='bytes or a size such as "64KiB", a multiple of the granule')
    granule: Granule = Field(16, description="bytes, a power of two such as 16, which blocks are multiples of")

    def _wrong(self) -> Iterator[Complaint]:
        if self.size < 1 or self.size % self.granule:
            near = max(self.granule, -(-self.size // self.granule) * self.granule)
            text = f"{self.size} bytes: no positive multiple of the granule {self.granule}: write {near}"
            yield Complaint(("size",), text)


class Phase(Table, title="phase"):
    """A segment of a replica's time."""

    duration: float = Field(gt=0, description="a positive time, how long the phase lasts")
    rate: float = Field(1.0, ge=0, description="a number from 0 up, which the workload's rate is multiplied by")
    lifetimes: (
        Annotated[
            Annotated[Literal["phase", "forever"], Tag("<word>")] | Annotated[float, Tag("<number>")] | LawTable,
            BY_KIND,
        ]
        | None
    ) = Field(None, description='"phase" for blocks that live until the phase ends, "forever", or a law')


class Workload(Table, title="workload"):
    """What is asked for, and when."""

    sizes: SizeLaw = Field(
        description=f"{ANY_LAW}, {{trace = path}}, {{fleet = path}}: bytes asked for; beside the law min, max, bounds, "
        "rounding"
    )
    lifetimes: Law | None = Field(None, description=f"{ANY_LAW}: time from the placement of a block to its free")
    work: Law | None = Field(
        None,
        description=f"{ANY_LAW}: time that a process works in all; with active and idle it stands instead of lifetimes",
    )
    active: Law | None = Field(None, description=f"{ANY_LAW}: time that a process works between two idle phases")
    idle: Law | None = Field(None, description=f"{ANY_LAW}: time of an idle phase, in which a process may be swapped")
    priority: Law | None = Field(
        None, description=f"{ANY_LAW}: the priority of a process (0 by default); the lowest is swapped first"
    )
    arrivals: Annotated[
        Annotated[Literal["poisson", "tick", "saturated", "fill-then-free"], Tag("<word>")] | LawTable, BY_KIND
    ] = Field(
        "poisson",
        description='"poisson", "tick" (at equal gaps, of 1 unless load or rate says else), "saturated" (always a '
        'queue), "fill-then-free" (fill the pool, then free blocks at random), or a law of the time between arrivals',
    )
    batch: Annotated[Annotated[int, Field(ge=1), Tag("<number>")] | LawTable, BY_KIND] = Field(
        1, description="a whole number from 1 up, or a law: requests that arrive at once"
    )
    load: float | None = Field(
        None, gt=0, description="a positive number: rate x mean life x mean requested bytes / pool"
    )
    rate: float | None = Field(None, gt=0, description="a positive number: requests in a unit of time")
    phases: list[Phase] | None = Field(
        None, min_length=1, description="a list of phases such as [{duration = 10.0, rate = 2.0}, ...]"
    )


class Policy(Table, title="policy"):
    """Who allocates."""

    use: Names = Field(
        default_factory=lambda: ["all"],
        description='"all" (so by default), or a list of policies such as ["first-fit", "best-fit[ties=lifo]"]',
    )
    on_failure: Literal["drop", "wait", "grow", "stop"] | None = Field(
        None,
        description='"drop", "wait", "grow" or "stop": what becomes of a request that does not fit ("drop" by default, '
        '"wait" where arrivals are a queue that never ends, or processes)',
    )
    reclaim: Reclaim = Field(
        "none",
        description='"none", a remedy such as "compact[how=slide]" or {kind = "swap", victim = "lru"}, or a list of '
        "remedies: what is tried, in this order, when a request does not fit",
    )
    compare_to: str | None = Field(
        None, description='a policy of use, which differences are taken to (by default "best-fit", where it is used)'
    )
    queue_limit: int = Field(
        1 << 20, ge=1, le=1 << 40, description="a whole number from 1 up: requests that may wait before a replica ends"
    )


# --- how much of it --------------------------------------------------------------------------------------------------


class Until(Table, title="precision target"):
    """How narrow an interval must get."""

    metric: Metric = Field(description='the name of a metric, such as "failure_ratio"')
    half_width: float | None = Field(None, gt=0, description="a positive number, half the width of the interval")
    relative: float | None = Field(None, gt=0, description="a positive number, half the width over the mean")
    confidence: float | None = Field(
        None, gt=0, lt=1, description="a number between 0 and 1, by default that of the table"
    )

    def _wrong(self) -> Iterator[Complaint]:
        if self.half_width is None and self.relative is None:
            text = f"{MISSING}: write how narrow, such as half_width = 0.001 or relative = 0.05"
            yield Complaint(("half_width",), text)
        if self.half_width is not None and self.relative is not None:
            text = f"{self.half_width}: relative is given too, {self.relative}: write one of them"
            yield Complaint(("half_width",), text)


class Run(Table, title="run"):
    """How much is simulated."""

    seed: int = Field(1, ge=0, lt=1 << 63, description="a whole number from 0 up, which all random streams depend on")
    requests: int = Field(10_000, ge=1, le=1 << 53, description="a whole number from 1 up: requests that end a replica")
    warmup: WarmupField = Field(
        default_factory=lambda: Warmup("share", 0.1),
        description='a share such as 0.1 (so by default), {time = 5.0}, {requests = 1000} or "mser": what is left out '
        "at the start",
    )
    replicas: int | None = Field(
        None, ge=1, le=1 << 31, description="a whole number from 1 up, the replicas of each row; or write until"
    )
    until: Until | None = Field(
        None, description='a target such as {metric = "failure_ratio", half_width = 0.001, confidence = 0.99}'
    )
    cap: int = Field(4096, ge=1, le=1 << 31, description="a whole number from 1 up: the most replicas with until")
    confidence: float = Field(0.95, gt=0, lt=1, description="a number between 0 and 1, of the intervals in the table")
    metrics: list[Metric] = Field(
        list(DEFAULT_METRICS), min_length=1, description='a list of metrics such as ["failure_ratio", "utilisation"]'
    )

    def _wrong(self) -> Iterator[Complaint]:
        if self.replicas is not None and self.until is not None:
            yield Complaint(("replicas",), f"{self.replicas}: until is given too: write one of them")
        if "cap" in self.model_fields_set and self.until is None:
            yield Complaint(("cap",), f"{self.cap}: there is no until that it could end: leave it out, or write until")
        for metric in {"slowdown_p99", "waiting_time_p99"} & set(self.metrics) if self.warmup.kind == "mser" else ():
            text = f'"{metric}": of the time after a warm-up that is known beforehand: write warmup as a share'
            yield Complaint(("metrics",), text)
        if self.warmup.kind == "requests" and self.warmup.amount >= self.requests:
            text = f"{self.warmup.amount:.0f}: nothing is left of {self.requests} requests: write fewer"
            yield Complaint(("warmup", "requests"), text)


# --- what is varied --------------------------------------------------------------------------------------------------


class Design(Table, title="design"):
    """Points that fill a box of parameters evenly."""

    method: Literal["sobol", "latin-hypercube", "sensitivity"] = Field(
        description='"sobol", "latin-hypercube" or "sensitivity" (for Sobol indices)'
    )
    points: int = Field(ge=1, le=MOST_CELLS, description="a whole number from 1 up; for Sobol points a power of two")
    seed: int = Field(0, ge=0, lt=1 << 63, description="a whole number from 0 up, which the points depend on")
    ranges: dict[str, Range] = Field(
        min_length=1,
        max_length=MOST_RANGES,
        description='a table of keys in quotes and their lowest and highest values, such as {"workload.load" = [0.5, '
        "1.5]}; where both are whole, whole numbers are taken, each as often",
    )
    log: list[str] = Field([], description="a list of keys of ranges whose logarithm is spread evenly")

    def _wrong(self) -> Iterator[Complaint]:
        if self.method != "latin-hypercube" and self.points & (self.points - 1):
            following = 1 << self.points.bit_length()
            yield Complaint(("points",), f"{self.points}: Sobol points are a power of two: write {following}")
        for key in self.log:
            if key not in self.ranges:
                hint = did_you_mean(key, self.ranges)
                yield Complaint(("log",), f"{shown(key)}: not among the ranges{hint}: write one of them")
            elif (low := self.ranges[key][0]) <= 0:
                yield Complaint(("ranges", key), f"{low}: has no logarithm: write a positive lower end, or no log")

    @property
    def cells(self) -> int:
        """Number of cells for each combination of grid and zip: of points, or of points in all blocks."""
        return self.points * (len(self.ranges) + 2 if self.method == "sensitivity" else 1)


class Sweep(Table, title="sweep"):
    """What is varied over the cells; grid, zip and design are crossed."""

    grid: dict[str, Values] = Field(
        {},
        description='a table of keys in quotes and lists of values, such as {"workload.load" = [0.7, 0.8, 0.9]}, which '
        "are combined in all ways",
    )
    zip: dict[str, Values] = Field(
        {},
        description="a table of keys in quotes and lists of equal length, such as "
        '{"pool.size" = ["1KiB", "2KiB"], "workload.load" = [0.5, 0.6]}, whose values go side by side',
    )
    design: Design | None = Field(
        None,
        description='a table such as {method = "sobol", points = 64, ranges = {"workload.load" = [0.5, 1.5]}}',
    )

    def _wrong(self) -> Iterator[Complaint]:
        for key, values in self.grid.items():
            for text, count in Counter(map(as_toml, values)).items():
                if count > 1:
                    yield Complaint(("grid", key), f"{text}: stands there {count} times: write it once")
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            yield Complaint(("zip",), f"lists of unequal length ({told}): write as many values for each key")
        if self.cells > MOST_CELLS:
            yield Complaint((), f"{self.cells:,} cells: write a sweep of at most {MOST_CELLS:,}")

    @property
    def cells(self) -> int:
        """Number of cells."""
        zipped = min(map(len, self.zip.values()), default=1)
        return prod(map(len, self.grid.values())) * zipped * (self.design.cells if self.design else 1)


# --- what is drawn ---------------------------------------------------------------------------------------------------


class Figure(Table, title="figure"):
    """What the figure shows, for experiments that the usual one says too little of; changes no row."""

    x: str = Field(
        description='a metric of run.metrics, or a swept key that has numbers, such as "moved_ratio" or "workload.load"'
    )
    y: Names | None = Field(
        None, description="a metric of run.metrics, or a list of them: a row of panels each (by default the first)"
    )
    panels: str | None = Field(
        None, description='"policy" or a swept key such as "policy.reclaim.how": a panel for each of its values'
    )
    lines: Names | None = Field(
        None,
        description='"policy" or a swept key, or a list such as ["policy", "policy.reclaim.how"]: a line for each '
        "combination of their values (by default of all that are neither x nor panels)",
    )
    log: list[Literal["x", "y"]] | None = Field(
        None,
        description='a list of "x" and "y", the axes that are logarithmic (by default those of metrics whose values '
        "are spread over more than a decade)",
    )

    def _wrong(self) -> Iterator[Complaint]:
        for place in ("y", "lines", "log"):
            for name, count in Counter(getattr(self, place) or ()).items():
                if count > 1:
                    yield Complaint((place,), f"{shown(name)}: stands there {count} times: write it once")
        for place, taken in (("y", ["x"]), ("panels", ["x"]), ("lines", ["x", "panels"])):
            names = getattr(self, place) or ()
            for other in taken:
                name = getattr(self, other)
                if name is not None and (name == names or name in list(names)):
                    yield Complaint((place,), f"{shown(name)}: is {other} already: write another one")


# --- all of it -------------------------------------------------------------------------------------------------------


class File(Table, title="vecalloc experiment"):
    """An experiment of vecalloc: a workload, a pool, policies, and how much is simulated."""

    question: OneLine = Field(
        description='one line that says what is asked, such as "Which policy fails least as the load grows?"'
    )
    pool: Pool = Field(description="a table with the size of the pool")
    workload: Workload = Field(description="a table with sizes, lifetimes and load")
    policy: Policy = Field(
        default_factory=lambda: Policy.model_validate({}), description="a table with the policies to use"
    )
    run: Run = Field(
        default_factory=lambda: Run.model_validate({}), description="a table with seed, requests and replicas"
    )
    sweep: Sweep | None = Field(None, description="a table with grid, zip or design: what is varied over the cells")
    figure: Figure | None = Field(
        None, description='a table such as {x = "workload.load", y = "failure_ratio", lines = "policy"}: what is drawn'
    )


SECTIONS: dict[str, type[Table]] = {"pool": Pool, "workload": Workload, "policy": Policy, "run": Run}
"""The tables that belong to a cell: what stands in them can be swept."""
