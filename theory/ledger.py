r"""The gap ledger: where each fraction of a bit between a quantized tensor and Shannon's limit goes.

At nominal rate b and distortion D the gap to the Gaussian limit is :math:`\tfrac12\log_2(D\,4^b/\sigma^2)` bits.
A chain of distortions from :math:`\sigma^2 4^{-b}` to D splits it, one cause a link; every step is
:math:`\tfrac12\log_2` of the ratio of two neighbours, so the steps add up to the total by construction.

=================  ==============================================================================
step               from -> to
=================  ==============================================================================
shape              Gaussian limit -> Shannon lower bound of the fitted source (never positive)
shannon            -> its true distortion-rate function (upper end of a certified bracket)
scalar             -> one weight at a time, entropy-coded (uniform thresholds, centroids)
fixed-rate         -> 2**b levels, every index b bits long (Lloyd-Max)
block-scaling      -> the best codebook of 2**b levels under absmax blocks; gains: it sends side information
codebook           -> this codebook
rows               -> each row with its own variance and the within-row exponent
unexplained        -> as measured
=================  ==============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from theory import block_scaling, rate_distortion, scalar, shannon
from theory.codebooks import Codebook
from theory.domain import COUNT, POSITIVE, accept
from theory.sources import GGD

STEPS = ("shape", "shannon", "scalar", "fixed-rate", "block-scaling", "codebook", "rows", "unexplained")
"""Names of the steps, in order."""


@dataclass(frozen=True)
class Step:
    """One cause: its name, its share of the gap in bits, and the distortion that it leads to."""

    name: str
    bits: float
    distortion: float


@dataclass(frozen=True)
class Ledger:
    """A gap and its parts, in bits per weight.

    Attributes
    ----------
    total : float
        Gap to the Gaussian limit at the nominal rate.
    steps : tuple of Step
        In the order of `STEPS`; their bits add up to `total`.
    bits, effective_bits : float
        Nominal rate, and the rate with the scales counted.
    uncertainty : float
        Width in bits of the certified bracket of the distortion-rate function: what the steps ``shannon`` and
        ``scalar`` could trade.
    """

    total: float
    steps: tuple[Step, ...]
    bits: float
    effective_bits: float
    uncertainty: float

    @property
    def effective_total(self) -> float:
        """Gap at the effective rate: the side information is paid for."""
        return self.total + self.effective_bits - self.bits


@dataclass(frozen=True)
class _Limits:
    """What the source alone decides, at a rate: the same for every codebook."""

    slb: float
    rd_lower: float
    rd_upper: float
    ecsq: float
    lloyd_max: float


@lru_cache(maxsize=4096)
def _limits(source: GGD, bits: int) -> _Limits:
    bracket = rate_distortion.solve(source, rate=bits)
    slb = float(shannon.distortion_lower_bound(source, bits))
    return _Limits(
        slb,
        max(float(bracket.D_lower), slb),  # two lower bounds: where the SLB is tight it is the sharper
        float(bracket.D_upper),
        float(scalar.ecsq(source, rate=bits).mse),
        float(scalar.lloyd_max(source, 2**bits).mse),
    )


@lru_cache(maxsize=4096)
def best_codebook(source: GGD, size: int, n: int, scaling: str = "absmax") -> Codebook:
    """`block_scaling.best_codebook`, kept: it takes a tenth of a second, and every quantizer asks for it."""
    fixed = (0.0, 1.0) if scaling == "signed" else (-1.0, 0.0, 1.0)
    return block_scaling.best_codebook(size, n, source, fixed)


def gap_ledger(
    D: float,
    bits: int,
    source: GGD,
    codebook: Codebook,
    block_size: int,
    *,
    row_source: GGD | None = None,
    scale_bits: float = 32,
) -> Ledger:
    r"""Split the gap of a block-scaled tensor into its causes.

    Parameters
    ----------
    D : float
        Measured mean squared error, > 0, in the units of the source squared.
    bits : int
        Nominal rate b, bits per weight.
    source : GGD
        Marginal law of the weights, with their variance; float64.
    codebook : Codebook
        The codebook that was used.
    block_size : int
        Weights that share a scale, >= 2.
    row_source : GGD, optional
        Law within a row; its sigma is ignored, because block scaling scales with it and the rows' variances
        average to that of `source`. Without it the step ``rows`` is 0.
    scale_bits : float
        Width of a scale.

    Returns
    -------
    Ledger

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> ledger = gap_ledger(0.0084600529, 4, GGD(2.0), NF4, 64)
    >>> round(ledger.total, 3), [round(step.bits, 3) + 0.0 for step in ledger.steps]
    (0.557, [0.0, 0.0, 0.255, 0.387, -0.125, 0.041, 0.0, 0.0])
    """
    accept(D=(D, POSITIVE), bits=(bits, COUNT), block_size=(block_size, COUNT))
    variance = float(source.variance)
    unit = GGD(source.beta)
    limits = _limits(unit, bits)
    best = best_codebook(unit, 2**bits, block_size, codebook.scaling)
    iid = float(block_scaling.mse(codebook, block_size, unit))
    rows = iid if row_source is None else float(block_scaling.mse(codebook, block_size, GGD(row_source.beta)))
    chain = (
        limits.slb,
        limits.rd_upper,
        limits.ecsq,
        limits.lloyd_max,
        float(block_scaling.mse(best, block_size, unit)),
        iid,
        rows,
        D / variance,
    )
    steps, previous = [], 4.0**-bits
    for name, distortion in zip(STEPS, chain, strict=True):
        steps.append(Step(name, math.log2(distortion / previous) / 2, distortion * variance))
        previous = distortion
    return Ledger(
        total=math.log2(D / variance * 4.0**bits) / 2,
        steps=tuple(steps),
        bits=bits,
        effective_bits=block_scaling.effective_bits(bits, block_size, scale_bits),
        uncertainty=math.log2(limits.rd_upper / limits.rd_lower) / 2,
    )


def average(ledgers: Sequence[Ledger], weights: Sequence[float]) -> Ledger:
    """Mean of the ledgers of several tensors, weighted by their sizes: bits per weight of the whole model.

    Parameters
    ----------
    ledgers : sequence of Ledger
        At one nominal and one effective rate, at least one.
    weights : sequence of float
        Number of weights of each tensor, > 0.

    Returns
    -------
    Ledger
        Its distortions are geometric means, in units of each tensor's variance.

    Raises
    ------
    ValueError
        If there is no ledger, or the rates differ.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> one = gap_ledger(0.0085, 4, GGD(2.0), NF4, 64)
    >>> abs(average([one, one], [1, 3]).total - one.total) < 1e-15
    True
    """
    rates = {(ledger.bits, ledger.effective_bits) for ledger in ledgers}
    if len(rates) != 1:
        raise ValueError(f"average needs ledgers of one rate, not of {sorted(rates) or 'none'}")
    ((bits, effective_bits),) = rates
    share = [w / math.fsum(weights) for w in weights]

    def mean(values: Iterable[float]) -> float:
        return math.fsum(s * v for s, v in zip(share, values, strict=True))

    steps, cumulative = [], 0.0
    for i, name in enumerate(STEPS):
        step = mean(ledger.steps[i].bits for ledger in ledgers)
        cumulative += step
        steps.append(Step(name, step, 4.0 ** (cumulative - bits)))
    return Ledger(
        total=mean(ledger.total for ledger in ledgers),
        steps=tuple(steps),
        bits=bits,
        effective_bits=effective_bits,
        uncertainty=mean(ledger.uncertainty for ledger in ledgers),
    )
