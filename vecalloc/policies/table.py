"""The table of policies: what there is, what it takes, and which file does it. Nothing here imports numba.

A new policy is a file beside this one, a reference in tests/reference, and one line in POLICIES.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option as people write it: bytes, one of `choices`, or (many) a list of bytes; its default and meaning."""

    name: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    many: bool = False


@dataclass(frozen=True)
class Rules:
    """The options of a policy as its kernels need them, in granules."""

    min_split: int = 1
    carve_high: bool = False
    unit: int = 0
    units: tuple[int, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A line of the table.

    Attributes
    ----------
    name : str
        As people write it.
    meaning : str
        One line.
    file : str
        The module in policies/ that does it.
    options : tuple of Option
    variants : tuple of (file, condition on the options)
        The first file whose condition holds does it instead.
    power_of_two : bool
        Whether the pool must have 2^k granules.
    revision : int
        Raised by hand whenever the policy places a block elsewhere than before.
    """

    name: str
    meaning: str
    file: str
    options: tuple[Option, ...]
    variants: tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...] = ()
    power_of_two: bool = False
    revision: int = 1

    def module(self, options: dict[str, Any]) -> ModuleType:
        """Import the file that serves these options (every option named)."""
        return import_module(f"vecalloc.policies.{self.file_for(options)}")

    def file_for(self, options: dict[str, Any]) -> str:
        """The name of that file."""
        return next((file for file, serves in self.variants if serves(options)), self.file)

    def most(self, options: dict[str, Any]) -> int:
        """The largest pool in granules: links of int32 reach 2^30, bitmaps are served up to 2^32."""
        return 1 << 30 if self.file_for(options).endswith("_lifo") else 1 << 32

    def option(self, name: str) -> Option | None:
        """The option of this name."""
        return next((option for option in self.options if option.name == name), None)


HEADER = Option("header", 0, "bytes added to every request, at the low end of its block")
ALIGNMENT = Option("alignment", 1, "bytes, a power of two: extents, and so addresses, are multiples of it")
MIN_SPLIT = Option("min_split", 1, "bytes: a remainder smaller than this is granted with the block")
CARVE = Option("carve", "low", "the end of the hole that the block is taken from", ("low", "high"))
TIES = Option("ties", "lowest", "among equal holes, the lowest address or the one made last", ("lowest", "lifo"))
ORDER = Option("order", "lowest", "among equal free blocks, the lowest address or the last freed", ("lowest", "lifo"))
UNIT = Option("unit", None, "bytes of each of the equal units (by default a 64th of the pool)")
UNITS = Option("units", (), "a list of sizes: unequal units, side by side in this order", many=True)

POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            "static-partition",
            "fixed units; the lowest free one of the smallest that are large enough, taken whole",
            "static_partition",
            (HEADER, ALIGNMENT, UNIT, UNITS, ORDER),
            (
                ("unequal_partition_lifo", lambda o: bool(o["units"]) and o["order"] == "lifo"),
                ("unequal_partition", lambda o: bool(o["units"])),
                ("static_partition_lifo", lambda o: o["order"] == "lifo"),
            ),
        ),
        Policy(
            "first-fit",
            "the hole at the lowest address that is large enough",
            "first_fit",
            (HEADER, ALIGNMENT, MIN_SPLIT, CARVE),
        ),
        Policy(
            "best-fit",
            "the smallest hole that is large enough, ties to the lowest address",
            "best_fit",
            (HEADER, ALIGNMENT, MIN_SPLIT, CARVE, TIES),
            (("best_fit_lifo", lambda o: o["ties"] == "lifo"),),
        ),
        Policy(
            "worst-fit",
            "the largest hole, ties to the lowest address",
            "worst_fit",
            (HEADER, ALIGNMENT, MIN_SPLIT, CARVE),
        ),
        Policy(
            "next-fit",
            "first-fit from where the last placed block ends, wrapping once",
            "next_fit",
            (HEADER, ALIGNMENT, MIN_SPLIT),
        ),
        Policy(
            "buddy",
            "binary buddies: the smallest power of two, halves split off and merged eagerly",
            "buddy",
            (HEADER, ALIGNMENT, ORDER),
            (("buddy_lifo", lambda o: o["order"] == "lifo"),),
            power_of_two=True,
        ),
    )
}
