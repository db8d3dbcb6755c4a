"""Sums over rows and over columns of a matrix on an NVIDIA GPU, in float64, in one pass each."""

from __future__ import annotations

import torch

from empirics import cuda

_SUMMARY = """
extern "C" __global__ void __launch_bounds__(THREADS)
summary(const uint4* weights, int rows, int vectors, int lanes, float* ends, double* sums)
{
    const int per = THREADS / lanes, lane = threadIdx.x % lanes;
    const int stride = gridDim.x * per, rounds = (rows + stride - 1) / stride;
    int row = blockIdx.x * per + threadIdx.x / lanes;
    for (int round = 0; round < rounds; round++, row += stride) {  // all lanes of a warp take part in a shuffle
        float peak = 0, smallest = __int_as_float(0x7f800000);
        double second = 0, fourth = 0;
        if (row < rows)
            for (int k = lane; k < vectors; k += lanes) {
                float x[V];
                unpack(weights[(long long)row * vectors + k], x);
                #pragma unroll
                for (int i = 0; i < V; i++) {
                    const float size = fabsf(x[i]);
                    const double square = (double)size * size;
                    peak = greatest(peak, size);
                    if (size > 0) smallest = least(smallest, size);
                    second += square;
                    fourth += square * square;
                }
            }
        peak = greatest_of(peak, lanes);
        smallest = least_of(smallest, lanes);
        second = added(second, lanes);
        fourth = added(fourth, lanes);
        if (row < rows && lane == 0) {
            ends[row] = peak; ends[rows + row] = smallest;
            sums[row] = second; sums[rows + row] = fourth;
        }
    }
}
"""

_POWERS = """
extern "C" __global__ void __launch_bounds__(THREADS)
powers(const uint4* weights, const long long* index, const double* peaks, int rows, int vectors, int lanes,
       double beta, double* sums)
{
    const int per = THREADS / lanes, lane = threadIdx.x % lanes;
    const int stride = gridDim.x * per, rounds = (rows + stride - 1) / stride;
    int row = blockIdx.x * per + threadIdx.x / lanes;
    for (int round = 0; round < rounds; round++, row += stride) {
        double s = 0, first = 0, second = 0;
        if (row < rows) {
            const double peak = peaks[row];
            for (int k = lane; k < vectors; k += lanes) {
                float x[V];
                unpack(weights[index[row] * vectors + k], x);
                #pragma unroll
                for (int i = 0; i < V; i++) {
                    // The logarithm of 0 is made finite, so that its product with its power, 0, is 0.
                    const double t = fmax(log(fabs((double)x[i]) / peak), -1e4);
                    const double power = exp(beta * t), moved = power * t;
                    s += power;
                    first += moved;
                    second += moved * t;
                }
            }
        }
        s = added(s, lanes);
        first = added(first, lanes);
        second = added(second, lanes);
        if (row < rows && lane == 0) { sums[row] = s; sums[rows + row] = first; sums[2 * rows + row] = second; }
    }
}
"""

_COLUMNS = """
extern "C" __global__ void __launch_bounds__(THREADS)
columns(const uint4* weights, int rows, int vectors, int strip, double* sums)
{
    const int strips = (rows + strip - 1) / strip;
    const long long units = (long long)strips * vectors;
    for (long long unit = blockIdx.x * THREADS + threadIdx.x; unit < units; unit += gridDim.x * THREADS) {
        const int which = unit / vectors, column = unit % vectors, end = min((which + 1) * strip, rows);
        double second[V], fourth[V];
        #pragma unroll
        for (int i = 0; i < V; i++) second[i] = fourth[i] = 0;
        for (int row = which * strip; row < end; row++) {
            float x[V];
            unpack(weights[(long long)row * vectors + column], x);
            #pragma unroll
            for (int i = 0; i < V; i++) {
                const double square = (double)x[i] * x[i];
                second[i] += square;
                fourth[i] += square * square;
            }
        }
        double* out = sums + 2ll * which * vectors * V + (long long)column * V;
        #pragma unroll
        for (int i = 0; i < V; i++) { out[i] = second[i]; out[(long long)vectors * V + i] = fourth[i]; }
    }
}
"""

_STRIP = 64
"""Rows that a thread adds up."""

