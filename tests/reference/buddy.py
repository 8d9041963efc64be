"""Binary buddies: blocks of 2^order granules, each aligned to its own size; the buddy of `start` is start ^ 2^order.

free_blocks[order] is a list used as a stack: what is freed, merged or split off goes on top (the end of the list).
`order="lowest"` ignores the stacking and takes the lowest address of the order.
"""


class Buddy:
    def __init__(self, granules, grows=False, order="lowest"):
        assert granules >= 1 and granules & (granules - 1) == 0, "a buddy pool is a power of two"
        assert order in ("lowest", "lifo")
        self.grows = grows
        self.lifo = order == "lifo"
        self.pool_order = order_of(granules)
        self.free_blocks = {n: [] for n in range(self.pool_order + 1)}
        self.free_blocks[self.pool_order].append(0)
        self.blocks = {}

    @property
    def limit(self):
        return 2**self.pool_order

    def alloc(self, extent):
        assert extent >= 1
        wanted = order_of(extent)
        while self.grows and not self.adequate_orders(wanted):
            self.double()
        if not self.adequate_orders(wanted):
            return None
        order = self.adequate_orders(wanted)[0]
        stack = self.free_blocks[order]
        start = stack[-1] if self.lifo else min(stack)
        stack.remove(start)
        while order > wanted:  # keep the low half, push the high half
            order -= 1
            self.free_blocks[order].append(start + 2**order)
        self.blocks[start] = 2**wanted
        return start

    def adequate_orders(self, wanted):
        return [order for order in range(wanted, self.pool_order + 1) if self.free_blocks[order]]

    def double(self):
        order = self.pool_order
        self.pool_order += 1
        self.free_blocks[order + 1] = []
        if self.free_blocks[order]:  # the pool was one free block and stays one
            self.free_blocks[order] = []
            self.free_blocks[order + 1].append(0)
        else:
            self.free_blocks[order].append(2**order)

    def free(self, start):
        order = order_of(self.blocks.pop(start))
        while order < self.pool_order and start ^ 2**order in self.free_blocks[order]:
            buddy = start ^ 2**order
            self.free_blocks[order].remove(buddy)
            start = min(start, buddy)
            order += 1
        self.free_blocks[order].append(start)

    def claim(self, start, granted):
        """Make a live block of just these granules: split what holds them, and push the half that does not."""
        around, size = next((low, size) for low, size in self.holes() if low <= start < low + size)
        self.free_blocks[order_of(size)].remove(around)
        while size > granted:
            size //= 2
            if start < around + size:
                self.free_blocks[order_of(size)].append(around + size)
            else:
                self.free_blocks[order_of(size)].append(around)
                around += size
        assert around == start and size == granted
        self.blocks[start] = granted

    def is_free(self, start, granted):
        return any(low <= start and start + granted <= low + size for low, size in self.holes())

    def holes(self):
        return sorted((start, 2**order) for order, stack in self.free_blocks.items() for start in stack)

    def cause(self, extent):
        """Why alloc(extent), just now, returned None."""
        assert not self.grows, "buddies that grow never fail"
        wanted = 2 ** order_of(extent)
        if wanted > self.limit:
            return "too-large"
        if wanted > sum(size for _, size in self.holes()):
            return "capacity"
        return "fragmentation"


def order_of(extent):
    """The smallest order whose blocks hold `extent` granules."""
    order = 0
    while 2**order < extent:
        order += 1
    return order
