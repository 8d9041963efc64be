"""Files that appear whole or not at all, and stay.

A file is written under another name in its own folder, synced to the disk, and renamed over what was there; then the
folder is synced, for the name is in it. Whoever is killed in between leaves a temporary file behind and nothing else;
its name says which process of which machine made it, so that the next one knows what may go.
"""

import errno
import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vecalloc.errors import InputError

STALE = 86_400.0
"""Seconds after which a temporary file of another machine, whose processes cannot be asked for, is a leftover."""

REMEDY = "get it back with git, or run the experiment again"
"""For a file of results that is broken."""


@contextmanager
def refusals_of(folder: Path, remedy: str) -> Iterator[None]:
    """What the system refuses inside becomes an `InputError` of one sentence about the folder."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): {remedy}") from error


def replace(file: Path, data: bytes) -> None:
    """Put a whole file in place of what was there; once this returns, it outlives a power cut.

    Raises
    ------
    OSError
        If the disk is full and the like. What was there is still there, and nothing else.
    """
    temporary = file.parent / f".{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        # Not tempfile: its files are closed to the group, which may be meant to read the results.
        with open(temporary, "xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems do not know this, and sync names by themselves
                raise
        finally:
            os.close(folder)


def write(file: Path, data: bytes) -> None:
    """Make a file say this; one that already does is not touched.

    Raises
    ------
    OSError
        As `replace`.
    """
    try:
        if file.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    replace(file, data)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    for path in folder.glob(".*-*-*.tmp"):
        host, process, _ = path.name[1:].split("-", 2)
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        if age > STALE or (host == _host() and process.isdecimal() and not _alive(int(process))):
            path.unlink(missing_ok=True)


def _host() -> str:
    """Whose process numbers are meant in the name of a temporary file."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    if os.name != "posix":
        return True  # there, signal 0 would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it runs, and is somebody else's
    return True


def read_bytes(file: Path) -> bytes | None:
    """Return what a file holds, None if there is none.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check what it is, and its permissions") from error


def read_text(file: Path) -> str | None:
    """Return the text of a file with the line ends of Unix (git may have made others), None if there is none.

    Raises
    ------
    InputError
        If it cannot be read or is no UTF-8.
    """
    data = read_bytes(file)
    try:
        return None if data is None else data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is no UTF-8 text (byte {error.start}); {REMEDY}") from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds, an empty one if there is no file.

    Raises
    ------
    InputError
        If it cannot be read or is no JSON object.
    """
    text = read_text(file)
    if text is None:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no JSON ({error}); {REMEDY}") from error
    if not isinstance(said, dict):
        raise InputError(f"{file}: holds {text[:20]!r}, no JSON object; {REMEDY}")
    return said


def to_json(value: Mapping[str, Any]) -> bytes:
    """Return the text of a JSON file, one key a line."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
