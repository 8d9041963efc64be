// Exact best-fit, ties to the lowest address, as one writes it in an afternoon: two balanced trees.
//
//     by_size      std::set of (size, start)      lower_bound({extent, 0}) is the answer
//     by_address   std::map of start -> size      neighbours to coalesce with
//
// Reads what throughput.py writes (peer.hpp) and prints nanoseconds an event and a checksum of the addresses, which must
// be that of vecalloc's best-fit.

#include <map>
#include <set>
#include <utility>

#include "peer.hpp"

namespace {

class BestFit {
public:
    explicit BestFit(std::int64_t granules) { add(0, granules); }

    std::int64_t alloc(std::int64_t extent) {
        auto found = by_size.lower_bound({extent, 0});
        if (found == by_size.end()) return -1;
        auto [size, start] = *found;
        by_size.erase(found);
        by_address.erase(start);
        if (size > extent) add(start + extent, size - extent);
        return start;
    }

    void free(std::int64_t start, std::int64_t extent) {
        auto after = by_address.lower_bound(start);
        if (after != by_address.end() && after->first == start + extent) {
            extent += after->second;
            by_size.erase({after->second, after->first});
            after = by_address.erase(after);
        }
        if (after != by_address.begin()) {
            auto before = std::prev(after);
            if (before->first + before->second == start) {
                start = before->first;
                extent += before->second;
                by_size.erase({before->second, before->first});
                by_address.erase(before);
            }
        }
        add(start, extent);
    }

private:
    void add(std::int64_t start, std::int64_t size) {
        by_size.insert({size, start});
        by_address.emplace(start, size);
    }

    std::set<std::pair<std::int64_t, std::int64_t>> by_size;
    std::map<std::int64_t, std::int64_t> by_address;
};

}  // namespace

int main(int count, char **arguments) {
    return replay(count, arguments, [](std::int64_t granules) { return BestFit(granules); });
}
