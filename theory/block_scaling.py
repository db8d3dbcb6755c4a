r"""Block scaling: the scale is an order statistic, and the distortion under it is exact.

A block of n weights shares one scale, usually S = max |X_i| (absmax). S has the density
:math:`n F(s)^{n-1} f_{|X|}(s)` with F the distribution function of the magnitude. `theory.block_source` says how
the distortion follows from it, `theory.block_balls` encloses it in ball arithmetic, and `theory.block_codebook` finds
the codebook with the least.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from theory import arithmetic, block_balls, codebook_design
from theory.arithmetic import Number, total
from theory.block_codebook import best_codebook as best_codebook
from theory.block_source import BlockSource
from theory.codebooks import Codebook
from theory.domain import COUNT, NONNEGATIVE, POSITIVE, Domain, accept
from theory.sources import GGD, Source


def _magnitude_cdf(source: Source, s: Number) -> Number:
    return source.partial_moment(0, -s, s)


def absmax_cdf(s: Number, n: int, source: Source) -> Number:
    r"""Distribution function of the block maximum, :math:`P(S \le s) = F(s)^n`.

    Parameters
    ----------
    s : number or array
        Magnitude, >= 0, in the units of the source.
    n : int
        Elements in a block, >= 1.
    source : Source

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Examples
    --------
    >>> round(float(absmax_cdf(2.0, 64, GGD(2.0))), 6)
    0.050775
    """
    _, s, n = accept(s=(s, NONNEGATIVE), n=(n, COUNT))
    return _magnitude_cdf(source, s) ** int(n)


def absmax_pdf(s: Number, n: int, source: GGD) -> Number:
    r"""Density of the block maximum, :math:`n F(s)^{n-1} f_{|X|}(s)`, in 1/units of the source.

    Parameters and errors as `absmax_cdf`; the source has a density.

    >>> round(float(absmax_pdf(2.5, 64, GGD(2.0))), 6)
    1.020992
    """
    _, s, n = accept(s=(s, NONNEGATIVE), n=(n, COUNT))
    n = int(n)
    return n * _magnitude_cdf(source, s) ** (n - 1) * 2 * source.pdf(s)


def absmax_mean(n: int, source: Source) -> Number:
    r"""Mean of the block maximum, :math:`E S = \int_0^\infty (1 - F(s)^n)\,ds`, in the units of the source.

    Parameters
    ----------
    n : int
        Elements in a block, >= 1.
    source : Source
        float64 (any source); mpmath and ball (`GGD`): certified, see `theory.block_balls`.

    Examples
    --------
    >>> round(float(absmax_mean(64, GGD(2.0))), 6)
    2.596111
    """
    _, n = accept(n=(n, COUNT))
    if arithmetic.of(source.variance).name != "float":
        return block_balls.absmax_mean(int(n), source)
    return BlockSource(source, int(n)).scale_moment(1)


class Bounds(NamedTuple):
    """Both ends of a two-sided bound."""

    lower: Any
    upper: Any


def absmax_mean_bounds(n: int, source: GGD) -> Bounds:
    r"""Two-sided bound on the mean of the block maximum, in the units of the source.

    .. math:: F^{-1}\Bigl(\frac n{n+1}\Bigr) \le E S \le F^{-1}\bigl(1 - e^{-H_n}\bigr)

    with F the distribution function of the magnitude and H_n the harmonic number.

    Parameters
    ----------
    n : int
        Elements in a block, >= 1.
    source : GGD
        The upper end needs beta >= 1 and is infinite otherwise.

    Notes
    -----
    |X| has a decreasing density, so F^-1 is convex: Jensen on the uniform order statistic. For beta >= 1 its
    hazard rate increases, so F^-1(1 - e^-t) is concave: Jensen on the exponential one; equality at beta = 1.

    References: [DavidNagaraja2003].

    Examples
    --------
    >>> low, high = absmax_mean_bounds(64, GGD(1.0))
    >>> bool(low < absmax_mean(64, GGD(1.0))), abs(float(high / absmax_mean(64, GGD(1.0))) - 1) < 1e-12
    (True, True)
    """
    _, n = accept(n=(n, COUNT))
    n = int(n)
    xp = arithmetic.of(source.variance)
    # The lower tail of X, by symmetry: a probability near 1 would lose its digits.
    lower = -source.quantile(xp.number(1) / (2 * (n + 1)))
    if not source.log_concave:
        return Bounds(lower, xp.infinity)
    harmonic = total(np.asarray([xp.number(1) / i for i in range(1, n + 1)]))
    return Bounds(lower, -source.quantile(xp.exp(-harmonic) / 2))


def absmax_second_moment(n: int, source: Source) -> Number:
    r"""Second moment of the block maximum, :math:`E S^2`, in the units of the source squared; float64.

    >>> round(float(absmax_second_moment(1, GGD(2.0))), 12)
    1.0
    """
    _, n = accept(n=(n, COUNT))
    return BlockSource(source, int(n)).scale_moment(2)


def moment_bound(n: int, q: Number, abs_moment: Number) -> Number:
    r"""Upper bound on the mean of the block maximum, :math:`E S \le (n\,E|X|^q)^{1/q}` for q >= 1.

    For any law, and for any n numbers: :math:`S^q \le \sum|X_i|^q`, and Jensen. Not even independence is needed.

    Parameters
    ----------
    n : int
        Elements in a block, >= 1.
    q : number
        Order, >= 1.
    abs_moment : number
        :math:`E|X|^q`, > 0.

    Examples
    --------
    >>> round(float(moment_bound(64, 6, 15.0)), 6)
    3.140836
    """
    _, n, q, abs_moment = accept(n=(n, COUNT), q=(q, Domain(1, low_open=False)), abs_moment=(abs_moment, POSITIVE))
    return (n * abs_moment) ** (1 / q)


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
    float64: relative error below 1e-12 against the ball for beta in [0.5, 8] and n in [1, 4096]
    (tests/theory/test_block_scaling.py). The ball's own error is known before it is computed.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> round(float(mse(NF4, 64, GGD(2.0))), 10)
    0.0084600529
    """
    _, n = accept(n=(n, COUNT))
    if arithmetic.of(source.variance).name != "float":
        return block_balls.mse(codebook, int(n), source)
    return BlockSource(source, int(n), scaling=codebook.scaling).mse(codebook.levels)


