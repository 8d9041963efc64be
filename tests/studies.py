"""Small experiments, as files and run: a second each once kernels are compiled."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

from vecalloc.study import study

ROOT = Path(__file__).parents[1]

PEAK = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])'
"""What a program has had of memory at most, in KiB: ru_maxrss would begin with that of the process that started it."""

SMALL = {
    "question": "Which policy fails least?",
    "pool": {"size": "8KiB"},
    "workload": {
        "sizes": {"dist": "lognorm", "s": 1.0, "scale": 128, "max": 1024, "bounds": "clip"},
        "lifetimes": {"dist": "expon"},
        "load": 0.9,
    },
    "policy": {"use": ["first-fit", "best-fit"]},
    "run": {"seed": 5, "requests": 300, "warmup": 0.2, "replicas": 12, "metrics": ["failure_ratio", "holes"]},
    "sweep": {"grid": {"workload.load": [0.7, 1.1]}},
}


def changed(changes, base=SMALL):
    """The tables of `base` with dotted keys set, or taken out (None)."""
    tables = deepcopy(base)
    for key, value in changes.items():
        *above, last = key.split("/")
        table = tables
        for name in above:
            table = table.setdefault(name, {})
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value
    return tables


def toml(value):
    """A value as TOML writes it, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write(folder, changes=None, name="small"):
    """Write an experiment: `changes` by path ("run/replicas": 3). Returns the file."""
    Path(folder).mkdir(exist_ok=True)
    path = Path(folder) / f"{name}.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in changed(changes or {}).items()))
    return path


def run(folder, changes=None, executor="threads:2", **options):
    """Write an experiment and run it, with the results in folder/results."""
    return study(write(folder, changes), executor, Path(folder) / "results", **options)


def rows_text(folder, name="small"):
    return (Path(folder) / "results" / name / "rows.csv").read_text()


def command(*arguments):
    """`python -m vecalloc`, with the helpers of tests/ importable."""
    return [sys.executable, "-m", "vecalloc", *map(str, arguments)]


def environment():
    return os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}


def vecalloc(*arguments, **options):
    """Run `python -m vecalloc` in a process of its own."""
    options = {"capture_output": True, "text": True, "timeout": 300, "env": environment(), **options}
    return subprocess.run(command(*arguments), **options)


def loky_pool():
    """For --executor studies:loky_pool."""
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(2)
