"""vecalloc: simulates memory allocators - exactly, fast, and reproducibly.

    a program's requests            a policy's kernel                what it wrote down
    Trace -> Events  ------------>  alloc / free on numpy  ------->  Ledger -> metrics
    (formats/, workload/)           (policies/, mechanisms/)         (addresses, counts, integrals)

The public names are loaded when they are first used: importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "InputError": "errors",
    "InvalidFree": "pool",
    "Pool": "pool",
    "Replay": "api",
    "Trace": "trace",
    "load_trace": "api",
    "replay": "api",
    "results": "study",
    "run": "study",
    "save": "store",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vecalloc' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"vecalloc.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
