"""Blocks by name that stay where they were placed: what a Compactor is, without passes.

s = Still(policy)                      policy: new, of REFERENCES
s.alloc(name, extent, pinned=False)    address, or None with s.cause
s.free(name)                           the block of a failed alloc is ignored
s.blocks                               {name: (start, granted)}
"""


class Still:
    passes = blocks_moved = granules_moved = longest = refused = allocated = 0

    def __init__(self, policy):
        self.policy = policy
        self.blocks = {}
        self.cause = None

    def alloc(self, name, extent, pinned=False):
        address = self.policy.alloc(extent)
        self.cause = self.policy.cause(extent) if address is None else None
        if address is not None:
            self.blocks[name] = address, self.policy.blocks[address]
        return address

    def free(self, name):
        if name in self.blocks:
            self.policy.free(self.blocks.pop(name)[0])
