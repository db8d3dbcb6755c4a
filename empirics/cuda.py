"""Kernels of our own on an NVIDIA GPU, which torch compiles at run time, once for each source and device.

Where one cannot be compiled, torch's own operations compute the same: `kernel` returns None.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

THREADS = 256
"""Of a block of threads, in kernels in which a group of lanes works on a row or a group of weights."""

_UNPACK = {
    torch.bfloat16: """
        x[2 * i] = __uint_as_float(w[i] << 16);
        x[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000);""",
    torch.float16: """
        asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
            : "=f"(x[2 * i]), "=f"(x[2 * i + 1]) : "r"(w[i]));""",
    torch.float32: """
        x[i] = __uint_as_float(w[i]);""",
}

_COMMON = """
const int V = %d;  // weights in 16 bytes
const int THREADS = %d;
__device__ inline void unpack(const uint4& v, float* x) {
    const unsigned int w[4] = {v.x, v.y, v.z, v.w};
    #pragma unroll
    for (int i = 0; i < 4; i++) {%s
    }
}
// Over a group of lanes, a power of two that divides the warp.
__device__ inline double added(double x, int lanes) {
    for (int k = lanes / 2; k; k /= 2) x += __shfl_xor_sync(0xffffffff, x, k);
    return x;
}
__device__ inline float least(float x, float y) {  // NaN if either is
    float z;
    asm("min.NaN.f32 %%0, %%1, %%2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
__device__ inline float greatest(float x, float y) {
    float z;
    asm("max.NaN.f32 %%0, %%1, %%2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
__device__ inline float least_of(float x, int lanes) {
    for (int k = lanes / 2; k; k /= 2) x = least(x, __shfl_xor_sync(0xffffffff, x, k));
    return x;
}
__device__ inline float greatest_of(float x, int lanes) {
    for (int k = lanes / 2; k; k /= 2) x = greatest(x, __shfl_xor_sync(0xffffffff, x, k));
    return x;
}
"""


def lanes(weights: torch.Tensor, length: int) -> int:
    """How many lanes of a warp share a group of `length` consecutive weights; 0 if the kernels cannot read it.

    They read 16 bytes at a time: a group is a multiple of that, and not so long that a few warps have all the work.
    """
    vectors, rest = divmod(length * weights.element_size(), 16)
    if weights.dtype not in _UNPACK or rest or not 0 < vectors <= 2**14:
        return 0
    if not weights.is_contiguous() or weights.data_ptr() % 16:
        return 0
    if weights.numel() % length or weights.numel() * weights.element_size() // 16 >= 2**31:
        return 0
    return min(32, vectors & -vectors)


@lru_cache
def kernel(source: str, name: str, dtype: torch.dtype, device: torch.device, shared: int = 0) -> Any:
    """A function of that source for weights of that dtype, or None: torch has no public name for its compiler yet.

    `shared` bytes of a multiprocessor's shared memory are set apart for it, if it takes 48 KB or more.
    """
    common = _COMMON % (16 // dtype.itemsize, THREADS, _UNPACK[dtype])
    try:
        with torch.cuda.device(device):
            found = torch.cuda._compile_kernel(common + source, name)
            if shared:
                found.set_shared_memory_config(shared)
    except (AttributeError, OSError, RuntimeError):
        return None
    return found


def blocks(device: torch.device, threads: int) -> int:
    """Blocks of `THREADS` that make up so many threads, or all that the device holds at a time if that is fewer."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return min(-(-threads // THREADS), 2048 // THREADS * processors)


def launch(
    kernel: Any, device: torch.device, blocks: int, *given: torch.Tensor | int | float, shared: int = 0
) -> None:
    """Run it on so many blocks of `THREADS`; ints have 32 bits, floats 64."""
    with torch.cuda.device(device):
        kernel((blocks, 1, 1), (THREADS, 1, 1), list(given), shared)
