"""Rows as text that keeps every bit, and rows against rows.

A CSV has no types of its own, so text that could be taken for something else is quoted: `12` is a whole number, `12.0`
a float, `"12"` text, nothing at all a missing value, and `""` the empty text. Floats are written as `repr` does, in the
fewest digits that give the same bits back. So a table reads back as it was, equal tables are equal text, a difference
is a readable diff, and any reader of CSV takes the file.

Two tables of one environment are equal or they are not. Those of two environments may differ in last digits, and a
replica in which a last digit decides goes another way from there; such tables **agree** if the same rows are there and
each metric lies within the combined half-widths of 99.9 %.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from vecalloc.errors import InputError
from vecalloc.store.durable import REMEDY

HALF_WIDTH = "_half_width"
REPLICAS = "replicas"
CONFIDENCE = "confidence"
"""Columns that are looked at: `<metric>` has an interval if there is `<metric>_half_width`: a Student interval over
this many replicas at this confidence."""

WIDE = 0.999
"""Confidence at which rows of two environments have to agree."""

NEW, IDENTICAL, AGREES, DIFFERS = "new", "identical", "agrees, not identical", "differs"


_WHOLE = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?inf|nan", re.IGNORECASE)
_SPECIAL = re.compile(r'[",\r\n]')
_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n)')
_TRUTH = {"true": True, "false": False}


# --- a table as text -------------------------------------------------------------------------------------------------


def to_csv(rows: pa.Table) -> str:
    """Return the text of rows.csv.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns of text, whole numbers, floats and booleans.

    Returns
    -------
    str
        A header and a line for each row.

    Raises
    ------
    InputError
        If a column is of another type or shares its name.
    """
    rows = _simple(rows)
    header = ",".join(_cell(name) if _SPECIAL.search(name) else name for name in rows.column_names)
    columns = [[_cell(value) for value in column.to_pylist()] for column in rows.columns]
    return "".join(f"{line}\n" for line in [header, *map(",".join, zip(*columns, strict=True))])


def _simple(rows: pa.Table) -> pa.Table:
    """Rows in the four types that the text knows."""
    names = rows.column_names
    if not names or "" in names or len(set(names)) < len(names):
        raise InputError(f"the rows have the columns {names}: give each a name of its own")
    types = [_simple_type(field) for field in rows.schema]
    try:
        return rows.cast(pa.schema(list(zip(names, types, strict=True))))
    except pa.ArrowInvalid as error:
        raise InputError(f"the rows cannot be written ({error}): whole numbers have 64 bits") from error


def _simple_type(field: pa.Field) -> pa.DataType:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(kind):
        return kind
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.string()
    raise InputError(f"column {field.name!r} of the rows is {kind}: make it text, numbers or booleans")


def _cell(value: str | int | float | bool | None) -> str:
    """A value such that it reads back as what it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value)  # the spelling that pandas, polars and duckdb all know
    if isinstance(value, int):
        return str(value)
    ambiguous = not value or value in _TRUTH or _NUMBER.fullmatch(value) or _SPECIAL.search(value)
    return '"' + value.replace('"', '""') + '"' if ambiguous else value


def from_csv(text: str, name: str) -> pa.Table:
    """Return the table that a text was made of.

    Parameters
    ----------
    text : str
        As `to_csv` writes it.
    name : str
        The file it came from, for errors.

    Returns
    -------
    pyarrow.Table
        int64, float64, bool and string columns; one without any value is float64.

    Raises
    ------
    InputError
        If it is no CSV, or was cut; it names the file and the line.
    """
    lines = _lines_of_cells(text, name)
    header = [text for _, text in next(lines, [])]
    if not header or len(set(header)) < len(header):
        raise InputError(f"{name}: the first line names the columns {header}, not each once; {REMEDY}")
    columns: list[list[tuple[bool, str]]] = [[] for _ in header]
    for number, cells in enumerate(lines, 1):
        if len(cells) != len(header):
            raise InputError(f"{name}: row {number} has {len(cells)} cells, the header {len(header)}; {REMEDY}")
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
    return pa.table([_column(cells, name) for cells in columns], names=header)


