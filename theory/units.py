"""Nats, bits and decibels: the one place where a logarithm's base is divided by.

Everything in `theory` is computed in nats and converted here, once, on its way out.
"""

from __future__ import annotations

import math

from theory import arithmetic
from theory.arithmetic import Number


def from_nats(nats: Number, base: float = 2) -> Number:
    """Convert nats to units of ``log(base)``: bits for 2 (default), nats for ``math.e``, hartleys for 10.

    Parameters
    ----------
    nats : number or array
        A quantity in nats.
    base : float
        Base of the logarithm, positive and not 1.

    Raises
    ------
    ValueError
        If `base` is not a positive number other than 1.

    Examples
    --------
    >>> round(float(from_nats(math.log(8))), 12), from_nats(1.5, base=math.e)
    (3.0, 1.5)
    """
    if base == math.e:
        return nats
    if not (base > 0 and base != 1 and math.isfinite(base)):
        raise ValueError(f"base = {base!r} is no base of logarithms: it must be positive, finite, not 1")
    xp = arithmetic.of(nats)
    return nats / xp.log(xp.number(base))


def to_nats(value: Number, base: float = 2) -> Number:
    """Convert `value`, in units of ``log(base)``, to nats: the inverse of `from_nats`.

    >>> bool(to_nats(1.0) == math.log(2))
    True
    """
    return value / from_nats(arithmetic.of(value).number(1), base)


def decibels(ratio: Number) -> Number:
    """Return ``10 log10(ratio)``, the power ratio in dB.

    >>> round(float(decibels(100.0)), 12)
    20.0
    """
    return 10 * from_nats(arithmetic.of(ratio).log(ratio), base=10)
