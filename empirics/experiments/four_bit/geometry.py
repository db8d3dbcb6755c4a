"""How much the function moves with each matrix, and what that foretells: kept, because it is what takes time.

All of it is measured on some of the texts; the allocation that follows is tried on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from empirics import activations, allocation, amplification
from empirics.engine import Progress
from empirics.experiments.degradation import Subject
from empirics.experiments.sensitivity import RELATIVE_ERROR, kept_traces
from empirics.fisher import fisher
from empirics.inference import Estimate, sign_flip_test
from empirics.language_model import quantized_weights
from empirics.store import Store
from empirics.traces import Traces

TEXTS = 24
"""Texts that the geometry is measured on, at the most."""

QUANTIZER = "nf4"
BLOCK_SIZE = 64
WIDTHS = range(2, 9)
BUDGETS = (3, 4)
"""Bits per weight that are shared out."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """What was measured of the derivatives, as plain values.

    Attributes
    ----------
    subject, others : Subject
        The texts that it was measured on; and those that the allocations were tried on.
    traces : Traces
    amplification : list of dict
        `empirics.amplification.Amplification.record` of NF4: all matrices, then each alone.
    sweep : dict of int to dict
        Bits to the same of integers of so many bits, all matrices.
    fisher, moments : dict of str to dict
        By matrix.
    allocations : dict of int to dict
        Bits per weight to the allocation: ``shares`` matrix by matrix, what was predicted and what was measured.
    """

    subject: Subject
    others: Subject
    traces: Traces
    amplification: list[dict[str, Any]]
    sweep: dict[int, dict[str, Any]]
    fisher: dict[str, dict[str, Any]]
    moments: dict[str, dict[str, Any]]
    allocations: dict[int, dict[str, Any]]

    @property
    def held_out(self) -> bool:
        """Whether the allocations were tried on texts that did not choose them."""
        return self.others is not self.subject


def split(subject: Subject) -> tuple[Subject, Subject]:
    """Every so many texts, at most 24 of them, and the others; all of them twice if there are no more than that.

    The texts keep their languages; their numbers are new.
    """
    step = -(-len(subject.texts) // TEXTS)
    if step == 1:
        return subject, subject
    chosen = set(range(0, len(subject.texts), step))
    return _part(subject, chosen), _part(subject, set(range(len(subject.texts))) - chosen)


def _part(subject: Subject, chosen: set[int]) -> Subject:
    numbers = {old: new for new, old in enumerate(sorted(chosen))}
    sequences = [replace(s, text=numbers[s.text]) for s in subject.sequences if s.text in chosen]
    return Subject(subject.lm, [subject.texts[i] for i in sorted(chosen)], sequences)


def measure(subject: Subject, store: Store, progress: Progress) -> Geometry:
    """Traces, amplification, Fisher information, moments of the inputs and allocations; each kept as it is made."""
    here, others = split(subject)
    lm, sequences = here.lm, here.sequences
    traces = kept_traces(here, store, progress)

    def kept(part: str, compute: Callable[[], Any], on: Subject = here, **settings: str | int | float) -> Any:
        progress(part, 0, 1)
        known = on.key(f"four-bit {part}", relative_error=RELATIVE_ERROR, **settings)
        return store.remember(known, lambda: {"value": plain(compute())}, on.provenance)["value"]

    def amplified() -> list[dict[str, Any]]:
        weights = quantized_weights(lm, QUANTIZER, BLOCK_SIZE)
        return [row.record() for row in amplification.measure(lm, weights, sequences, traces, progress=progress)]

    def swept(bits: int) -> dict[str, Any]:
        name = f"int{bits}"
        return amplification.sweep(lm, [name], sequences, traces, BLOCK_SIZE)[name].record()

    def informed() -> dict[str, Any]:
        return {name: found.record() for name, found in fisher(lm, sequences, progress=progress).items()}

    def moved() -> dict[str, Any]:
        return {name: found.record() for name, found in activations.moments(lm, sequences).items()}

    return Geometry(
        here, others, traces,
        amplification=kept("first order", amplified, quantizer=QUANTIZER, block_size=BLOCK_SIZE),
        sweep={b: kept(f"sweep, {b} bits", partial(swept, b), block_size=BLOCK_SIZE) for b in WIDTHS},
        fisher=kept("Fisher information", informed),
        moments=kept("moments of the inputs", moved),
        allocations={b: kept(f"allocation, {b} bits", partial(_allocated, here, others, traces, b), others,
                             block_size=BLOCK_SIZE, chosen_on=str(here.key("texts")["tokens"])) for b in BUDGETS},
    )  # fmt: skip


def _allocated(here: Subject, others: Subject, traces: Traces, bits: int) -> dict[str, Any]:
    """Whole bits shared out, put into the model, and measured on the other texts."""
    found = allocation.allocate(here.lm, traces, bits, BLOCK_SIZE, WIDTHS)
    tried = allocation.apply(here.lm, found, others.sequences)
    record: dict[str, Any] = {
        "shares": found.records(), "bits": found.bits, "effective_bits": found.effective_bits,
        "uniform_effective_bits": found.uniform_effective_bits, "status": found.status,
        "bound": found.bound,
        "predicted_gain": found.predicted_gain, "predicted_gain_error": found.predicted_gain_error,
        "texts": tried.gain.clusters,
    }  # fmt: skip
    predictions = {"predicted": found.predicted, "predicted_uniform": found.predicted_uniform}
    record |= {name: trace.value for name, trace in predictions.items()}
    record |= {f"{name}_error": trace.standard_error for name, trace in predictions.items()}
    names = ("measured", "measured_uniform", "gain", "loss_change", "loss_change_uniform", "loss_saved")
    estimates: dict[str, Estimate] = {name: getattr(tried, name) for name in names}
    kl = {"kl_bits": tried.tokens.kl_divergence(), "kl_bits_uniform": tried.tokens_uniform.kl_divergence()}
    for name, estimate in (estimates | kl).items():
        record |= {name: estimate.value, f"{name}_error": estimate.standard_error}
    low, high = tried.gain.interval()
    return record | {"gain_low": low, "gain_high": high, "loss_saved_p": _p(tried)}


def _p(tried: allocation.Applied) -> float:
    """Two-sided p-value of no difference in the loss, signs flipped text by text."""
    saved = tried.tokens_uniform.nll_quantized - tried.tokens.nll_quantized
    known = ~np.isnan(saved)
    return sign_flip_test(saved[known], tried.tokens.text[known])


def plain(value: Any) -> Any:
    """As JSON has it: what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