def _lines_of_cells(text: str, name: str) -> Iterator[list[tuple[bool, str]]]:
    """For each line its cells: whether quoted, and the text."""
    place = 0
    line: list[tuple[bool, str]] = []
    while place < len(text):
        found = _CELL.match(text, place)
        if found is None:
            number = text.count("\n", 0, place) + 1
            raise InputError(f"{name}: line {number} is cut or no CSV ({text[place : place + 20]!r}); {REMEDY}")
        quoted, bare, end = found.groups()
        line.append((False, bare) if quoted is None else (True, quoted.replace('""', '"')))
        place = found.end()
        if end != ",":
            yield line
            line = []
    if line:
        raise InputError(f"{name}: ends in the middle of a line; {REMEDY}")


def _column(cells: list[tuple[bool, str]], name: str) -> pa.Array:
    """The values of a column, in the one type that all of them have."""
    texts = [text if text or quoted else None for quoted, text in cells]
    given = [text for text in texts if text is not None]
    if any(quoted for quoted, _ in cells):
        return pa.array(texts, pa.string())
    if given and all(map(_WHOLE.fullmatch, given)):
        try:
            return pa.array([None if text is None else int(text) for text in texts], pa.int64())
        except (OverflowError, ValueError) as error:  # Python refuses to read thousands of digits
            raise InputError(f"{name}: holds a whole number of more than 64 bits; {REMEDY}") from error
    if all(map(_NUMBER.fullmatch, given)):
        return pa.array([None if text is None else float(text) for text in texts], pa.float64())
    if all(text in _TRUTH for text in given):
        return pa.array([None if text is None else _TRUTH[text] for text in texts], pa.bool_())
    return pa.array(texts, pa.string())