def mae(codebook: Codebook, n: int, source: Source) -> float:
    """Mean absolute error of a codebook under absmax scaling of blocks of n, in the units of the source.

    Parameters and errors as `mse`; float64. AF4's published levels crowd around 0 and lose to NF4 here too:

    >>> from theory.codebooks import AF4_64, NF4
    >>> bool(mae(NF4, 64, GGD(2.0)) < mae(AF4_64, 64, GGD(2.0)))
    True
    """
    _, n = accept(n=(n, COUNT))
    return codebook_design.mae(codebook.levels, BlockSource(source, int(n), power=1, scaling=codebook.scaling))


def order_mse(codebook: Codebook, n: int, k: int, source: Source) -> float:
    """Mean squared error when the scale is the k-th smallest magnitude: the n - k above it are clipped.

    Parameters
    ----------
    k : int
        1 <= k <= n; k = n is absmax.
    codebook, n, source
        As `mse`; a continuous float64 source.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> bool(order_mse(NF4, 64, 64, GGD(2.0)) == mse(NF4, 64, GGD(2.0)))
    True
    """
    return BlockSource(source, n, k, scaling=codebook.scaling).mse(codebook.levels)


class Excess(NamedTuple):
    """What absmax loses to the best clipped scale: `value` in the source's units squared, and that scale's k."""

    value: float
    k: int


def absmax_excess(codebook: Codebook, n: int, source: Source) -> Excess:
    r"""Excess of absmax over the best other order statistic, :math:`\Psi = D_{(n)} - \min_{k<n} D_{(k)}`.

    With its sign: negative where absmax is the best scale. Parameters as `order_mse`; n >= 2.

    Notes
    -----
    k runs down from n - 1 until the distortion has risen for n/8 + 4 steps in a row: it has one minimum in k for
    every source tried (tests compare with the full scan).

    >>> from theory.codebooks import NF4
    >>> absmax_excess(NF4, 16, GGD(2.0)).value < 0
    True
    """
    accept(n=(n, Domain(2, low_open=False, integer=True)))
    best, best_k = math.inf, n - 1
    for k in range(n - 1, 0, -1):
        d = float(order_mse(codebook, n, k, source))
        if d < best:
            best, best_k = d, k
        elif best_k - k > n // 8 + 4:
            break
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
