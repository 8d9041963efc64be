"""experiments/*.toml -> a checked, frozen Experiment -> its cells.

    text --tomllib--> tables --put in the swept values--> one file a cell --pydantic, laws, plans--> Cell, Cell, ...

A *cell* is one combination of swept values; a row of the results is a cell and a policy. The sweep puts its values into
the file as it was read, and each cell is then checked as if somebody had written that file: so any key can be swept,
and a swept value meets the same rules as a written one.

Nothing runs until everything is known to be usable. All complaints are raised at once, one line each: the key's path,
the value found there, what is wrong and the remedy. What every cell says is said once.

The models below are also the JSON Schema that editors complete and check by (`vecalloc schema`). Their descriptions
are written to stand behind the word *write*, because the complaints use them as the remedy. pydantic is imported here
and nowhere else; scipy only when a law is looked at; numba never.

Designs: scrambled Sobol points and Latin hypercubes of `scipy.stats.qmc`; for sensitivity indices the scheme of
Saltelli et al. (2010, Computer Physics Communications 181): matrices A and B from one Sobol sequence of twice the
dimension, and AB_i, which is A with its column i taken from B.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import product
from math import exp, floor, isfinite, log, prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo

from vecalloc.errors import InputError, did_you_mean
from vecalloc.metrics import METRICS
from vecalloc.spec import LARGEST_POOL, checked_granule, label_of, make_plan, parse_policy, parse_size, policies_of

FAILURES_BY_CAUSE = ("too_large_ratio", "capacity_ratio", "fragmentation_ratio")
"""Failed requests of one cause over requests."""

METRIC_NAMES = tuple(dict.fromkeys((*METRICS, *FAILURES_BY_CAUSE)))
"""What `metrics` and `until.metric` may name."""

DEFAULT_METRICS = (
    "failure_ratio",
    *FAILURES_BY_CAUSE,
    "internal_fragmentation",
    "external_fragmentation",
    "utilisation",
    "holes_per_block",
)

LARGEST_FILE = 1 << 24
"""Bytes of an experiment file."""

DEFAULT_REPLICAS = 64

MOST_CELLS = 10**6
MOST_RANGES = 1000
"""Of a design; scipy's Sobol sequence has 21,201 dimensions."""

ALWAYS_WAIT = ("saturated", "fill-then-free")
"""Arrivals that are a queue which never ends: a request that does not fit waits."""

_LINES_SHOWN = 50
_MISSING = "missing"


# --- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Warmup:
    """What is left out at the start of a replica.

    Attributes
    ----------
    kind : str
        "share" of the requests, "time", "requests", or "mser" (found by MSER-5).
    amount : float
        How much of it; 0 for "mser".
    """

    kind: str
    amount: float


@dataclass(frozen=True, slots=True)
class Target:
    """How narrow the interval of a metric must get; exactly one of `half_width` and `relative` is given.

    Attributes
    ----------
    metric : str
    half_width : float or None
        Of the interval, in the metric's unit.
    relative : float or None
        Half-width over the mean.
    confidence : float
    """

    metric: str
    half_width: float | None
    relative: float | None
    confidence: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of swept values: everything that a simulation of it needs, but for the number of replicas.

    Attributes
    ----------
    index : int
        Place among the experiment's cells.
    parameters : dict
        Swept key -> value as written; the columns of the rows.
    pool, granule : int
        In bytes.
    workload : dict
        The [workload] table after the sweep's values have been put in, for `vecalloc.workload.workload_of`. Cells share
        what is equal in it: not to be changed.
    policies : tuple of str
        Canonical labels.
    on_failure : str
        "drop", "wait", "grow" or "stop".
    queue_limit : int
        Requests that may wait before a replica is given up as unstable.
    requests : int
        That end a replica.
    warmup : Warmup
    seed : int
    """

    index: int
    parameters: dict[str, Any]
    pool: int
    granule: int
    workload: dict[str, Any]
    policies: tuple[str, ...]
    on_failure: str
    queue_limit: int
    requests: int
    warmup: Warmup
    seed: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which keys were swept, and how the cells of a design follow each other.

    Attributes
    ----------
    keys : tuple of str
        All swept keys, in the order of the file, those of the design last.
    method : str or None
        "sobol", "latin-hypercube", "sensitivity"; None without a design.
    design_keys : tuple of str
    points : int
        Of the design; 0 without one.

    Notes
    -----
    The design varies fastest: for each combination of grid and zip its cells are neighbours. For "sensitivity" they are
    d + 2 blocks of `points` cells: A, B, AB_1 .. AB_d. With the values y of one such run of cells,
    `f = y.reshape(d + 2, points)` gives `scipy.stats.sobol_indices(func={"f_A": f[:1], "f_B": f[1:2],
    "f_AB": f[2:, None]}, n=points)`.
    """

    keys: tuple[str, ...] = ()
    method: str | None = None
    design_keys: tuple[str, ...] = ()
    points: int = 0

    @property
    def design_cells(self) -> int:
        """Cells of the design for each combination of grid and zip; 1 without a design."""
        if self.method is None:
            return 1
        return self.points * (len(self.design_keys) + 2 if self.method == "sensitivity" else 1)

    def block(self, index: int) -> str | None:
        """Block of the cell with this index: "A", "B", "AB1", "AB2" ...; None unless the method is "sensitivity"."""
        if self.method != "sensitivity":
            return None
        k = index % self.design_cells // self.points
        return "AB"[k] if k < 2 else f"AB{k - 1}"


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment file, checked. It can be pickled.

    Attributes
    ----------
    name : str
        Stem of the file's name.
    question, text : str
        The question; the whole file as read.
    folder : Path
        That relative paths in the file start from.
    seed, requests, queue_limit : int
    on_failure : str
    warmup : Warmup
        As in the first cell, where they are swept.
    policies : tuple of str
        Canonical labels in the order of the file, of all cells.
    compare_to : str or None
        Label of the policy that paired differences are taken to.
    replicas : int or None
        Of each row; None where `until` is given.
    until : Target or None
    cap : int
        Most replicas with `until`.
    confidence : float
        Of the intervals in the table.
    metrics : tuple of str
        Names; the metric of `until` is among them.
    sweep : Sweep
    cells : tuple of Cell
    """

    name: str
    question: str
    text: str = field(repr=False)
    folder: Path
    seed: int
    policies: tuple[str, ...]
    compare_to: str | None
    on_failure: str
    queue_limit: int
    requests: int
    warmup: Warmup
    replicas: int | None
    until: Target | None
    cap: int
    confidence: float
    metrics: tuple[str, ...]
    sweep: Sweep
    cells: tuple[Cell, ...] = field(repr=False)


# --- from a file -----------------------------------------------------------------------------------------------------


def load_experiment(path: str | Path) -> Experiment:
    """Read and check an experiment file.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        If it cannot be read, or cannot be run as it is: a first line with the file, then a line for everything wrong.
    """
    path = Path(path)
    return _experiment_of(_read(path), path.stem, path.parent, str(path))


def experiment_of(text: str, name: str, folder: str | Path) -> Experiment:
    """Check an experiment that has been read.

    Parameters
    ----------
    text : str
        TOML.
    name : str
        Of the experiment.
    folder : str or Path
        That relative paths in it start from.

    Raises
    ------
    InputError
        If it cannot be run as it is: a first line with the name, then a line for everything wrong.
    """
    return _experiment_of(text, name, Path(folder), name)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an experiment file, for editors."""
    schema = _File.model_json_schema()
    for model in _SECTIONS.values():
        schema["$defs"][model.__name__].pop("required", None)  # the sweep may put it in
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            wrong = "is no regular file" if path.exists() else "no such file"
            raise InputError(f"{path}: {wrong}; name an experiment such as experiments/quickstart.toml")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError(f"{path}: has more than {LARGEST_FILE} bytes; name an experiment file")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: is not UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error}); check the path") from None