# --- rows against rows -----------------------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """How rows stand to those that were there before.

    Attributes
    ----------
    verdict : str
        "new" (there are none), "identical" (the same text), "agrees, not identical" (made in another environment, and
        each metric within the combined 99.9 % half-widths) or "differs".
    differences : list of str
        One line for each row or column that differs.
    """

    verdict: str
    differences: list[str]

    @property
    def summary(self) -> str:
        """One line for who ran the experiment."""
        count = len(self.differences)
        return {
            NEW: "there were no rows before",
            IDENTICAL: "identical to the committed rows",
            AGREES: f"agrees with the committed rows of another environment, not identical ({count} differ)",
            DIFFERS: f"differs from the committed rows ({count} {'difference' if count == 1 else 'differences'})",
        }[self.verdict]


def compare(before: str, rows: pa.Table, keys: Sequence[str] | None, elsewhere: bool, name: str) -> Comparison:
    """Return how rows stand to those of a text.

    Parameters
    ----------
    before : str
        As `to_csv` writes it.
    rows : pyarrow.Table
    keys : sequence of str, optional
        Columns by which a row is found among the others and named to the reader; all columns of text but `id` if left
        out. Rows that these do not tell apart are taken in their order.
    elsewhere : bool
        Whether the text was made in another environment, so that it is enough to agree.
    name : str
        The file that the text came from, for errors.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If the text is no CSV, or the rows are of types that it does not know.
    """
    text = to_csv(rows)
    if text == before:
        return Comparison(IDENTICAL, [])
    old, new = from_csv(before, name), from_csv(text, name)
    if keys is None:
        keys = [field.name for field in new.schema if pa.types.is_string(field.type) and field.name != "id"]
    keys = [key for key in keys if key in old.column_names and key in new.column_names]
    differences = _differences(old, new, keys)
    if not elsewhere:
        return Comparison(DIFFERS, differences)
    apart = _apart(old, new, keys)
    return Comparison(DIFFERS, apart) if apart else Comparison(AGREES, differences)


class _Label(NamedTuple):
    """What a row is called: its keys, and the how manyth it is of those that share them."""

    keys: str
    number: int

    def __str__(self) -> str:
        return self.keys if self.number == 1 else f"{self.keys} #{self.number}"


def _by_label(rows: pa.Table, keys: Sequence[str]) -> dict[_Label, dict[str, Any]]:
    """Each row under its label."""
    named: dict[_Label, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for row in rows.to_pylist():
        shared = ", ".join(f"{key}={_cell(row[key])}" for key in keys) or "row"
        counts[shared] = counts.get(shared, 0) + 1
        named[_Label(shared, counts[shared])] = row
    return named


def _differences(old: pa.Table, new: pa.Table, keys: Sequence[str]) -> list[str]:
    """Where two tables are not the same text, one line for each column and row."""
    shared = [name for name in new.column_names if name in old.column_names]
    lines = [f"column {name} is new" for name in new.column_names if name not in shared]
    lines += [f"column {name} is gone" for name in old.column_names if name not in shared]
    before, after = _by_label(old, keys), _by_label(new, keys)
    for label, row in after.items():
        if label not in before:
            lines.append(f"{label} is new")
            continue
        pairs = [(name, _cell(before[label][name]), _cell(row[name])) for name in shared]
        changed = [f"{name} {was or 'nothing'} -> {now or 'nothing'}" for name, was, now in pairs if was != now]
        if changed:
            others = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
            lines.append(f"{label}: {', '.join(changed[:2])}{others}")
    lines += [f"{label} is gone" for label in before if label not in after]
    return lines or ["the same rows and columns in another order"]


def _apart(old: pa.Table, new: pa.Table, keys: Sequence[str]) -> list[str]:
    """Where rows of two environments differ by more than chance: one line each.

    The same rows have to be there, with the same ids, and each metric within the combined 99.9 % half-widths. All else
    in a row (replicas needed, where the warm-up ended) follows from values that may differ in the last digit.
    """
    metrics = [name for name in new.column_names if {name, name + HALF_WIDTH} <= _numbers(new) & _numbers(old)]
    before, after = _by_label(old, keys), _by_label(new, keys)
    same = set(old.column_names) == set(new.column_names) and before.keys() == after.keys()
    if not same or not metrics or not {REPLICAS, CONFIDENCE} <= _numbers(new) & _numbers(old):
        return _differences(old, new, keys)
    lines = []
    for label, row in after.items():
        was = before[label]
        if was.get("id") != row.get("id"):
            lines.append(f"{label}: id {was.get('id')} -> {row.get('id')}")
        for name in metrics:
            if not _agree(was, row, name):
                lines.append(f"{label}: {name} {_estimate(was, name)} -> {_estimate(row, name)}")
    return lines


def _numbers(rows: pa.Table) -> set[str]:
    return {f.name for f in rows.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)}


def _agree(was: dict[str, Any], row: dict[str, Any], name: str) -> bool:
    """Whether a metric's two values are closer than their 99.9 % half-widths together (independent errors)."""
    one, other = was[name], row[name]
    if _cell(one) == _cell(other):
        return True
    if one is None or other is None:
        return False
    widths = _wide(was, name), _wide(row, name)
    return bool(abs(one - other) <= math.hypot(*widths))  # NaN is never within


def _wide(row: dict[str, Any], name: str) -> float:
    """A metric's half-width at `WIDE`: Student's, by its confidence and replicas; 0 where the row has none."""
    from scipy.special import stdtrit  # the quantile that scipy.stats would give, without its half second

    width, count, confidence = row[name + HALF_WIDTH], row[REPLICAS], row[CONFIDENCE]
    if width is None or not math.isfinite(width) or not count or count < 2 or not confidence:
        return 0.0
    degrees = count - 1
    return float(width * stdtrit(degrees, (1 + WIDE) / 2) / stdtrit(degrees, (1 + confidence) / 2))


def _estimate(row: dict[str, Any], name: str) -> str:
    return f"{_cell(row[name]) or 'nothing'} ± {_cell(row[name + HALF_WIDTH]) or 'nothing'}"
