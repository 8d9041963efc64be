"""Who runs the batches: anything that is a `concurrent.futures.Executor`.

    threads:2            threads of this process over kernels that release the GIL (the default: all cores)
    processes:2          processes of their own; one that is killed is replaced, and what it had is run again
    dask:tcp://host:8786 a Dask cluster (pip install 'vecalloc[dask]')
    package:factory      any other: a callable without arguments that returns an Executor

What is sent and what comes back is plain data; results do not depend on who ran what.
"""

import importlib
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vecalloc.errors import InputError


@dataclass(frozen=True)
class Workers:
    """An executor that can be made, and made again.

    Attributes
    ----------
    label : str
        As people wrote it.
    count : int
        How many batches run at once, roughly.
    make : callable
        Returns the Executor.
    """

    label: str
    count: int
    make: Callable[[], Executor]


def workers_of(text: str | None = None) -> Workers:
    """The workers that a person asked for; all cores if he did not.

    Raises
    ------
    InputError
        Names what was written and the remedy.
    """
    text = text or f"threads:{os.cpu_count() or 1}"
    kind, _, rest = text.partition(":")
    if kind == "threads":
        count = _count(rest, text)
        return Workers(text, count, lambda: ThreadPoolExecutor(count, "vecalloc"))
    if kind == "processes":
        count = _count(rest, text)
        # Not fork: a forked child of a process with threads may wait for a lock that nobody holds any more.
        context = multiprocessing.get_context("forkserver")
        return Workers(text, count, lambda: ProcessPoolExecutor(count, mp_context=context))
    if kind == "dask":
        return _dask(rest, text)
    return _factory(kind, rest, text)


def _count(text: str, whole: str) -> int:
    if not text:
        return os.cpu_count() or 1
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise InputError(f"--executor is {whole!r}: write a number of workers from 1 to 4096, such as threads:2")
    return int(text)


def _dask(address: str, whole: str) -> Workers:
    if not address:
        raise InputError(f"--executor is {whole!r}: write the scheduler's address, such as dask:tcp://127.0.0.1:8786")
    try:
        from distributed import Client
    except ImportError:
        raise InputError(f"--executor is {whole!r}, but Dask is not installed: pip install 'vecalloc[dask]'") from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--executor is {whole!r}: no scheduler answers there ({error}): start one") from None
    count = sum(client.nthreads().values()) or 1
    return Workers(whole, count, lambda: client.get_executor(pure=False, retries=10))


def _factory(module: str, name: str, whole: str) -> Workers:
    known = "threads:N, processes:N, dask:ADDRESS or package.module:factory"
    if not name:
        raise InputError(f"--executor is {whole!r}: write {known}")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--executor is {whole!r}: {error}: write {known}") from None
    executor = make()
    if not all(hasattr(executor, method) for method in ("submit", "shutdown")):
        raise InputError(f"--executor is {whole!r}: {name} gives {type(executor).__name__}, which is no Executor")
    count: Any = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    first = [executor]
    return Workers(whole, int(count), lambda: first.pop() if first else make())


LOST = (BrokenExecutor,)
"""Errors after which the executor is gone and its batches are to be run by a new one."""
