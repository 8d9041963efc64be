"""What `heaptrack --raw` writes: a line an event, numbers in hexadecimal; zstd, gzip or plain.

    v 10400 3                   version of heaptrack, version of the format
    + 1d8 10 55fec4268370       alloc: bytes requested, place in the program, address (after malloc returned)
    - 55fec4268370              free: address (before free)
    c 2e                        milliseconds since the start
    x X I m t R s S A           where, what, modules, places, memory: passed over

A realloc is a free, then an alloc. The first alloc of a recording, 0x11c00 bytes, is the emergency pool of heaptrack's
own C++ library; it and its free are dropped. The file is read in blocks, so a recording of any length takes the memory
of its Trace.

Source: heaptrack 1.4, src/interpret/heaptrack_interpret.cpp (format version 3).
"""

from os import PathLike, fspath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecalloc.formats import TraceError, streams
from vecalloc.formats.pairing import Pairing
from vecalloc.kernel import inline, kernel
from vecalloc.trace import LARGEST_SIZE, Trace

VERSION = 3
"""The format version that is read here."""

LONGEST_LINE = 1 << 20
"""Bytes of a line (a command with its arguments is one)."""

OWN_POOL = 0x11C00
"""Bytes of the pool that libstdc++ allocates for heaptrack before the program starts."""

ALLOC, FREE = 0, 1

FINE, BAD_NUMBER, MISSING_FIELD, EXTRA_FIELD, TOO_LARGE = range(5)

_NEWLINE, _SPACE = 10, 32

_LINE, _OWN, _SEEN_ALLOC, _CLOCK = range(4)
"""State from block to block: lines behind; address of heaptrack's own pool while it lives (0: it does not); whether an
alloc was seen; the last clock in ms."""


def read(path: str | PathLike[str]) -> Trace:
    """Read a recording of `heaptrack --raw`.

    Parameters
    ----------
    path : path
        Plain, or compressed by zstd or gzip.

    Returns
    -------
    Trace
        With recycled slots and times in seconds (of the last clock line before an event).

    Raises
    ------
    TraceError
        If the file is truncated or damaged, or is no such recording: names the line.
    """
    name = fspath(path)
    reader = _Reader(name)
    try:
        for block in streams.blocks(Path(path), name):
            reader.feed(block)
    except streams.Truncated as error:
        raise TraceError(
            f"{name}: is cut off or damaged ({error}) after line {reader.lines} and {reader.events} events; "
            "copy or record it again"
        ) from error
    return reader.trace()