def _experiment_of(text: str, name: str, folder: Path, where: str) -> Experiment:
    raw = _parsed(text, where)
    base = {key: value for key, value in raw.items() if key != "sweep"}
    report = _Report(where)
    sweep, wrong = _checked_sweep(raw.get("sweep", {}), base)
    report.add(wrong)
    if wrong:
        sweep = _NO_SWEEP  # the rest of the file is checked without it
    report.swept, report.cells = sweep.summary().keys, sweep.size
    cells: list[Cell] = []
    together = _Together(folder, [path[-1] for path in _swept(raw.get("sweep"))] if wrong else [])
    for index, parameters in enumerate(_combinations(sweep)):
        file = _filled(base, parameters)
        sound, found = _sound_tables(file)
        if wrong:  # what is missing may have been swept
            found = [each for each in found if not each.text.startswith(_MISSING)]
        found = [*found, *together.complaints(file, sound, found)]
        report.add(found, parameters)
        if not report.found:
            cells.append(_cell(index, parameters, file, sound))
    if cells and "queue_limit" in base.get("policy", {}) and all(cell.on_failure != "wait" for cell in cells):
        text = f'{cells[0].queue_limit}: nothing waits: leave it out, or write on_failure = "wait"'
        report.add([_Complaint(("policy", "queue_limit"), text)])
    report.raise_if_any()
    assert sound.policy and sound.run
    return _experiment(text, name, folder, base["question"], sweep, tuple(cells), sound.policy, sound.run)


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        place = place.removesuffix(")")
        if not place.startswith("line"):
            place = f"line {len(text.splitlines())}, the end of the file"
        raise InputError(f"{where}, {place}: {what}; write TOML (https://toml.io)") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise InputError(f"{where}: cannot be read as TOML ({error}); write shorter numbers, and nest less") from None


# --- values ----------------------------------------------------------------------------------------------------------


class _Complaint(NamedTuple):
    """A thing that is wrong: where in the file; the value there, what is wrong with it and the remedy."""

    path: tuple[str | int, ...]
    text: str


class _Wrong(ValueError):
    """Several things that are wrong with a table: for each the path within it, and what."""

    def __init__(self, found: list[_Complaint]) -> None:
        super().__init__(found)
        self.found = found


def _pool_size(value: Any) -> int:
    if isinstance(value, str) and value.strip().endswith("x"):
        raise InputError(
            f"size is {value[:60]!r}, a factor of a recorded trace's peak load, but this workload is drawn: write a "
            "size such as 64KiB, and sweep workload.load to vary how full it gets"
        )
    return _bytes(value)


def _bytes(value: Any) -> int:
    size = parse_size(value)
    if size > LARGEST_POOL:
        raise InputError(f"{_shown(size)} bytes: write at most {LARGEST_POOL}")
    return size


def _warmup(value: Any) -> Warmup:
    """A share, {time = ...}, {requests = ...} or "mser"."""
    if value == "mser":
        return Warmup("mser", 0.0)
    if isinstance(value, dict) and len(value) == 1 and {"time", "requests"} & value.keys():
        kind, amount = next(iter(value.items()))
        if _is_number(amount) and amount >= 0 and (kind == "time" or isinstance(amount, int)):
            return Warmup(kind, float(amount))
    elif _is_number(value) and 0 <= value < 1:
        return Warmup("share", float(value))
    elif _is_number(value) and value >= 1:
        raise InputError(
            f"{_shown(value)} is no share of the requests: write a number below 1, or "
            f"{{requests = {floor(value)}}}, or {{time = {value}}}"
        )
    raise InputError(f'{_shown(value)}: write a share such as 0.1, {{time = 5.0}}, {{requests = 1000}} or "mser"')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False


def _metric(name: str) -> str:
    if name not in METRIC_NAMES:
        hint = did_you_mean(name, METRIC_NAMES)
        raise InputError(f"{_shown(name)} is no metric{hint}: write one of {', '.join(METRIC_NAMES)}")
    return name


def _one_line(text: str) -> str:
    if not text.strip() or len(text.splitlines()) > 1:
        raise InputError(f"{_shown(text)} is not one line: write the question in one")
    return text


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        raise InputError(
            f'{_shown(value)}: not a list: write the whole key in quotes, such as "workload.load" = [0.7, 0.8], where '
            "dots are meant"
        )
    if not isinstance(value, list) or not value:
        raise InputError(f"{_shown(value)}: write a list of one value or more, such as [0.7, 0.8]")
    return value


def _range(ends: list[Any]) -> list[Any]:
    if len(ends) != 2 or not all(map(_is_number, ends)) or not ends[0] < ends[1]:
        raise InputError(f"{_shown(ends)} is no range: write two numbers, the lower one first")
    return ends


