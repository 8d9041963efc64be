"""Readers of other people's traces, one format a file.

Each module here has `read(path) -> Trace`. A file is data from outside: nothing in it is executed or unpickled, what is
read is bounded before memory is taken, and whatever is wrong with it is a `TraceError` that names the file, the event,
the value found there and the remedy.
"""

from pathlib import Path

from vecalloc.errors import InputError
from vecalloc.trace import Trace


class TraceError(InputError):
    """A trace file that cannot be read, or that says something impossible."""


def read(path: str | Path) -> Trace:
    """Read a trace in any format that is known here, recognised by its content.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    TraceError
        If the file is not there, of no known format, or says something impossible.
    """
    from vecalloc.formats import npz

    return npz.read(path)
