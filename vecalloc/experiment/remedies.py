"""Remedies as tables: what stands at `policy.reclaim`.

    reclaim = "compact[how=slide,budget=4]"                                    as on the command line
    reclaim = {kind = "swap", victim = "lru", disk = {latency = "8 ms"}}       key by key, so that each can be swept
    reclaim = ["compact", {kind = "swap", swap_space = "1GiB"}]                tried in this order

Which values an option takes, and what it means, stands in `vecalloc.reclaim.table` and `vecalloc.spec`. Here every key
of a table is checked by itself, so that all that is wrong is said at once, each with its path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, WrapValidator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from vecalloc.errors import InputError, did_you_mean
from vecalloc.experiment.complaints import MISSING, Complaint, Wrong, complaints_of
from vecalloc.experiment.fields import Table, one_key
from vecalloc.experiment.toml import as_toml, path_of, shown
from vecalloc.reclaim.table import (
    BUDGET,
    DISK_BANDWIDTH,
    HOW,
    LATENCY,
    LOAD,
    MEMORY_BANDWIDTH,
    PINNED,
    RELOCATE,
    SWAP_SPACE,
    VICTIM,
    WHEN,
    Option,
)
from vecalloc.spec import checked_remedy_option, label_of_reclaim, parse_reclaim

# --- the tables ------------------------------------------------------------------------------------------------------

_FORMS: dict[str, JsonSchemaValue] = {
    "when": {
        "anyOf": [
            {"const": "failure"},
            one_key("every", "integer", minimum=1),
            one_key("external_fragmentation", "number", exclusiveMinimum=0, exclusiveMaximum=1),
        ]
    },
    "budget": {"anyOf": [{"type": "number", "exclusiveMinimum": 1}, {"const": "none"}]},
    "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    "rate": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]},
    "duration": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
    "space": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
    "flag": {"type": "boolean"},
}
"""What the values of an option look like, by its form."""


@dataclass(frozen=True)
class _Checked:
    """A key that is an option of the table of remedies: checked as on the command line, described by its meaning."""

    option: Option

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        check = partial(checked_remedy_option, self.option, what=self.option.name)
        return core_schema.no_info_plain_validator_function(check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        form = _FORMS.get(self.option.form, {"enum": list(self.option.choices)})
        return {**form, "description": self.option.meaning}


class Compact(Table, title="compaction"):
    """Live blocks move, so that holes become one."""

    kind: Literal["compact"] = Field(description='"compact"')
    how: Annotated[Any, _Checked(HOW)] = HOW.default
    when: Annotated[Any, _Checked(WHEN)] = WHEN.default
    budget: Annotated[Any, _Checked(BUDGET)] = BUDGET.default
    pinned: Annotated[Any, _Checked(PINNED)] = PINNED.default
    bandwidth: Annotated[Any, _Checked(MEMORY_BANDWIDTH)] = MEMORY_BANDWIDTH.default


class Disk(Table, title="disk"):
    """Where idle processes go."""

    latency: Annotated[Any, _Checked(LATENCY)] = LATENCY.default
    bandwidth: Annotated[Any, _Checked(DISK_BANDWIDTH)] = DISK_BANDWIDTH.default


class Swap(Table, title="swapping"):
    """Idle processes leave for the disk until they work again."""

    kind: Literal["swap"] = Field(description='"swap"')
    victim: Annotated[Any, _Checked(VICTIM)] = VICTIM.default
    disk: Disk = Field(Disk(), description='a table such as {latency = "8 ms", bandwidth = "40 MB/s"}')
    swap_space: Annotated[Any, _Checked(SWAP_SPACE)] = SWAP_SPACE.default
    relocate: Annotated[Any, _Checked(RELOCATE)] = RELOCATE.default
    load: Annotated[Any, _Checked(LOAD)] = LOAD.default


_TABLES: dict[str, type[Compact] | type[Swap]] = {"compact": Compact, "swap": Swap}


# --- all of it -------------------------------------------------------------------------------------------------------


def _reclaim(value: Any, _: Any) -> Any:
    """What is written there, if it can be used; of tables and lists, everything that is wrong is said."""
    if isinstance(value, list):
        found = [Complaint((i, *path), text) for i, each in enumerate(value) for path, text in _wrong_remedy(each)]
    else:
        found = list(_wrong_remedy(value)) if isinstance(value, dict) else []
    if found:
        raise Wrong(found)
    parse_reclaim(value)
    return value


def _wrong_remedy(value: Any) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        try:
            parse_reclaim(value)
        except InputError as error:
            yield Complaint((), str(error))
        return
    kind = value.get("kind")
    remedy = f"write {' or '.join(map(shown, _TABLES))}"
    if "kind" not in value:
        yield Complaint(("kind",), f"{MISSING}: {remedy}")
    elif not isinstance(kind, str) or kind not in _TABLES:
        hint = did_you_mean(kind, _TABLES) if isinstance(kind, str) else ""
        yield Complaint(("kind",), f"{shown(kind)}{hint}: {remedy}")
    else:
        try:
            _TABLES[kind].model_validate(value)
        except ValidationError as error:
            yield from complaints_of(error, _TABLES[kind])


_Several = Annotated[list[str | Compact | Swap], Field(min_length=1)]
Reclaim = Annotated[str | Compact | Swap | _Several, WrapValidator(_reclaim)]


# --- sweeps ----------------------------------------------------------------------------------------------------------

KEY = "policy.reclaim"


def keys_of_remedy(above: str) -> Iterator[str]:
    """The dotted keys that the table of a remedy could have, `above` being its own."""
    for table in _TABLES.values():
        yield from (f"{above}.{key}" for key in table.model_fields)
    yield from (f"{above}.disk.{key}" for key in Disk.model_fields)
    yield from (f"{above}.when.{key}" for key in ("every", "external_fragmentation"))


def readable(key: str, value: Any) -> Any:
    """A swept value as a column shows it: remedies by their label, and other tables within them as a file has them."""
    path = path_of(key)
    if path[:2] != ("policy", "reclaim"):
        return value
    if len(path) == 2 or (len(path) == 3 and isinstance(path[2], int)):
        try:
            return label_of_reclaim(parse_reclaim(value))
        except InputError:  # a part of it that another swept key completes
            pass
    return as_toml(value) if isinstance(value, dict | list) else value
