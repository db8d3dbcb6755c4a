r"""Counts of the bit patterns of a 16-bit tensor on an NVIDIA GPU, in one pass at about the speed of its memory.

`torch.bincount` counts in global memory, an atomic operation a weight, after passes that widen the weights and look
for the largest. Here each multiprocessor counts in its shared memory, where no weight that matters has to wait, and
adds its counts up in the end.
"""

from __future__ import annotations

import torch

from empirics import cuda

_WINDOW = 2**13
"""Magnitudes (bit patterns without the sign) counted in shared memory, with both signs: 64 KB, which any GPU has."""

_LOWEST = {torch.bfloat16: (127 - 50) << 7, torch.float16: (15 - 9) << 10}
"""First of them: 2**-50, up to 2**14; and 2**-9, up to 1/2. Others are counted in global memory, right but slower."""

_THREADS, _VECTORS = 1024, 4

_SOURCE = f"""
extern "C" __global__ void __launch_bounds__({_THREADS})
count_patterns(const uint4* x, int vectors, int lowest, unsigned long long* counts)
{{
    extern __shared__ unsigned int window[];  // magnitude - lowest, then the same of negative weights
    for (int i = threadIdx.x; i < 2 * {_WINDOW}; i += {_THREADS}) window[i] = 0;
    __syncthreads();

    unsigned long long zeros = 0;
    auto count = [&](unsigned int pattern) {{
        unsigned int magnitude = pattern & 0x7fff, place = magnitude - lowest;
        if (place < {_WINDOW}) atomicAdd(window + place + (pattern >> 15) * {_WINDOW}, 1u);
        else if (magnitude == 0) zeros++;  // of pruned weights there are many
        else atomicAdd(counts + (pattern ^ 0x8000), 1ull);
    }};
    const int stride = gridDim.x * {_THREADS};
    for (long long first = blockIdx.x * {_THREADS} + threadIdx.x; first < vectors; first += {_VECTORS}ll * stride) {{
        uint4 v[{_VECTORS}];
        bool held[{_VECTORS}];
        #pragma unroll
        for (int j = 0; j < {_VECTORS}; j++)  // all loads are under way before the first is counted
            if ((held[j] = first + (long long)j * stride < vectors)) v[j] = __ldcs(x + first + (long long)j * stride);
        #pragma unroll
        for (int j = 0; j < {_VECTORS}; j++)
            if (held[j]) {{
                count(v[j].x & 0xffff); count(v[j].x >> 16);
                count(v[j].y & 0xffff); count(v[j].y >> 16);
                count(v[j].z & 0xffff); count(v[j].z >> 16);
                count(v[j].w & 0xffff); count(v[j].w >> 16);
            }}
    }}
    if (zeros) atomicAdd(counts + 0x8000, zeros);  // -0 is counted as 0
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * {_WINDOW}; i += {_THREADS})
        if (unsigned int found = window[i]) {{
            int pattern = lowest + (i & ({_WINDOW} - 1)) | (i < {_WINDOW} ? 0x8000 : 0);
            atomicAdd(counts + pattern, (unsigned long long)found);
        }}
}}
"""


def pattern_counts(flat: torch.Tensor) -> torch.Tensor | None:
    """How often each bit pattern occurs, as int16 from -2**15 up, where the tensor is; -0 counts as 0.

    Parameters
    ----------
    flat : torch.Tensor
        Shape (n,), bfloat16 or float16, contiguous, on a CUDA device; n below 2**34.

    Returns
    -------
    tensor of shape (65536,), int64; or None
        None if this device or this version of torch cannot compile the kernel: count by other means.
    """
    kernel = cuda.kernel(_SOURCE, "count_patterns", flat.dtype, flat.device, 8 * _WINDOW)
    if kernel is None or flat.data_ptr() % 16 or len(flat) >= 2**34:
        return None
    counts = torch.zeros(2**16, dtype=torch.int64, device=flat.device)
    vectors, rest = divmod(len(flat), 8)
    if vectors:
        processors = torch.cuda.get_device_properties(flat.device).multi_processor_count
        blocks = min(processors, -(-vectors // (_THREADS * _VECTORS)))
        with torch.cuda.device(flat.device):
            kernel((blocks, 1, 1), (_THREADS, 1, 1), [flat, vectors, _LOWEST[flat.dtype], counts], 8 * _WINDOW)
    if rest:
        places = flat[-rest:].view(torch.int16).long() + 2**15
        counts.index_put_((places,), torch.ones_like(places), accumulate=True)
    return counts
