"""Parts: the values of every replica, which no crash may take.

    parts/
      format.json                                which format, which experiment
      5f0c6a1e0d77b9a4c1d24a3f6f4be0c1.parquet   one finished batch: row id, replica, numbers

**A part appears whole or not at all** (durable.py). Its name is the digest of its bytes, so that one that was cut or
damaged later is recognised, and drivers that share the folder (the shards of a job array) cannot overwrite each other.
What has been added is never changed: the lines of a row are the union over all parts. Where many small parts have come
together they are joined, and the joined one is on the disk before the first of them goes; the lines of one that was
listed a moment ago are then found in one that is new.

**Lines of two environments are never mixed** (provenance.py says why): parts made elsewhere are passed over, and
`notes` says so. Two parts of one environment that give one replica different values would mean that the engine is not
reproducible; that is an error.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vecalloc.errors import InputError
from vecalloc.store.durable import read_json, refusals_of, remove_leftovers, replace, to_json, write

FORMAT = 1
"""Raised by hand when the files of a results folder come to mean something else."""

MANY_PARTS = 256
"""Small parts that are left alone: reading one takes 2 ms, so these cost half a second."""

JOINED_AT_ONCE = 1024
"""Parts that become one: bounds the memory it takes (a batch of a second is some 25 KB)."""

SMALL_PART = 1 << 25
"""Bytes from which a part is not joined again."""

_NAME = re.compile(r"[0-9a-f]{32}\.parquet")

_PART = "(part)"
"""Column of lines while they are put together: which part each comes from."""


def refuse_others(file: Path, experiment: str) -> None:
    """Stop at a folder whose `file` (JSON) names a newer format or another experiment.

    Raises
    ------
    InputError
    """
    said = read_json(file)
    _refuse_newer(file, said.get("format"))
    if said.get("experiment", experiment) != experiment:
        raise InputError(
            f"{file}: the folder holds results of the experiment {said['experiment']!r}, not of {experiment!r}: "
            "move it away, or use another one"
        )


def _refuse_newer(file: Path, number: Any) -> None:
    if isinstance(number, int) and number > FORMAT:
        raise InputError(
            f"{file}: written by a newer vecalloc (format {number}, this one knows {FORMAT}): "
            "install that version, or use another folder"
        )


class Parts:
    """The folder of parts of one experiment.

    Making one only looks; `begin` makes the folder and must come before `add`.

    Parameters
    ----------
    folder : Path
        results/<experiment>/parts.
    experiment : str
        Its name.
    environment : mapping
        As `provenance.environment` gives it: parts of another one are passed over.

    Attributes
    ----------
    notes : list of str
        What was passed over, one line each, for whoever runs the experiment.

    Raises
    ------
    InputError
        If the folder holds another experiment or was written by a newer version.
    """

    def __init__(self, folder: Path, experiment: str, environment: Mapping[str, str]) -> None:
        self.notes: list[str] = []
        self._folder = folder
        self._experiment = experiment
        self._environment = dict(environment)
        self._begun = False
        refuse_others(folder / "format.json", experiment)

    def begin(self, fresh: bool = False) -> None:
        """Make the folder ready: `Store.begin`."""
        with refusals_of(self._folder, "make room, or choose a folder that can be written"):
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._folder)
            if fresh:
                for path in [*self._files(), *self._folder.glob("*.damaged")]:
                    path.unlink(missing_ok=True)
            write(self._folder / ".gitignore", b"*\n")
            write(self._folder / "format.json", to_json({"format": FORMAT, "experiment": self._experiment}))
        self._begun = True
        self._join()

    def add(self, lines: pa.Table) -> None:
        """Keep the lines of a batch: `Store.add`."""
        if not self._begun:
            raise RuntimeError("begin() comes before add()")
        try:
            self._put(_checked(lines))
        except OSError as error:
            kept = sum(1 for _ in self._files())
            raise InputError(
                f"{self._folder}: cannot be written ({error.strerror}): what was finished ({kept} parts) is kept; "
                "make room and run again, it goes on from there"
            ) from error

    def read(self, ids: Iterable[str] | None = None) -> dict[str, pa.Table]:
        """Return what is there: `Store.read`."""
        wanted = None if ids is None else pa.array(set(ids), pa.string())
        mine: list[_Part] = []
        others: list[_Part] = []
        seen: set[Path] = set()
        while unseen := sorted(set(self._files()) - seen):  # what another driver joins meanwhile is found in a new part
            seen |= set(unseen)
            for part in self._load_all(unseen):
                lines = part.lines if wanted is None else part.lines.filter(pc.is_in(part.lines["id"], wanted))
                if len(lines):
                    (others if part.unlike else mine).append(part._replace(lines=lines))
        rows = _rows(mine)
        # Nobody needs to hear of a part elsewhere once its rows have been begun here.
        missed = [part for part in others if not rows.keys() >= set(part.lines["id"].unique().to_pylist())]
        self._note((f"made with {part.unlike}", part.path) for part in missed)
        return rows

    def _files(self) -> Iterator[Path]:
        return (path for path in self._folder.glob("*.parquet") if _NAME.fullmatch(path.name))

    def _put(self, lines: pa.Table) -> Path:
        """Write one part."""
        header = {"format": FORMAT, "environment": self._environment}
        buffer = BytesIO()
        pq.write_table(
            lines.replace_schema_metadata({"vecalloc": json.dumps(header, sort_keys=True)}),
            buffer,
            compression="zstd",
            use_dictionary=["id"],  # numbers hardly repeat
            write_statistics=False,  # nobody searches inside a part, and they are a third of it
        )
        data = buffer.getvalue()
        path = self._folder / f"{_digest(data)}.parquet"
        replace(path, data)  # also if there is one: it may be damaged
        return path

    def _load_all(self, paths: Iterable[Path]) -> Iterator["_Part"]:
        """The parts that can be read, with a note for those that cannot; one that has gone was joined by somebody."""
        bad = []
        for path in paths:
            try:
                yield self._load(path)
            except FileNotFoundError:
                continue
            except _Damaged as error:
                bad.append((str(error), path))
        self._note(bad)

    def _load(self, path: Path) -> "_Part":
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _Damaged(f"cannot be read ({error.strerror})") from error
        if _digest(data) != path.stem:
            if self._begun:
                _put_aside(path)  # else every later run would promise to redo it
            raise _Damaged("is truncated or damaged (its bytes do not give its name)")
        try:
            lines = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
            header = json.loads(lines.schema.metadata[b"vecalloc"])
            number, made_in = header["format"], header["environment"]
        except (pa.ArrowException, OSError, TypeError, KeyError) as error:
            raise _Damaged(f"is no part that pyarrow {pa.__version__} can read") from error
        _refuse_newer(path, number)
        return _Part(path, lines.replace_schema_metadata(None), _unlike(made_in, self._environment))

    def _note(self, reasons: Iterable[tuple[str, Path]]) -> None:
        """One line for each reason, however many parts it has met."""
        for reason, group in groupby(sorted(reasons), key=lambda pair: pair[0]):
            paths = [path for _, path in group]
            more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
            note = f"{paths[0]}{more} {reason}: ignored, what it held will be redone"
            if note not in self.notes:
                self.notes.append(note)

    def _join(self) -> None:
        """Turn many small parts into few, so that a study of days still opens at once."""
        small = sorted(path for path in self._files() if _size(path) < SMALL_PART)
        if len(small) <= MANY_PARTS:
            return
        for start in range(0, len(small), JOINED_AT_ONCE):
            mine = [part for part in self._load_all(small[start : start + JOINED_AT_ONCE]) if not part.unlike]
            with refusals_of(self._folder, "make room and run again"):
                joined = {self._put(pa.concat_tables(tables)) for tables in _by_schema(part.lines for part in mine)}
                for part in mine:
                    if part.path not in joined:
                        part.path.unlink(missing_ok=True)


class _Damaged(Exception):
    """A part that cannot be used, and why."""


class _Part(NamedTuple):
    """A part as it was read; `unlike` says in what its environment differs from this one, if it does."""

    path: Path
    lines: pa.Table
    unlike: str


def _checked(lines: pa.Table) -> pa.Table:
    """Lines as parts hold them, so that two batches of one row always have the same types."""
    if "id" not in lines.column_names or "replica" not in lines.column_names:
        raise TypeError(f"lines need the columns id and replica, not only {', '.join(lines.column_names)}")
    if lines["id"].null_count or lines["replica"].null_count:
        raise TypeError("every line needs an id and a replica")
    types = {}
    for field in lines.schema:
        if field.name == "id":
            types[field.name] = pa.string()
        elif pa.types.is_integer(field.type):
            types[field.name] = pa.int64()
        elif pa.types.is_floating(field.type) and field.name != "replica":
            types[field.name] = pa.float64()
        elif pa.types.is_fixed_size_binary(field.type):  # a short series of numbers, as its bytes
            types[field.name] = field.type
        else:
            raise TypeError(f"{field.name} is {field.type}: lines hold an id, a whole replica, numbers and bytes")
    return lines.cast(pa.schema(list(types.items())))


def _unlike(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """In what an environment differs from this one; "" if in nothing."""
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return ", ".join(f"{key} {theirs.get(key) or 'unknown'} instead of {ours.get(key) or 'unknown'}" for key in keys)


def _put_aside(path: Path) -> None:
    """Rename a damaged part, unless another driver has just put a good one in its place."""
    aside = path.with_suffix(".damaged")
    with suppress(OSError):  # gone, or not ours to rename: it is passed over again next time
        path.replace(aside)
        if _digest(aside.read_bytes()) == path.stem:
            aside.replace(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it has gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# --- lines put together ----------------------------------------------------------------------------------------------


def _by_schema(tables: Iterable[pa.Table]) -> list[list[pa.Table]]:
    """Tables that can be put under each other as they are."""
    groups: dict[str, list[pa.Table]] = {}
    for table in tables:
        groups.setdefault(str(table.schema), []).append(table)
    return list(groups.values())


def _rows(parts: list[_Part]) -> dict[str, pa.Table]:
    """The lines of each row over all parts: sorted, each replica once."""
    paths = [part.path for part in parts]
    numbered = (part.lines.append_column(_PART, pa.array([k] * len(part.lines))) for k, part in enumerate(parts))
    pieces: dict[str, list[pa.Table]] = {}
    for tables in _by_schema(numbered):
        lines = pa.concat_tables(tables)
        codes = lines["id"].combine_chunks().dictionary_encode()
        code = np.asarray(codes.indices)
        order = np.lexsort((np.asarray(lines["replica"]), code))
        lines, code = lines.take(order), code[order]
        for first, last in pairwise([0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(code)]):
            pieces.setdefault(codes.dictionary[int(code[first])].as_py(), []).append(lines.slice(first, last - first))
    return {id: _row(id, pieces[id], paths) for id in sorted(pieces)}


def _row(id: str, pieces: list[pa.Table], paths: list[Path]) -> pa.Table:
    """The lines of one row, out of pieces with different columns."""
    try:
        lines = pa.concat_tables(pieces, promote_options="default")
    except pa.ArrowException as error:  # whole numbers here, floats there
        raise _disagreement(id, str(error), [paths[piece[_PART][0].as_py()] for piece in pieces]) from error
    if len(pieces) > 1:
        lines = lines.take(np.argsort(np.asarray(lines["replica"]), kind="stable"))
    replica = np.asarray(lines["replica"])
    starts = np.flatnonzero(np.diff(replica, prepend=replica[0] - 1))
    columns = {"replica": pa.array(replica[starts])}
    for name in sorted(set(lines.column_names) - {"id", "replica", _PART}):
        values = lines[name].combine_chunks()
        if values.null_count == len(values):
            continue
        if len(starts) < len(lines):
            chosen, unlike = _chosen(values, starts)
            if unlike is not None:
                said = " and ".join(repr(values[k].as_py()) for k in unlike)
                said = f"{name} of replica {replica[unlike[0]]} is {said}"
                raise _disagreement(id, said, [paths[lines[_PART][k].as_py()] for k in unlike])
            values = chosen
        columns[name] = values
    return pa.table(columns)


def _chosen(values: pa.Array, starts: Any) -> tuple[pa.Array, tuple[int, int] | None]:
    """The value of each replica, whose lines begin at `starts`: the first that is there; and where two differ."""
    count = len(values)
    valid = np.asarray(values.is_valid())
    first = np.minimum.reduceat(np.where(valid, np.arange(count), count), starts)
    none = first == count
    first[none] = 0
    bits = _bits_of(values)
    reference = np.repeat(first, np.diff(starts, append=count))
    unlike = np.flatnonzero(valid & (bits != bits[reference]))
    where = (int(reference[unlike[0]]), int(unlike[0])) if len(unlike) else None
    return values.take(pa.array(first, mask=none)), where


def _bits_of(values: pa.Array) -> Any:
    """A whole number for each value, equal only for equal bits: NaN is like itself, 0.0 unlike -0.0."""
    if pa.types.is_fixed_size_binary(values.type):
        return np.asarray(values.dictionary_encode().indices.fill_null(-1))
    return values.fill_null(0).to_numpy(zero_copy_only=False).view(np.int64)


def _disagreement(id: str, what: str, paths: list[Path]) -> InputError:
    """The error that must never happen: one environment, one replica, two values."""
    return InputError(
        f"{' and '.join(str(path) for path in paths)} disagree on row {id} ({what}) although one environment made "
        "them: remove them, run again, and please report it"
    )
