r"""What the error of quantized weights does to the logits: measured, to first order, and to first order if isotropic.

Three numbers for one change dW of the weights, each a squared error of the logits, over tokens and the vocabulary V:

- measured: :math:`E_t|f_t(W+dW)-f_t(W)|^2/V`;
- first order: :math:`E_t|J_t \operatorname{vec}(dW)|^2/V`, with the derivative along the very error;
- isotropic: :math:`\sum_l m_l \operatorname{tr}(G_l)/V`, which knows of dW only its mean square in each matrix.

First order over isotropic says whether the error lies in directions that matter more or less than others, and whether
the matrices' errors add up; one isotropic error would be off 1 too, by about `empirics.spread`. Measured over first
order says whether the change is small enough for a derivative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from empirics.engine import Progress
from empirics.functional import BATCH_TOKENS, Sequence, Weights, compare_all
from empirics.gradients import Linearization, batches
from empirics.inference import Estimate, clustered_mean, clustered_ratio
from empirics.language_model import LanguageModel, quantized_weights
from empirics.spread import Spread, Spreads
from empirics.traces import Trace, Traces
from theory.geometry import predicted_logits_mse

ALL = "all"
"""The name of all matrices together."""

TOLERANCE = 0.1
"""How far from 1 measured over first order may be where first order is said to hold."""


@dataclass(frozen=True)
class Amplification:
    """The error of the logits that a change of some matrices makes. Ratios are paired by token, errors by text.

    Attributes
    ----------
    name : str
        Of the matrix that is changed, or "all".
    weights : int
        How many weights are changed.
    weight_mse : float
        Mean squared change over those weights.
    measured, first_order : Estimate
        Mean squared error of the logits, and what the derivative along the change says of it.
    isotropic : Trace
        What the traces say of it; its `standard_error` is that of the probes.
    isotropic_spread : Spread or None
        Standard deviation of `first_order_over_isotropic` over isotropic errors of this mean square, if asked for.
    measured_over_first_order, first_order_over_isotropic, measured_over_isotropic : Estimate
        The last two have the probes' errors in them too.
    loss_change : Estimate
        Cross-entropy of the changed model less that of the model, in nats per token.
    """

    name: str
    weights: int
    weight_mse: float
    measured: Estimate
    first_order: Estimate
    isotropic: Trace
    isotropic_spread: Spread | None
    measured_over_first_order: Estimate
    first_order_over_isotropic: Estimate
    measured_over_isotropic: Estimate
    loss_change: Estimate

    @property
    def amplification(self) -> Estimate:
        """Mean squared error of the logits over that of the changed weights."""
        found, m = self.measured, self.weight_mse
        return Estimate(found.value / m, found.standard_error / m, found.n, found.clusters)

    @property
    def first_order_holds(self) -> bool | None:
        """Whether measured over first order is within 10 % of 1: None where its 95 % interval cannot tell."""
        low, high = self.measured_over_first_order.interval()
        if low >= 1 - TOLERANCE and high <= 1 + TOLERANCE:
            return True
        return False if high < 1 - TOLERANCE or low > 1 + TOLERANCE else None

    def record(self) -> dict[str, Any]:
        """As plain values, each estimate followed by its standard error."""
        values: dict[str, Any] = {"name": self.name, "weights": self.weights, "weight_mse": self.weight_mse}
        for key in (
            "measured", "first_order", "isotropic", "amplification", "measured_over_first_order",
            "first_order_over_isotropic", "measured_over_isotropic", "loss_change",
        ):  # fmt: skip
            found: Estimate | Trace = getattr(self, key)
            values |= {key: found.value, f"{key}_error": found.standard_error}
        spread = self.isotropic_spread
        values |= {
            "isotropic_spread": spread.value if spread else None,
            "isotropic_spread_error": spread.standard_error if spread else None,
        }
        return values | {
            "first_order_holds": self.first_order_holds, "tokens": self.measured.n, "texts": self.measured.clusters
        }  # fmt: skip


def first_order(
    lm: LanguageModel,
    changes: Mapping[str, Weights],
    sequences: list[Sequence],
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> dict[str, np.ndarray]:
    r"""Squared derivative of each token's logits along changes of the weights, averaged over the vocabulary.

    Parameters
    ----------
    lm : LanguageModel
    changes : mapping of str to mapping of str to Tensor
        Label to a change: parameter to what is added to it.
    sequences : list of functional.Sequence
    batch_tokens : int
        Tokens differentiated at a time.
    progress : callable
        See `empirics.engine.Progress`; what it counts are tokens.

    Returns
    -------
    dict of str to array of shape (tokens,)
        In the order of the sequences: :math:`|J_t \operatorname{vec}(dW)|^2/V`, in logits squared.

    Raises
    ------
    ValueError
        As `empirics.gradients.Linearization`.

    Notes
    -----
    The forward pass and its transpose are computed once for a batch. A change of one matrix then costs a pass through
    what comes after it, forwards and without the rest.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> lm, name = open_model("pocket-llama"), "model.layers.5.mlp.down_proj.weight"
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> change = {"halved": {name: -lm.parameter(name) / 2}, "less": {name: -lm.parameter(name) / 4}}
    >>> found = first_order(lm, change, windows)
    >>> len(found["less"]), round(float(found["halved"].sum() / found["less"].sum()), 4)
    (10, 4.0)
    """
    names = list(dict.fromkeys(name for change in changes.values() for name in change))
    lengths = [len(window.ids) for window in sequences]
    rows = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    found, done = {label: np.empty(sum(lengths)) for label in changes}, 0
    for chosen, ids, mask in batches(sequences, lm.device, batch_tokens):
        linear = Linearization(lm, names, ids, mask, twice=True)
        for label, change in changes.items():
            squares = linear.jvp(change).square().mean(-1, dtype=torch.float64).cpu().numpy()
            for row, i in enumerate(chosen):
                found[label][rows[i]] = squares[row, : lengths[i]]
        progress("first order", done := done + int(mask.sum()), sum(lengths))
    return found


def measure(
    lm: LanguageModel,
    weights: Weights,
    sequences: list[Sequence],
    traces: Traces,
    each: bool = True,
    spreads: Spreads | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> list[Amplification]:
    """Put in other weights, all of them and each matrix alone, and hold the logits against both predictions.

    Parameters
    ----------
    lm : LanguageModel
    weights : mapping of str to Tensor
        Dense weights, such as `empirics.language_model.quantized_weights` gives.
    sequences : list of functional.Sequence
    traces : Traces
        Of the same sequences, and of every one of these matrices.
    each : bool
        Whether to change each matrix alone as well. A matrix that does not change is left out.
    spreads : Spreads, optional
        Of the same sequences, and of every one of these matrices.
    batch_tokens, progress
        As for `first_order`.

    Returns
    -------
    list of Amplification
        "all", then each matrix.

    Raises
    ------
    ValueError
        If the traces are of other sequences or lack a matrix, nothing changes, or as `compare_all`.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> from empirics.traces import traces
    >>> lm, name = open_model("pocket-llama"), "model.layers.5.mlp.down_proj.weight"
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> weights = quantized_weights(lm, "int8", 64, [name])
    >>> both, alone = measure(lm, weights, windows, traces(lm, windows, [name], 0.3))
    >>> both.name, alone.name == name, round(alone.measured_over_first_order.value, 1)
    ('all', True, 1.0)
    """
    if [(len(window.ids), window.text) for window in sequences] != list(
        zip(traces.tokens.tolist(), traces.texts.tolist(), strict=True)
    ):
        raise ValueError("the traces are of other sequences: predictions and measurements are compared text by text")
    if missing := [name for name in weights if name not in traces]:
        raise ValueError(f"there is no trace of {', '.join(missing)}: name it when asking for traces")
    change = {name: weight.to(old := lm.parameter(name)) - old for name, weight in weights.items()}
    change = {name: dw for name, dw in change.items() if dw.any()}
    if not change:
        raise ValueError("the weights are the model's own: there is no error to follow")
    mses = {name: float(dw.square().mean(dtype=torch.float64)) for name, dw in change.items()}
    groups = {ALL: list(change)} | ({name: [name] for name in change} if each else {})
    changes = {label: {name: change[name] for name in names} for label, names in groups.items()}
    others = {label: {name: weights[name] for name in names} for label, names in groups.items()}
    linear = first_order(lm, changes, sequences, batch_tokens, progress)
    measured = compare_all(lm, others, sequences, batch_tokens, progress)
    found = []
    for label, names in groups.items():
        m = np.array([mses[name] for name in names])
        counts = np.array([change[name].numel() for name in names])
        columns = [traces.names.index(name) for name in names]
        predicted = predicted_logits_mse(traces.samples[..., columns], m, lm.vocabulary)
        square, text = measured[label].logits_square, measured[label].text
        derivative, isotropic = linear[label], traces.per_token(predicted)
        row = Amplification(
            name=label,
            weights=int(counts.sum()),
            weight_mse=float(m @ counts / counts.sum()),
            measured=measured[label].logits_mse(),
            first_order=clustered_mean(derivative, text),
            isotropic=traces.summary(predicted),
            isotropic_spread=spreads.of({name: mses[name] for name in names}) if spreads else None,
            measured_over_first_order=clustered_ratio(square, derivative, text),
            first_order_over_isotropic=clustered_ratio(derivative, isotropic, text),
            measured_over_isotropic=clustered_ratio(square, isotropic, text),
            loss_change=measured[label].loss_change(),
        )
        found.append(row)
    return found


def sweep(
    lm: LanguageModel,
    quantizers: Iterable[str],
    sequences: list[Sequence],
    traces: Traces,
    block_size: int = 64,
    spreads: Spreads | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Amplification]:
    """All matrices that have a trace, quantized in one way after the other: where does first order stop holding?

    Parameters as for `measure`, and errors; the quantizers are those of `empirics.quantizers`.
    """
    made = ((name, quantized_weights(lm, name, block_size, traces.names)) for name in quantizers)
    return {name: measure(lm, w, sequences, traces, False, spreads, batch_tokens=batch_tokens)[0] for name, w in made}


def scaled(
    lm: LanguageModel,
    weights: Weights,
    scales: Iterable[float],
    sequences: list[Sequence],
    traces: Traces,
    spreads: Spreads | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[float, Amplification]:
    """One change of all matrices made larger and smaller: what is predicted grows as the square of the scale.

    Parameters as for `measure`, and errors; at scale 1 the weights are `weights`, at 0 they would be the model's own.
    """
    made = ((s, {n: lm.parameter(n).lerp(w.to(lm.parameter(n)), s) for n, w in weights.items()}) for s in scales)
    return {s: measure(lm, w, sequences, traces, False, spreads, batch_tokens=batch_tokens)[0] for s, w in made}


def as_notebook(found: list[Amplification], name: str) -> dict[str, float]:
    """The amplification as the notebooks have it, and what it should be.

    Parameters
    ----------
    found : list of Amplification
        From `measure`, with each matrix alone.
    name : str
        The matrix whose error the notebooks divide by.

    Returns
    -------
    dict of str to float
        "reported": logits MSE of the model with every matrix quantized, over the weight MSE of that one matrix.
        "measured" and its error: over the mean of the weight MSE over all weights that are quantized.
        "predicted": the isotropic first order in the same unit, `theory.geometry.predicted_amplification`.
    """
    rows = {row.name: row for row in found}
    if missing := [wanted for wanted in (ALL, name) if wanted not in rows]:
        raise ValueError(f"no {missing[0]!r} among the {len(rows)} rows: measure all matrices, and each alone")
    everything = rows[ALL]
    return {
        "reported": everything.measured.value / rows[name].weight_mse,
        "measured": everything.amplification.value,
        "measured_error": everything.amplification.standard_error,
        "predicted": everything.isotropic.value / everything.weight_mse,
        "predicted_error": everything.isotropic.standard_error / everything.weight_mse,
    }
