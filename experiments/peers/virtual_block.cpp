// The virtual block of the Vulkan Memory Allocator (two-level segregated fit over offsets, no memory behind them).
//
// Compiled where vk_mem_alloc.h is found (Debian: libvulkan-memory-allocator-dev).

#define VMA_IMPLEMENTATION
#define VMA_STATIC_VULKAN_FUNCTIONS 0
#define VMA_DYNAMIC_VULKAN_FUNCTIONS 0
#include <vk_mem_alloc.h>

#include "peer.hpp"

namespace {

class VirtualBlock {
public:
    explicit VirtualBlock(std::int64_t granules) {
        VmaVirtualBlockCreateInfo info = {};
        info.size = static_cast<VkDeviceSize>(granules);
        vmaCreateVirtualBlock(&info, &block);
    }

    // The handle, not the offset, is what frees a block.
    std::int64_t alloc(std::int64_t extent) {
        VmaVirtualAllocationCreateInfo info = {};
        info.size = static_cast<VkDeviceSize>(extent);
        VmaVirtualAllocation handle;
        if (vmaVirtualAllocate(block, &info, &handle, nullptr) != VK_SUCCESS) return -1;
        return reinterpret_cast<std::int64_t>(handle);
    }

    void free(std::int64_t handle, std::int64_t) {
        vmaVirtualFree(block, reinterpret_cast<VmaVirtualAllocation>(handle));
    }

private:
    VmaVirtualBlock block = nullptr;
};

}  // namespace

int main(int count, char **arguments) {
    return replay(count, arguments, [](std::int64_t granules) { return VirtualBlock(granules); });
}
