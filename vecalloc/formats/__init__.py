"""Readers of other people's traces, one format a file.

Each module here has `read(path) -> Trace`. A file is data from outside: nothing in it is executed or unpickled, what is
read is bounded before memory is taken, and whatever is wrong with it is a `TraceError` that names the file, the event,
the value found there and the remedy.
"""

import stat
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
    path = Path(path)
    _check_is_file(path)
    if _starts_with(path, b"v "):
        from vecalloc.formats import heaptrack

        return heaptrack.read(path)
    from vecalloc.formats import npz

    return npz.read(path)


def _check_is_file(path: Path) -> None:
    """Refuse what is no regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a null byte in it
        raise TraceError(f"{path}: cannot be looked at ({error}); check the path") from None
    if stat.S_ISDIR(mode):
        raise TraceError(f"{path}: is a directory; name a file in it")
    if not stat.S_ISREG(mode):
        raise TraceError(f"{path}: is not a regular file; save it to one first")


def _starts_with(path: Path, start: bytes) -> bool:
    """Whether the content of a file, inflated if need be, starts so."""
    from vecalloc.formats.streams import first_bytes

    return first_bytes(path, len(start)) == start
