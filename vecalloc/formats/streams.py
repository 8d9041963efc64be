"""Bytes of a file, plain or compressed, a block at a time, never more than a stated bound.

What a file is, its first bytes say, not its name. zstd and gzip are inflated by pyarrow, which reports a stream that
ends too early; how much a file inflates to is counted, not believed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vecalloc.formats import TraceError

BLOCK = 1 << 22
"""Bytes that are read at once."""

LARGEST_INFLATED = 1 << 38
"""Bytes that a text may have, inflated (some 10^10 events)."""

_MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gzip"}


def compression_of(path: Path) -> str | None:
    """How a file is compressed, judged by its first bytes: "zstd", "gzip" or None."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, inflated; b"" where it cannot be inflated."""
    try:
        with _open(path) as stream:
            return bytes(stream.read(count))
    except OSError:
        return b""


def blocks(path: Path, name: str) -> Iterator[bytes]:
    """The bytes of a file, inflated, in blocks of up to `BLOCK`.

    Raises
    ------
    Truncated
        If the file ends before what it holds does.
    TraceError
        If it inflates to more than `LARGEST_INFLATED` bytes, or cannot be opened.
    """
    total = 0
    try:
        stream = _open(path)
    except OSError as error:
        raise TraceError(f"{name}: cannot be read ({error.strerror or error}); check its permissions") from error
    with stream:
        while True:
            try:
                block = stream.read(BLOCK)
            except OSError as error:
                raise Truncated(str(error).splitlines()[0][:120]) from error
            if not block:
                return
            total += len(block)
            if total > LARGEST_INFLATED:
                raise TraceError(f"{name}: inflates to more than {LARGEST_INFLATED} bytes; cut it into pieces")
            yield block


class Truncated(Exception):
    """A compressed stream is cut off or damaged; the reader knows how far it had got."""


def _open(path: Path) -> Any:
    compression = compression_of(path)
    if compression is None:
        return path.open("rb")
    import pyarrow  # 0.1 s: only where something is compressed

    return pyarrow.input_stream(str(path), compression=compression)
