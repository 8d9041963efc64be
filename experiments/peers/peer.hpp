// What every C++ peer shares: read a trace, run it through an allocator, time the part after the warm-up.
//
// The file, written by throughput.py: granules, slots, events, warm-up events (int64 each), then for each event its
// extent in granules (int64, negative in a free) and its slot (int32).

#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

template <typename Make>
int replay(int count, char **arguments, Make make) {
    if (count != 2) return std::fprintf(stderr, "usage: %s TRACE\n", arguments[0]), 2;
    std::FILE *file = std::fopen(arguments[1], "rb");
    std::int64_t head[4];
    if (!file || std::fread(head, 8, 4, file) != 4) return std::fprintf(stderr, "cannot read %s\n", arguments[1]), 2;
    const std::int64_t granules = head[0], slots = head[1], events = head[2], warm = head[3];
    std::vector<std::int64_t> extent(events), place(slots, -1);
    std::vector<std::int32_t> slot(events);
    if (std::fread(extent.data(), 8, events, file) != std::size_t(events) ||
        std::fread(slot.data(), 4, events, file) != std::size_t(events))
        return std::fprintf(stderr, "%s is too short\n", arguments[1]), 2;
    std::fclose(file);

    auto allocator = make(granules);
    std::uint64_t checksum = 0;
    auto start = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < events; i++) {
        if (i == warm) start = std::chrono::steady_clock::now();
        if (extent[i] > 0) {
            const std::int64_t address = allocator.alloc(extent[i]);
            place[slot[i]] = address;
            checksum = checksum * 31 + std::uint64_t(address);
        } else if (place[slot[i]] != -1) {
            allocator.free(place[slot[i]], -extent[i]);
        }
    }
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
    std::printf("%.6f %llu\n", taken.count() / double(events - warm), static_cast<unsigned long long>(checksum));
    return 0;
}
