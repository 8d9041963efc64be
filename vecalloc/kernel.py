"""Compiled, cached, stamped: the only file that knows numba's odd corners.

Five decorators and a pairing, so that no other file has to remember why:

`inline`     a helper that is part of a kernel. `_nrt=False` keeps reference counting out of it (an atomic increment a
             call made an operation 138-300 ns instead of 18-20), `forceinline` lets LLVM see through it.
`outline`    a slow path: no reference counting either, but not copied into every caller.
`rows`       takes a replica's rows out of a state: the only helpers that count references, for they make new views;
             called once a replica, outside the event loop.
`loop`       an event loop, written once and copied into each policy's kernel *before* type inference
             (`inline="always"`), so that the policy's own `alloc` and `free` can be its arguments.
`kernel`     a compiled entry: releases the GIL, and is cached on disk under a stamp.
`primitive`  an LLVM instruction paired with its plain-Python twin, which serves when NUMBA_DISABLE_JIT=1.

**The stamp.** numba names a cached function by its own file alone: edit a helper in another file and it silently goes
on running the old machine code. Here the name of a cache file holds a digest of the kernel's file and of every file of
this package that it imports, however far away, and of numba's version. An edit of a callee therefore finds no file and
compiles anew; an edit of an unrelated file changes nothing. The name also holds a digest of the signature: numba's own
numbered files let two processes that compile two signatures at once read each other's code.

`parallel=True` is not offered: writes through the fields of a NamedTuple are lost in `prange` (numba issues 5872, 7135,
10338), and OpenMP does not survive a fork. Threads over `nogil` kernels do the same work (`simulate.py`).
"""

import ast
import gc
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba import njit
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.serialize import dumps
from numba.extending import intrinsic
from numba.misc.appdirs import AppDirs

JIT = not config.DISABLE_JIT

# Nobody calls a helper from Python or C: without the wrappers a policy compiles a fifth faster.
_HELPER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

