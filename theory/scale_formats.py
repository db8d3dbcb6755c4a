r"""What it costs to store the scales of blocks in few bits: their rate, and the distortion that rounding them adds.

A block of scale S = s is decoded with s' = round(s), the stored scale. Its weights were divided by s or by s' before
they were rounded to a codebook Q; both orders exist (``encode``):

- ``"exact"``: x becomes :math:`s'\,Q(x/s)`: bitsandbytes' double quantization, GGUF's Q4_0;
- ``"rounded"``: x becomes :math:`s'\,Q(x/s')`: the nearest level to x, the best that s' allows. x/s' may exceed 1.

The expected distortion is exact but for quadrature: `theory.stored_scales` sums it over all the values of s'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from theory import block_scaling
from theory.block_source import order_statistic_range
from theory.codebooks import DYNAMIC8, Codebook
from theory.domain import COUNT, OPEN_UNIT, accept, unknown
from theory.sources import Source
from theory.stored_scales import StoredScales, doubly_quantized


@dataclass(frozen=True)
class FloatFormat:
    """Scales in a binary floating-point format, rounded to nearest, ties to even.

    Attributes
    ----------
    name : str
    bits : int
        Bits of a scale.
    fraction_bits : int
    min_exponent : int
        Exponent of the smallest normal number; subnormals have the same spacing.
    largest : float

    Examples
    --------
    >>> get("bf16").round(0.3).item(), get("bf16").bits_per_weight(64)
    (0.30078125, 0.25)
    """

    name: str
    bits: int
    fraction_bits: int
    min_exponent: int
    largest: float

    def bits_per_weight(self, n: int) -> float:
        """Bits that the scale of a block of n adds to each weight."""
        accept(n=(n, COUNT))
        return self.bits / n

    @property
    def relative_error(self) -> float:
        """Largest ``|s' - s| / s`` of a normal scale."""
        return 2.0 ** -(self.fraction_bits + 1)

    def round(self, s: Any) -> Any:
        """The stored scale, for each s >= 0."""
        exponent = np.maximum(np.frexp(s)[1] - 1, self.min_exponent) - self.fraction_bits
        return np.ldexp(np.rint(np.ldexp(s, -exponent)), exponent)

    def cells(self, low: float, high: float) -> tuple[Any, Any]:
        """The values that scales in [low, high] are stored as, increasing, and the ends of their cells."""
        if self.round(high) > self.largest:
            raise ValueError(f"a scale of {high:g} is possible, beyond the largest {self.name} {self.largest:g}")

        least = self.min_exponent - self.fraction_bits  # exponent of the smallest subnormal

        def index(value: float) -> int:  # of the non-negative numbers of the format, in order
            octave = max(math.frexp(value)[1] - 1 - self.min_exponent, 0) if value else 0
            return (octave << self.fraction_bits) + int(math.ldexp(value, -least - octave))

        indices = np.arange(index(float(self.round(low))), index(float(self.round(high))) + 1)
        octave = np.maximum((indices >> self.fraction_bits) - 1, 0)
        values = np.ldexp((indices - (octave << self.fraction_bits)).astype(float), octave + least)
        return values, np.clip(np.r_[low, (values[1:] + values[:-1]) / 2, high], low, high)


@dataclass(frozen=True)
class SharedExponent:
    r"""E8M0 scales of Microscaling FP4: the largest power of two that is at most S/4, for elements up to 6.

    So the codebook `theory.codebooks.E2M1`, whose largest level is 1, is multiplied by
    :math:`s' = 6 \cdot 2^{\lfloor\log_2 S\\rfloor - 2}`, between 3/4 and 3/2 of S [OCP2023].
    """

    name: str = "e8m0"
    bits: int = 8
    relative_error: float = 0.5

    def bits_per_weight(self, n: int) -> float:
        """Bits that the scale of a block of n adds to each weight."""
        accept(n=(n, COUNT))
        return self.bits / n

    def round(self, s: Any) -> Any:
        """What the codebook is multiplied by, for each s > 0."""
        return np.ldexp(1.5, np.frexp(s)[1] - 1)

    def cells(self, low: float, high: float) -> tuple[Any, Any]:
        """The values of `round` on [low, high], increasing, and the ends of their cells."""
        powers = np.ldexp(1.0, np.arange(math.frexp(low)[1] - 1, math.frexp(high)[1]))
        return 1.5 * powers, np.r_[low, powers[1:], high]


@dataclass(frozen=True)
class DoubleQuantization:
    """bitsandbytes' double quantization: scales less their mean, in blocks of 256, rounded to eight bits by absmax.

    The mean is that of all blocks of the tensor: E S, where there are many.
    """

    name: str = "double"
    bits: int = 8
    second_n: int = 256
    second_bits: int = 32
    codebook: Codebook = DYNAMIC8

    def bits_per_weight(self, n: int) -> float:
        """Bits that the scale of a block of n adds to each weight, its share of the second scale included."""
        return block_scaling.effective_bits(1, n, self.bits, self.second_n, self.second_bits) - 1


