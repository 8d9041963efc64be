"""Readers of other people's traces, one format a file.

Each module here has `read(path) -> Trace`. A file is data from outside: nothing in it is executed or unpickled, what is
read is bounded before memory is taken, and whatever is wrong with it is a `TraceError` that names the file, the event,
the value found there and the remedy.
"""

from vecalloc.errors import InputError


class TraceError(InputError):
    """A trace file that cannot be read, or that says something impossible."""
