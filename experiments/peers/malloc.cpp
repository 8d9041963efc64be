// malloc and free of the process: glibc's, or what LD_PRELOAD puts in its place (jemalloc, mimalloc).
//
// Context, not a peer: real memory, system calls and thread safety; the blocks are not touched.

#include <cstdlib>

#include "peer.hpp"

namespace {

struct Malloc {
    std::int64_t alloc(std::int64_t extent) { return reinterpret_cast<std::int64_t>(std::malloc(16 * extent)); }
    void free(std::int64_t start, std::int64_t) { std::free(reinterpret_cast<void *>(start)); }
};

}  // namespace

int main(int count, char **arguments) {
    return replay(count, arguments, [](std::int64_t) { return Malloc(); });
}
