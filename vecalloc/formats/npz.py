"""The `.npz` form of a recorded trace: what `numpy.savez_compressed` makes of four arrays.

    op     int8   (events,)   0 alloc, 1 free
    id     int32  (events,)   which block: dense, in order of birth, never used again
    size   int64  (events,)   bytes requested; 0 in a free
    meta   str    ()          JSON object: source, command, ...; may be left out

An `.npz` is a zip of `.npy` members. Each member's header is read first: its type, its shape and the bytes it says it
holds must agree with each other and stay below a bound before any array is made. Nothing is ever unpickled.
"""

import json
import lzma
import struct
import zipfile
import zlib
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from vecalloc.formats import TraceError
from vecalloc.trace import Trace

LARGEST_INFLATED = 1 << 33
"""Bytes that the arrays of one file may take together, inflated (13 an event: 660 million events)."""

LARGEST_META = 1 << 20
"""Characters of `meta`."""

COLUMNS = {"op": np.dtype(np.int8), "id": np.dtype(np.int32), "size": np.dtype(np.int64)}

FORM = "a trace holds op (int8), id (int32), size (int64), each (events,), and meta (JSON)"

DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, RuntimeError, MemoryError,
)  # fmt: skip
"""What zipfile and its decompressors raise on a damaged, encrypted or made-up member."""


def read(path: str | PathLike[str]) -> Trace:
    """Read a recorded trace.

    Parameters
    ----------
    path : path
        A file as described above.

    Returns
    -------
    Trace
        With recycled slots and without times.

    Raises
    ------
    TraceError
        If the file cannot be read or holds an impossible event.
    """
    name = fspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, name)
            op, id, size = (_column(archive, members[column], column, name) for column in COLUMNS)
            meta = _meta(archive, members["meta"], name) if "meta" in members else {}
    except TraceError:
        raise
    except DAMAGE as error:
        raise TraceError(f"{name}: cannot be read ({_reason(error)}); {_remedy(Path(path))}") from error
    if not len(op) == len(id) == len(size):
        raise TraceError(
            f"{name}: op has {len(op)} events, id {len(id)}, size {len(size)}; save arrays of equal length"
        )
    from vecalloc.formats.slots import recycle  # numba comes with it: files that cannot be read need not wait for it

    slot, signed = recycle(op, id, size, name)
    return Trace(slot, signed, meta=meta, checked=True)


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The members that a trace needs, by array, none missing and together not too large."""
    found = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        holds = ", ".join(sorted(found)[:8]) or "no arrays"
        raise TraceError(f"{name}: holds {holds}, but not {', '.join(missing)}; {FORM}")
    members = {array: found[array] for array in (*COLUMNS, "meta") if array in found}
    total = sum(info.file_size for info in members.values())
    if total > LARGEST_INFLATED:
        raise TraceError(f"{name}: inflates to {total} bytes, more than {LARGEST_INFLATED}; cut the trace into pieces")
    return members


def _column(archive: zipfile.ZipFile, info: zipfile.ZipInfo, column: str, name: str) -> Any:
    """One array of events, checked against its header before it is read."""
    shape, dtype = _header(archive, info, column, name)
    if dtype != COLUMNS[column] or len(shape) != 1:
        raise TraceError(f"{name}: {column} is {dtype} {shape}, not {COLUMNS[column]} (events,); {FORM}")
    return _array(archive, info)


def _meta(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> dict[str, Any]:
    """What is known about the recording."""
    shape, dtype = _header(archive, info, "meta", name)
    if dtype.kind != "U" or shape != () or dtype.itemsize > 4 * LARGEST_META:
        raise TraceError(f"{name}: meta is {dtype} {shape}, not one string of up to {LARGEST_META} characters; {FORM}")
    text = str(_array(archive, info))
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise TraceError(f"{name}: meta is {text[:40]!r}, not a JSON object; save json.dumps({{...}}) or leave it out")
    return meta


def _header(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, array: str, name: str
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a member, of which its size must follow."""
    with archive.open(info) as member:
        version = npy.read_magic(member)
        if version != (1, 0):  # the others hold longer headers and other names: no trace has them
            raise TraceError(f"{name}: {array} is in .npy format {version}, not (1, 0); {FORM}")
        try:
            shape, _, dtype = npy.read_array_header_1_0(member)
        except DAMAGE:
            raise
        except Exception as error:  # the parser raises nearly anything on a made-up header
            raise TraceError(f"{name}: the header of {array} cannot be parsed; save the arrays anew") from error
        start = member.tell()
    count = 1
    for extent in shape:
        count *= extent
    expected = start + count * dtype.itemsize
    if min(shape, default=0) < 0 or (expected != info.file_size and not dtype.hasobject):
        raise TraceError(
            f"{name}: {array} says it is {dtype} {shape}, {expected} bytes with its header, but has {info.file_size}; "
            "the file is damaged: copy or record it again"
        )
    return shape, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """The array of a member whose header was checked."""
    with archive.open(info) as member:
        return npy.read_array(member, allow_pickle=False)


def _reason(error: BaseException) -> str:
    """The first line of what a library said."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _remedy(path: Path) -> str:
    """What to do about a file that is no readable zip, judged by how it begins."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return "check its permissions"
    if start == b"":
        return "it is empty: copy or record it again"
    if start == b"PK\x03\x04":
        return "it is truncated or damaged: copy or record it again"
    return f"it is no .npz; save one with numpy.savez_compressed: {FORM}"
