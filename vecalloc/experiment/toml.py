"""TOML: the text of a file, the tree that it comes to, and how values and places in it are written.

A place is a path, ("policy", "use", 1), written policy.use[1]. A sweep names it by a dotted key, policy.use.1.
"""

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vecalloc.errors import InputError

KeyPath = tuple[str | int, ...]
"""Keys of tables and indices of lists, from the outermost."""

LARGEST_FILE = 1 << 24
"""Bytes of an experiment file."""

_LONGEST = 60
"""Characters of a value in a message."""


def read(file: Path) -> str:
    """Read the text of an experiment file, in UTF-8 with a byte order mark or without.

    Raises
    ------
    InputError
        If it is no such file.
    """
    try:
        if not file.is_file():
            wrong = "is no regular file" if file.exists() else "no such file"
            raise InputError(f"{file}: {wrong}; name an experiment such as experiments/quickstart.toml")
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError(f"{file}: has more than {LARGEST_FILE} bytes; name an experiment file")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}, line {line}: is not UTF-8; save the file as UTF-8") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{file}: cannot be read ({error}); check the path") from None


def parsed(text: str, where: str) -> dict[str, Any]:
    """The tables in a text.

    Raises
    ------
    InputError
        If it is no TOML: `where` it stands, the line and the column.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        place = place.removesuffix(")")
        if not place.startswith("line"):
            place = f"line {len(text.splitlines())}, the end of the file"
        raise InputError(f"{where}, {place}: {what}; write TOML (https://toml.io)") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise InputError(f"{where}: cannot be read as TOML ({error}); write shorter numbers, and nest less") from None


# --- writing it ------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value for a message: as TOML writes it, cut where it is long."""
    text = as_toml(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def as_toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)} = {as_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    try:
        return str(value)
    except ValueError:  # more digits than Python converts
        return "a number of thousands of digits"


def written(path: KeyPath) -> str:
    """A path as messages name it: policy.use[1]; nothing for the file itself."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path)[1:]


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


# --- dotted keys -----------------------------------------------------------------------------------------------------


def path_of(key: str) -> KeyPath:
    """A dotted key -> its path."""
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 10 else part for part in key.split("."))


def is_within(key: str, other: str) -> bool:
    """Whether a dotted key is one of the table at another key."""
    return key.startswith(f"{other}.")


def overlap(key: str, other: str) -> bool:
    """Whether two dotted keys are the same, or one is within the other."""
    return key == other or is_within(key, other) or is_within(other, key)


def put(tree: Any, path: Sequence[str | int], value: Any) -> Any:
    """The tree with this value at this path; what is not on the path is shared, not copied.

    Where the path leads into something that is no table, a table takes its place: the check of the cell says the rest.
    """
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int) and isinstance(tree, list) and step < len(tree):
        return [put(each, rest, value) if i == step else each for i, each in enumerate(tree)]
    inner = tree if isinstance(tree, dict) else {}
    return {**inner, str(step): put(inner.get(str(step), {}), rest, value)}
