r"""Bits where they matter: whole bits over the matrices of a model, against the same number of bits for each.

To first order the logits MSE is :math:`\sum_l m_l(b_l) \operatorname{tr}(G_l)/V` with :math:`m_l(b)` the weight MSE
of matrix l at b bits: a sum over matrices, so that bits can be shared out. The scales cost both the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from empirics.amplification import first_order
from empirics.engine import Progress
from empirics.functional import BATCH_TOKENS, Sequence, Tokens, compare_all
from empirics.inference import Estimate, clustered_mean, clustered_ratio
from empirics.language_model import LanguageModel, quantized_weights
from empirics.quantizers import get
from empirics.traces import Trace, Traces
from theory.bit_allocation import integer_allocation
from theory.geometry import predicted_logits_mse, reverse_waterfilling


@dataclass(frozen=True)
class Share:
    """What one matrix gets.

    Attributes
    ----------
    name : str
    weights : int
    trace : Trace
        How much the logits move with it.
    variance : float
        Mean square of its weights.
    mses : dict of int to float
        Bits to the weight MSE measured at them.
    bits : int
        What it gets.
    ideal_bits : float
        What reverse water-filling over Gaussian matrices of these variances would give it, at the same rate.
    """

    name: str
    weights: int
    trace: Trace
    variance: float
    mses: dict[int, float]
    bits: int
    ideal_bits: float


@dataclass(frozen=True)
class Allocation:
    """Whole bits for each matrix, and what first order says of them.

    Attributes
    ----------
    shares : list of Share
    block_size : int
        Weights that share a scale.
    uniform_bits : int
        Of the allocation that it is held against.
    bits, effective_bits : float
        Bits per weight that it spends, without the scales and with them.
    uniform_effective_bits : float
        Of the uniform allocation; never fewer.
    predicted, predicted_uniform : Trace
        Logits MSE to first order; `standard_error` is that of the probes.
    predicted_gain : float
        The uniform allocation's predicted logits MSE over this one's.
    predicted_gain_error : float
        Its standard error, from the probes.
    bound : float
        No allocation of whole bits predicts less logits MSE.
    status : str
        "optimal" if it is that bound, else "feasible".
    """

    shares: list[Share]
    block_size: int
    uniform_bits: int
    bits: float
    effective_bits: float
    uniform_effective_bits: float
    predicted: Trace
    predicted_uniform: Trace
    predicted_gain: float
    predicted_gain_error: float
    bound: float
    status: str

    def weights(self, lm: LanguageModel) -> dict[str, torch.Tensor]:
        """The dense weights that it leaves of the model's."""
        return _quantized(lm, {share.name: share.bits for share in self.shares}, self.block_size)

    def records(self) -> list[dict[str, Any]]:
        """A row of plain values for each matrix."""
        return [
            {
                "name": s.name, "weights": s.weights, "trace": s.trace.value, "trace_error": s.trace.standard_error,
                "variance": s.variance, "bits": s.bits, "ideal_bits": s.ideal_bits, "mse": s.mses[s.bits],
                "uniform_mse": s.mses[self.uniform_bits],
            }
            for s in self.shares
        ]  # fmt: skip