_Metric = Annotated[str, AfterValidator(_metric), Field(json_schema_extra={"enum": sorted(METRIC_NAMES)})]
_Range = Annotated[
    list[Any],
    AfterValidator(_range),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
]
_SIZE_SCHEMA = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]})
_PoolSize = Annotated[int, PlainValidator(_pool_size), _SIZE_SCHEMA]
_Granule = Annotated[int, PlainValidator(checked_granule), _SIZE_SCHEMA]
_Bytes = Annotated[int, PlainValidator(_bytes), _SIZE_SCHEMA]
_WarmupTable = Annotated[
    Warmup,
    PlainValidator(_warmup),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {"const": "mser"},
                *(
                    {
                        "type": "object",
                        "properties": {kind: {"type": form, "minimum": 0}},
                        "required": [kind],
                        "additionalProperties": False,
                    }
                    for kind, form in (("time", "number"), ("requests", "integer"))
                ),
            ]
        }
    ),
]
_Use = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
_Values = Annotated[list[Any], BeforeValidator(_values)]


# --- laws ------------------------------------------------------------------------------------------------------------


class _Table(BaseModel):
    """A table of the file: exact types, no unknown keys, no infinities."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> "_Table":
        if found := list(self._wrong()):
            raise _Wrong(found)
        return self

    def _wrong(self) -> Iterator[_Complaint]:
        """What is wrong between keys that are right in themselves."""
        return iter(())


def _parameter(value: Any) -> Any:
    numbers = value if isinstance(value, list) else [value]
    if not all(map(_is_number, numbers)):
        raise InputError(f"{_shown(value)}: write a number, for it stands among the parameters of a law")
    return value


class _Dist(_Table):
    """A law of scipy.stats: its name, and beside it its parameters by scipy's names (s, a, df, loc, scale, ...)."""

    model_config = ConfigDict(extra="allow", title="law of scipy.stats")
    __pydantic_extra__: dict[
        str, Annotated[Any, AfterValidator(_parameter), WithJsonSchema({"type": ["number", "array"]})]
    ]
    dist: str = Field(
        description='the name of a law of scipy.stats, such as "lognorm", "expon" or "geom"; its parameters beside it'
    )


class _Mixture(_Table):
    """A mixture of laws: each value is drawn from one of them."""

    model_config = ConfigDict(title="mixture")
    mixture: list["_Part"] = Field(
        min_length=1, description='a list of weighted laws such as [{weight = 0.8, dist = "expon", scale = 100.0}, ...]'
    )


class _Pairs(_Table):
    """A table of values and their weights."""

    model_config = ConfigDict(title="table of values")
    table: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        min_length=1, description="a list of pairs of a value and its weight, such as [[16, 0.5], [64, 0.5]]"
    )


class _Trace(_Table):
    """The size histogram of a recorded trace; for sizes only."""

    model_config = ConfigDict(title="sizes of a trace")
    trace: str = Field(description="the path of a recorded trace, whose sizes are drawn as often as they occur in it")


class _Fleet(_Table):
    """A fleet profile: sizes with their rates and numbers; for sizes only."""

    model_config = ConfigDict(title="fleet profile")
    fleet: str = Field(
        description="the path of a CSV file of rows size, alloc_rate, num_live: sizes are drawn by their rate, "
        "and live for num_live / alloc_rate on average"
    )


class _Weighted(_Table):
    """What a component of a mixture has beside its law."""

    weight: float = Field(ge=0, description="a number from 0 up, the weight of this law; they need not add up to 1")


class _WeightedDist(_Weighted, _Dist):
    """A law of scipy.stats with its weight in a mixture."""

    model_config = ConfigDict(title="weighted law of scipy.stats")


class _WeightedMixture(_Weighted, _Mixture):
    """A mixture with its weight in a mixture."""

    model_config = ConfigDict(title="weighted mixture")


class _WeightedPairs(_Weighted, _Pairs):
    """A table of values with its weight in a mixture."""

    model_config = ConfigDict(title="weighted table of values")


class _WeightedTrace(_Weighted, _Trace):
    """A trace with its weight in a mixture; for sizes only."""

    model_config = ConfigDict(title="weighted sizes of a trace")


class _Bounded(_Table):
    """What sizes take beside their law; bounds apply after rounding."""

    min: _Bytes | None = Field(None, description="a size in bytes, the smallest that is requested")
    max: _Bytes | None = Field(None, description="a size in bytes, the largest that is requested")
    bounds: Literal["reject", "clip"] | None = Field(
        None, description='"reject" (draw again) or "clip" (take the bound) for sizes beyond min or max'
    )
    rounding: Literal["ceil", "round", "floor"] = Field(
        "ceil", description='"ceil", "round" or "floor" for how a size becomes whole bytes'
    )


class _SizeDist(_Bounded, _Dist):
    """A law of scipy.stats for sizes: its parameters by scipy's names (s, a, df, loc, scale, ...), and bounds."""

    model_config = ConfigDict(title="law of scipy.stats for sizes")


class _SizeMixture(_Bounded, _Mixture):
    """A mixture of laws for sizes, and bounds."""

    model_config = ConfigDict(title="mixture for sizes")


class _SizePairs(_Bounded, _Pairs):
    """A table of sizes and their weights, and bounds."""

    model_config = ConfigDict(title="table of sizes")


class _SizeTrace(_Bounded, _Trace):
    """The size histogram of a recorded trace, and bounds."""

    model_config = ConfigDict(title="sizes of a trace")


class _SizeFleet(_Bounded, _Fleet):
    """A fleet profile: sizes with their rates and numbers, and bounds."""

    model_config = ConfigDict(title="fleet profile")


def _tag_of_law(value: Any) -> str | None:
    """Which model a law is checked by; None where it is neither a number nor a table."""
    if isinstance(value, dict):
        return next((f"<{key}>" for key in ("mixture", "table", "trace", "fleet") if key in value), "<dist>")
    return "<number>" if _is_number(value) else None


_Part = Annotated[
    Annotated[_WeightedDist, Tag("<dist>")]
    | Annotated[_WeightedMixture, Tag("<mixture>")]
    | Annotated[_WeightedPairs, Tag("<table>")]
    | Annotated[_WeightedTrace, Tag("<trace>")],
    Discriminator(_tag_of_law),
]
for _model in (_Mixture, _WeightedMixture, _SizeMixture):
    _model.model_rebuild()  # their components are known now