inline = njit(_nrt=False, forceinline=True, **_HELPER)
outline = njit(_nrt=False, **_HELPER)
rows = njit(**_HELPER)
loop = njit(inline="always")


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` lazily as a GIL-free entry point, cached on disk under the stamp of all that it imports."""
    if not JIT:
        return function
    dispatcher = njit(nogil=True)(function)
    if function.__module__.startswith(PACKAGE + "."):  # the stamp knows no other files: a test's kernel is not cached
        dispatcher._cache = _StampedCache(function)
    dispatcher.compile = _without_collector(dispatcher.compile)
    return dispatcher


def _without_collector(compile: Callable[..., Any]) -> Callable[..., Any]:
    """Hold Python's cyclic collector while numba compiles: looking through its graphs costs 6 % and frees nothing."""

    def held(signature: Any) -> Any:
        was_on = gc.isenabled()
        gc.disable()
        try:
            return compile(signature)
        finally:
            if was_on:
                gc.enable()

    return held


def primitive(twin: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a numba typing-and-codegen function; `twin` does the same in plain Python when the JIT is off."""
    return (lambda typing: intrinsic(typing)) if JIT else (lambda typing: twin)


# --- the stamp -------------------------------------------------------------------------------------------------------

PACKAGE = __name__.rpartition(".")[0]

_STARTED = time.time()


@cache
def _file_of(module: str) -> Path | None:
    """The source file of a module of this package, without importing it; None if there is no such module."""
    base = Path(__file__).parent.joinpath(*module.split(".")[1:])
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


@cache
def _imports_of(module: str) -> frozenset[str]:
    """The modules of this package that `module` imports, wherever in the file the import stands."""
    path = _file_of(module)
    if path is None:
        return frozenset()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(m for m in found if (m + ".").startswith(PACKAGE + ".") and m != PACKAGE and _file_of(m))


@cache
def stamp(module: str) -> str:
    """Digest of a module's file and of every file of the package that it imports, transitively, and of numba's version.

    Parameters
    ----------
    module : str
        Dotted name of a module of this package.

    Returns
    -------
    str
        24 hexadecimal digits.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for name, path in _closure(module).items():
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def _closure(module: str) -> dict[str, Path]:
    """The module and every module of this package that it imports, transitively, with their files, by name."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue.extend(_imports_of(name))
    return {name: path for name in sorted(seen) if (path := _file_of(name)) is not None}


def _edited_since_start(module: str) -> bool:
    """Whether a file of the closure is younger than this process's import of it may be."""
    return any(path.stat().st_mtime > _STARTED for path in _closure(module).values())


# --- the cache -------------------------------------------------------------------------------------------------------


def _cache_folders(source: Path) -> list[Path]:
    """Where compiled code may be kept, best first: as told, beside the source, the user's cache, a temporary folder."""
    place = f"{source.parent.name}-{hashlib.sha256(str(source.parent).encode()).hexdigest()[:16]}"
    folders = [Path(config.CACHE_DIR) / place] if config.CACHE_DIR else [source.parent / "__pycache__"]
    folders.append(Path(AppDirs(appname=PACKAGE, appauthor=False).user_cache_dir) / place)
    folders.append(Path(tempfile.gettempdir()) / f"{PACKAGE}-{os.getuid() if hasattr(os, 'getuid') else 0}" / place)
    return folders


@cache
def _writable_folder(source: Path) -> Path | None:
    """The first cache folder that can be written, made if need be; None where there is none."""
    for folder in _cache_folders(source):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_ours(folder):
                continue
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None


def _is_ours(folder: Path) -> bool:
    """Code is loaded from here: a folder that somebody else could have prepared is not to be trusted."""
    if not hasattr(os, "getuid"):
        return True
    # Anybody can make a folder in the temporary one, and who owns a folder can exchange what is in it.
    made = [folder, folder.parent] if folder.parent.parent == Path(tempfile.gettempdir()) else [folder]
    return all(place.stat().st_uid == os.getuid() for place in made)


class _Locator(_CacheLocator):
    """Tells numba where a kernel's machine code is kept and what it depends on."""

    def __init__(self, py_func: Callable[..., Any], folder: Path):
        self._py_file = py_func.__code__.co_filename
        self._module = py_func.__module__
        self._folder = folder

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator | None":
        folder = _writable_folder(Path(py_file))
        return None if folder is None else cls(py_func, folder)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return stamp(self._module)

    def get_disambiguator(self) -> str:
        return self.get_source_stamp()


class _Implementation(CompileResultCacheImpl):
    _locator_classes: ClassVar = [_Locator]


_DIGEST = hashlib.sha256().digest_size


class _Files:
    """One file for each signature of a kernel: no index that two processes could overwrite for each other."""

    def __init__(self, folder: str, base: str):
        self._folder, self._base = Path(folder), base

    def _path(self, key: Any) -> Path:
        return self._folder / f"{self._base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.nbc"

    def load(self, key: Any) -> Any:
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(data).digest() != digest:
            return None  # what a full disk or a power cut left is as good as nothing
        return numba.core.serialize.pickle.loads(data)

    def save(self, key: Any, data: Any) -> None:
        path = self._path(key)
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                content = dumps(data)
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(name, path)  # a reader sees the whole file or none
        except OSError:
            Path(name).unlink(missing_ok=True)  # a full disk costs the cache, not the run

    def flush(self) -> None:
        for path in self._folder.glob(f"{self._base}.*.nbc"):
            path.unlink(missing_ok=True)


class _StampedCache(FunctionCache):
    """numba's function cache over `_Files`; without a writable folder it compiles and keeps nothing."""

    _impl_class = _Implementation

    def __init__(self, py_func: Callable[..., Any]):
        self._py_func = py_func
        self._name = repr(py_func)
        self._ready = False
        self._cache_path = None  # as `stats` of a kernel that has not run, or has no folder, shows it
        self.enable()

    def _prepare(self) -> bool:
        """Look for the folder and the stamp at the first use: importing a policy need not read the whole package."""
        if not self._ready:
            self._ready = True
            # Edited since: what is in memory is not what the stamp of the file would say it is.
            edited = _edited_since_start(self._py_func.__module__)
            if edited or _writable_folder(Path(self._py_func.__code__.co_filename)) is None:
                self.disable()
            else:
                self._impl = self._impl_class(self._py_func)
                self._cache_path = self._impl.locator.get_cache_path()
                self._cache_file = _Files(self._cache_path, self._impl.filename_base)
        return self._enabled

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        return super()._load_overload(sig, target_context) if self._prepare() else None

    def _save_overload(self, sig: Any, data: Any) -> None:
        if self._prepare():
            super()._save_overload(sig, data)
