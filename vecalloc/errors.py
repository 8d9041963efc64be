"""What a person wrote or handed over is wrong: one class, one sentence that helps.

Every error that bad input can cause is an `InputError` (or a subclass): its message names the file, line, key or event,
the value found there, and the remedy. The command line prints the message and exits with 2; a script can catch it as a
`ValueError`. Anything else that escapes is a defect of vecalloc.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: a file, a policy, an option, a size or a pool that cannot be used as it is."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of the `known` words, or an empty string."""
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