_Law = Annotated[
    Annotated[float, Tag("<number>")]
    | Annotated[_Dist, Tag("<dist>")]
    | Annotated[_Mixture, Tag("<mixture>")]
    | Annotated[_Pairs, Tag("<table>")],
    Discriminator(_tag_of_law),
]
_SizeLaw = Annotated[
    Annotated[float, Tag("<number>")]
    | Annotated[_SizeDist, Tag("<dist>")]
    | Annotated[_SizeMixture, Tag("<mixture>")]
    | Annotated[_SizePairs, Tag("<table>")]
    | Annotated[_SizeTrace, Tag("<trace>")]
    | Annotated[_SizeFleet, Tag("<fleet>")],
    Discriminator(_tag_of_law),
]
_LAW = 'a number, a law such as {dist = "expon", scale = 1.0}, {mixture = [...]} or {table = [[value, weight], ...]}'


# --- the file --------------------------------------------------------------------------------------------------------


class _Pool(_Table):
    """What is allocated from."""

    model_config = ConfigDict(title="pool")
    size: _PoolSize = Field(description='bytes or a size such as "64KiB", a multiple of the granule')
    granule: _Granule = Field(16, description="bytes, a power of two such as 16, which blocks are multiples of")

    def _wrong(self) -> Iterator[_Complaint]:
        if self.size < 1 or self.size % self.granule:
            near = max(self.granule, -(-self.size // self.granule) * self.granule)
            text = f"{self.size} bytes: no positive multiple of the granule {self.granule}: write {near}"
            yield _Complaint(("size",), text)


class _Phase(_Table):
    """A segment of a replica's time."""

    model_config = ConfigDict(title="phase")
    duration: float = Field(gt=0, description="a positive time, how long the phase lasts")
    rate: float = Field(1.0, ge=0, description="a number from 0 up, which the workload's rate is multiplied by")
    lifetimes: (
        Annotated[
            Annotated[Literal["phase", "forever"], Tag("<word>")]
            | Annotated[float, Tag("<number>")]
            | Annotated[_Dist, Tag("<dist>")]
            | Annotated[_Mixture, Tag("<mixture>")]
            | Annotated[_Pairs, Tag("<table>")],
            Discriminator(lambda value: "<word>" if isinstance(value, str) else _tag_of_law(value)),
        ]
        | None
    ) = Field(None, description='"phase" for blocks that live until the phase ends, "forever", or a law')


class _Workload(_Table):
    """What is asked for, and when."""

    model_config = ConfigDict(title="workload")
    sizes: _SizeLaw = Field(
        description=f"{_LAW}, {{trace = path}}, {{fleet = path}}: bytes asked for; beside the law min, max, bounds, "
        "rounding"
    )
    lifetimes: _Law | None = Field(None, description=f"{_LAW}: time from the placement of a block to its free")
    arrivals: Annotated[
        Annotated[Literal["poisson", "tick", "saturated", "fill-then-free"], Tag("<word>")]
        | Annotated[_Dist, Tag("<dist>")]
        | Annotated[_Mixture, Tag("<mixture>")]
        | Annotated[_Pairs, Tag("<table>")],
        Discriminator(lambda value: "<word>" if isinstance(value, str) else _tag_of_law(value)),
    ] = Field(
        "poisson",
        description='"poisson", "tick" (at equal gaps, of 1 unless load or rate says else), "saturated" (always a '
        'queue), "fill-then-free" (fill the pool, then free blocks at random), or a law of the time between arrivals',
    )
    batch: Annotated[
        Annotated[int, Field(ge=1), Tag("<number>")]
        | Annotated[_Dist, Tag("<dist>")]
        | Annotated[_Mixture, Tag("<mixture>")]
        | Annotated[_Pairs, Tag("<table>")],
        Discriminator(_tag_of_law),
    ] = Field(1, description="a whole number from 1 up, or a law: requests that arrive at once")
    load: float | None = Field(
        None, gt=0, description="a positive number: rate x mean life x mean requested bytes / pool"
    )
    rate: float | None = Field(None, gt=0, description="a positive number: requests in a unit of time")
    phases: list[_Phase] | None = Field(
        None, min_length=1, description="a list of phases such as [{duration = 10.0, rate = 2.0}, ...]"
    )


class _Policy(_Table):
    """Who allocates."""

    model_config = ConfigDict(title="policy")
    use: _Use = Field(
        default_factory=lambda: ["all"],
        description='"all" (so by default), or a list of policies such as ["first-fit", "best-fit[ties=lifo]"]',
    )
    on_failure: Literal["drop", "wait", "grow", "stop"] | None = Field(
        None,
        description='"drop", "wait", "grow" or "stop": what becomes of a request that does not fit ("drop" by default, '
        '"wait" where arrivals are a queue that never ends)',
    )
    compare_to: str | None = Field(
        None, description='a policy of use, which differences are taken to (by default "best-fit", where it is used)'
    )
    queue_limit: int = Field(
        1 << 20, ge=1, le=1 << 40, description="a whole number from 1 up: requests that may wait before a replica ends"
    )


class _Until(_Table):
    """How narrow an interval must get."""

    model_config = ConfigDict(title="precision target")
    metric: _Metric = Field(description='the name of a metric, such as "failure_ratio"')
    half_width: float | None = Field(None, gt=0, description="a positive number, half the width of the interval")
    relative: float | None = Field(None, gt=0, description="a positive number, half the width over the mean")
    confidence: float | None = Field(
        None, gt=0, lt=1, description="a number between 0 and 1, by default that of the table"
    )

    def _wrong(self) -> Iterator[_Complaint]:
        if self.half_width is None and self.relative is None:
            yield _Complaint(
                ("half_width",), f"{_MISSING}: write how narrow, such as half_width = 0.001 or relative = 0.05"
            )
        if self.half_width is not None and self.relative is not None:
            yield _Complaint(
                ("half_width",), f"{self.half_width}: relative is given too, {self.relative}: write one of them"
            )


class _Run(_Table):
    """How much is simulated."""

    model_config = ConfigDict(title="run")
    seed: int = Field(1, ge=0, lt=1 << 63, description="a whole number from 0 up, which all random streams depend on")
    requests: int = Field(10_000, ge=1, le=1 << 53, description="a whole number from 1 up: requests that end a replica")
    warmup: _WarmupTable = Field(
        default_factory=lambda: Warmup("share", 0.1),
        description='a share such as 0.1 (so by default), {time = 5.0}, {requests = 1000} or "mser": what is left out '
        "at the start",
    )
    replicas: int | None = Field(
        None, ge=1, le=1 << 31, description="a whole number from 1 up, the replicas of each row; or write until"
    )
    until: _Until | None = Field(
        None, description='a target such as {metric = "failure_ratio", half_width = 0.001, confidence = 0.99}'
    )
    cap: int = Field(4096, ge=1, le=1 << 31, description="a whole number from 1 up: the most replicas with until")
    confidence: float = Field(0.95, gt=0, lt=1, description="a number between 0 and 1, of the intervals in the table")
    metrics: list[_Metric] = Field(
        list(DEFAULT_METRICS), min_length=1, description='a list of metrics such as ["failure_ratio", "utilisation"]'
    )

    def _wrong(self) -> Iterator[_Complaint]:
        if self.replicas is not None and self.until is not None:
            yield _Complaint(("replicas",), f"{self.replicas}: until is given too: write one of them")
        if "cap" in self.model_fields_set and self.until is None:
            yield _Complaint(("cap",), f"{self.cap}: there is no until that it could end: leave it out, or write until")
        if self.warmup.kind == "requests" and self.warmup.amount >= self.requests:
            yield _Complaint(
                ("warmup", "requests"),
                f"{self.warmup.amount:.0f}: nothing is left of {self.requests} requests: write fewer",
            )


class _Design(_Table):
    """Points that fill a box of parameters evenly."""

    model_config = ConfigDict(title="design")
    method: Literal["sobol", "latin-hypercube", "sensitivity"] = Field(
        description='"sobol", "latin-hypercube" or "sensitivity" (for Sobol indices)'
    )
    points: int = Field(ge=1, le=MOST_CELLS, description="a whole number from 1 up; for Sobol points a power of two")
    seed: int = Field(0, ge=0, lt=1 << 63, description="a whole number from 0 up, which the points depend on")
    ranges: dict[str, _Range] = Field(
        min_length=1,
        max_length=MOST_RANGES,
        description='a table of keys in quotes and their lowest and highest values, such as {"workload.load" = [0.5, '
        "1.5]}; where both are whole, whole numbers are taken, each as often",
    )
    log: list[str] = Field([], description="a list of keys of ranges whose logarithm is spread evenly")

    def _wrong(self) -> Iterator[_Complaint]:
        if self.method != "latin-hypercube" and self.points & (self.points - 1):
            following = 1 << self.points.bit_length()
            yield _Complaint(("points",), f"{self.points}: Sobol points are a power of two: write {following}")
        for key in self.log:
            if key not in self.ranges:
                hint = did_you_mean(key, self.ranges)
                yield _Complaint(("log",), f"{_shown(key)}: not among the ranges{hint}: write one of them")
            elif self.ranges[key][0] <= 0:
                low = self.ranges[key][0]
                yield _Complaint(("ranges", key), f"{low}: has no logarithm: write a positive lower end, or no log")


class _Sweep(_Table):
    """What is varied over the cells; grid, zip and design are crossed."""

    model_config = ConfigDict(title="sweep")
    grid: dict[str, _Values] = Field(
        {},
        description='a table of keys in quotes and lists of values, such as {"workload.load" = [0.7, 0.8, 0.9]}, which '
        "are combined in all ways",
    )
    zip: dict[str, _Values] = Field(
        {},
        description="a table of keys in quotes and lists of equal length, such as "
        '{"pool.size" = ["1KiB", "2KiB"], "workload.load" = [0.5, 0.6]}, whose values go side by side',
    )
    design: _Design | None = Field(
        None,
        description='a table such as {method = "sobol", points = 64, ranges = {"workload.load" = [0.5, 1.5]}}',
    )

    def _wrong(self) -> Iterator[_Complaint]:
        yield from self._wrong_lists()
        if self.size > MOST_CELLS:
            yield _Complaint((), f"{self.size:,} cells: write a sweep of at most {MOST_CELLS:,}")

    def _wrong_lists(self) -> Iterator[_Complaint]:
        for key, values in self.grid.items():
            for text, count in Counter(map(_as_toml, values)).items():
                if count > 1:
                    yield _Complaint(("grid", key), f"{text}: stands there {count} times: write it once")
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            yield _Complaint(("zip",), f"lists of unequal length ({shown}): write as many values for each key")

    @property
    def size(self) -> int:
        """Number of cells."""
        zipped = min((len(values) for values in self.zip.values()), default=1)
        return prod(map(len, self.grid.values())) * zipped * self.summary().design_cells

    def summary(self) -> Sweep:
        """What the results remember of it."""
        keys = (*self.grid, *self.zip)
        if self.design is None:
            return Sweep(keys)
        ranges = tuple(self.design.ranges)
        return Sweep((*keys, *ranges), self.design.method, ranges, self.design.points)


_NO_SWEEP = _Sweep.model_validate({})


class _File(_Table):
    """An experiment of vecalloc: a workload, a pool, policies, and how much is simulated."""

    model_config = ConfigDict(title="vecalloc experiment")
    question: Annotated[str, AfterValidator(_one_line)] = Field(
        description='one line that says what is asked, such as "Which policy fails least as the load grows?"'
    )
    pool: _Pool = Field(description="a table with the size of the pool")
    workload: _Workload = Field(description="a table with sizes, lifetimes and load")
    policy: _Policy = Field(
        default_factory=lambda: _Policy.model_validate({}), description="a table with the policies to use"
    )
    run: _Run = Field(
        default_factory=lambda: _Run.model_validate({}), description="a table with seed, requests and replicas"
    )
    sweep: _Sweep | None = Field(None, description="a table with grid, zip or design: what is varied over the cells")


_SECTIONS: dict[str, type[_Table]] = {"pool": _Pool, "workload": _Workload, "policy": _Policy, "run": _Run}

_OF_ALL_CELLS = (
    "question", "sweep", "policy.compare_to", "run.replicas", "run.until", "run.cap", "run.confidence", "run.metrics",
)  # fmt: skip
"""Keys that cannot be swept."""


# --- complaints ------------------------------------------------------------------------------------------------------


def _complaints_of(error: ValidationError, above: tuple[str, ...] = ()) -> Iterator[_Complaint]:
    """pydantic's errors in our words; `above` is where in the file its model stands."""
    for each in error.errors(include_url=False):
        place = _place((*above, *each["loc"]))
        context = each.get("ctx", {})
        cause = context.get("error")
        if isinstance(cause, _Wrong):
            for inner, text in cause.found:
                yield _Complaint((*place.path, *inner), text)
        elif isinstance(cause, InputError):
            yield _Complaint(place.path, str(cause))
        else:
            yield _Complaint(place.path, _sentence(each["type"], each["input"], context, place))


class _Place(NamedTuple):
    """Where in the file: the path, the model of the table that its last key stands in, and that key's field."""

    path: tuple[str | int, ...]
    table: type[BaseModel] | None
    field: FieldInfo | None


def _place(location: Sequence[str | int]) -> _Place:
    """Where an error of pydantic's is: its location, in which the tag of a choice stands behind the key."""
    path: list[str | int] = []
    model: type[BaseModel] | None = _File
    table: type[BaseModel] | None = None
    field: FieldInfo | None = None
    choices: dict[str, type[BaseModel] | None] = {}
    for part in location:
        if isinstance(part, str) and part in choices:
            model, choices = choices[part], {}
            continue
        path.append(part)
        if isinstance(part, str) and model is not None:
            table, field = model, model.model_fields.get(part)
            choices = dict(_choices_in(field.annotation)) if field else {}
            model = choices.pop("", None)
    return _Place(tuple(path), table, field)


def _choices_in(annotation: Any, tag: str = "") -> Iterator[tuple[str, type[BaseModel] | None]]:
    """The tags in an annotation and the models that they stand for; "" for a model without a tag."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tag, annotation
        return
    for each in getattr(annotation, "__metadata__", ()):
        if isinstance(each, Tag):
            tag = each.tag
            yield tag, None
    for inner in get_args(annotation):
        yield from _choices_in(inner, tag)


def _sentence(kind: str, value: Any, context: Mapping[str, Any], place: _Place) -> str:
    """One error of pydantic -> the value, what is wrong with it and the remedy."""
    if kind == "extra_forbidden" and place.table is not None:
        known = place.table.model_fields
        hint = did_you_mean(str(place.path[-1]), known)
        return f"{_shown(value)}: unknown key{hint}: the keys here are {', '.join(known)}"
    remedy = f"write {place.field.description if place.field else 'a number'}"
    if kind == "missing":
        return f"{_MISSING}: {remedy}"
    hint = ""
    if kind == "literal_error":
        hint = did_you_mean(str(value), re.findall("'([^']*)'", context["expected"]))
    return f"{_shown(value)}{hint}: {remedy}"


def _shown(value: Any) -> str:
    """A value as TOML writes it, at most 60 characters of it."""
    text = _as_toml(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_bare(key)} = {_as_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return _number_text(value)


def _number_text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python converts
        return "a number of thousands of digits"


def _bare(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _steps(path: Sequence[str | int]) -> str:
    """Write a path: .policy.use[1]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_bare(part)}" for part in path)


class _Report:
    """All complaints about a file, those of many cells counted and said once.

    What is said of every cell, or of a swept value, needs no cell beside it; else the first cell is named.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.swept: tuple[str, ...] = ()
        self.cells = 1
        self.found: dict[_Complaint, tuple[int, dict[str, Any]]] = {}

    def add(self, complaints: Iterable[_Complaint], parameters: dict[str, Any] | None = None) -> None:
        """Add what was found, in the cell with these parameters."""
        for complaint in dict.fromkeys(complaints):
            count, first = self.found.get(complaint, (0, parameters or {}))
            self.found[complaint] = count + 1, first

    def raise_if_any(self) -> None:
        """Raise one InputError of everything, where there is something."""
        if not self.found:
            return
        lines = [self._line(complaint, *seen) for complaint, seen in self.found.items()]
        if len(lines) > _LINES_SHOWN:
            lines[_LINES_SHOWN:] = [f"and {len(lines) - _LINES_SHOWN:,} more"]
        raise InputError("\n  ".join([f"{self.where}: cannot be run as it is", *lines]))

    def _line(self, complaint: _Complaint, count: int, first: dict[str, Any]) -> str:
        path, text = complaint
        where = _steps(path)[1:]
        line = f"{where}: {text}" if where else text
        for key in self.swept:
            written = _steps(_parts(key))[1:]
            if line.startswith(written) and not line[len(written)].isalnum():
                return f"{key}{line[len(written) :]} (swept)"
        if count == self.cells or not first:
            return line
        cell = ", ".join(f"{key} = {_shown(value)}" for key, value in first.items())
        return f"{line} (in {count:,} of {self.cells:,} cells, first where {cell})"


# --- the sweep -------------------------------------------------------------------------------------------------------


def _parts(key: str) -> tuple[str | int, ...]:
    """A dotted key -> the steps of its path."""
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 10 else part for part in key.split("."))


def _filled(base: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The file of a cell; where a table and a key of it are both swept, the table is put in first."""
    file = base
    for key in sorted(parameters, key=lambda key: key.count(".")):
        section, dot, _ = key.partition(".")
        if not dot or isinstance(base.get(section, {}), dict):  # else the section is complained of
            file = _put(file, _parts(key), parameters[key])
    return file


def _put(tree: Any, path: Sequence[str | int], value: Any) -> Any:
    """The tree with this value at this path; what is not on the path is shared, not copied.

    Where the path leads into something that is no table, a table takes its place: the check of the cell says the rest.
    """
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int) and isinstance(tree, list) and step < len(tree):
        return [_put(each, rest, value) if i == step else each for i, each in enumerate(tree)]
    inner = tree if isinstance(tree, dict) else {}
    return {**inner, str(step): _put(inner.get(str(step), {}), rest, value)}