_FORMATS: dict[str, Any] = {
    f.name: f
    for f in (
        FloatFormat("fp32", 32, 23, -126, (2 - 2.0**-23) * 2.0**127), FloatFormat("fp16", 16, 10, -14, 65504.0),
        FloatFormat("bf16", 16, 7, -126, (2 - 2.0**-7) * 2.0**127), FloatFormat("fp8_e4m3", 8, 3, -6, 448.0),
        FloatFormat("fp8_e5m2", 8, 2, -14, 57344.0), SharedExponent(), DoubleQuantization(),
    )
}  # fmt: skip


def get(name: str) -> Any:
    """Return the format of that name: fp32, fp16, bf16, fp8_e4m3, fp8_e5m2, e8m0 or double.

    Raises
    ------
    ValueError
        If there is none.

    >>> get("double").bits_per_weight(64)
    0.126953125
    """
    if name not in _FORMATS:
        raise unknown("scale format", name, _FORMATS)
    return _FORMATS[name]


def mse(
    codebook: Codebook, n: int, source: Source, scale: Any = "fp32", encode: Literal["exact", "rounded"] = "exact"
) -> float:
    r"""Mean squared error under absmax scaling of blocks of n with stored scales, in the source's units squared.

    .. math:: D = \int f_S(s) \Bigl[\frac{n-1}{n}\,\frac{\int_{-s}^s (t - s'Q(t/c))^2\,dP}{F(s)}
                  + \frac1n \overline{(\pm s - s'Q(\pm s/c))^2}\Bigr]\,ds, \qquad s' = \mathrm{round}(s)

    with c = s or s', as `encode` says.

    Parameters
    ----------
    codebook : Codebook
        Of float64 levels; `scaling` as for `theory.block_scaling.mse`.
    n : int
        Elements in a block, >= 1.
    source : Source
        float64, with a density. Its sigma matters: 0.02, as in a language model, brings fp16 near its subnormals.
    scale : str or format
        What stores the scales: see `get`.
    encode : {"exact", "rounded"}
        Whether the weights were divided by S or by the stored scale; double quantization knows the former only.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is outside its domain, or a scale may exceed the largest number of the format.
    TypeError
        If the source is discrete.

    Notes
    -----
    Relative error below 1e-11 for 16 levels (the same rule with s' = s against `theory.block_scaling.mse`). fp32 has
    2**23 values an octave: the error with exact scales is returned. `rounding_bounds` proves that the root of the
    true one is within 2**-24 times the root mean square of S of its root; extrapolated from fp16, whose extra error
    falls by 4 with each bit, they differ by 1e-13 of it.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> [round(mse(NF4, 64, GGD(2.0), scale), 8) for scale in ("fp32", "bf16", "double")]
    [0.00846005, 0.00846303, 0.00846439]
    """
    _, n = accept(n=(n, COUNT))
    n, scale = int(n), get(scale) if isinstance(scale, str) else scale
    if encode not in ("exact", "rounded"):
        raise ValueError(f"encode = {encode!r} is neither 'exact' nor 'rounded'")
    if not source.continuous:
        raise TypeError(f"rounded scales need a density; a {type(source).__name__} has none")
    if scale.name == "fp32":
        return float(block_scaling.mse(codebook, n, source))
    blocks = StoredScales(codebook, n, source, encode)
    if isinstance(scale, DoubleQuantization):
        if encode != "exact":
            raise ValueError("encode = 'rounded': double quantization divides by the exact scale")
        return doubly_quantized(blocks, scale.codebook.levels, scale.second_n)
    return blocks.over_cells(*scale.cells(*order_statistic_range(source, n, n)))


def rounding_bounds(codebook: Codebook, n: int, source: Source, relative_error: float) -> block_scaling.Bounds:
    r"""Bounds on the mean squared error with stored scales of :math:`|s' - s| \le \epsilon s`, for both `encode`.

    .. math:: \bigl|\sqrt{D'} - \sqrt D\bigr| \le \epsilon \sqrt{E S^2}

    with D the error with exact scales.

    Parameters
    ----------
    codebook, n, source
        As `mse`.
    relative_error : float
        Epsilon, in (0, 1): a format's ``relative_error``, if no scale is subnormal.

    Notes
    -----
    Scales of s and s' put a level l at sl and s'l, at most :math:`\epsilon s` apart as :math:`|l| \le 1`: so far
    apart are the two errors of an element, for the same level, and for the nearest one of each. Then Minkowski's
    inequality.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> low, high = rounding_bounds(NF4, 64, GGD(2.0), 2.0**-24)
    >>> bool(high / low - 1 < 7e-6)
    True
    """
    _, epsilon = accept(relative_error=(relative_error, OPEN_UNIT))
    root = math.sqrt(block_scaling.mse(codebook, n, source))
    shift = epsilon * math.sqrt(block_scaling.absmax_second_moment(n, source))
    return block_scaling.Bounds(max(root - shift, 0.0) ** 2, (root + shift) ** 2)
