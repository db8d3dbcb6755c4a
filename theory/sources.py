r"""Sources: what a quantizer may ask of a random variable.

A quantizer needs partial moments, a bound needs the entropy, a starting point needs the quantile. The
protocol `Source` is that list; every quantizer and bound in `theory` is written once against it, so that the
same code gives a prediction (`GGD`) and the exact measurement (`Histogram`, from `empirics.histogram`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy import integrate, optimize

from theory.arithmetic import Number
from theory.domain import (
    EXTENDED,
    NONNEGATIVE,
    OPEN_UNIT,
    POSITIVE,
    REAL,
    accept,
    check,
    increasing,
)
from theory.ggd_source import GGD
from theory.units import from_nats

__all__ = ["GGD", "Histogram", "ScaleMixture", "Source"]


@runtime_checkable
class Source(Protocol):
    """A real random variable, as quantizers see it.

    Attributes
    ----------
    variance : number
        Second central moment; every source here is used about 0 and has its quantizers placed there.
    continuous : bool
        Whether there is a density. A discrete source has no differential entropy and no Shannon lower bound.
    """

    @property
    def variance(self) -> Number: ...
    @property
    def continuous(self) -> bool: ...
    def partial_moment(self, k: int, lo: Number, hi: Number) -> Number:
        r""":math:`\int_{(lo, hi]} t^k\,dP(t)`, for k = 0, 1, 2; broadcasts over `lo` and `hi`."""
        ...

    def quantile(self, p: Number) -> Number:
        """The smallest x with P(X <= x) >= p."""
        ...

    def cdf(self, x: Number) -> Number:
        """P(X <= x)."""
        ...

    def entropy(self, base: float = 2) -> Number:
        """Differential entropy of a continuous source, entropy of a discrete one."""
        ...


@dataclass(frozen=True, eq=False)
class Histogram:
    """A discrete source: atoms with counts, such as every value that a bf16 tensor takes.

    Parameters
    ----------
    values : array of shape (m,)
        Atoms, finite and strictly increasing.
    counts : array of shape (m,)
        Positive weights; counts or probabilities.
    displacement : float
        Root mean square distance of the data from the atoms that stand for them: 0 when exact. For every
        quantizer Q, ``abs(rms(x - Q(x)) - rms(atom - Q(atom))) <= displacement``, because the distance to the
        nearest level is 1-Lipschitz.

    Raises
    ------
    ValueError
        If `values` are not increasing and finite, or a count is not positive.

    Examples
    --------
    >>> float(Histogram(np.array([-1.0, 0.0, 2.0]), np.array([1, 2, 1])).partial_moment(1, -np.inf, 0.0))
    -0.25
    """

    values: np.ndarray
    counts: np.ndarray
    displacement: float = 0.0
    _cumulative: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        counts = np.asarray(self.counts)
        increasing("values", values)
        if counts.shape != values.shape:
            raise ValueError(f"counts has shape {counts.shape}, values {values.shape}: they must agree")
        check("counts", counts.astype(np.float64), POSITIVE)
        check("values", values, REAL)
        check("displacement", self.displacement, NONNEGATIVE)
        p = counts / counts.sum()
        powers = np.stack([p, p * values, p * values**2])
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "counts", counts)
        # A leading 0: cumulative[k, i] is the moment of the first i atoms. Differences of running sums lose
        # digits in the tails; longdouble has three to spare.
        sums = np.concatenate([np.zeros((3, 1)), np.cumsum(powers, axis=1, dtype=np.longdouble)], axis=1)
        object.__setattr__(self, "_cumulative", sums)

    @property
    def probabilities(self) -> np.ndarray:
        return self.counts / self.counts.sum()

    @property
    def mean(self) -> float:
        return float(self._cumulative[1, -1])

    @property
    def second_moment(self) -> float:
        return float(self._cumulative[2, -1])

    @property
    def variance(self) -> float:
        return float(self.probabilities @ (self.values - self.mean) ** 2)

    @property
    def continuous(self) -> bool:
        return False

    def abs_moment(self, k: float) -> float:
        """E|X|**k, for k > -1."""
        return float(self.probabilities @ np.abs(self.values) ** k)

    def partial_moment(self, k: int, lo: Number, hi: Number) -> Any:
        """Sum of ``p t**k`` over the atoms in (lo, hi], by two look-ups; k = 0, 1, 2."""
        if k not in (0, 1, 2):
            raise ValueError(f"k = {k}: a histogram keeps the moments of order 0, 1 and 2")
        _, lo, hi = accept(lo=(lo, EXTENDED), hi=(hi, EXTENDED))
        sums = self._cumulative[k]
        i, j = (np.searchsorted(self.values, end, side="right") for end in (lo, hi))
        return (sums[j] - sums[i]).astype(np.float64)[()]

    def cdf(self, x: Number) -> Any:
        return self.partial_moment(0, -np.inf, x)

    def quantile(self, p: Number) -> Any:
        _, p = accept(p=(p, OPEN_UNIT))
        # A probability that a cumulative sum meets up to rounding belongs to that atom.
        i = np.searchsorted(self._cumulative[0, 1:], p - 1e-15, side="left")
        return self.values[np.minimum(i, len(self.values) - 1)]

    def entropy(self, base: float = 2) -> float:
        """Entropy of the atoms, in bits. Not a differential entropy: a discrete source has none."""
        p = self.probabilities
        return float(from_nats(-np.sum(p * np.log(p)), base))


@dataclass(frozen=True, eq=False)
class ScaleMixture:
    """A source of unit scale multiplied by a random scale: rows of different standard deviation.

    Parameters
    ----------
    source : Source
        The law within a row, usually of unit variance.
    scales : array of shape (rows,)
        Scale of each row, > 0.
    weights : array of shape (rows,), optional
        Probability of each row, normalized here; equal if not given.

    Notes
    -----
    `entropy` is that of the mixture, for a decoder that does not know the row. With the row known it is
    `conditional_entropy`: h(X|S) = h(Z) + E log S.

    Examples
    --------
    >>> float(ScaleMixture(GGD(2.0), [1.0, 3.0]).variance)
    5.0
    """

    source: Any
    scales: Any
    weights: Any = None

    def __post_init__(self) -> None:
        _, scales = accept(scales=(np.asarray(self.scales, dtype=np.float64), POSITIVE))
        weights = np.ones_like(scales) if self.weights is None else np.asarray(self.weights, dtype=np.float64)
        if scales.ndim != 1 or not len(scales) or weights.shape != scales.shape:
            raise ValueError(
                f"scales and weights must be 1-D, alike and not empty: they are {scales.shape}, {weights.shape}"
            )
        check("weights", weights, POSITIVE)
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "weights", weights / weights.sum())

    @property
    def variance(self) -> float:
        return float(self.weights @ self.scales**2 * self.source.variance)

    @property
    def continuous(self) -> bool:
        return bool(self.source.continuous)

    def _needs_density(self, what: str) -> None:
        if not self.continuous:
            raise TypeError(f"{what} of a scale mixture needs a continuous source, not {type(self.source).__name__}")

    def _over_scales(self, f: Any, *ends: Any) -> Any:
        ends = tuple(np.asarray(end)[..., None] / self.scales for end in ends)
        return f(*ends)

    def pdf(self, x: Number) -> Any:
        return self._over_scales(self.source.pdf, x) / self.scales @ self.weights

    def cdf(self, x: Number) -> Any:
        return self._over_scales(self.source.cdf, x) @ self.weights

    def partial_moment(self, k: int, lo: Number, hi: Number) -> Any:
        parts = self._over_scales(lambda a, b: self.source.partial_moment(k, a, b), lo, hi)
        return parts @ (self.weights * self.scales**k)

    def quantile(self, p: Number) -> Any:
        self._needs_density("quantile")
        _, p = accept(p=(p, OPEN_UNIT))

        def one(q: float) -> float:
            ends = [float(self.source.quantile(q)) * s for s in (self.scales.min(), self.scales.max())]
            low, high = min(ends), max(ends)
            if low == high or self.cdf(low) >= q:  # up to rounding, that end is the root
                return low
            if self.cdf(high) <= q:
                return high
            return optimize.brentq(lambda x: float(self.cdf(x)) - q, low, high, xtol=1e-300, rtol=1e-14)

        return np.vectorize(one, otypes=[float])(p)[()]

    def entropy(self, base: float = 2) -> float:
        """Differential entropy of the mixture, by adaptive quadrature (float64, error below 1e-9 nat)."""
        self._needs_density("entropy")

        def integrand(x: float) -> float:
            p = float(self.pdf(x))
            return -p * math.log(p) if p > 0 else 0.0

        # Panels at the octaves of the scale: the density changes its slope there. 1e-24: beyond it, nothing.
        first = 1e-3 * math.sqrt(self.source.variance) * self.scales.min()
        last = -float(self.source.quantile(1e-24)) * self.scales.max()
        octaves = np.geomspace(first, last, math.ceil(math.log2(last / first)))
        parts = [
            integrate.quad(integrand, a, b, epsabs=1e-12, epsrel=1e-10, limit=200)[0]
            for a, b in pairwise([0.0, *octaves])
        ]
        return float(from_nats(2 * math.fsum(parts), base))

    def conditional_entropy(self, base: float = 2) -> float:
        """h(X|S) = h(Z) + E log S, in bits: the entropy when the decoder knows the row's scale."""
        self._needs_density("conditional_entropy")
        return float(self.source.entropy(base) + from_nats(self.weights @ np.log(self.scales), base))