def _checked_sweep(raw: Any, base: dict[str, Any]) -> tuple[_Sweep, list[_Complaint]]:
    """The [sweep] table, and what is wrong with it."""
    wrong = list(_wrong_keys(_swept(raw), base))
    try:
        return _Sweep.model_validate(raw), wrong
    except ValidationError as error:
        return _NO_SWEEP, [*wrong, *_complaints_of(error, ("sweep",))]


def _swept(raw: Any) -> list[tuple[str, ...]]:
    """The paths of the swept keys in a [sweep] table, whatever else it is."""
    found: list[tuple[str, ...]] = []
    for part in (("grid",), ("zip",), ("design", "ranges")):
        table = raw
        for step in part:
            table = table.get(step) if isinstance(table, dict) else None
        found += [(*part, key) for key in table] if isinstance(table, dict) else []
    return found


def _wrong_keys(swept: list[tuple[str, ...]], base: dict[str, Any]) -> Iterator[_Complaint]:
    """Swept keys that are none of the file, or not to be swept, or swept twice."""
    known = set(_keys_of(base)) | {f"{name}.{key}" for name, model in _SECTIONS.items() for key in model.model_fields}
    known -= {key for key in known if _is_of_all_cells(key)}
    seen: dict[str, str] = {}
    for *part, key in swept:
        path = ("sweep", *part, key)
        if key in seen:
            yield _Complaint(path, f"swept in {seen[key]} too: write it in one of them")
        elif _is_of_all_cells(key):
            yield _Complaint(path, "holds for all cells, and cannot be swept: write it once in its own table")
        elif not (key in known or _is_parameter(key, base) or any(_is_within(key, other[-1]) for other in swept)):
            yield _Complaint(path, f"no such key{did_you_mean(key, known)}: write one of pool, workload, policy or run")
        seen.setdefault(key, ".".join(part))


