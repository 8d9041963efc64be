"""Who runs the batches: anything that is a `concurrent.futures.Executor`.

    threads:2            threads of this process over kernels that release the GIL (the default: all cores)
    processes:2          processes of their own
    dask:tcp://host:8786 a Dask cluster (pip install 'vecalloc[dask]')
    package:factory      any other: a callable without arguments that returns an Executor

What is sent and what comes back is plain data, and results do not depend on who ran what, as long as everybody runs
the same versions on the same kind of CPU (store/provenance.py): whoever is no child of this process checks that first.

Executors are lost now and then: a process of a pool is killed for its memory, a node of a cluster goes down. `Workers`
can be replaced then, and the batches that were lost are sent again.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vecalloc.errors import InputError

if TYPE_CHECKING:
    from vecalloc.batch import Batch, Lines

MOST = 4096
"""Threads or processes that can be asked for."""

_KNOWN = "threads:N, processes:N, dask:ADDRESS or package.module:factory"


class Workers:
    """An executor, made when it is first needed and made again when it is lost.

    Parameters
    ----------
    label : str
        As people wrote it.
    count : int
        How many batches run at once, roughly.
    make : callable
        Returns the Executor.
    lost : tuple of exception types
        What a batch raises when its worker is gone, and not for a fault of its own.
    environment : dict, optional
        What workers have to have (`vecalloc.store.environment`); None: they are of this process.
    executor : Executor, optional
        If the first one has been made already.
    """

    def __init__(
        self,
        label: str,
        count: int,
        make: Callable[[], Executor],
        lost: tuple[type[BaseException], ...] = (BrokenExecutor,),
        environment: dict[str, str] | None = None,
        executor: Executor | None = None,
    ):
        self.label = label
        self.count = count
        self.lost = lost
        self._make = make
        self._environment = environment
        self._executor = executor

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(wait=kind is None)  # who is interrupted has waited for what he wanted

    def submit(self, batch: "Batch") -> "Future[Lines]":
        """Have a batch run.

        Raises
        ------
        one of `lost`
            If the executor is gone.
        InputError
            If no other one can be had.
        """
        if self._executor is None:
            self._executor = self._make()
        return self._executor.submit(run_batch, batch, self._environment)

    def replace(self) -> None:
        """Give up an executor that is lost; the next batch goes to a new one."""
        self._end(wait=False)

    def _end(self, wait: bool) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait)
        self._executor = None


def run_batch(batch: "Batch", environment: dict[str, str] | None) -> "Lines":
    """Run a batch, where that gives the bits that the driver expects.

    Raises
    ------
    InputError
        As `simulate_batch`; or if this worker's versions or CPU features are not those of the driver.
    """
    if environment is not None:
        _check_environment(environment)
    from vecalloc.batch import simulate_batch  # numba comes with it: only who simulates needs that

    return simulate_batch(batch)


def _check_environment(expected: dict[str, str]) -> None:
    own = _environment_here()
    unlike = [key for key in sorted(own.keys() | expected.keys()) if own.get(key) != expected.get(key)]
    if unlike:
        told = ", ".join(f"{key} {own.get(key)} instead of {expected.get(key)}" for key in unlike)
        raise InputError(
            f"the worker on {socket.gethostname()} has {told}: results would not be the same bits; "
            "give all workers the driver's versions and kind of CPU"
        )


@lru_cache(maxsize=1)
def _environment_here() -> dict[str, str]:
    from vecalloc.store import environment

    return environment()


# --- what people write -----------------------------------------------------------------------------------------------


def workers_of(text: str | None = None) -> Workers:
    """The workers that a person asked for; all cores if he did not.

    Raises
    ------
    InputError
        Names what was written and the remedy.
    """
    text = text or "threads"
    kind, _, rest = text.partition(":")
    if kind == "threads":
        count = _count(rest, text)
        return Workers(text, count, lambda: ThreadPoolExecutor(count, "vecalloc"))
    if kind == "processes":
        return _processes(_count(rest, text), text)
    if kind == "dask":
        return _dask(rest, text)
    return _factory(kind, rest, text)


def cores() -> int:
    """The cores that this process may use: a job of an array often has not got them all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(text: str, whole: str) -> int:
    if not text:
        return cores()
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise InputError(f"--executor is {whole!r}: write a number of workers from 1 to {MOST}, such as threads:2")
    return int(text)


def _processes(count: int, whole: str) -> Workers:
    # Not fork: a forked child of a process with threads may wait for a lock that nobody holds any more.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vecalloc.batch"])  # or each process, and each that replaces it, loads numba itself
    return Workers(whole, count, lambda: ProcessPoolExecutor(count, context, _begin_process))


def _begin_process() -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the driver; end when the driver has been killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver = multiprocessing.parent_process()
    if driver is not None:
        threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: Any) -> None:
    driver.join()
    os._exit(1)


def _dask(address: str, whole: str) -> Workers:
    if not address:
        raise InputError(f"--executor is {whole!r}: write the scheduler's address, such as dask:tcp://127.0.0.1:8786")
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise InputError(f"--executor is {whole!r}, but Dask is not installed: pip install 'vecalloc[dask]'") from None

    for name in ("distributed", "distributed.client"):  # a connection that is lost is told of here, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def connect() -> _Cluster:
        try:
            return _Cluster(distributed.Client(address, timeout=_PATIENCE, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--executor is {whole!r}: no scheduler answers there ({error}): start one with `dask scheduler`; "
                "whatever was finished is kept"
            ) from None

    first = connect()
    # The scheduler itself runs a batch again whose worker is killed, a few times. What it cancels is lost with it.
    lost = (distributed.KilledWorker, CancelledError)
    return Workers(whole, first.count, connect, lost, _environment_here(), first)


_PATIENCE = 10
"""Seconds that a scheduler has to answer."""


class _Cluster(Executor):
    """A connection to a Dask cluster; without it, nobody there works on our batches any more."""

    def __init__(self, client: Any):
        self._client = client
        self._executor = client.get_executor(pure=False)
        self.count = sum(client.nthreads().values()) or 1

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> "Future[Any]":
        """As any executor; a client that has lost its scheduler would take batches and forget them."""
        if self._client.status != "running":
            raise CancelledError("the connection to the scheduler is lost")
        future: Future[Any] = self._executor.submit(function, *arguments, **keywords)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close the connection."""
        self._client.close()


def _factory(module: str, name: str, whole: str) -> Workers:
    if not (module and name):
        raise InputError(f"--executor is {whole!r}: write {_KNOWN}")
    try:
        make = getattr(importlib.import_module(module), name)
        executor = make()
    except Exception as error:  # whatever somebody else's module comes up with
        raise InputError(f"--executor is {whole!r}: {error}: write {_KNOWN}") from error
    if not all(hasattr(executor, method) for method in ("submit", "shutdown")):
        raise InputError(f"--executor is {whole!r}: {name} gives {type(executor).__name__}, which is no Executor")
    count = getattr(executor, "_max_workers", None)
    count = count if isinstance(count, int) else cores()
    return Workers(whole, count, make, environment=_environment_here(), executor=executor)
