"""The store: what an experiment or a script found, in results/<name>/.

    results/quickstart/
      experiment.toml   the experiment as it was run                        small, committed
      rows.csv          the table; floats in full: equal bits, equal text   small, committed
      provenance.json   what was asked, and what answered                   small, committed
      figure.png                                                            small, committed
      timing.json       wall times                                          ignored by git
      parts/            the values of each replica                          ignored by git

What is committed is written anew only if it says something new: whoever runs an experiment from a clean clone and finds
the committed rows has a clean clone afterwards, and the provenance still names the machine on which they were found
first. rows.csv comes last: a write that was cut before it is done again by the next run.

The store knows nothing of policies and workloads: a row is an id with columns, a replica is a number.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa

from vecalloc.errors import InputError, did_you_mean
from vecalloc.store.durable import read_bytes, read_json, read_text, refusals_of, remove_leftovers, to_json, write
from vecalloc.store.parts import FORMAT, Parts, refuse_others
from vecalloc.store.provenance import commit, content_id, cpu_name, environment
from vecalloc.store.rows import DIFFERS, IDENTICAL, NEW, Comparison, compare, from_csv, to_csv

__all__ = ["Comparison", "Store", "commit", "content_id", "environment", "read_rows", "results_beside", "save"]

Content = bytes | Callable[[], bytes | None]
"""Of a file: as it is, or made when it is needed."""

RESERVED = {"experiment.toml", "rows.csv", "provenance.json", "timing.json", "parts", "", ".", ".."}
"""What no figure may be called."""


class Store:
    """The results of one experiment in a folder.

    Making one only looks; `begin` makes the folder and must come before `add`.

    Parameters
    ----------
    folder : path
        results/<name>.
    name : str
        The experiment.
    environment : mapping
        As `environment()` gives it: parts of another one are passed over.

    Attributes
    ----------
    folder : Path
    name : str
    environment : dict

    Raises
    ------
    InputError
        If the folder holds another experiment or was written by a newer version, or its files cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, environment: Mapping[str, str]) -> None:
        self.folder = Path(folder)
        self.name = name
        self.environment = dict(environment)
        refuse_others(self.folder / "provenance.json", name)
        self._parts = Parts(self.folder / "parts", name, environment)

    @property
    def notes(self) -> list[str]:
        """What `begin` and `read` passed over, one line each, for whoever runs the experiment."""
        return self._parts.notes

    def begin(self, fresh: bool = False) -> None:
        """Make the folder ready to be added to: leftovers of killed drivers go, many small parts are joined.

        Parameters
        ----------
        fresh : bool
            Remove all parts first, those of other environments included.

        Raises
        ------
        InputError
            If the folder cannot be made or written.
        """
        self._parts.begin(fresh)
        remove_leftovers(self.folder)

    def add(self, lines: pa.Table) -> None:
        """Keep the lines of a finished batch: once this returns, neither a kill nor a power cut loses them.

        Any number of threads, processes and machines may add to one folder.

        Parameters
        ----------
        lines : pyarrow.Table
            `id` (text), `replica` (whole number) and columns of numbers; a number that a row does not have is null.

        Raises
        ------
        InputError
            If the disk is full or the folder can no longer be written. What was added before is kept.
        """
        self._parts.add(lines)

    def read(self, ids: Iterable[str] | None = None) -> dict[str, pa.Table]:
        """Return the lines of every replica that this environment has finished.

        Parts that were cut, damaged or made in another environment are passed over, and `notes` says so.

        Parameters
        ----------
        ids : iterable of str, optional
            The rows wanted; all if left out.

        Returns
        -------
        dict
            Row id -> table with `replica` (int64, ascending, each once) and the row's columns in the order of their
            names. Columns in which no replica of the row has a value are left out.

        Raises
        ------
        InputError
            If two parts give the same replica different values, or a part was written by a newer version.
        """
        return self._parts.read(ids)

    def check(self, rows: pa.Table, keys: Sequence[str] | None = None) -> Comparison:
        """Compare rows with those in the folder. Writes nothing.

        Parameters
        ----------
        rows : pyarrow.Table
            As for `write_results`.
        keys : sequence of str, optional
            Columns by which a row is found among the others and named to the reader; all columns of text but `id` if
            left out. Rows that these do not tell apart are taken in their order.

        Returns
        -------
        Comparison

        Raises
        ------
        InputError
            If the folder's files cannot be read.
        """
        file = self.folder / "rows.csv"
        before = read_text(file)
        if before is None:
            return Comparison(NEW, [])
        made_in = read_json(self.folder / "provenance.json").get("environment", self.environment)
        return compare(before, rows, keys, made_in != self.environment, str(file))

    def write_results(
        self,
        rows: pa.Table,
        experiment: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        figures: Mapping[str, Content] | None = None,
        keys: Sequence[str] | None = None,
    ) -> Comparison:
        """Write what is committed, unless it is there already.

        If the rows, the experiment and what `provenance` says are those in the folder, nothing is rewritten: the
        environment, commit and figures there stay (a figure that is missing is written).

        Parameters
        ----------
        rows : pyarrow.Table
            Columns of text, whole numbers, floats and booleans; null where there is no value.
        experiment : str, optional
            The text of experiment.toml.
        provenance : mapping, optional
            What was asked: content ids, seed, parameters. Name, format, environment, commit and CPU are added.
        figures : mapping, optional
            File name -> content, or what makes it (None: there is none), which is called only if it is to be written.
        keys : sequence of str, optional
            As for `check`.

        Returns
        -------
        Comparison
            With the rows that were there before.

        Raises
        ------
        InputError
            If the rows hold something else, a figure's name cannot be used, or the folder cannot be written.
        """
        text = to_csv(rows)
        for name in figures or ():
            if name in RESERVED or Path(name).name != name:
                raise InputError(f"figure {name!r} cannot be called so: use a file name that the folder has no use for")
        asked = {"experiment": self.name, "format": FORMAT, **(provenance or {})}
        answered = {"environment": self.environment, "commit": commit(), "cpu": cpu_name()}
        try:
            comparison = self.check(rows, keys)
            same = comparison.verdict == IDENTICAL and self._asked(asked, answered) and self._ran(experiment)
        except InputError as error:  # a broken file is no reason not to write a good one
            comparison, same = Comparison(DIFFERS, [str(error)]), False
        wanted = {n: c for n, c in (figures or {}).items() if not (same and (self.folder / n).exists())}
        made = {name: content if isinstance(content, bytes) else content() for name, content in wanted.items()}
        with refusals_of(self.folder, "make room, or choose a folder that can be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, content in made.items():
                if content is not None:
                    write(self.folder / name, content)
            if not same:
                write(self.folder / "provenance.json", to_json(asked | answered))
                if experiment is not None:
                    write(self.folder / "experiment.toml", experiment.encode())
                write(self.folder / "rows.csv", text.encode())
        return comparison

    def _asked(self, asked: dict[str, Any], answered: dict[str, Any]) -> bool:
        """Whether the folder's provenance names the same question, whatever answered it."""
        file = self.folder / "provenance.json"
        said = read_json(file)
        return to_json({key: said[key] for key in said if key not in answered}) == to_json(asked)

    def _ran(self, experiment: str | None) -> bool:
        """Whether the folder's experiment is this one, to the letter."""
        return experiment is None or read_bytes(self.folder / "experiment.toml") == experiment.encode()

    def write_timing(self, timing: Mapping[str, Any]) -> None:
        """Write timing.json: wall times, which are nobody's provenance and which git ignores.

        Parameters
        ----------
        timing : mapping
            Anything that JSON can say.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        with refusals_of(self.folder, "make room, or choose a folder that can be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            write(self.folder / "timing.json", to_json(timing))


def read_rows(folder: str | os.PathLike[str]) -> pa.Table:
    """Read the rows of an experiment.

    Parameters
    ----------
    folder : path
        results/<experiment>.

    Returns
    -------
    pyarrow.Table
        int64, float64, bool and string columns, as they were written; a column without any value is float64.

    Raises
    ------
    InputError
        If there are none, or the file is broken; it names the file, and the line.
    """
    folder = Path(folder)
    file = folder / "rows.csv"
    text = read_text(file)
    if text is None:
        hint = did_you_mean(folder.name, [each.parent.name for each in folder.parent.glob("*/rows.csv")])
        raise InputError(f"{file}: there is no such file{hint}; `vecalloc run` on the experiment's file makes it")
    return from_csv(text, str(file))


# --- results of scripts ----------------------------------------------------------------------------------------------


def save(
    name: str,
    rows: pa.Table | Sequence[Mapping[str, Any]],
    figure: Any = None,
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Save what a script found in results/<name>/: rows, provenance and figure, as `vecalloc run` does for a file.

    The folder results/ is the one beside the nearest experiments/ that the script lies in, or else the one in the
    current directory. The content id in the provenance is that of the calling script's text and of its parameters. What
    is there already is not rewritten. One line says where it was saved and whether the rows are new.

    Parameters
    ----------
    name : str
        Letters, digits, "-", "_" and ".".
    rows : pyarrow.Table or sequence of mappings
        One mapping a row: column -> text, number, boolean or None.
    figure : optional
        A matplotlib figure (saved as figure.png), or a mapping: file name -> figure, text or bytes.
    parameters : mapping, optional
        What the script was called with, where that changes its rows.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the name is no folder's, the rows are no table, the folder belongs to an experiment, or it cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise InputError(f"name {name!r} is no name for a folder in results/: use letters, digits, '-', '_' and '.'")
    script = sys._getframe(1).f_globals.get("__file__")  # none in an interactive session
    text = (read_text(Path(script)) if script else None) or ""
    identity = {"script": text, "parameters": dict(parameters or {})}
    asked = {
        "ids": [content_id(identity)],
        "script": Path(script).name if script else None,
        "parameters": identity["parameters"],
    }
    table = rows if isinstance(rows, pa.Table) else _table(rows)
    folder = results_beside(script) / name
    comparison = Store(folder, name, environment()).write_results(table, provenance=asked, figures=_figures(figure))
    print(f"saved to {os.path.relpath(folder)}: {comparison.summary}")
    return folder


def results_beside(file: str | Path | None) -> Path:
    """results/ beside the nearest experiments/ that a file lies in, or else in the current directory."""
    for parent in Path(file).resolve().parents if file else ():
        if parent.name == "experiments":
            return parent.parent / "results"
    return Path.cwd() / "results"


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table whose columns are all that any row has, in order of appearance."""
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InputError("the rows to save are no table: give a pyarrow Table, or a list of at least one dict")
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError) as error:
            raise InputError(f"column {name!r} of the rows is not of one kind ({error}): convert its values") from error
    return pa.table(columns)


def _figures(figure: Any) -> dict[str, bytes]:
    """File name -> content."""
    if figure is None:
        return {}
    named = figure if isinstance(figure, Mapping) else {"figure.png": figure}
    return {name: _content(each, name) for name, each in named.items()}


def _content(figure: Any, name: str) -> bytes:
    """The bytes of a figure's file; the ending of its name says in which format a matplotlib figure is drawn."""
    if isinstance(figure, bytes):
        return figure
    if isinstance(figure, str):
        return figure.encode()
    if not hasattr(figure, "savefig"):
        raise InputError(f"figure {name!r} is a {type(figure).__name__}: give a matplotlib figure, text or bytes")
    out = BytesIO()
    figure.savefig(out, format=Path(name).suffix[1:] or "png", dpi=150)
    return out.getvalue()