def _is_within(key: str, other: str) -> bool:
    """Whether a dotted key is one of the table at another key."""
    return key.startswith(f"{other}.")


def _is_of_all_cells(key: str) -> bool:
    return any(key == whole or _is_within(key, whole) or _is_within(whole, key) for whole in _OF_ALL_CELLS)


def _keys_of(tree: Any, above: str = "") -> Iterator[str]:
    """Every dotted key of the file, those that its laws and phases could have besides."""
    steps: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, dict):
        steps = tree.items()
        if above == "workload.sizes":
            yield from (f"{above}.{key}" for key in _Bounded.model_fields)
        elif above.startswith("workload.phases."):
            yield from (f"{above}.{key}" for key in _Phase.model_fields)
    elif isinstance(tree, list):
        steps = enumerate(tree)
    for step, inner in steps:
        key = f"{above}.{step}" if above else str(step)
        yield key
        yield from _keys_of(inner, key)


def _is_parameter(key: str, base: dict[str, Any]) -> bool:
    """Whether this could be a parameter of a law of scipy.stats (whether it is one, the law says)."""
    tree: Any = base
    for step in _parts(key)[:-1]:
        try:
            tree = tree[step]
        except (LookupError, TypeError):
            return False
    return isinstance(tree, dict) and "dist" in tree


