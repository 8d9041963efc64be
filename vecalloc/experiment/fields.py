"""One value of the file at a time: how a size, a warm-up, a metric, a range is checked, and how the schema puts it.

What is wrong is said here in full; pydantic passes an `InputError` on as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, isfinite
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from vecalloc.errors import InputError, did_you_mean
from vecalloc.experiment.complaints import Complaint, Wrong
from vecalloc.experiment.toml import shown
from vecalloc.metrics import METRICS
from vecalloc.spec import LARGEST_POOL, checked_granule, parse_size

METRIC_NAMES = tuple(METRICS)
"""What `metrics` and `until.metric` may name."""


class Table(BaseModel):
    """A table of the file: exact types, no unknown keys, no infinities."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> "Table":
        if found := list(self._wrong()):
            raise Wrong(found)
        return self

    def _wrong(self) -> Iterator[Complaint]:
        """What is wrong between keys that are right in themselves."""
        return iter(())


def is_number(value: Any) -> bool:
    """Whether it is a whole number or a finite float, and no boolean."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False


# --- sizes -----------------------------------------------------------------------------------------------------------


def _bytes(value: Any) -> int:
    size = parse_size(value)
    if size > LARGEST_POOL:
        raise InputError(f"{shown(size)} bytes: write at most {LARGEST_POOL}")
    return size


def _pool_size(value: Any) -> int:
    if isinstance(value, str) and value.strip().endswith("x"):
        raise InputError(
            f"size is {value[:60]!r}, a factor of a recorded trace's peak load, but this workload is drawn: write a "
            "size such as 64KiB, and sweep workload.load to vary how full it gets"
        )
    return _bytes(value)


_SIZE_SCHEMA = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]})
Bytes = Annotated[int, PlainValidator(_bytes), _SIZE_SCHEMA]
PoolSize = Annotated[int, PlainValidator(_pool_size), _SIZE_SCHEMA]
Granule = Annotated[int, PlainValidator(checked_granule), _SIZE_SCHEMA]


# --- the warm-up -----------------------------------------------------------------------------------------------------


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


def _warmup(value: Any) -> Warmup:
    """A share, {time = ...}, {requests = ...} or "mser"."""
    if value == "mser":
        return Warmup("mser", 0.0)
    if isinstance(value, dict) and len(value) == 1 and {"time", "requests"} & value.keys():
        kind, amount = next(iter(value.items()))
        if is_number(amount) and amount >= 0 and (kind == "time" or isinstance(amount, int)):
            return Warmup(kind, float(amount))
    elif is_number(value) and 0 <= value < 1:
        return Warmup("share", float(value))
    elif is_number(value) and value >= 1:
        raise InputError(
            f"{shown(value)} is no share of the requests: write a number below 1, or "
            f"{{requests = {floor(value)}}}, or {{time = {value}}}"
        )
    raise InputError(f'{shown(value)}: write a share such as 0.1, {{time = 5.0}}, {{requests = 1000}} or "mser"')


def one_key(kind: str, form: str, **bounds: int) -> dict[str, Any]:
    """The schema of a table with just this key, a number within bounds."""
    number = {"type": form, **bounds}
    return {"type": "object", "properties": {kind: number}, "required": [kind], "additionalProperties": False}


WarmupField = Annotated[
    Warmup,
    PlainValidator(_warmup),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {"const": "mser"},
                one_key("time", "number", minimum=0),
                one_key("requests", "integer", minimum=0),
            ]
        }
    ),
]


# --- names and lists -------------------------------------------------------------------------------------------------


def _one_line(text: str) -> str:
    if not text.strip() or len(text.splitlines()) > 1:
        raise InputError(f"{shown(text)} is not one line: write the question in one")
    return text


def _metric(name: str) -> str:
    if name not in METRIC_NAMES:
        hint = did_you_mean(name, METRIC_NAMES)
        raise InputError(f"{shown(name)} is no metric{hint}: write one of {', '.join(METRIC_NAMES)}")
    return name


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        raise InputError(
            f'{shown(value)}: not a list: write the whole key in quotes, such as "workload.load" = [0.7, 0.8], where '
            "dots are meant"
        )
    if not isinstance(value, list) or not value:
        raise InputError(f"{shown(value)}: write a list of one value or more, such as [0.7, 0.8]")
    return value


def _range(ends: list[Any]) -> list[Any]:
    if len(ends) != 2 or not all(map(is_number, ends)) or not ends[0] < ends[1]:
        raise InputError(f"{shown(ends)} is no range: write two numbers, the lower one first")
    return ends


OneLine = Annotated[str, AfterValidator(_one_line)]
Metric = Annotated[str, AfterValidator(_metric), Field(json_schema_extra={"enum": sorted(METRIC_NAMES)})]
Names = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Values = Annotated[list[Any], BeforeValidator(_values)]
Range = Annotated[
    list[Any],
    AfterValidator(_range),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
]