def allocate(
    lm: LanguageModel, traces: Traces, bits: int = 4, block_size: int = 64, choices: Iterable[int] = range(2, 9)
) -> Allocation:
    """Share out whole bits over the matrices that have a trace, for the least logits MSE to first order.

    Parameters
    ----------
    lm : LanguageModel
    traces : Traces
    bits : int
        Of the uniform allocation, which sets the budget.
    block_size : int
        Weights that share a scale.
    choices : iterable of int
        Consecutive: the quantizers are int2 ... int8 of these widths (`empirics.quantizers`).

    Returns
    -------
    Allocation

    Raises
    ------
    ValueError
        If the bits are none of the choices, or those are not consecutive widths of the integer quantizers.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> from empirics.traces import traces
    >>> lm = open_model("pocket-llama")
    >>> names = [f"model.layers.5.self_attn.{part}_proj.weight" for part in ("q", "v")]
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> found = allocate(lm, traces(lm, windows, names, 0.3), bits=4)
    >>> found.bits <= 4, found.shares[0].bits < found.shares[1].bits
    (True, True)
    """
    widths = sorted(choices)
    if bits not in widths or widths != list(range(widths[0], widths[-1] + 1)):
        raise ValueError(f"choices = {widths} must be consecutive and have bits = {bits} among them")
    names = traces.names
    mse = np.empty((len(names), len(widths)))
    for row, name in enumerate(names):
        for column, width in enumerate(widths):
            error = quantized_weights(lm, f"int{width}", block_size, [name])[name] - lm.parameter(name)
            mse[row, column] = float(error.square().mean(dtype=torch.float64))
    counts = np.array([lm.parameter(name).numel() for name in names])
    variances = np.array([float(lm.parameter(name).square().mean(dtype=torch.float64)) for name in names])
    found = [traces[name] for name in names]
    per_weight = np.array([trace.value for trace in found]) / (lm.vocabulary * counts)
    budget = int(counts.sum()) * (bits - widths[0])
    chosen = integer_allocation(per_weight[:, None] * mse, budget, counts)
    ideal = reverse_waterfilling(variances, per_weight, counts, rate=float(bits * counts.sum()))
    rows = np.arange(len(names))
    logits, uniform = (
        predicted_logits_mse(traces.samples, mse[rows, column], lm.vocabulary)
        for column in (chosen.bits, np.full(len(names), bits - widths[0]))
    )
    predicted, predicted_uniform = traces.summary(logits), traces.summary(uniform)
    gain = predicted_uniform.value / predicted.value
    gain_error = traces.summary(uniform - gain * logits).standard_error / predicted.value
    shares = [
        Share(name, int(counts[i]), found[i], float(variances[i]), dict(zip(widths, mse[i].tolist(), strict=True)),
              widths[0] + int(chosen.bits[i]), float(ideal.rates[i]))
        for i, name in enumerate(names)
    ]  # fmt: skip
    total = int(counts.sum())

    def effective(widths: list[int]) -> float:
        shapes = [lm.parameter(name).shape for name in names]
        costs = [get(f"int{b}").effective_bits(block_size, s) for b, s in zip(widths, shapes, strict=True)]
        return float(counts @ costs) / total

    return Allocation(
        shares, block_size, bits, widths[0] + chosen.used / total, effective([s.bits for s in shares]),
        effective([bits] * len(shares)), predicted, predicted_uniform, gain, gain_error, chosen.lower_bound,
        chosen.status,
    )  # fmt: skip


def _quantized(lm: LanguageModel, bits: dict[str, int], block_size: int) -> dict[str, torch.Tensor]:
    made = (quantized_weights(lm, f"int{width}", block_size, [name]) for name, width in bits.items())
    return {name: weight for one in made for name, weight in one.items()}


@dataclass(frozen=True, eq=False)
class Applied:
    """An allocation put into the model, beside the uniform one; pairs token by token, errors by text.

    Attributes
    ----------
    measured, measured_uniform : Estimate
        Logits MSE.
    gain : Estimate
        The uniform allocation's over this one's; beside `Allocation.predicted_gain`.
    first_order_gain : Estimate
        The same to first order along the errors that were made, whose directions the prediction does not know.
    loss_change, loss_change_uniform : Estimate
        Cross-entropy less that of the model's own weights, in nats per token.
    loss_saved : Estimate
        Cross-entropy of the uniform allocation less this one's, in nats per token.
    tokens, tokens_uniform : Tokens
        Everything else that there is to know.
    """

    measured: Estimate
    measured_uniform: Estimate
    gain: Estimate
    first_order_gain: Estimate
    loss_change: Estimate
    loss_change_uniform: Estimate
    loss_saved: Estimate
    tokens: Tokens
    tokens_uniform: Tokens


def apply(
    lm: LanguageModel,
    allocation: Allocation,
    sequences: list[Sequence],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> Applied:
    """Quantize the model by the allocation and uniformly, and measure both on the same tokens.

    Parameters
    ----------
    lm, allocation
        The allocation of this model.
    sequences : list of functional.Sequence
        Better others than those of the traces, which chose the allocation.
    batch_tokens, progress
        As for `empirics.functional.compare`, and errors.

    Returns
    -------
    Applied
    """
    uniform = _quantized(lm, {s.name: allocation.uniform_bits for s in allocation.shares}, allocation.block_size)
    others = {"allocated": allocation.weights(lm), "uniform": uniform}
    found = compare_all(lm, others, sequences, batch_tokens, progress)
    changes = {
        label: {name: weight.to(old := lm.parameter(name)) - old for name, weight in weights.items()}
        for label, weights in others.items()
    }
    linear = first_order(lm, changes, sequences, batch_tokens, progress)
    ours, theirs = found["allocated"], found["uniform"]
    saved = theirs.nll_quantized - ours.nll_quantized
    known = ~np.isnan(saved)
    return Applied(
        measured=ours.logits_mse(),
        measured_uniform=theirs.logits_mse(),
        gain=clustered_ratio(theirs.logits_square, ours.logits_square, ours.text),
        first_order_gain=clustered_ratio(linear["uniform"], linear["allocated"], ours.text),
        loss_change=ours.loss_change(),
        loss_change_uniform=theirs.loss_change(),
        loss_saved=clustered_mean(saved[known], ours.text[known]),
        tokens=ours,
        tokens_uniform=theirs,
    )
