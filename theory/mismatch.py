r"""Mismatch: a codebook designed for one source (the reference, q) and used on another (the source, p).

=======================  ==========================================================================================
what is lost             how it is known
=======================  ==========================================================================================
`ratio`                  exactly, under absmax blocks: D of the codebook over D of the best one
`lloyd_max_ratio`        exactly, at fixed rate without blocks
`bound`, `ratio_bound`   at most, from the divergence alone: see `theory.donsker_varadhan`
`entropy_coded`          the divergence D(p||q) in bits, at high rate
`high_rate`              the limit of N**2 D for companding quantizers, which is infinite for a heavier tail
=======================  ==========================================================================================
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import integrate

from theory import arithmetic, block_scaling, ggd, ledger, scalar, shannon
from theory.arithmetic import Number, guarded
from theory.codebooks import Codebook
from theory.domain import COUNT, POSITIVE, SHAPE, accept
from theory.donsker_varadhan import bound as bound
from theory.sources import GGD


def ratio(codebook: Codebook, n: int, source: GGD) -> float:
    r"""Distortion of a codebook under absmax blocks of n over that of the best of ``2**bits`` levels; no unit.

    .. math:: D(\text{codebook}; p, n)\,/\,\min D(\cdot\,; p, n)

    Parameters
    ----------
    codebook : Codebook
    n : int
        Elements in a block, >= 2.
    source : GGD
        float64.

    Returns
    -------
    float
        At least 1 for codebooks with the levels 0 and 1 (and -1, unless the scale is signed), which the best one has
        as well; half its log2 is the ledger's step ``codebook``. Without them it can be less.

    Raises
    ------
    ValueError
        If n < 2.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> round(ratio(NF4, 64, GGD(2.0)), 4)
    1.0586
    """
    best = ledger.best_codebook(source, 2**codebook.bits, n, codebook.scaling)
    return float(block_scaling.mse(codebook, n, source) / block_scaling.mse(best, n, source))


def lloyd_max_ratio(source: GGD, reference: GGD, n: int) -> Number:
    r"""Distortion of the reference's Lloyd-Max quantizer of n levels on the source, over the source's own; no unit.

    Parameters
    ----------
    source, reference : GGD
        What is quantized, and what the quantizer was designed for; float64 or mpmath.
    n : int
        Number of levels, >= 1.

    Returns
    -------
    number
        At least 1 where `scalar.lloyd_max` is the optimum, which is so for beta >= 1.

    Examples
    --------
    >>> round(float(lloyd_max_ratio(GGD(1.7), GGD(2.0), 16)), 6)
    1.035067
    """
    own = scalar.lloyd_max(source, n).mse
    return scalar.mse(scalar.lloyd_max(reference, n).levels, source) / own


def entropy_coded(source: GGD, reference: GGD, base: float = 2) -> Number:
    r"""Rate lost at high rate by an entropy code made for the reference, in bits: the divergence D(p||q).

    A fine uniform quantizer of step s has :math:`H \approx h(p) - \log s`, and a code for q spends
    :math:`-\int p\log q - \log s`. Any arithmetic; the law of the difference does not depend on the distortion.

    References: [LiChaddhaGray1999].

    >>> round(float(entropy_coded(GGD(1.7), GGD(2.0))), 12)
    0.004219599513
    """
    return ggd.kl(source.beta, reference.beta, source.sigma, reference.sigma, base)


class RatioBound(NamedTuple):
    """Upper bounds on a ratio of distortions, over either denominator, and the t of the numerator."""

    over_shannon: float
    over_lloyd_max: float
    t: float
    status: str


def ratio_bound(source: GGD, reference: GGD, n: int) -> RatioBound:
    r"""Upper bounds on what the reference's Lloyd-Max quantizer of n levels loses on the source, as a ratio.

    .. math:: \Phi = \frac{E_p\,d}{D^*} \le \frac{\text{bound}}{2^{2h(p)}/(2\pi e\,n^2)}
              \quad\text{and}\quad \le \frac{\text{bound}}{D_\text{Lloyd-Max}(p, n)}

    The first over the Shannon lower bound at :math:`\log_2 n` bits: it holds against any code. The second against
    any quantizer of n levels, where `scalar.lloyd_max` is the optimum.

    Parameters
    ----------
    source, reference : GGD
        As for `bound`; float64.
    n : int
        Number of levels, >= 1.

    Examples
    --------
    >>> found = ratio_bound(GGD(1.7), GGD(2.0), 4)
    >>> round(found.over_shannon, 4), round(found.over_lloyd_max, 4)
    (2.2316, 1.0821)
    """
    _, n = accept(n=(n, COUNT))
    found = bound(source, reference, scalar.lloyd_max(reference, int(n)).levels)
    shannon_bound = float(shannon.distortion_lower_bound(source, math.log2(n)))
    own = float(scalar.lloyd_max(source, int(n)).mse)
    return RatioBound(float(found.value) / shannon_bound, float(found.value) / own, found.t, found.status)


@guarded(16)
def _companding_constant(beta: Any, source_sigma: Any, reference_sigma: Any) -> Any:
    xp, beta, p, q = accept(beta=(beta, SHAPE), p=(source_sigma, POSITIVE), q=(reference_sigma, POSITIVE))
    excess = xp.number(2) * (p / q) ** beta / 3
    root = 2 * ggd.alpha(beta, q) * xp.gamma(1 + 1 / beta) * xp.number(3) ** (1 / beta)
    return root**2 / 12 / (1 - excess) ** (1 / beta)


def high_rate(source: GGD, reference: GGD) -> Number:
    r"""Limit of ``N**2 D`` for the reference's companding quantizer used on the source, in its units squared.

    .. math:: \frac1{12}\Bigl(\int q^{1/3}\Bigr)^2\int p\,q^{-2/3}
              = \frac{(2\alpha_q\Gamma(1+1/\beta)\,3^{1/\beta})^2}
                     {12\,\bigl(1 - \tfrac23(\alpha_p/\alpha_q)^\beta\bigr)^{1/\beta}}
              \quad\text{for equal } \beta

    Bennett's integral with the levels as dense as :math:`q^{1/3}`, which is optimal for q; at p = q it is
    `scalar.panter_dite`.

    Parameters
    ----------
    source, reference : GGD
        p and q. Any arithmetic for equal beta; float64, by quadrature, for beta of the source above the reference's.

    Returns
    -------
    number

    Raises
    ------
    ValueError
        If the integral diverges: beta of the source below that of the reference, or beta equal and
        :math:`\alpha_p^\beta \ge \tfrac32\alpha_q^\beta`. Then N**2 D grows without bound, however slowly.
    TypeError
        For different beta in mpmath or balls.
    ArithmeticError
        If the limit is beyond float64, or the quadrature does not reach 1e-9.

    References: [Bennett1948; Bucklew1984].

    Examples
    --------
    >>> round(float(high_rate(GGD(2.5), GGD(2.0))), 6)
    2.508752
    >>> high_rate(GGD(1.7), GGD(2.0))
    Traceback (most recent call last):
    ...
    ValueError: beta = 1.7 of the source is below the reference's 2.0: the integral of p q**(-2/3) diverges
    """
    p, q = source, reference
    if p.beta < q.beta:
        raise ValueError(
            f"beta = {p.beta} of the source is below the reference's {q.beta}: the integral of p q**(-2/3) diverges"
        )
    if p.beta == q.beta:
        symbolic = arithmetic.of(p.beta, p.sigma, q.sigma).name == "sympy"
        if not symbolic and not 2 * (p.sigma / q.sigma) ** p.beta < 3:
            raise ValueError(
                f"sigma = {p.sigma} of the source is too large for the reference's {q.sigma}: the integral of "
                "p q**(-2/3) diverges from (sigma_p/sigma_q)**beta = 3/2 on"
            )
        return _companding_constant(p.beta, p.sigma, q.sigma)
    if arithmetic.of(p.beta, q.beta, p.variance, q.variance).name != "float":
        raise TypeError("high_rate for different beta is computed in float64")

    def exponent(x: Any) -> Any:
        return 2 * (x / q.alpha) ** q.beta / 3 - (x / p.alpha) ** p.beta

    # The exponent rises from 0 to a single peak and falls: the integral is cut there.
    peak = p.alpha * (2 * q.beta / (3 * p.beta) * (p.alpha / q.alpha) ** q.beta) ** (1 / (p.beta - q.beta))
    top = float(exponent(peak))
    if top > 600:
        raise ArithmeticError(f"high_rate: the limit is finite and about exp({top:.4g}), beyond float64")
    parts = [
        integrate.quad(lambda x: math.exp(float(exponent(x)) - top), a, b, epsabs=1e-290, epsrel=1e-12, limit=400)
        for a, b in ((0, peak), (peak, 2 * peak), (2 * peak, np.inf))
    ]
    half, error = (math.fsum(column) for column in zip(*parts, strict=True))
    if not error < 1e-9 * half:
        raise ArithmeticError(f"high_rate: the quadrature reached a relative error of {error / half:.1e} only")
    root = 2 * q.alpha * math.gamma(1 + 1 / q.beta) * 3 ** (1 / q.beta)
    return root**2 / 12 * math.exp(top) * half / (p.alpha * math.gamma(1 + 1 / p.beta))