def _combinations(sweep: _Sweep) -> Iterator[dict[str, Any]]:
    """The swept values of each cell, the design's varying fastest."""
    axes: list[list[dict[str, Any]]] = [[{key: value} for value in values] for key, values in sweep.grid.items()]
    if sweep.zip:
        rows = zip(*sweep.zip.values(), strict=True)
        axes.append([dict(zip(sweep.zip, row, strict=True)) for row in rows])
    if sweep.design:
        axes.append(_design_points(sweep.design))
    for parts in product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def _design_points(design: _Design) -> list[dict[str, Any]]:
    """The points of a design: for "sensitivity" A, then B, then AB_1 .. AB_d."""
    from scipy.stats import qmc

    d = len(design.ranges)
    if design.method == "latin-hypercube":
        blocks = [qmc.LatinHypercube(d, rng=design.seed).random(design.points)]
    elif design.method == "sobol":
        blocks = [qmc.Sobol(d, rng=design.seed).random(design.points)]
    else:
        both = qmc.Sobol(2 * d, rng=design.seed).random(design.points)
        a, b = both[:, :d], both[:, d:]
        blocks = [a, b, *(np.where(np.arange(d) == i, b, a) for i in range(d))]
    return [
        {
            key: _scaled(u, low, high, key in design.log)
            for u, (key, (low, high)) in zip(point, design.ranges.items(), strict=True)
        }
        for block in blocks
        for point in block.tolist()
    ]


def _scaled(u: float, low: Any, high: Any, logarithmic: bool) -> Any:
    """A number of [0, 1) -> the range; between whole ends a whole number, each of them as often."""
    whole = isinstance(low, int) and isinstance(high, int)
    start, end = (low - 0.5, high + 0.5) if whole else (low, high)
    value = exp(log(start) + u * (log(end) - log(start))) if logarithmic else start + u * (end - start)
    return min(max(floor(value + 0.5) if whole else value, low), high)


# --- cells -----------------------------------------------------------------------------------------------------------


class _Sound(NamedTuple):
    """The tables of a cell's file that are right in themselves; None where one is not."""

    pool: _Pool | None
    workload: _Workload | None
    policy: _Policy | None
    run: _Run | None


def _sound_tables(raw: dict[str, Any]) -> tuple[_Sound, list[_Complaint]]:
    """Check a whole file; where something is wrong, its other tables can still be checked against each other."""
    try:
        file = _File.model_validate(raw)
    except ValidationError as error:
        sound: dict[str, Any] = {}
        for name, model in _SECTIONS.items():
            try:
                sound[name] = model.model_validate(raw.get(name, {}))
            except ValidationError:
                sound[name] = None
        return _Sound(**sound), list(_complaints_of(error))
    return _Sound(file.pool, file.workload, file.policy, file.run), []


class _Together:
    """What no table of a file shows by itself: policies and the pool, laws and a load.

    Parameters
    ----------
    folder : Path
        Of the files that the workload names.
    unseen : list of str
        Keys that a broken sweep would have put in: what depends on them is left alone.
    """

    def __init__(self, folder: Path, unseen: list[str]) -> None:
        self.unseen = unseen
        self._wrong_parts = lru_cache(4096)(partial(_wrong_parts, folder))  # many cells have the same workload

    def complaints(self, file: dict[str, Any], sound: _Sound, found: list[_Complaint]) -> Iterator[_Complaint]:
        """Everything that is wrong beside what is `found`."""
        tables = {name: table if isinstance(table := file.get(name), dict) else {} for name in _SECTIONS}
        yield from _wrong_policies(tables["policy"], sound.pool if self._sees("pool") else None)
        if sound.policy and sound.workload and self._sees("policy.on_failure") and self._sees("workload.arrivals"):
            yield from _wrong_failure(sound.policy.on_failure, sound.workload.arrivals)
        refused = {path[1] for path, _ in found if path[0] == "workload" and len(path) > 1}
        parts = {
            key: value
            for key, value in tables["workload"].items()
            if key in _HARMLESS and key not in refused and not isinstance(value, str) and self._sees(f"workload.{key}")
        }
        whole = sound.workload is not None and self._sees("workload")
        written = json.dumps(tables["workload"] if whole else parts)
        yield from self._wrong_parts(written, tuple(parts), whole)

    def _sees(self, key: str) -> bool:
        return not any(key == other or _is_within(other, key) or _is_within(key, other) for other in self.unseen)


