"""Provenance: what was asked, as a short id, and what answered: versions, machine, commit.

A row's **content id** stands for everything that its numbers follow from, so that equal ids may share their replicas
and different ones never do. It is made of what a person would read, as JSON with sorted keys: whoever adds a key with a
new meaning changes the id, and whoever reorders the file does not.

The **environment** is what the bits follow from besides the question. The same numbers drawn from the same stream have
other last digits where numpy's loops or the C library's logarithm use other instructions: parts and rows made in two
environments are compared within their intervals, and never mixed. Wall times, host names and paths are no provenance.
"""

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import vecalloc
from vecalloc.errors import InputError

ID_DIGITS = 16
"""Hex digits of a content id: 64 bits. Ids meet only inside one folder, where a million of them collide with a
probability of 3e-8, and 16 digits still fit a line of rows.csv."""


def content_id(description: Mapping[str, Any]) -> str:
    """Return the id of what a description says: the same on every machine, whatever the order of its keys.

    It is the beginning of the SHA-256 of the description as JSON with sorted keys; a float is written by `repr`, so
    1 and 1.0 differ, as do 0.1 and the next float.

    Parameters
    ----------
    description : mapping
        Strings to text, whole numbers, finite floats, booleans, None, and lists and mappings of these.

    Returns
    -------
    str
        `ID_DIGITS` hex digits.

    Raises
    ------
    InputError
        If the description holds anything else; it names the key.
    """
    _require_plain(description, "")
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def _require_plain(value: Any, key: str) -> None:
    """Refuse what JSON would write like something else (a key 1 like "1") or not at all."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise InputError(f"{key or 'a description'} has the key {name!r}: make it text")
            _require_plain(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _require_plain(inner, f"{key}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key} is {value}, which JSON cannot say: make it a finite number")
    elif not isinstance(value, str | int | float | None):
        kind = type(value).__name__
        raise InputError(f"{key} is {value!r}, a {kind}: make it text, a Python number, a boolean, a list or a mapping")


def environment() -> dict[str, str]:
    """Return what the bits of a result depend on, besides the question: versions, machine, CPU features.

    numpy's loops and the C library's logarithms choose their code by CPU features, and their last digits with it;
    numpy tells those it uses (`NPY_DISABLE_CPU_FEATURES` included), and they tell apart what the C library tells apart.
    The name of the CPU is left out: kernels are compiled for it, but without contraction of floats, and what they sum
    they sum in the order of events.

    Returns
    -------
    dict
        vecalloc, python, numpy, numba, scipy, libc, machine, cpu_features.
    """
    extensions: Any = np.show_config(mode="dicts")
    used = extensions.get("SIMD Extensions", {})
    return {
        "vecalloc": vecalloc.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "scipy": version("scipy"),
        "libc": " ".join(platform.libc_ver()).strip() or platform.system(),
        "machine": platform.machine(),
        "cpu_features": " ".join([*used.get("baseline", []), *used.get("found", [])]),
    }


def commit() -> str:
    """Return the git commit of the package's source, with "+changes" if the package differs; "" outside a repository.

    An installed package lies in whatever repository its virtual environment does: only one that tracks it counts.
    """
    package = Path(vecalloc.__file__).parent
    # A hook that runs a study has GIT_DIR and the like of its own repository in the environment.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        command = ["git", "--no-optional-locks", *arguments]
        try:
            done = subprocess.run(command, cwd=package, env=outside, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    head, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".")
    return f"{head}+changes" if head and changes else head or ""


def cpu_name() -> str:
    """Return the processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
