"""The table of remedies: what there is, what it takes, and what that comes to. Nothing here imports numba.

    compact[how=first-window,budget=4]        swap[victim=lru,latency=8ms,bandwidth=40MB,swap_space=1GiB]

A line of REMEDIES has the options as people write them; a `Compact` or a `Swap` is such a line filled in: numbers,
words, seconds, bytes a second. Both are plain data, for whoever runs a loop and for workers elsewhere.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

HOWS = ("slide", "first-window", "two-finger")
"""The ways of a pass of compaction."""

WHENS = ("failure", "every", "external_fragmentation")
"""What a pass comes before: an alloc that fails; each n-th event; an event at which so much is fragmented."""

VICTIMS = ("lru", "largest-idle", "smallest-sufficient", "random", "lowest-priority")
"""The rules by which swapping chooses among idle processes."""


@dataclass(frozen=True, slots=True)
class Compact:
    """Compaction: when blocks move, which, and where to.

    Attributes
    ----------
    how : str
        One of HOWS.
    when : str
        One of WHENS.
    every : int or None
        Events from a pass to the next, from 1 up; None: `when` is another.
    external_fragmentation : float or None
        That a pass comes at, between 0 and 1; None: `when` is another.
    budget : float or None
        c > 1: at most a c-th of what has been allocated is ever moved; None: no limit.
    pinned : float
        Share of the blocks that must not move, below 1.
    bandwidth : float
        Bytes moved in a second; may be inf. Turns what was moved into seconds, and delays nothing.
    """

    kind: ClassVar[str] = "compact"

    how: str = "slide"
    when: str = "failure"
    every: int | None = None
    external_fragmentation: float | None = None
    budget: float | None = None
    pinned: float = 0.0
    bandwidth: float = 10e9


@dataclass(frozen=True, slots=True)
class Swap:
    """Swapping: which processes leave for the disk, what the disk is like, and how they come back.

    Attributes
    ----------
    victim : str
        One of VICTIMS.
    latency : float
        Seconds before each transfer.
    bandwidth : float
        Bytes that the disk transfers in a second; may be inf.
    swap_space : int or None
        Bytes that images on the disk may take; None: no limit.
    relocate : bool
        Whether a process may come back to another address.
    load : bool
        Whether new processes are read from the disk too.
    """

    kind: ClassVar[str] = "swap"

    victim: str = "lru"
    latency: float = 0.008
    bandwidth: float = 40e6
    swap_space: int | None = None
    relocate: bool = True
    load: bool = False


Remedy = Compact | Swap


@dataclass(frozen=True)
class Option:
    """An option of a remedy.

    Attributes
    ----------
    name : str
        As people write it.
    form : str
        What its values are: "choice", "when", "budget", "share", "rate", "duration", "space", "flag".
    default : Any
        As people write it.
    meaning : str
        What is to be written, and what it means.
    choices : tuple of str
    within : str
        The table of a file that the option stands in, beside the others; "": none of its own.
    """

    name: str
    form: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    within: str = ""


@dataclass(frozen=True)
class Kind:
    """A line of the table.

    Attributes
    ----------
    name : str
        As people write it.
    meaning : str
        One line.
    filled_in : class
        What the options come to.
    options : tuple of Option
    revision : int
        Raised by hand whenever the remedy moves another block than before, or to another place or time.
    """

    name: str
    meaning: str
    filled_in: type[Compact] | type[Swap]
    options: tuple[Option, ...]
    revision: int = 1

    def option(self, name: str) -> Option:
        """The option of this name, which there is."""
        return next(option for option in self.options if option.name == name)


HOW = Option(
    "how",
    "choice",
    "slide",
    '"slide" (all blocks move down, in order), "first-window" (the holes that are cheapest to join become one that is '
    'large enough) or "two-finger" (the highest blocks that fit fill the lowest holes)',
    HOWS,
)
WHEN = Option(
    "when",
    "when",
    "failure",
    '"failure" (before an alloc that fails though enough is free), {every = 1000} (before each 1000th event) or '
    "{external_fragmentation = 0.5} (before an event at which so much is)",
)
BUDGET = Option(
    "budget", "budget", "none", 'a number above 1, c: at most a c-th of what has been allocated is moved; or "none"'
)
PINNED = Option("pinned", "share", 0, "a share from 0 up and below 1: of the blocks, those that must not move")
MEMORY_BANDWIDTH = Option(
    "bandwidth",
    "rate",
    "10 GB/s",
    'bytes a second, such as "10 GB/s", or "inf": how fast blocks move, to express what was moved in seconds',
)
VICTIM = Option(
    "victim",
    "choice",
    "lru",
    '"lru", "largest-idle", "smallest-sufficient", "random" or "lowest-priority": which idle process leaves',
    VICTIMS,
)
LATENCY = Option(
    "latency",
    "duration",
    "8 ms",
    'seconds, or a time such as "8 ms", before each transfer; one unit of simulated time is one second',
    within="disk",
)
DISK_BANDWIDTH = Option(
    "bandwidth",
    "rate",
    "40 MB/s",
    'bytes a second, such as "40 MB/s", or "inf": how fast the disk is; one unit of simulated time is one second',
    within="disk",
)
SWAP_SPACE = Option(
    "swap_space", "space", "none", 'bytes or a size such as "1GiB" that processes may take on the disk; or "none"'
)
RELOCATE = Option("relocate", "flag", True, "true or false: whether a process may come back to another address")
LOAD = Option("load", "flag", False, "true or false: whether new processes are read from the disk too")

REMEDIES: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "compact",
            "live blocks move, so that holes become one",
            Compact,
            (HOW, WHEN, BUDGET, PINNED, MEMORY_BANDWIDTH),
        ),
        Kind(
            "swap",
            "idle processes leave for the disk until they work again",
            Swap,
            (VICTIM, LATENCY, DISK_BANDWIDTH, SWAP_SPACE, RELOCATE, LOAD),
        ),
    )
}
