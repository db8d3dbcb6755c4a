r"""How fast the distortion falls with the bits: the slope of ln D, which is -2 ln 2 = -1.386 only in a limit.

Shannon's :math:`D = \sigma^2 4^{-R}` has the slope -2 ln 2 at every rate. A quantizer of a fixed number of levels has
another at each number of bits, and a line through them has yet another. What is predicted here is exact: the slope of
the line by least squares through (b, ln D(b)), and those between neighbours.

- **Integers under absmax** (`absmax`). The grid of b bits has :math:`m = 2^{b-1} - 1` steps from 0 to the block's
  maximum S, and its error is that of a step S/m: :math:`D \approx \frac{n-1}n\frac{E S^2}{12 m^2}`
  (`absmax_high_rate`). So from b to b + 1 bits ln D falls by :math:`2\ln 2 + 2\ln(1 + 1/(2^b - 2))`
  (`integer_slope`): by about :math:`2^{1-b}` more than 2 ln 2, because a level is given up for symmetry, and neither
  the source nor n matters. At 2 bits, the levels -S, 0 and S, there is no high rate, and both do.
- **The best clip** (`clipped`). The clip widens as :math:`b^{1/\beta}`, and D falls by less:
  :math:`d\ln D/db \approx -2\ln 2 + 2/(\beta b)` [HuiNeuhoff2001].
- **Lloyd-Max** (`lloyd_max`). :math:`4^b D` rises to Panter and Dite's constant: D falls by less, by 2 ln 2 in the
  limit.
- **Floating point** (`floating_point`). Most of the bits are an exponent's, or make small weights more accurate than
  large ones: bf16 errs as Shannon's code of 9.2 bits does, and lies on none of these lines.

*Nominal or effective rate.* A scale of s bits for every n weights adds s/n to each rate alike: the line moves, and
keeps its slope. It does not where formats of different n or s are on one line.

*From weights to degradation.* With the error :math:`\delta` of the weights, gradient g and Hessian H of the loss,
:math:`\Delta L = g\cdot\delta + \tfrac12\delta^\top H\delta + \dots`

- If the :math:`\delta_i` have mean 0 and are uncorrelated with each other and with g and H, as high-rate theory has
  it, then :math:`E\Delta L = \tfrac12\sum_l m_l\operatorname{tr}H_l`, where :math:`m_l` is the mean squared error of
  matrix l: ln(degradation) has the slope of ln D.
- A model is quantized once, and on given texts the gradient is not 0. The first term then has the size
  :math:`|g|\sqrt m` and either sign. Its logarithm falls by ln 2 a bit, half as fast, and it takes over once
  :math:`m < 4|g|^2/(\operatorname{tr}H)^2`. Degradations that change sign at many bits are its mark.
- The divergence between the two models' predictions, and the squared change of the logits, are least at
  :math:`\delta = 0`: they have no first term, and their logarithms have the slope of ln D wherever the second-order
  expansion holds. At few bits it does not, for these nor for the loss; and the logarithm of a relative perplexity,
  :math:`e^{\Delta L} - 1`, is about :math:`\Delta L` itself where that is large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory import arithmetic, block_scaling, clipping, scalar
from theory.arithmetic import Number, guarded
from theory.codebooks import Codebook
from theory.domain import COUNT, POSITIVE, Domain, accept
from theory.sources import Source

SHANNON = -2 * math.log(2)
"""d ln D/dR of a Gaussian source, and the limit of every family here; per bit."""


@dataclass(frozen=True, eq=False)
class Decay:
    """Distortions of a family of quantizers, by bits.

    Attributes
    ----------
    bits : array of shape (k,)
        Bits per weight, at least two different ones.
    mse : array of shape (k,)
        Mean squared errors, > 0, in the source's units squared; float64, mpf or balls.

    Raises
    ------
    ValueError
        If the arrays differ in shape, an error is not positive, or the bits are all alike.

    Examples
    --------
    >>> print(np.round(Decay([2, 4, 8], [4.0**-2, 4.0**-4, 4.0**-8]).slope / SHANNON, 12))
    1.0
    """

    bits: Any
    mse: Any

    def __post_init__(self) -> None:
        bits, mse = np.asarray(self.bits, dtype=np.float64), list(self.mse)
        _, mse = accept(mse=(mse, POSITIVE))
        if bits.shape != mse.shape or len(np.unique(bits)) < 2:
            raise ValueError(f"bits {bits.tolist()} for {len(mse)} errors: give one each, and two that differ")
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "mse", mse)

    @property
    def log_mse(self) -> Any:
        """ln D, one for each number of bits."""
        return arithmetic.of(self.mse).log(self.mse)

    @property
    def slope(self) -> Number:
        """Of the line of least squares through ln D against bits; per bit."""
        x = self.bits - self.bits.mean()
        return arithmetic.total(self.log_mse * x) / float(x @ x)

    @property
    def local(self) -> Any:
        """Slopes between neighbours in the order given, an array of shape (k - 1,); per bit.

        ValueError if two of them have the same bits.
        """
        if not np.all(steps := np.diff(self.bits)):
            raise ValueError(f"bits {self.bits.tolist()}: there is no slope between two that are alike")
        return np.diff(self.log_mse) / steps


def absmax(codebooks: Iterable[Codebook], n: int, source: Source, scale_bits: float = 0.0) -> Decay:
    """Predict codebooks under absmax scaling of blocks of n; n = all weights is a scale for the tensor.

    Parameters
    ----------
    codebooks : iterable of Codebook
        ``codebooks.integer(b)`` for several b; NF4 and FP4 are points at 4 bits.
    n : int
        Elements in a block, >= 1.
    source : Source
        As `theory.block_scaling.mse`, whose errors and accuracy these are.
    scale_bits : float
        Bits of a block's scale: 0 for the nominal rate.

    Examples
    --------
    >>> from theory.codebooks import integer
    >>> from theory.sources import GGD
    >>> found = absmax([integer(b) for b in range(2, 9)], 64, GGD(2.0), scale_bits=32)
    >>> print(found.bits[0], round(found.slope, 4), np.round(found.local, 3))
    2.5 -1.569 [-2.099 -1.696 -1.524 -1.452 -1.418 -1.402]
    """
    books = list(codebooks)
    bits = [block_scaling.effective_bits(book.bits, n, scale_bits) for book in books]
    return Decay(bits, [block_scaling.mse(book, n, source) for book in books])


def clipped(bits: Sequence[int], source: Source, grid: str = "midrise") -> Decay:
    """Predict uniform quantizers, each with its best clip: `theory.clipping.optimal_clip`, and what it raises.

    >>> from theory.sources import GGD
    >>> print(np.round(clipped(range(2, 9), GGD(2.0)).local, 3))
    [-1.155 -1.177 -1.195 -1.212 -1.229 -1.244]
    """
    return Decay(bits, [clipping.optimal_clip(source, b, grid)[1] for b in bits])


def lloyd_max(bits: Sequence[int], source: Source) -> Decay:
    """Predict the optimal quantizers of 2**b levels: `theory.scalar.lloyd_max`, and what it raises.

    >>> from theory.sources import GGD
    >>> print(np.round(lloyd_max(range(2, 9), GGD(2.0)).local, 3))
    [-1.224 -1.291 -1.333 -1.358 -1.371 -1.379]
    """
    return Decay(bits, [scalar.lloyd_max(source, 2**b).mse for b in bits])


@guarded(16)
def absmax_high_rate(bits: int, n: int, source: Source) -> Number:
    r"""Error of ``codebooks.integer(bits)`` under absmax at high rate, in the source's units squared.

    .. math:: D \approx \frac{n-1}n\,\frac{E S^2}{12\,m^2},\quad m = 2^{b-1} - 1; \qquad
              4^b D \to \frac{n-1}n\,\frac{E S^2}3

    Parameters
    ----------
    bits : int
        2 or more.
    n : int
        Elements in a block, >= 1.
    source : Source
        As `theory.block_scaling.absmax_second_moment`.

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Notes
    -----
    What it leaves out, by Euler and Maclaurin's formula, with p the density, F that of the magnitude's distribution,
    :math:`\eta(s) = \sum_k (-1)^{k-1}k^{-s}`, and for a GGD, whose density is
    :math:`p(0)(1 - |x/\alpha|^\beta + \dots)` at the level 0:

    .. math:: \frac{n-1}n\Bigl\{\frac{7}{1440\,m^4}E\frac{S^4\,(-p'(S))}{F(S)}
              - \frac{2 c_\beta\,p(0)}{\alpha^\beta\,m^{\beta+3}}E\frac{S^{\beta+3}}{F(S)}\Bigr\},\qquad
              c_\beta = -\frac{\Gamma(\beta+1)\cos\frac{\pi(\beta+1)}2\,\eta(\beta+3)}{\pi^2(2\pi)^{\beta+1}}

    Of the exact error for n = 64 that is 2.6e-4 and -1.3e-4 at 4 bits, 1.3e-5 and 4.5e-6 at 6, for beta = 2 and 1.7.

    Examples
    --------
    >>> from theory.codebooks import integer
    >>> from theory.sources import GGD
    >>> [round(float(block_scaling.mse(integer(b), 64, GGD(2.0)) / absmax_high_rate(b, 64, GGD(2.0))), 5)
    ...  for b in (2, 3, 4, 6)]
    [0.90764, 1.00131, 1.00026, 1.00001]
    """
    _, bits, n = accept(bits=(bits, clipping.SYMMETRIC_BITS), n=(n, COUNT))
    steps, n = 2 ** (int(bits) - 1) - 1, int(n)
    return block_scaling.absmax_second_moment(n, source) * (n - 1) / (12 * n * steps**2)


def integer_slope(bits: int) -> float:
    r"""Slope of ln D from b to b + 1 bits of symmetric integers at high rate, whatever the source; per bit.

    .. math:: -2\ln\frac{2^b - 1}{2^{b-1} - 1} = -2\ln 2 - 2\ln\Bigl(1 + \frac1{2^b - 2}\Bigr)

    Parameters
    ----------
    bits : int
        b, 2 or more.

    Raises
    ------
    ValueError
        If b is outside its domain.

    Examples
    --------
    >>> print(np.round([integer_slope(b) for b in range(2, 8)], 4))
    [-2.1972 -1.6946 -1.5243 -1.4519 -1.4183 -1.4021]
    """
    _, bits = accept(bits=(bits, clipping.SYMMETRIC_BITS))
    return SHANNON - 2 * math.log1p(1 / (2.0**bits - 2))


def floating_point(digits: int, source: Source) -> float:
    r"""Error of rounding to a floating-point format without end of its range, in the source's units squared.

    .. math:: D \approx \sum_e P(2^e \le |X| < 2^{e+1})\,\frac{4^{e+1-p}}{12}

    Parameters
    ----------
    digits : int
        Binary digits p of the significand, its leading 1 among them: 8 for bf16, 11 for fp16, 24 for fp32.
    source : Source
        Continuous, and symmetric about 0; its unit counts: binades do not scale.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `digits` is not a positive integer.

    Notes
    -----
    The density is taken as constant between neighbours: relatively wrong by :math:`O(4^{-p})`. Subnormal numbers are
    left out; of fp16 they begin at 6e-5.

    Examples
    --------
    bf16 and fp16 of weights of deviation 0.02, in units of their variance, and the bits that Shannon needs for that:

    >>> from theory.sources import GGD
    >>> errors = [floating_point(p, GGD(2.0, 0.02)) / 0.02**2 for p in (8, 11)]
    >>> [f"{D:.2e}" for D in errors], [round(-math.log2(D) / 2, 2) for D in errors]
    (['2.75e-06', '4.30e-08'], [9.24, 12.24])
    """
    accept(digits=(digits, Domain(1, low_open=False, integer=True)))
    middle = math.floor(math.log2(float(source.variance)) / 2)
    exponent = np.arange(middle - 30, middle + 17)  # 8**-30 of it below; above, nothing
    binade = 2 * source.partial_moment(0, 2.0**exponent, 2.0 ** (exponent + 1))
    return float(binade @ 4.0 ** (exponent + 1 - digits)) / 12
