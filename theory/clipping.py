r"""Clipped uniform quantizers: the exact error of a clip, the clip that is best, and two rules of thumb.

Two conventions. "midrise": 2**b cells of width 2c/2**b fill [-c, c], the levels are their middles. "symmetric": the
integers :math:`k = -(2^{b-1}-1), ..., 2^{b-1}-1` times :math:`c/(2^{b-1}-1)`, one level fewer, with 0 among them and
the outermost at the clip. What lies beyond the clip goes to the outermost level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb, ctx
from mpmath import mp
from scipy import optimize

from theory import arithmetic
from theory.arithmetic import Number, guarded, total
from theory.domain import NONNEGATIVE, POSITIVE, Domain, accept, unknown
from theory.sources import GGD, Source
from theory.uniform_codebook import uniform
from theory.units import from_nats

BITS = Domain(1, low_open=False, integer=True)
SYMMETRIC_BITS = Domain(2, low_open=False, integer=True)  # one bit would have the level 0 alone
GRIDS = {"midrise": BITS, "symmetric": SYMMETRIC_BITS}


def _grid(bits: int, grid: str) -> tuple[np.ndarray, int]:
    """Integers, and the integer that stands for the clip: their ratio is level over clip, exactly."""
    if grid not in GRIDS:
        raise unknown("grid", grid, GRIDS)
    _, bits = accept(bits=(bits, GRIDS[grid]))
    n = 2 ** int(bits)
    return (2 * np.arange(n) + 1 - n, n) if grid == "midrise" else (np.arange(1 - n // 2, n // 2), n // 2 - 1)


@guarded(32)
def clip_mse(clip: Number, source: Source, bits: int, grid: str = "midrise") -> Number:
    """Mean squared error of the clipped uniform quantizer, exact, in the units of the source squared.

    Parameters
    ----------
    clip : number or array
        c > 0, in the units of the source.
    source : Source
        A `GGD` in float64, mpmath or balls; any other source in float64.
    bits : int
        b, at least 1, or 2 for the symmetric grid.
    grid : str
        "midrise" or "symmetric".

    Returns
    -------
    number or array
        Of the shape of `clip`.

    Raises
    ------
    ValueError
        If an argument is outside its domain, or the grid unknown.

    Notes
    -----
    As `theory.codebook_design.mse`: in float64 its terms cancel to the square of the step, 1e-10 relative at 8 bits.

    Examples
    --------
    >>> from theory.sources import GGD
    >>> print(np.round(clip_mse(np.array([2.0, 2.5, 3.0]), GGD(2.0), 4), 9))
    [0.02146276 0.01198909 0.01247408]
    """
    xp, clip, _ = accept(clip=(clip, POSITIVE), variance=(source.variance, NONNEGATIVE))
    integers, whole = _grid(bits, grid)
    levels = np.asarray(clip)[..., None] * xp.number(integers) / whole
    t = (levels[..., 1:] + levels[..., :-1]) / 2
    end = np.full((*t.shape[:-1], 1), xp.infinity)
    lo, hi = np.concatenate([-end, t], axis=-1), np.concatenate([t, end], axis=-1)
    m0, m1, m2 = (source.partial_moment(k, lo, hi) for k in range(3))
    return total(m2 - 2 * levels * m1 + levels**2 * m0)


def optimal_clip(source: Source, bits: int, grid: str = "midrise") -> tuple[Number, Number]:
    """The clip with the least mean squared error, in the units of the source, and that error.

    Parameters
    ----------
    source : Source
        As for `theory.uniform_codebook.uniform`, which finds it.
    bits, grid
        As for `clip_mse`.

    Returns
    -------
    clip, mse : number
        For a `GGD` of balls, enclosures of a certified strict local minimum.

    Raises
    ------
    ValueError
        If the bits are outside the grid's domain, or the grid unknown.
    ArithmeticError
        If the search did not converge.

    Examples
    --------
    >>> from theory.sources import GGD
    >>> clip, mse = optimal_clip(GGD(2.0), 4)
    >>> round(float(clip), 9), round(float(mse), 9)
    (2.681604898, 0.011542884)
    """
    integers, whole = _grid(bits, grid)
    found = uniform(source, len(integers))
    if found.status != "converged":
        raise ArithmeticError(f"optimal_clip of {bits} bits: {found.status}")
    # The outermost level is integers[-1] / whole of the clip.
    return found.levels[-1] * whole / int(integers[-1]), found.mse


def regret(clip: Number, source: Source, bits: int, grid: str = "midrise", base: float = 2) -> Number:
    r"""Rate that a clip loses to the best one, in bits: :math:`\tfrac12\log_2(D(c)/D_\mathrm{optimal})`.

    Parameters as `clip_mse`, and raises what `clip_mse` and `optimal_clip` do.

    Examples
    --------
    A rule of thumb that knows no bit width is good for a Gaussian at 3 and 4 bits, and costs 2.4 bits of 8:

    >>> from theory.sources import GGD
    >>> [round(float(regret(kurtosis_rule(0.0), GGD(2.0), bits)), 3) for bits in (2, 3, 4, 6, 8)]
    [0.12, 0.015, 0.027, 0.818, 2.419]
    """
    ratio = clip_mse(clip, source, bits, grid) / optimal_clip(source, bits, grid)[1]
    return from_nats(arithmetic.of(ratio).log(ratio) / 2, base)


@guarded(16)
def kurtosis_rule(excess_kurtosis: Number, sigma: Number = 1.0) -> Number:
    r"""Clip by a rule of thumb, :math:`\sigma\,(2.5 + 0.3\ln(1 + \max(0, \kappa)))`, in the units of sigma.

    Parameters
    ----------
    excess_kurtosis : number or array
        Fourth standardized moment less 3, at least -2.
    sigma : number or array
        Standard deviation, > 0.

    Notes
    -----
    It is quoted as a result of [Banner2019], where it is not to be found; the rule of that paper is `banner_clip`. It
    does not know the number of bits, on which the best clip depends: see `regret`.

    Examples
    --------
    >>> round(float(kurtosis_rule(3.0)), 6)
    2.915888
    """
    xp, excess, sigma = accept(excess_kurtosis=(excess_kurtosis, Domain(-2, low_open=False)), sigma=(sigma, POSITIVE))
    return sigma * (xp.number(5) / 2 + 3 * xp.log1p(xp.maximum(xp.number(0), excess)) / 10)


def banner_clip(source: Source, bits: int) -> Number:
    r"""Clip by the approximation of [Banner2019], granular noise of a step plus what is beyond the clip.

    .. math:: D \approx \frac{c^2}{3\cdot4^b} + 2\int_c^\infty (x-c)^2 p\,dx, \qquad
              \int_c^\infty (x-c)\,p\,dx = \frac{c}{6\cdot4^b} \text{ at its minimum}

    Parameters
    ----------
    source : Source
        Symmetric about 0: a `GGD` in float64, mpmath or balls; any other source in float64.
    bits : int
        b >= 1; the grid is "midrise".

    Returns
    -------
    number
        The clip, in the units of the source. The left side of the condition falls and the right side rises, so there
        is one; for balls it is enclosed.

    Notes
    -----
    For a Laplace source of scale a it is :math:`a\,W(3\cdot4^b)`, W Lambert's function: 2.83, 3.89, 5.03 times a at
    2, 3, 4 bits, the constants of the paper; for the Gaussian 1.71, 2.15, 2.559 sigma (2.55 in the paper).

    Examples
    --------
    >>> from theory.sources import GGD
    >>> [round(float(banner_clip(GGD(2.0), bits)), 2) for bits in (2, 3, 4)]
    [1.71, 2.15, 2.56]
    """
    _, n = _grid(bits, "midrise")
    xp = arithmetic.of(source.variance)

    if xp.name == "mpmath" and isinstance(source, GGD):
        with ctx.workprec(mp.prec + 32):
            enclosed = banner_clip(source.within(arithmetic.BALL), bits)
        return +arithmetic.midpoint(enclosed)

    def condition(c: Any) -> Any:
        above, first = (source.partial_moment(k, c, xp.infinity) for k in (0, 1))
        return first - c * above - c / (6 * n**2)

    if xp.name == "ball" and isinstance(source, GGD):
        near = banner_clip(GGD(float(source.beta), float(source.sigma)), bits)
        return _enclosed_root(
            condition, lambda c: -source.partial_moment(0, c, xp.infinity) - arb(1) / (6 * n**2), arb(near)
        )
    sigma = float(np.sqrt(source.variance))
    highest = sigma
    while condition(highest) > 0:
        highest *= 2
    return optimize.brentq(condition, 1e-9 * sigma, highest, xtol=1e-15 * sigma, rtol=1e-14)


def _enclosed_root(f: Any, slope: Any, near: arb) -> arb:
    """Interval Newton: where the image of a box lies inside it, it holds the root of f that the box has."""
    last = arb.pos_inf()
    while (size := abs(f(near) / slope(near)).upper()) < last / 2:
        near, last = (near - f(near) / slope(near)).mid(), size
    box = near + arb(0, 4 * size)
    image = near - f(near) / slope(box)
    if not box.contains_interior(image):
        raise ArithmeticError("no clip certified: are the balls of beta and sigma too wide?")
    return image
