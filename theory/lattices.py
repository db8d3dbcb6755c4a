r"""Lattices as quantizers: second moments, their bounds in every dimension, nearest points.

A lattice of cell volume V in n dimensions quantizes with the mean squared error :math:`G\,V^{2/n}` per dimension, G
the normalized second moment of its Voronoi cell. With entropy coding at high rate it stays
:math:`\tfrac12\log_2(2\pi e G)` bits above the Shannon lower bound: the space-filling loss, 0.2546 bit for the
integers and 0 for a sphere of infinite dimension.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from theory import arithmetic
from theory.arithmetic import BALL, Number, guarded
from theory.domain import COUNT, POSITIVE, REAL, accept, unknown
from theory.units import from_nats


class Lattice(NamedTuple):
    r"""A lattice and its second moment :math:`G = c\,b^{-p}`, exactly; or `estimate`, with its standard error."""

    dimension: int
    coefficient: Fraction = Fraction(0)
    base: int = 1
    exponent: Fraction = Fraction(0)
    estimate: tuple[float, float] | None = None


LATTICES = {
    "Z": Lattice(1, Fraction(1, 12)),
    "A2": Lattice(2, Fraction(5, 36), 3, Fraction(1, 2)),
    "A3": Lattice(3, Fraction(1, 8), 2, Fraction(2, 3)),
    "A3*": Lattice(3, Fraction(19, 192), 2, Fraction(1, 3)),
    "D4": Lattice(4, Fraction(13, 120), 2, Fraction(1, 2)),
    "D5*": Lattice(5, Fraction(2641, 23040), 2, Fraction(3, 5)),
    "E6": Lattice(6, Fraction(5, 56), 3, Fraction(1, 6)),
    "E6*": Lattice(6, Fraction(12619, 68040), 3, Fraction(5, 6)),
    "E7": Lattice(7, Fraction(163, 2016), 2, Fraction(1, 7)),
    "E7*": Lattice(7, Fraction(21361, 161280), 2, Fraction(6, 7)),
    "E8": Lattice(8, Fraction(929, 12960)),
    "K12": Lattice(12, Fraction(797361941, 6567561000), 3, Fraction(1, 2)),
    "BW16": Lattice(16, Fraction(207049815983, 2143651910400), 2, Fraction(1, 2)),
    "Leech": Lattice(24, estimate=(0.06575235, 0.00000025)),
}
"""By name. A3 is the face-centred cubic lattice, A3* the body-centred one, BW16 that of Barnes and Wall."""


def _lattice(name: str) -> Lattice:
    if name not in LATTICES:
        raise unknown("lattice", name, LATTICES)
    return LATTICES[name]


@guarded(16)
def second_moment(name: str, volume: Number = 1.0) -> Number:
    r"""Mean squared error per dimension of a lattice of the given cell volume; normalized, G, at volume 1.

    .. math:: \frac1n\,\frac1V\int_\text{cell}|x|^2\,dx = G\,V^{2/n}

    Parameters
    ----------
    name : str
        One of `LATTICES`.
    volume : number or array
        Volume of the Voronoi cell, > 0. Its arithmetic is the result's.

    Returns
    -------
    number or array
        In units of length squared.

    Raises
    ------
    ValueError
        If no lattice has this name, or a volume is not positive.
    TypeError
        For the Leech lattice in mpmath or sympy: only its digits are known, not its formula. A ball is its value
        and four standard errors about it, which is likely and not certain.

    Notes
    -----
    Exact but for the Leech lattice: [ConwaySloane1982], [Worley1987] (E6*), [Worley1988] (E7*), [DutourSikiric2009]
    (K12), [PookKolb2023] (BW16). The tests decode uniform draws in every one of these lattices and agree with each
    value within 4 standard errors. For the Leech lattice it is our own estimate from 547 million
    draws (tests/theory/leech_second_moment.py), with its standard error of 2.5e-7; the .065771 that is usually given
    [ConwaySloane1999] is 70 of these errors higher.

    Examples
    --------
    >>> round(float(second_moment("E8")), 7), round(float(second_moment("D4")), 6)
    (0.0716821, 0.076603)
    >>> import sympy
    >>> print(second_moment("A2", sympy.Integer(1)))
    5*sqrt(3)/108
    """
    lattice = _lattice(name)
    xp, volume = accept(volume=(volume, POSITIVE))

    def number(x: Fraction | int) -> Any:
        return xp.number(x.numerator) / xp.number(x.denominator)

    if lattice.estimate is None:
        moment = number(lattice.coefficient) * number(lattice.base) ** -number(lattice.exponent)
    elif xp.name == "float":
        moment = lattice.estimate[0]
    elif xp is BALL:
        moment = arb(lattice.estimate[0], 4 * lattice.estimate[1])
    else:
        raise TypeError(f"the second moment of {name} is known to a few digits only: use float64 or a ball")
    return moment * volume ** number(Fraction(2, lattice.dimension))


@guarded(16)
def sphere_bound(n: Number) -> Number:
    r"""Lower bound on the normalized second moment of every lattice in n dimensions: that of the ball.

    .. math:: G_n \ge \frac{\Gamma(n/2+1)^{2/n}}{(n+2)\,\pi} \;\downarrow\; \frac1{2\pi e}

    Parameters
    ----------
    n : number or array
        Dimension, a positive integer.

    Notes
    -----
    Among bodies of equal volume the ball has the least second moment. It also bounds every quantizer of n-vectors at
    high rate, lattice or not. References: [Zador1982]; [ConwaySloane1982, eq. 3].

    Examples
    --------
    >>> round(float(sphere_bound(1) * 12), 12), round(float(sphere_bound(24)), 6)
    (1.0, 0.06475)
    """
    xp, n = accept(n=(n, COUNT))
    return xp.exp(2 * xp.loggamma(n / 2 + 1) / n) / ((n + 2) * xp.pi())


@guarded(16)
def zador_upper(n: Number) -> Number:
    r"""Upper bound on the second moment of the best quantizer in n dimensions, by random coding.

    .. math:: G_n \le \frac{\Gamma(n/2+1)^{2/n}\,\Gamma(1+2/n)}{n\,\pi}

    It bounds the best arrangement of points, which need not be a lattice. Parameters as `sphere_bound`.

    References: [Zador1982]; [ConwaySloane1982, eq. 3].

    >>> round(float(zador_upper(8)), 6), round(float(zador_upper(24)), 6)
    (0.079824, 0.06722)
    """
    xp, n = accept(n=(n, COUNT))
    return xp.exp(2 * xp.loggamma(n / 2 + 1) / n + xp.loggamma(1 + 2 / n)) / (n * xp.pi())


def space_filling_loss(moment: str | Number, base: float = 2) -> Number:
    r"""Rate that a lattice quantizer with entropy coding loses to Shannon's bound at high rate, in bits.

    .. math:: \tfrac12\log_2(2\pi e\,G)

    Parameters
    ----------
    moment : str, number or array
        A lattice by name (float64), or a normalized second moment, > 0, in any arithmetic.
    base : float
        Base of the logarithm.

    References: [GishPierce1968] for the integers.

    Examples
    --------
    >>> [round(float(space_filling_loss(name)), 4) for name in ("Z", "E8", "Leech")]
    [0.2546, 0.146, 0.0837]
    """
    if isinstance(moment, str):
        moment = second_moment(moment)
    xp, moment = accept(moment=(moment, POSITIVE))
    return from_nats((1 + xp.log(2 * xp.pi() * moment)) / 2, base)


def _nearest_dn(x: np.ndarray) -> np.ndarray:
    """Nearest integers of even sum: where the sum is odd, the worst-rounded one goes the other way."""
    near = np.rint(x)
    error = x - near
    worst = np.abs(error).argmax(axis=-1)[..., None]
    step = np.where(np.take_along_axis(error, worst, -1) >= 0, 1.0, -1.0)
    odd = near.sum(axis=-1, keepdims=True) % 2
    np.put_along_axis(near, worst, np.take_along_axis(near, worst, -1) + odd * step, -1)
    return near


def _nearer(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    distance = [((x - y) ** 2).sum(axis=-1, keepdims=True) for y in (first, second)]
    return np.where(distance[0] <= distance[1], first, second)


def nearest_point(name: str, x: Any) -> np.ndarray:
    r"""Nearest lattice point, in float64, for Z, A2, D4 and E8 in their usual coordinates.

    Z: the integers. A2: generated by (1, 0) and (1/2, sqrt(3)/2), cell volume sqrt(3)/2. D4: integers of even sum,
    cell volume 2. E8: D8 and its translate by (1/2, ..., 1/2), cell volume 1.

    Parameters
    ----------
    name : str
        "Z", "A2", "D4" or "E8".
    x : array of shape (..., n)
        Finite; n the dimension of the lattice, any for Z.

    Returns
    -------
    array of the shape of x

    Raises
    ------
    ValueError
        If there is no decoder for this lattice, x is not finite, or its last axis is not n long.

    References: [ConwaySloaneDecoding1982].

    Examples
    --------
    >>> nearest_point("D4", [0.6, 0.2, 0.1, 0.0]).tolist(), nearest_point("E8", [0.4] * 8).tolist()
    ([0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    """
    if name not in ("Z", "A2", "D4", "E8"):
        raise unknown("lattice with a decoder", name, ("Z", "A2", "D4", "E8"))
    x = np.asarray(arithmetic.FLOAT.number(x))
    accept(x=(x, REAL))
    n = _lattice(name).dimension
    if x.ndim < 1 or (name != "Z" and x.shape[-1] != n):
        raise ValueError(f"x has shape {x.shape}: its last axis must be the {n} coordinates of {name}")
    if name == "Z":
        return np.rint(x)
    if name == "D4":
        return _nearest_dn(x)
    if name == "E8":
        return _nearer(x, _nearest_dn(x), _nearest_dn(x - 0.5) + 0.5)
    side, shift = np.array([1, math.sqrt(3)]), np.array([0.5, math.sqrt(0.75)])  # a rectangle and its centre
    return _nearer(x, np.rint(x / side) * side, np.rint((x - shift) / side) * side + shift)
