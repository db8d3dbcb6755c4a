"""The ends of blocks of weights, and the errors of rounding them, on an NVIDIA GPU in one pass each.

In the arithmetic of `empirics.group_quantizers`, operation by operation: a rounded weight has the same bits.
"""

from __future__ import annotations

import torch

from empirics import cuda
from empirics.group_quantizers import Asymmetric, Grid, Nearest, Parameters, Rule, ZeroPoint, table

_SHARED = 2**15
"""Bytes that a table may take of a multiprocessor's shared memory."""

_ENDS = """
extern "C" __global__ void __launch_bounds__(THREADS)
block_ends(const uint4* weights, int blocks, int vectors, int lanes, float* low, float* high)
{
    const int per = THREADS / lanes, lane = threadIdx.x % lanes;
    const int stride = gridDim.x * per, rounds = (blocks + stride - 1) / stride;
    int block = blockIdx.x * per + threadIdx.x / lanes;
    for (int round = 0; round < rounds; round++, block += stride) {  // all lanes of a warp take part in a shuffle
        float l = __int_as_float(0x7f800000), h = -l;
        if (block < blocks)
            for (int k = lane; k < vectors; k += lanes) {
                float x[V];
                unpack(__ldcs(weights + (long long)block * vectors + k), x);
                #pragma unroll
                for (int i = 0; i < V; i++) { l = least(l, x[i]); h = greatest(h, x[i]); }
            }
        l = least_of(l, lanes);
        h = greatest_of(h, lanes);
        if (block < blocks && lane == 0) { low[block] = l; high[block] = h; }
    }
}
"""

_ERRORS = """
extern "C" __global__ void __launch_bounds__(THREADS)
block_errors(const uint4* weights, int blocks, int vectors, int lanes, int parameters,
             const float* coder, const float* coder_1, const float* decoder, const float* decoder_1,
             const float* absmax, const float* thresholds, const float* levels, int cells,
             double top_, double lowest_, double highest_, double* error, double* energy, unsigned long long* worst)
{
    extern __shared__ float known[];
    for (int i = threadIdx.x; i < 3 * cells; i += THREADS)
        known[i] = i < cells ? thresholds[i] : levels[i - cells];
    __syncthreads();
    const float* known_levels = known + cells;
    const float top = top_, lowest = lowest_, highest = highest_;
    const int per = THREADS / lanes, lane = threadIdx.x %% lanes;
    const int stride = gridDim.x * per, rounds = (blocks + stride - 1) / stride;
    double farthest = 0;
    int block = blockIdx.x * per + threadIdx.x / lanes;
    for (int round = 0; round < rounds; round++, block += stride) {
        double sum = 0, squares = 0, far = 0;
        if (block < blocks) {
            const float c0 = coder[block], d0 = decoder[block];
            const float c1 = parameters > 1 ? coder_1[block] : 1, d1 = parameters > 1 ? decoder_1[block] : 1;
            %s
            for (int k = lane; k < vectors; k += lanes) {
                float given[V];
                unpack(__ldcs(weights + (long long)block * vectors + k), given);
                #pragma unroll
                for (int i = 0; i < V; i++) {
                    const float x = given[i];
                    float q;
                    %s
                    const double exact = x, off = (double)q - exact, square = off * off;
                    sum += square;
                    far = square > far ? square : far;
                    squares += exact * exact;
                }
            }
        }
        sum = added(sum, lanes);
        squares = added(squares, lanes);
        if (block < blocks) {
            const float scale = absmax[block];
            farthest = fmax(farthest, sqrt(far) / (scale > 0 ? scale : 1));
            if (lane == 0) { error[block] = sum; energy[block] = squares; }
        }
    }
    for (int k = 16; k; k /= 2) farthest = fmax(farthest, __shfl_xor_sync(0xffffffff, farthest, k));
    if (threadIdx.x %% 32 == 0) atomicMax(worst, (unsigned long long)__double_as_longlong(farthest));
}
"""

