"""How many bytes a request asks for: a law, rounded to whole bytes, held within bounds as the file says.

    sizes = {dist = "lognorm", s = 1.0, scale = 256, max = "8KiB", bounds = "clip"}

A number of the law is first rounded (`rounding`: up by default; "round" takes halves to the even neighbour), then held
within `min` and `max` by `bounds`: "clip" moves what lies outside to the nearest bound, "reject" draws again until all
is inside. Nothing is cut silently: without `min`, a size below 0 is an error when it is drawn, and so is one that is no
number or larger than a request can be.

A load is arrival rate x mean life x mean size, so the mean must be that of the sizes as they are drawn: rounding up
adds half a byte to most laws, and a bound takes away what it takes away. With P(k) the probability that a rounded size
exceeds k,

    clip      E = min + sum of P(k)            over the whole numbers min <= k < max
    reject    E = min + sum of P(k) - P(max)   the same, divided by P(min - 1) - P(max)

Tables (histograms, fleets) are summed as they are, and each of their values is rounded and bounded once, before
anything is drawn. Elsewhere a sum may run over 2^60 whole numbers, or without end. It is cut into panels of 64, 64, 128,
256, ... numbers. A panel of at most 64 is added up; a longer one is the integral of the polynomial through 16 points,
with weights that make it the sum over whole numbers, and no integral, up to degree 15. A panel is halved until its two
halves say the same; since P falls, a jump between the points would show. The relative error is about 1e-12, beside that
of scipy's survival function; the draws are scipy's, too.

In a fleet a block lives as long as blocks of its size do: the life belongs to the size that was drawn, also if a bound
moves the request. So `draw_with_lives` gives both, and `mean_size_life` is the mean of their product.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError
from vecalloc.spec import checked_choice, parse_size
from vecalloc.trace import LARGEST_SIZE
from vecalloc.workload.laws import Constant, Fleet, Floats, Law, Mixture, ScipyLaw, Table, law_of

REVISION = 1
"""Raised whenever sizes are rounded, bounded or drawn again in another way than before."""

BOUNDS = ("reject", "clip")
"""What becomes of a size outside of min and max."""

ROUNDINGS = ("ceil", "round", "floor")
"""How a number becomes whole bytes."""

LEAST_ACCEPTED = 1e-3
"""Bounds that reject more than all but this share of the sizes are refused."""

_WORDS = ("min", "max", "bounds", "rounding")

_ROUND: dict[str, Any] = {"ceil": np.ceil, "round": np.rint, "floor": np.floor}

_MOST_AT_ONCE = 1 << 16
"""Numbers drawn at once to take the place of rejected ones."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of requests in bytes.

    Attributes
    ----------
    law : Law
        Before rounding and bounds.
    low, high : int or None
        min and max in bytes.
    bounds : str or None
        One of BOUNDS, if there is a min or a max.
    rounding : str
        One of ROUNDINGS.
    key : str
        Where the sizes are written: begins every message, and makes no difference.
    """

    law: Law
    low: int | None = None
    high: int | None = None
    bounds: str | None = None
    rounding: str = "ceil"
    key: str = field(default="sizes", compare=False)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw sizes, int64 (count,), bytes.

        First `count` numbers of the law are drawn. What bounds reject is then replaced, in order, by the numbers inside
        of further draws. A table is drawn as it is after rounding and bounds, so nothing of it is ever rejected.

        Raises
        ------
        InputError
            If a size is below 0, no number, or larger than a request can be.
        """
        return self._checked((self._table or self).law_draw(generator, count))

    def mean(self) -> float:
        """Return the mean size after rounding and bounds, bytes; inf or nan if the law has none."""
        raise NotImplementedError
