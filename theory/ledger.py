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

A checkpoint that is already quantized has three more distortions, all measured (`stored_ledger`):

=================  ==============================================================================
format             best codebook -> plain rounding to its format, where that has no fixed codebook; it
                   takes the place of ``codebook``, ``rows`` and ``unexplained``
scales             -> every weight at the nearest point of the grid that is stored: its scales and zero
                   points are searched, clipped, spread over channels, or themselves rounded
method             -> as stored: indices that are not the nearest, such as GPTQ's, which compensate errors
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

STORED = ("scales", "method")
"""Names of the steps that only a checkpoint has, after the others."""


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
        In the order of `STEPS`, or those of a checkpoint; their bits add up to `total`.
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
    accept(D=(D, POSITIVE))
    chain = [*_models(bits, source, codebook, block_size, row_source), D]
    effective_bits = block_scaling.effective_bits(bits, block_size, scale_bits)
    return _ledger(STEPS, chain, bits, effective_bits, source)


def stored_ledger(
    rounded: float,
    nearest: float,
    stored: float,
    bits: int,
    source: GGD,
    block_size: int,
    effective_bits: float,
    *,
    codebook: Codebook | None = None,
    row_source: GGD | None = None,
) -> Ledger:
    r"""Split the gap of a matrix of a checkpoint that is already quantized.

    Parameters
    ----------
    rounded, nearest, stored : float
        Measured mean squared errors, > 0, in the units of the source squared: of plain rounding to the format; of
        rounding to nearest on the grid that is stored; and of what is stored.
    bits : int
        Nominal rate b, bits per weight.
    source : GGD
        Marginal law of the weights before they were quantized, with their variance; float64.
    block_size : int
        Weights that share a scale, >= 2.
    effective_bits : float
        Bits per weight of all that is stored.
    codebook : Codebook, optional
        That of the format. Without it the step ``format`` stands for ``codebook``, ``rows`` and ``unexplained``.
    row_source : GGD, optional
        As for `gap_ledger`.

    Returns
    -------
    Ledger

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Examples
    --------
    >>> ledger = stored_ledger(0.0104, 0.0104, 0.0125, 4, GGD(2.0), 128, 4.16)
    >>> [(step.name, round(step.bits, 3)) for step in ledger.steps[-3:]], round(ledger.total, 3)
    ([('format', 0.11), ('scales', 0.0), ('method', 0.133)], 0.839)
    """
    accept(rounded=(rounded, POSITIVE), nearest=(nearest, POSITIVE), stored=(stored, POSITIVE))
    models = _models(bits, source, codebook, block_size, row_source)
    plain = STEPS if codebook else (*STEPS[:5], "format")
    return _ledger((*plain, *STORED), [*models, rounded, nearest, stored], bits, effective_bits, source)


def _models(
    bits: int, source: GGD, codebook: Codebook | None, block_size: int, row_source: GGD | None
) -> list[float]:
    """The distortions that theory gives, from the Shannon lower bound to the codebook, in the source's units."""
    accept(bits=(bits, COUNT), block_size=(block_size, COUNT))
    unit = GGD(source.beta)
    limits = _limits(unit, bits)
    best = best_codebook(unit, 2**bits, block_size, codebook.scaling if codebook else "absmax")
    blocks = float(block_scaling.mse(best, block_size, unit))
    chain = [limits.slb, limits.rd_upper, limits.ecsq, limits.lloyd_max, blocks]
    if codebook:
        iid = float(block_scaling.mse(codebook, block_size, unit))
        rows = iid if row_source is None else float(block_scaling.mse(codebook, block_size, GGD(row_source.beta)))
        chain += [iid, rows]
    return [distortion * float(source.variance) for distortion in chain]


def _ledger(names: Sequence[str], chain: Sequence[float], bits: int, effective_bits: float, source: GGD) -> Ledger:
    """The chain's links, from the Gaussian limit on."""
    variance, limits = float(source.variance), _limits(GGD(source.beta), bits)
    steps, previous = [], variance * 4.0**-bits
    for name, distortion in zip(names, chain, strict=True):
        steps.append(Step(name, math.log2(distortion / previous) / 2, distortion))
        previous = distortion
    return Ledger(
        total=math.log2(chain[-1] / variance * 4.0**bits) / 2,
        steps=tuple(steps),
        bits=bits,
        effective_bits=effective_bits,
        uncertainty=math.log2(limits.rd_upper / limits.rd_lower) / 2,
    )


def average(ledgers: Sequence[Ledger], weights: Sequence[float]) -> Ledger:
    """Mean of the ledgers of several tensors, weighted by their sizes: bits per weight of the whole model.

    Parameters
    ----------
    ledgers : sequence of Ledger
        Of the same steps, at least one. Rates may differ from tensor to tensor, as they do in many checkpoints.
    weights : sequence of float
        Number of weights of each tensor, > 0.

    Returns
    -------
    Ledger
        Its rates are means, its distortions geometric means, in units of each tensor's variance.

    Raises
    ------
    ValueError
        If there is no ledger, or the steps differ.

    Examples
    --------
    >>> from theory.codebooks import NF4
    >>> one = gap_ledger(0.0085, 4, GGD(2.0), NF4, 64)
    >>> abs(average([one, one], [1, 3]).total - one.total) < 1e-15
    True
    """
    chains = {tuple(step.name for step in ledger.steps) for ledger in ledgers}
    if len(chains) != 1:
        listed = "; ".join(", ".join(names) for names in sorted(chains)) or "none"
        raise ValueError(f"average needs ledgers of the same steps, not of {listed}")
    (names,) = chains

    def mean(values: Iterable[float]) -> float:
        return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)

    bits, steps, cumulative = mean(ledger.bits for ledger in ledgers), [], 0.0
    for i, name in enumerate(names):
        step = mean(ledger.steps[i].bits for ledger in ledgers)
        cumulative += step
        steps.append(Step(name, step, 4.0 ** (cumulative - bits)))
    return Ledger(
        total=mean(ledger.total for ledger in ledgers),
        steps=tuple(steps),
        bits=bits,
        effective_bits=mean(ledger.effective_bits for ledger in ledgers),
        uncertainty=mean(ledger.uncertainty for ledger in ledgers),
    )
