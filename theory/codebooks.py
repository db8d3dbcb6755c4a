r"""Codebooks: the values that quantized formats use, and how they are derived.

A codebook lives on [-1, 1] and is multiplied by the scale of a block. `scaling` says what that scale is:

- ``"absmax"``: the largest magnitude of the block, so that the block lies in [-1, 1];
- ``"signed"``: the element of largest magnitude with its sign, so that it is always mapped to +1.

The shipped NF4 table (bitsandbytes, QLoRA) differs from the exact construction by up to 1.9e-7: bitsandbytes
rounds its offset to 0.9677083 and then its probabilities to float32. `NF4` is the shipped table, and
``normal_float(4)`` the exact construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from theory import arithmetic, ggd
from theory.arithmetic import Number
from theory.domain import Domain, accept, increasing, unknown


@dataclass(frozen=True, eq=False)
class Codebook:
    """Levels of a quantizer, relative to the scale of their block.

    Attributes
    ----------
    name : str
    levels : array of shape (N,)
        Strictly increasing, within [-1, 1]: float64, or an object array of mpf, arb or sympy numbers.
    bits : int
        Nominal width of an index: ``ceil(log2 N)``, or as the format stores it.
    scaling : {"absmax", "signed"}
        What a block is divided by.
    origin : str
        Where the values come from.
    """

    name: str
    levels: Any
    bits: int
    scaling: Literal["absmax", "signed"] = "absmax"
    origin: str = ""

    def __post_init__(self) -> None:
        xp = arithmetic.of(list(self.levels))
        _, levels = accept(levels=(list(self.levels), Domain(-1, 1, low_open=False, high_open=False)))
        increasing("levels", levels)
        if xp.name == "float":
            levels.setflags(write=False)
        object.__setattr__(self, "levels", levels)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def largest_half_gap(self) -> Number:
        """Half the largest gap between neighbours: |x - S Q(x/S)| <= S * this when +-1 are levels."""
        return max(np.diff(self.levels)) / 2


def _mirrored(name: str, magnitudes: list[float], origin: str) -> Codebook:
    """The 4-bit codebook of a sign and one of eight magnitudes, divided by the largest of them."""
    top = max(magnitudes)
    return Codebook(name, sorted({sign * m / top for m in magnitudes for sign in (-1, 1)}), 4, origin=origin)


def integer(bits: int, symmetric: bool = True) -> Codebook:
    """Uniform integer codebook.

    Parameters
    ----------
    bits : int
        Width, 2 to 16.
    symmetric : bool
        True: ``-(2**(b-1) - 1) ... 2**(b-1) - 1``, an odd number of levels with both ends, so that the
        largest magnitude is reproduced. False: two's complement, ``-2**(b-1) ... 2**(b-1) - 1``, without +1.

    Raises
    ------
    ValueError
        If `bits` is outside its domain.

    Examples
    --------
    >>> len(integer(4)), len(integer(4, symmetric=False))
    (15, 16)
    """
    accept(bits=(bits, Domain(2, 16, low_open=False, high_open=False, integer=True)))
    top = 2 ** (bits - 1) - symmetric
    levels = [k / top for k in range(-top, 2 ** (bits - 1))]
    return Codebook(f"int{bits}" + ("" if symmetric else "-asymmetric"), levels, bits, origin="uniform")


def midrise(bits: int) -> Codebook:
    """Uniform codebook without 0 and without ends: the odd multiples of ``2**-bits``, -15/16 ... 15/16 for four bits.

    Parameters
    ----------
    bits : int
        Width, 1 to 16.

    Raises
    ------
    ValueError
        If `bits` is outside its domain.

    Examples
    --------
    >>> midrise(2).levels
    array([-0.75, -0.25,  0.25,  0.75])
    """
    accept(bits=(bits, Domain(1, 16, low_open=False, high_open=False, integer=True)))
    levels = [k / 2**bits for k in range(1 - 2**bits, 2**bits, 2)]
    return Codebook(f"midrise{bits}", levels, bits, origin="uniform, between the ends")


def normal_float(bits: int, offset: Number | None = None) -> Codebook:
    r"""NormalFloat codebook: Gaussian quantiles at evenly spaced probabilities, divided by the largest.

    ``2**(b-1)`` positive values at probabilities evenly spaced from `offset` down to 1/2 (excluded),
    ``2**(b-1) - 1`` negative ones likewise, and 0.

    Parameters
    ----------
    bits : int
        Width, 2 to 8.
    offset : number, optional
        Largest probability; ``1 - (1/2**(b+1) + 1/(2 (2**b - 1)))/2`` if not given, which is
        ``1 - (1/32 + 1/30)/2`` for NF4. Its arithmetic is that of the levels.

    References: [Dettmers2023, app. E].

    Examples
    --------
    >>> float(abs(normal_float(4).levels - NF4.levels).max()) < 2e-7
    True
    """
    accept(bits=(bits, Domain(2, 8, low_open=False, high_open=False, integer=True)))
    if offset is None:
        offset = float(1 - (Fraction(1, 2 ** (bits + 1)) + Fraction(1, 2 * (2**bits - 1))) / 2)
    xp, offset = accept(offset=(offset, Domain(0.5, 1)))
    half, two = xp.number(1) / 2, xp.number(2)

    def quantiles(n: int) -> list[Any]:
        """The n quantiles at probabilities evenly spaced over (1/2, offset], increasing."""
        return [ggd.quantile(half + (offset - half) * i / n, two) for i in range(1, n + 1)]

    positive, negative = quantiles(2 ** (bits - 1)), quantiles(2 ** (bits - 1) - 1)
    largest = positive[-1]
    # Divided by itself a ball of the largest is not 1; the end of the codebook is 1 by definition.
    levels = [-q / largest for q in reversed(negative[:-1])] + [xp.number(0)]
    levels = [xp.number(-1), *levels, *(q / largest for q in positive[:-1]), xp.number(1)]
    return Codebook(f"normal-float{bits}", levels, bits, origin="exact construction")


NF4 = Codebook(
    "nf4",
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
     -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
     0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
     0.7229568362236023, 1.0],
    4, origin="bitsandbytes' table, float32 [Dettmers2023, app. E]",
)  # fmt: skip
FP4 = _mirrored("fp4", [0, 0.0625, 2, 3, 4, 6, 8, 12], "bitsandbytes' table, before division by 12")
E2M1 = _mirrored("e2m1", [0, 0.5, 1, 1.5, 2, 3, 4, 6], "OCP Microscaling FP4 [OCP2023]")
AF4_64 = Codebook(
    "af4-64",
    [-1.0, -0.69441008, -0.51243739, -0.3736951, -0.25607552, -0.14982478, -0.04934812, 0.0,
     0.04273164, 0.12934483, 0.21961274, 0.31675666, 0.42563882, 0.55496234, 0.72424863, 1.0],
    4, origin="published table [Yoshida2023]: theory.block_codebook.abnormal_float(64), to its eight digits",
)  # fmt: skip
# What [Blumenberg2025] introduces: least mean squared error at block 64 for Gaussian weights. The values
# are those of `theory.block_scaling.best_codebook`; the mirror image of the first is as good.
BOF4_64 = Codebook(
    "bof4-64",
    [-1.0, -0.753568887787867, -0.579268104022602, -0.438671960931308, -0.316819061640451, -0.206029079468643,
     -0.101564062890378, 0.0, 0.0887641830837184, 0.17945258817466, 0.274248476726811, 0.375949501733426,
     0.488590935413534, 0.618770110793621, 0.77908183430457, 1.0],
    4, origin="derived here: least squared error at block 64, -1, 0 and 1 fixed; [Blumenberg2025, tab. 8] to 2e-6",
)  # fmt: skip
BOF4S_64 = Codebook(
    "bof4s-64",
    [-0.85682141204557, -0.669170207744334, -0.523459351726833, -0.400449226489197, -0.291034474147944,
     -0.189991789778298, -0.0938557703328574, 0.0, 0.0887641830837184, 0.17945258817466, 0.274248476726811,
     0.375949501733426, 0.488590935413534, 0.618770110793621, 0.77908183430457, 1.0],
    4, scaling="signed",
    origin="derived here: least squared error at block 64, 0 and 1 fixed; [Blumenberg2025, tab. 7], drawn, to 1.2e-4",
)  # fmt: skip

# Its negative half has no -1.
DYNAMIC8 = Codebook(
    "dynamic8",
    sorted([0.0, 1.0, *(sign * 10.0 ** (e - 6) * (0.1 + 0.9 * (j + 0.5) / 2**e)
                        for e in range(7) for j in range(2**e) for sign in (-1, 1))]),
    8, origin="bitsandbytes' dynamic map, for the scales of double quantization",
)  # fmt: skip

_CODEBOOKS = {c.name: c for c in (NF4, FP4, E2M1, AF4_64, BOF4_64, BOF4S_64, DYNAMIC8)}


def get(name: str) -> Codebook:
    """Return the codebook of that name.

    nf4, fp4, e2m1, af4-64, bof4-64, bof4s-64, dynamic8, intB or intB-asymmetric.

    Raises
    ------
    ValueError
        If there is none; near misses are suggested.

    Examples
    --------
    >>> get("int4").bits
    4
    """
    key = name.lower().replace("_", "-")
    if key in _CODEBOOKS:
        return _CODEBOOKS[key]
    width, _, end = key.removeprefix("int").partition("-")
    if key.startswith("int") and width.isdigit() and end in ("", "asymmetric"):
        return integer(int(width), symmetric=not end)
    raise unknown("codebook", name, [*_CODEBOOKS, "int4", "int8", "int4-asymmetric"])