class _Reader:
    """Blocks of text -> events, with what is to be kept from block to block."""

    def __init__(self, name: str):
        self._name = name
        self._pairing = Pairing()
        self._state = np.zeros(4, np.int64)
        self._rest = b""
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]] = []
        self.events = 0

    @property
    def lines(self) -> int:
        """How many lines are behind."""
        return int(self._state[_LINE])

    def feed(self, block: bytes) -> None:
        """Read one block."""
        end = block.rfind(b"\n") + 1
        text = self._rest + block[:end] if end else b""
        self._rest = block[end:] if end else self._rest + block
        if text:
            if self.lines == 0:
                self._check_version(text[: text.index(b"\n")])
            self._read_lines(np.frombuffer(text, np.uint8))
        if len(self._rest) > LONGEST_LINE:
            raise TraceError(
                f"{self._name}: line {self.lines + 1} has more than {LONGEST_LINE} bytes; "
                "this is no heaptrack recording"
            )

    def _check_version(self, line: bytes) -> None:
        fields = line.split()
        if len(fields) != 3 or fields[2] != b"%x" % VERSION:
            shown = line[:40].decode(errors="replace")
            raise TraceError(
                f"{self._name}: line 1 is {shown!r}, not 'v <heaptrack> {VERSION}'; that is the format read here"
            )

    def _read_lines(self, text: NDArray[np.uint8]) -> None:
        most = np.count_nonzero(text == _NEWLINE)
        op, address, size = np.empty(most, np.int8), np.empty(most, np.int64), np.empty(most, np.int64)
        clock = np.empty(most, np.int64)
        fault, found, at = _parse(text, self._state, op, address, size, clock)
        if fault != FINE:
            self._complain(fault, bytes(text[at : at + 80]).partition(b"\n")[0].decode(errors="replace"))
        slot, signed, source = self._pairing.feed(op[:found], address[:found], size[:found])
        self._parts.append((slot, signed, clock[source] / 1000.0))
        self.events += len(slot)

    def _complain(self, fault: int, line: str) -> None:
        why = {
            BAD_NUMBER: "holds no hexadecimal number of up to 16 digits where one is due; the file is damaged",
            MISSING_FIELD: "has too few fields; write '+ size trace address' or '- address', as heaptrack --raw does "
            "(without --raw it writes another format)",
            EXTRA_FIELD: "has too many fields; write '+ size trace address' or '- address'",
            TOO_LARGE: f"asks for more than the {LARGEST_SIZE} bytes that a request may have; the file is damaged",
        }[fault]
        raise TraceError(f"{self._name}: line {self.lines + 1} ({line!r}) {why}")

    def trace(self) -> Trace:
        """The Trace of all that was read."""
        if self.lines == 0:
            raise TraceError(f"{self._name}: has no complete line; copy or record it again")
        anomalies = self._pairing.anomalies
        if self._rest:
            anomalies["truncated_lines"] = 1  # the program was killed while heaptrack wrote
        slot, signed, time = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return Trace(slot, signed, time, {"source": "heaptrack --raw"}, anomalies, checked=True)


@kernel
def _parse(text, state, op, address, size, clock):  # type: ignore[no-untyped-def]
    """Whole lines -> events; return what is wrong (FINE if nothing), how many events, and where the bad line starts."""
    found = 0
    at = 0
    while at < len(text):
        start = at
        kind = text[at]
        at += 1
        if (kind == 43 or kind == 45 or kind == 99) and text[at] == _SPACE:  # + - c
            fields = 3 if kind == 43 else 1
            first = last = np.int64(0)
            for field in range(fields):
                if text[at] != _SPACE:
                    return MISSING_FIELD, found, start
                number, at = _hexadecimal(text, at + 1)
                if at < 0:
                    return BAD_NUMBER, found, start
                first = number if field == 0 else first
                last = number
            if text[at] == _SPACE:
                return EXTRA_FIELD, found, start
            if kind == 99:
                state[_CLOCK] = max(first, state[_CLOCK])
            elif kind == 43:
                if first < 0 or first > LARGEST_SIZE:
                    return TOO_LARGE, found, start
                if state[_SEEN_ALLOC] == 0 and first == OWN_POOL:
                    state[_OWN] = last
                else:
                    op[found] = ALLOC
                    address[found] = last
                    size[found] = first
                    clock[found] = state[_CLOCK]
                    found += 1
                state[_SEEN_ALLOC] = 1
            elif state[_OWN] != 0 and first == state[_OWN]:
                state[_OWN] = 0
            else:
                op[found] = FREE
                address[found] = first
                size[found] = 0
                clock[found] = state[_CLOCK]
                found += 1
        while text[at] != _NEWLINE:
            at += 1
        at += 1
        state[_LINE] += 1
    return FINE, found, at


@inline
def _hexadecimal(text, at):  # type: ignore[no-untyped-def]
    """The number that starts at `at` and where it ends (at a space or newline); -1 there if it is none."""
    value = np.int64(0)
    digits = 0
    while True:
        c = np.int64(text[at])
        if 48 <= c <= 57:
            digit = c - 48
        elif 97 <= c <= 102:
            digit = c - 87
        else:
            break
        value = (value << 4) | digit
        digits += 1
        at += 1
    if digits == 0 or digits > 16 or (text[at] != _NEWLINE and text[at] != _SPACE):
        return value, np.int64(-1)
    return value, np.int64(at)