def _wrong_failure(on_failure: str | None, arrivals: Any) -> Iterator[_Complaint]:
    if arrivals in ALWAYS_WAIT and on_failure not in (None, "wait"):
        text = f'{_shown(on_failure)}: with arrivals = "{arrivals}" requests wait: leave it out'
        yield _Complaint(("policy", "on_failure"), text)


def _wrong_policies(table: dict[str, Any], pool: _Pool | None) -> Iterator[_Complaint]:
    """Policies that are not known, or that cannot serve the pool (where there is one)."""
    use = table.get("use", "all")
    above: tuple[str | int, ...] = ("policy", "use")
    entries = [((*above, i), text) for i, text in enumerate(use)] if isinstance(use, list) else [(above, use)]
    labels: list[str] = []
    for path, text in entries:
        if not isinstance(text, str):  # pydantic says so
            return
        if wrong := _refusal(_labels_of, text):
            yield _Complaint(path, wrong)
            continue
        labels += _labels_of(text)
        plans = (_refusal(_planned, label, pool.size, pool.granule) for label in _labels_of(text)) if pool else ()
        yield from (_Complaint(path, wrong) for wrong in plans if wrong)
    compare_to = table.get("compare_to")
    if isinstance(compare_to, str) and (wrong := _wrong_comparison(compare_to, labels)):
        yield _Complaint(("policy", "compare_to"), wrong)


def _wrong_comparison(compare_to: str, labels: list[str]) -> str | None:
    if wrong := _refusal(parse_policy, compare_to):
        return wrong
    label = label_of(*parse_policy(compare_to))
    if label in labels:
        return None
    return f"{_shown(label)}: not among the policies{did_you_mean(label, labels)}: write one of {', '.join(labels)}"


@lru_cache(1024)
def _labels_of(text: str) -> tuple[str, ...]:
    """The canonical forms of the policies that an entry of `use` names."""
    return tuple(label_of(*parse_policy(name)) for name in policies_of(text))


_planned = lru_cache(4096)(make_plan)


def _refusal(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> str | None:
    """Say why the function does not take these; None: it does."""
    try:
        function(*arguments, **keywords)
    except InputError as error:
        return str(error)
    return None


_HARMLESS: dict[str, Any] = {
    "sizes": 1, "lifetimes": 1, "arrivals": {"dist": "expon"}, "batch": 1, "phases": [{"duration": 1}],
}  # fmt: skip
"""The parts of a workload that are laws or hold some, and what can stand for them while the others are tried."""


def _wrong_parts(folder: Path, written: str, parts: tuple[str, ...], whole: bool) -> tuple[_Complaint, ...]:
    """What is wrong with a workload, as JSON: with each of the parts alone; and if it is the whole, with the rest."""
    from vecalloc.workload import workload_of

    table = json.loads(written)
    try_out = partial(_refusal, workload_of, key="workload", folder=folder)
    if whole and not try_out(table):
        return ()
    alone = {key: try_out({"sizes": 1, "lifetimes": 1, "rate": 1, key: table[key]}) for key in parts}
    refused = {key: why for key, why in alone.items() if why}
    found: list[str | None] = list(refused.values())
    if whole:
        rest = {**table, **{key: _HARMLESS[key] for key in refused}}
        is_fleet = isinstance(table["sizes"], dict) and "fleet" in table["sizes"]
        if is_fleet and "sizes" in refused and table.get("arrivals") != "fill-then-free":
            rest.setdefault("lifetimes", 1)  # a fleet has its own
        found.append(try_out(rest))
    texts = [why if why.startswith("workload") else f"workload: {why}" for why in found if why]
    return tuple(_Complaint((), text) for text in texts)


def _cell(index: int, parameters: dict[str, Any], raw: dict[str, Any], sound: _Sound) -> Cell:
    """The cell of a file in which nothing is wrong."""
    pool, workload, policy, run = sound
    assert pool and workload and policy and run
    always_waits = workload.arrivals in ALWAYS_WAIT
    return Cell(
        index=index,
        parameters=parameters,
        pool=pool.size,
        granule=pool.granule,
        workload=raw["workload"],
        policies=tuple(dict.fromkeys(label for text in policy.use for label in _labels_of(text))),
        on_failure=policy.on_failure or ("wait" if always_waits else "drop"),
        queue_limit=policy.queue_limit,
        requests=run.requests,
        warmup=run.warmup,
        seed=run.seed,
    )


def _experiment(
    text: str,
    name: str,
    folder: Path,
    question: str,
    sweep: _Sweep,
    cells: tuple[Cell, ...],
    policy: _Policy,
    run: _Run,
) -> Experiment:
    """All of it; `policy` and `run` are those of any cell."""
    first, until = cells[0], run.until
    return Experiment(
        name=name,
        question=question,
        text=text,
        folder=folder,
        seed=first.seed,
        policies=tuple(dict.fromkeys(label for cell in cells for label in cell.policies)),
        compare_to=_compared_to(policy, cells),
        on_failure=first.on_failure,
        queue_limit=first.queue_limit,
        requests=first.requests,
        warmup=first.warmup,
        replicas=None if until else run.replicas or DEFAULT_REPLICAS,
        until=_target(until, run.confidence) if until else None,
        cap=run.cap,
        confidence=run.confidence,
        metrics=tuple(dict.fromkeys([*run.metrics, *([until.metric] if until else [])])),
        sweep=sweep.summary(),
        cells=cells,
    )


def _target(until: _Until, confidence: float) -> Target:
    return Target(until.metric, until.half_width, until.relative, until.confidence or confidence)


def _compared_to(policy: _Policy, cells: Sequence[Cell]) -> str | None:
    """The label that differences are taken to: as written, or best-fit where every cell has it."""
    if policy.compare_to is not None:
        return label_of(*parse_policy(policy.compare_to))
    return "best-fit" if all("best-fit" in cell.policies for cell in cells) else None
