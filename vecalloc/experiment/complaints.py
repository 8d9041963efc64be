"""What is wrong with a file, gathered until it can all be said at once.

pydantic tells what it met (`missing`, `literal_error`), and where, with the tags of its choices in between. Here that
becomes a sentence of ours: the key's path in the file, the value found there, what is wrong with it and the remedy,
which is "write" and the description of the field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo

from vecalloc.errors import InputError, did_you_mean
from vecalloc.experiment.toml import KeyPath, path_of, shown, written

MISSING = "missing"
"""What the text of a complaint about a key that is not there begins with."""

_LINES_SHOWN = 50


class Complaint(NamedTuple):
    """A thing that is wrong: where in the file; the value there, what is wrong with it and the remedy."""

    path: KeyPath
    text: str


class Wrong(ValueError):
    """Several things that are wrong with a table: for each the path within it, and what."""

    def __init__(self, found: list[Complaint]) -> None:
        super().__init__(found)
        self.found = found


class Report:
    """All complaints about a file, those of many cells counted and said once.

    What is said of every cell, or of a swept value, needs no cell beside it; else the first cell is named.

    Parameters
    ----------
    where : str
        The file.
    swept : sequence of str
        Dotted keys.
    cells : int
        That will be looked at.
    """

    def __init__(self, where: str, swept: Sequence[str], cells: int) -> None:
        self.where, self.swept, self.cells = where, swept, cells
        self.found: dict[Complaint, tuple[int, dict[str, Any]]] = {}

    def add(self, complaints: Iterable[Complaint], parameters: dict[str, Any] | None = None) -> None:
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

    def _line(self, complaint: Complaint, count: int, first: dict[str, Any]) -> str:
        where = written(complaint.path)
        line = f"{where}: {complaint.text}" if where else complaint.text
        for key in self.swept:
            place = written(path_of(key))
            if line.startswith(place) and not line[len(place)].isalnum():
                return f"{key}{line[len(place) :]} (swept)"
        if count == self.cells or not first:
            return line
        cell = ", ".join(f"{key} = {shown(value)}" for key, value in first.items())
        return f"{line} (in {count:,} of {self.cells:,} cells, first where {cell})"


# --- pydantic's ------------------------------------------------------------------------------------------------------


def complaints_of(error: ValidationError, file: type[BaseModel], above: KeyPath = ()) -> Iterator[Complaint]:
    """pydantic's errors in our words.

    Parameters
    ----------
    error : ValidationError
    file : model
        The whole file's.
    above : path
        Where in it the model stands that found the errors.
    """
    for each in error.errors(include_url=False):
        place = _place((*above, *each["loc"]), file)
        context = each.get("ctx", {})
        cause = context.get("error")
        if isinstance(cause, Wrong):
            for inner, text in cause.found:
                yield Complaint((*place.path, *inner), text)
        elif isinstance(cause, InputError):
            yield Complaint(place.path, str(cause))
        else:
            yield Complaint(place.path, _sentence(each["type"], each["input"], context, place))


class _Place(NamedTuple):
    """Where in the file: the path, the model of the table that its last key stands in, and that key's field."""

    path: KeyPath
    table: type[BaseModel] | None
    field: FieldInfo | None


def _place(location: KeyPath, file: type[BaseModel]) -> _Place:
    """Where an error of pydantic's is: its location, in which the tag of a choice stands behind the key."""
    path: list[str | int] = []
    model: type[BaseModel] | None = file
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
        return f"{shown(value)}: unknown key{hint}: the keys here are {', '.join(known)}"
    remedy = f"write {place.field.description if place.field else 'a number'}"
    if kind == "missing":
        return f"{MISSING}: {remedy}"
    hint = ""
    if kind == "literal_error":
        hint = did_you_mean(str(value), re.findall("'([^']*)'", context["expected"]))
    return f"{shown(value)}{hint}: {remedy}"
