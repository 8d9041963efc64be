"""Where a replica stands, how it is to run, and why the loop left it: columns that all loops share, int64.

A loop leaves a replica whenever something needs somebody else, and is entered again at the same place.
"""

STOP = 1
"""Where this stretch ends."""

REASON = 2
"""Why the loop left the replica."""

BIN_WIDTH = 6
"""Granules a bin of the histogram of placed addresses."""

SERVED = 7
"""What has come of the pass that was wanted before the event which is next: NOT_YET, PASSED or REFUSED."""

NOT_YET, PASSED, REFUSED = 0, 1, 2
"""Nobody has asked for a pass; it has been (or there was nothing to move); it would have exceeded the budget."""

# --- reasons ---

STRETCH_DONE, NEEDS_PASS = 0, 1
"""The stretch has been run; blocks are to be moved before the next event."""