_NEAREST = (
    """const float inverse = __fmul_rn(fminf(__frcp_rn(c0), 3.402823466e38f), c1), scale = __fmul_rn(d0, d1);
            const float half = (cells - 1) / 2;""",
    """const float y = fminf(fmaxf(__fmul_rn(x, inverse), -1.f), 1.f);
                    const int cell = (int)__fmul_rn(__fadd_rn(y, 1.f), half);
                    const int above = __float_as_uint(__fsub_rn(known[cell], y)) >> 31;
                    q = __fmul_rn(known_levels[2 * cell + above], scale);""",
)
_GRID = (
    """const float exact_step = __fdiv_rn(c0, top), step = exact_step > 0 ? exact_step : 1;
            const float scale = __fdiv_rn(d0, top);""",
    """q = fminf(fmaxf(rintf(__fdiv_rn(x, step)), lowest), highest);
                    q = __fmul_rn(q, scale);""",
)
_MIDDLES = (
    _GRID[0],
    """q = fminf(fmaxf(floorf(__fdiv_rn(x, step)), lowest), highest);
                    q = __fmul_rn(__fadd_rn(q, .5f), scale);""",
)
_ASYMMETRIC = (
    """const float step = c0 > 0 ? c0 : 1;""",
    """q = fminf(fmaxf(rintf(__fdiv_rn(__fsub_rn(x, c1), step)), 0.f), top);
                    q = __fadd_rn(__fmul_rn(q, d0), d1);""",
)
_ZERO_POINT = (
    """const float step = c0 > 0 ? c0 : 1;
            const float zero = fminf(fmaxf(rintf(__fdiv_rn(-c1, step)), 0.f), top);""",
    """q = fminf(fmaxf(__fadd_rn(rintf(__fdiv_rn(x, step)), zero), 0.f), top);
                    q = __fmul_rn(__fsub_rn(q, zero), d0);""",
)


def _rounding(rule: Rule, device: torch.device) -> tuple[tuple[str, str], list[torch.Tensor | int | float]] | None:
    """What a block has to know and how its weight x becomes q; thresholds, levels, cells, top, and a grid's ends."""
    nothing = torch.empty(0, device=device)
    match rule:
        case Nearest():
            thresholds, levels, cells = table(rule.codebook, device)
            return _NEAREST, [thresholds, levels, cells + 1, 0.0, 0.0, 0.0]
        case Grid():
            constants = float(rule.top), float(rule.least), float(rule.greatest)
            return (_MIDDLES if rule.middles else _GRID), [nothing, nothing, 0, *constants]
        case Asymmetric():
            return _ASYMMETRIC, [nothing, nothing, 0, 2.0**rule.bits - 1, 0.0, 0.0]
        case ZeroPoint():
            return _ZERO_POINT, [nothing, nothing, 0, 2.0**rule.bits - 1, 0.0, 0.0]
    return None


def ends(flat: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Least and greatest weight of each block of `length`, float32; NaN where a weight is.

    None if these kernels cannot be compiled here, or do not take such blocks (`empirics.cuda.lanes`).
    """
    lanes = cuda.lanes(flat, length)
    found = lanes and cuda.kernel(_ENDS, "block_ends", flat.dtype, flat.device)
    if not found:
        return None
    blocks, vectors = len(flat) // length, length * flat.element_size() // 16
    low, high = torch.empty((2, blocks), dtype=torch.float32, device=flat.device)
    cuda.launch(found, flat.device, cuda.blocks(flat.device, blocks * lanes), flat, blocks, vectors, lanes, low, high)
    return low, high


def errors(
    flat: torch.Tensor, length: int, rule: Rule, coder: Parameters, decoder: Parameters, absmax: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Sums over each block of squared errors and of squares, and the largest error over its block's absmax: float64.

    Parameters
    ----------
    flat : torch.Tensor
        Shape (n,), on a CUDA device; the blocks are of `length` weights.
    rule : Rule
    coder, decoder : tuple of tensors
        What the rule codes and decodes with: float32, an entry for each block.
    absmax : tensor of shape (blocks,)

    Returns
    -------
    tensors of shape (2, blocks) and (), or None
        None as `ends`, or if there is no kernel for the rule, or its table does not fit shared memory.
    """
    lanes, rounding = cuda.lanes(flat, length), _rounding(rule, flat.device)
    if rounding is None:
        return None
    code, constants = rounding
    shared = 12 * int(constants[2])
    found = lanes and shared <= _SHARED and cuda.kernel(_ERRORS % code, "block_errors", flat.dtype, flat.device)
    if not found:
        return None
    blocks, vectors = len(flat) // length, length * flat.element_size() // 16
    sums = torch.empty((2, blocks), dtype=torch.float64, device=flat.device)
    worst = torch.zeros((), dtype=torch.float64, device=flat.device)
    cuda.launch(
        found, flat.device, cuda.blocks(flat.device, blocks * lanes), flat, blocks, vectors, lanes, len(coder),
        coder[0], coder[-1], decoder[0], decoder[-1], absmax, *constants, sums[0], sums[1], worst, shared=shared,
    )  # fmt: skip
    return sums, worst