_MOVES = """
const int N = %d, STRIP = %d;
extern "C" __global__ void __launch_bounds__(THREADS)
moves(const uint4* weights, const double* table, int rows, int vectors, int tiles,
      double* by_row, double* by_column, double* squares)
{
    // A block adds up a strip of rows, a tile of 16 bytes for each thread wide.
    __shared__ double of_row[STRIP][N][THREADS / 32], of_square[N][THREADS / 32];
    const int lane = threadIdx.x %% 32, warp = threadIdx.x / 32;
    const int tile = blockIdx.x %% tiles, strip = blockIdx.x / tiles;
    const int column = tile * THREADS + threadIdx.x, first = strip * STRIP, end = min(first + STRIP, rows);
    double down[N][V], square[N];
    #pragma unroll
    for (int k = 0; k < N; k++) {
        square[k] = 0;
        #pragma unroll
        for (int i = 0; i < V; i++) down[k][i] = 0;
    }
    for (int row = first; row < end; row++) {
        double across[N];
        #pragma unroll
        for (int k = 0; k < N; k++) across[k] = 0;
        if (column < vectors) {
            const uint4 v = weights[(long long)row * vectors + column];
            const unsigned int w[4] = {v.x, v.y, v.z, v.w};
            #pragma unroll
            for (int i = 0; i < V; i++) {
                const double* moved = table + N * (w[i / 2] >> 16 * (i %% 2) & 0xffff);
                #pragma unroll
                for (int k = 0; k < N; k++) {
                    const double x = __ldg(moved + k);
                    across[k] += x;
                    down[k][i] += x;
                    square[k] += x * x;
                }
            }
        }
        #pragma unroll
        for (int k = 0; k < N; k++) {
            across[k] = added(across[k], 32);
            if (lane == 0) of_row[row - first][k][warp] = across[k];
        }
    }
    for (int k = 0; k < N; k++) {
        square[k] = added(square[k], 32);
        if (lane == 0) of_square[k][warp] = square[k];
        if (column < vectors) {
            double* out = by_column + (((long long)strip * N + k) * vectors + column) * V;
            for (int i = 0; i < V; i++) out[i] = down[k][i];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < N * (end - first + 1); i += THREADS) {
        const int k = i %% N, row = i / N;  // the last of which is the square
        double sum = 0;
        for (int j = 0; j < THREADS / 32; j++) sum += row < end - first ? of_row[row][k][j] : of_square[k][j];
        if (row < end - first) by_row[((long long)tile * N + k) * rows + first + row] = sum;
        else squares[(long long)blockIdx.x * N + k] = sum;
    }
}
"""


def summary(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Of each row the largest magnitude and the smallest that is not 0 (infinite if there is none), float32; and the
    sums of squares and of fourth powers, float64: two tensors of shape (2, rows).

    None if these kernels cannot be compiled here, or do not take such rows (`empirics.cuda.lanes`).
    """
    count, width = rows.shape
    lanes = cuda.lanes(rows, width)
    found = lanes and cuda.kernel(_SUMMARY, "summary", rows.dtype, rows.device)
    if not found:
        return None
    ends = torch.empty((2, count), dtype=torch.float32, device=rows.device)
    sums = torch.empty((2, count), dtype=torch.float64, device=rows.device)
    vectors = width * rows.element_size() // 16
    cuda.launch(found, rows.device, cuda.blocks(rows.device, count * lanes), rows, count, vectors, lanes, ends, sums)
    return ends, sums


def powers(rows: torch.Tensor, index: torch.Tensor, peaks: torch.Tensor, beta: float) -> torch.Tensor | None:
    """Of the rows of that index, with t = \\|x\\|/peak: sums of t**beta, of t**beta ln t and of t**beta (ln t)**2.

    Parameters
    ----------
    rows : torch.Tensor
        On a CUDA device.
    index : tensor of shape (m,)
        int64.
    peaks : tensor of shape (m,)
        float64, > 0.
    beta : float

    Returns
    -------
    tensor of shape (3, m), or None
        None as `summary`.
    """
    width = rows.shape[1]
    lanes = cuda.lanes(rows, width)
    found = lanes and cuda.kernel(_POWERS, "powers", rows.dtype, rows.device)
    if not found:
        return None
    sums = torch.empty((3, len(index)), dtype=torch.float64, device=rows.device)
    vectors = width * rows.element_size() // 16
    cuda.launch(
        found, rows.device, cuda.blocks(rows.device, len(index) * lanes), rows, index.contiguous(),
        peaks.contiguous(), len(index), vectors, lanes, float(beta), sums,
    )  # fmt: skip
    return sums


def columns(matrix: torch.Tensor) -> torch.Tensor | None:
    """Of each column the sums of squares and of fourth powers, float64, shape (2, columns); None as `summary`."""
    count, width = matrix.shape
    found = cuda.lanes(matrix, width) and cuda.kernel(_COLUMNS, "columns", matrix.dtype, matrix.device)
    if not found:
        return None
    vectors, strips = width * matrix.element_size() // 16, -(-count // _STRIP)
    sums = torch.empty((strips, 2, width), dtype=torch.float64, device=matrix.device)
    launched = cuda.blocks(matrix.device, strips * vectors)
    cuda.launch(found, matrix.device, launched, matrix, count, vectors, _STRIP, sums)
    return sums.sum(0)


def moves(matrix: torch.Tensor, tables: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Sums of n functions of the weights over each row and each column, and of their squares over all.

    Parameters
    ----------
    matrix : torch.Tensor
        Shape (rows, columns), bfloat16 or float16, on a CUDA device.
    tables : tensor of shape (n, 65536)
        Float64: the functions' values, by the bits of a weight from 0 up.

    Returns
    -------
    tensors of shape (n, rows), (n, columns) and (n,), or None
        None as `summary`.
    """
    (count, width), n = matrix.shape, len(tables)
    source = _MOVES % (n, _STRIP)
    found = cuda.lanes(matrix, width) and cuda.kernel(source, "moves", matrix.dtype, matrix.device)
    if not found:
        return None
    vectors, strips = width * matrix.element_size() // 16, -(-count // _STRIP)
    tiles = -(-vectors // cuda.THREADS)
    by_row, by_column, squares = (
        torch.empty(shape, dtype=torch.float64, device=matrix.device)
        for shape in ((tiles, n, count), (strips, n, width), (strips * tiles, n))
    )
    cuda.launch(
        found, matrix.device, strips * tiles, matrix, tables.T.contiguous(), count, vectors, tiles,
        by_row, by_column, squares,
    )  # fmt: skip
    return by_row.sum(0), by_column.sum(0), squares.sum(0)
