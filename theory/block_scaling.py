r"""Block scaling: the scale is an order statistic, and the distortion under it is exact.

A block of n weights shares one scale, usually S = max |X_i| (absmax), whose law is in `theory.block_maximum`.
`theory.block_source` says how the distortion follows from it, `theory.block_balls` encloses it in ball arithmetic,
`theory.block_codebook` finds the codebook with the least, and `theory.scale_formats` says what it costs to round S.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from theory import arithmetic, block_balls
from theory.arithmetic import Number
from theory.block_codebook import abnormal_float as abnormal_float
from theory.block_codebook import best_codebook as best_codebook
from theory.block_maximum import Bounds as Bounds
from theory.block_maximum import absmax_cdf as absmax_cdf
from theory.block_maximum import absmax_mean as absmax_mean
from theory.block_maximum import absmax_mean_bounds as absmax_mean_bounds
from theory.block_maximum import absmax_moment as absmax_moment
from theory.block_maximum import absmax_pdf as absmax_pdf
from theory.block_maximum import absmax_second_moment as absmax_second_moment
from theory.block_maximum import moment_bound as moment_bound
from theory.block_source import BlockSource
from theory.codebooks import Codebook
from theory.domain import COUNT, NONNEGATIVE, POSITIVE, Domain, accept
from theory.sources import Source


def mse(codebook: Codebook, n: int, source: Source) -> Number:
    r"""Mean squared error of a codebook under absmax scaling of blocks of n, in the source's units squared.

    .. math:: D = \frac{n-1}{n}\int f_S(s)\,\frac{d(s\,l;\,[-s,s])}{F(s)}\,ds
                  + \frac{E S^2}{n}\cdot\tfrac12\bigl[e(1)^2 + e(-1)^2\bigr]

    where d is the error of the scaled levels on the truncated source and e the codebook's error at the ends,
    which vanishes when -1 and +1 are levels (for signed scaling: +1).

    Parameters
    ----------
    codebook : Codebook
        Its `scaling` says whether the scale is signed.
    n : int
        Elements in a block, >= 1.
    source : Source
        float64: `GGD`, `ScaleMixture`, or `Histogram` (exact, ties included). mpmath and ball: `GGD`, certified.

    Raises
    ------
    ValueError
        If n < 1.

    Notes
    -----
    float64: relative error below 1e-12 against the ball for 16 levels, beta in [0.5, 8] and n in [1, 4096], and 6e-11
    for 255 (tests/theory/test_block_balls.py). The ball's own error is known before it is computed.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> round(float(mse(NF4, 64, GGD(2.0))), 10)
    0.0084600529
    """
    return order_mse(codebook, n, n, source)


def mae(codebook: Codebook, n: int, source: Source) -> Number:
    """Mean absolute error of a codebook under absmax scaling of blocks of n, in the units of the source.

    Parameters, errors and accuracy as `mse`. AF4's published levels crowd around 0 and lose to NF4 here too:

    >>> from theory.codebooks import AF4_64, NF4
    >>> from theory.sources import GGD
    >>> bool(mae(NF4, 64, GGD(2.0)) < mae(AF4_64, 64, GGD(2.0)))
    True
    """
    return order_mae(codebook, n, n, source)


def order_mse(codebook: Codebook, n: int, k: int, source: Source) -> Number:
    """Mean squared error when the scale is the k-th smallest magnitude: the n - k above it are clipped.

    Parameters
    ----------
    k : int
        1 <= k <= n; k = n is absmax. A codebook with signed scaling takes the sign of that element, which is then
        mapped to +1.
    codebook, n, source
        As `mse`; a continuous source if k < n.

    Returns
    -------
    number
        In the source's units squared.

    Raises
    ------
    ValueError
        If k or n is outside its domain, or the source is a `Histogram` and k < n.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> bool(order_mse(NF4, 64, 64, GGD(2.0)) == mse(NF4, 64, GGD(2.0)))
    True
    """
    return _order_error(codebook, n, k, source, 2)


def order_mae(codebook: Codebook, n: int, k: int, source: Source) -> Number:
    """Mean absolute error when the scale is the k-th smallest magnitude; everything else as `order_mse`.

    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> bool(order_mae(NF4, 64, 32, GGD(2.0)) > mae(NF4, 64, GGD(2.0)))
    True
    """
    return _order_error(codebook, n, k, source, 1)


def _order_error(codebook: Codebook, n: int, k: int, source: Source, exponent: int) -> Number:
    _, n, k = accept(n=(n, COUNT), k=(k, COUNT))
    n, k = int(n), int(k)
    if k > n:
        raise ValueError(f"k = {k} is outside [1, n = {n}]: a block has no such order statistic")
    if arithmetic.of(source.variance, codebook.levels).name != "float":
        return block_balls.error(codebook, n, k, source, exponent)
    law = BlockSource(source, n, k, exponent, codebook.scaling)
    return law.mse(codebook.levels) if exponent == 2 else law.mae(codebook.levels)


class Excess(NamedTuple):
    """What absmax loses to the best clipped scale: `value` in the source's units squared, and that scale's k."""

    value: float
    k: int


def absmax_excess(codebook: Codebook, n: int, source: Source) -> Excess:
    r"""Excess of absmax over the best other order statistic, :math:`\Psi = D_{(n)} - \min_{k<n} D_{(k)}`.

    With its sign: negative where absmax is the best scale. Parameters as `order_mse`; n >= 2.

    Notes
    -----
    k runs down from n - 1 until the clipped elements alone, even at the error that +-1 leaves them, cost more than
    the best k so far: they cost the more the smaller k, block by block. So the minimum is that of all k, of which
    there may be several local ones (NF4, beta = 8, n = 512 has two).

    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> absmax_excess(NF4, 16, GGD(2.0)).value < 0
    True
    """
    _, n = accept(n=(n, Domain(2, low_open=False, integer=True)))
    n, best, best_k = int(n), math.inf, 0
    for k in range(n - 1, 0, -1):
        law = BlockSource(source, n, k, scaling=codebook.scaling)
        if law.clipping_error() > best:
            break
        error = law.mse(codebook.levels)
        if error < best:
            best, best_k = error, k
    return Excess(float(mse(codebook, n, source)) - best, best_k)


def effective_bits(
    bits: float, n: int, scale_bits: float = 32, second_n: int | None = None, second_scale_bits: float = 32
) -> float:
    r"""Bits per weight with the scales counted: :math:`b + b_s/n`, or with the scales quantized in their turn.

    Parameters
    ----------
    bits : float
        Nominal bits of an index.
    n : int
        Elements in a block.
    scale_bits : float
        Bits of a block's scale: 32 for fp32, 16, 8 (double quantization).
    second_n, second_scale_bits
        Double quantization: `second_n` block scales share a scale of `second_scale_bits`.

    Examples
    --------
    >>> effective_bits(4, 64), round(effective_bits(4, 64, 8, second_n=256), 3)
    (4.5, 4.127)
    """
    _, bits, n, scale_bits = accept(bits=(bits, POSITIVE), n=(n, COUNT), scale_bits=(scale_bits, NONNEGATIVE))
    extra = 0.0
    if second_n is not None:
        _, m, second = accept(second_n=(second_n, COUNT), second_scale_bits=(second_scale_bits, NONNEGATIVE))
        extra = second / (n * m)
    return float(bits + scale_bits / n + extra)
