"""``quantgap run layers``: which layers and roles make the degradation (EXP-005), and whether their parts add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from empirics import correlation
from empirics.engine import Progress
from empirics.experiments import degradation
from empirics.experiments.degradation import Degradation, Quantization, Subject
from empirics.experiments.layers.report import METHOD, answer, figures, views
from empirics.experiments.result import Experiment
from empirics.experiments.sensitivity import kept_traces
from empirics.inference import Estimate
from empirics.language_model import LanguageModel, quantized_weights
from empirics.models import Checkpoint
from empirics.store import Store
from empirics.tensors import layer, role
from empirics.traces import Traces
from theory.geometry import predicted_logits_mse

EVERYTHING = "all"
HYPOTHESIS = (
    "To first order each matrix contributes m_l tr(G_l)/V to the logits MSE, with m_l its mean squared error, and the"
    " contributions add up."
)

TEST = (
    "t test over texts of (sum of the parts)/(all) = 1; permutation test of the correlation of the logarithms of"
    " predicted and measured parts"
)


def run(
    model: str | Path | Checkpoint, *, revision: str | None = None, texts: Iterable[str] = (), quantizer: str = "nf4",
    block_size: int = 64, store: Store | None = None, progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Quantize one layer, or one role, at a time, and all but one; hold what it does against m_l tr(G_l)/V.

    Parameters
    ----------
    model, revision, texts
        As `empirics.experiments.degradation.open_subject` takes them.
    quantizer : str
        See `empirics.quantizers.names`.
    block_size : int
        Weights that share a scale.
    store : Store, optional
        What it holds is not measured again.
    progress : callable
        See `empirics.engine.Progress`.

    Returns
    -------
    Experiment
        Table ``groups``, a row a layer or role.

    Raises
    ------
    ValueError, OSError
        If the model or the texts cannot be read, or there is no such quantizer.
    """
    subject = degradation.open_subject(model, revision, texts)
    groups = grouped(subject.lm)
    chosen = [_part(EVERYTHING, quantizer, block_size, lambda lm: list(lm.linear()))]
    for name, members in groups.items():
        chosen.append(_part(name, quantizer, block_size, _these(members)))
        if len(members) < len(subject.lm.linear()):
            chosen.append(_part(f"{EVERYTHING} but {name}", quantizer, block_size, _others(members)))
    measured, failures = degradation.measure(subject, chosen, store, progress)
    if EVERYTHING not in measured:
        raise ValueError(f"{subject.lm.checkpoint.name} could not be measured: {failures[0][1]}")
    traces = kept_traces(subject, store, progress)
    rows = table(groups, measured, traces, subject.lm.vocabulary)
    tests = {kind: additivity([m for n, m in measured.items() if _kind(n) == kind], measured[EVERYTHING])
             for kind in dict.fromkeys(row["kind"] for row in rows)}  # fmt: skip
    agreement = {kind: _agreement([row for row in rows if row["kind"] == kind]) for kind in tests}
    checkpoint = subject.lm.checkpoint
    return Experiment(
        "layers", f"Which layers degrade the model: {quantizer}, blocks of {block_size}", checkpoint.name,
        checkpoint.revision,
        answer=answer(rows, tests, agreement, measured[EVERYTHING]),
        tables={"groups": pd.DataFrame(rows)},
        views=views(rows),
        figures=figures(rows, tests, measured[EVERYTHING], checkpoint.name, quantizer),
        summary=_summary(rows, tests, agreement, subject),
        method=METHOD, failures=failures, provenance=subject.provenance,
    )  # fmt: skip


def grouped(lm: LanguageModel) -> dict[str, list[str]]:
    """Matrices by layer, then by role: "layer 0" ..., "role q" ...

    >>> from empirics.language_model import open_model
    >>> list(grouped(open_model("pocket-llama")))[5:8]
    ['layer 5', 'role q', 'role k']
    """
    groups: dict[str, list[str]] = {}
    for kind, of in (("layer", layer), ("role", role)):
        for name in lm.linear():
            groups.setdefault(f"{kind} {of(name)}", []).append(name)
    return groups


def _kind(name: str) -> str:
    return name.split()[0]


def _these(members: Sequence[str]) -> Callable[[LanguageModel], Sequence[str]]:
    return lambda lm: members


def _others(members: Sequence[str]) -> Callable[[LanguageModel], list[str]]:
    return lambda lm: [name for name in lm.linear() if name not in members]


def _part(
    name: str, quantizer: str, block_size: int, chosen: Callable[[LanguageModel], Sequence[str]]
) -> Quantization:
    settings: dict[str, str | int | float] = {"quantizer": quantizer, "block_size": block_size, "part": name}
    return Quantization(name, settings, lambda lm: quantized_weights(lm, quantizer, block_size, chosen(lm)))


def table(
    groups: dict[str, list[str]], measured: dict[str, Degradation], traces: Traces, vocabulary: int
) -> list[dict[str, Any]]:
    """A row for each group that was measured: alone, in the whole, and predicted; logits MSE if not said."""
    everything = measured[EVERYTHING]
    rows = []
    for kind in dict.fromkeys(map(_kind, groups)):
        present = [name for name in groups if _kind(name) == kind and name in measured]
        alone = [measured[name] for name in present]
        total = sum(m.mean("logits_mse").value for m in alone)
        pull = np.sum([m.influence("logits_mse") for m in alone], axis=0)
        foreseen = {name: _predicted(measured[name], traces, vocabulary) for name in present}
        whole = math.fsum(p.value for p in foreseen.values())
        for name, m in zip(present, alone, strict=True):
            found, prediction = m.mean("logits_mse"), foreseen[name]
            share = found.value / total
            row: dict[str, Any] = {
                "kind": kind, "group": name.removeprefix(f"{kind} "), "matrices": len(m.matrices),
                "weights": sum(w.weights for w in m.matrices.values()), "relative_weight_mse": m.relative_weight_mse,
                "predicted": prediction.value, "predicted_error": prediction.standard_error,
                "measured": found.value, "measured_error": found.standard_error,
                "predicted_share": prediction.value / whole,
                "share": share, "share_error": _norm((m.influence("logits_mse") - share * pull) / total),
            }  # fmt: skip
            but = measured.get(f"{EVERYTHING} but {name}")
            row["within"] = but and everything.mean("logits_mse").value - but.mean("logits_mse").value
            row["within_error"] = but and _norm(everything.influence("logits_mse") - but.influence("logits_mse"))
            for quantity in ("kl_bits", "loss_change"):
                row |= {quantity: m.mean(quantity).value, f"{quantity}_error": m.mean(quantity).standard_error}
            rows.append(row | {"loss_change_p": m.loss_change_p()})
    return rows


def _predicted(m: Degradation, traces: Traces, vocabulary: int) -> Estimate:
    columns = [traces.names.index(name) for name in m.matrices]
    mse = np.array([w.squared_error / w.weights for w in m.matrices.values()])
    found = traces.summary(predicted_logits_mse(traces.samples[..., columns], mse, vocabulary))
    return Estimate(found.value, found.standard_error, found.tokens, found.texts)


def _norm(influence: np.ndarray) -> float:
    return float(np.sqrt(np.sum(influence**2)))


def additivity(parts: Sequence[Degradation], whole: Degradation) -> dict[str, dict[str, float]]:
    """Sum of the parts' effects over the effect of all, less 1, of each quantity, with a t test that it is 0.

    Degrees of freedom are the texts less 1; for the loss change, of either sign, it is the difference of the two.
    """
    found = {}
    for quantity in ("logits_mse", "kl_bits", "loss_change"):
        total = sum(m.mean(quantity).value for m in parts)
        pull = np.sum([m.influence(quantity) for m in parts], axis=0)
        together, own = whole.mean(quantity), whole.influence(quantity)
        if quantity == "loss_change":
            excess, error = total - together.value, _norm(pull - own)
        else:
            excess = total / together.value - 1
            error = _norm((pull - (1 + excess) * own) / together.value)
        degrees = together.clusters - 1
        p = 2 * float(stats.t.sf(abs(excess / error), degrees)) if degrees and error else math.nan
        low, high = Estimate(excess, error, together.n, together.clusters).interval()
        found[quantity] = {"excess": excess, "excess_error": error, "low": low, "high": high, "p": p,
                           "sum": total, "all": together.value, "degrees": degrees}  # fmt: skip
    return found


def _agreement(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Correlation of the logarithms of predicted and measured, or None of fewer than 3 groups."""
    if len(rows) < 3:
        return None
    found = correlation.pearson(*(np.log([row[name] for row in rows]) for name in ("predicted", "measured")))
    return {"r": found.r, "low": found.low, "high": found.high, "p": found.p_permutation, "n": found.n,
            "critical": found.critical, "power": found.power, "effect": found.effect}  # fmt: skip


def _summary(
    rows: list[dict[str, Any]], tests: dict[str, Any], agreement: dict[str, Any], subject: Subject
) -> dict[str, Any]:
    return {
        "experiment": "EXP-005: Layer ablation", "model": subject.lm.checkpoint.name,
        "hypothesis": {"statement": HYPOTHESIS, "test": TEST, "notebook": "announced there and not run: no verdict"},
        "additivity": tests, "agreement": agreement, "texts": len(subject.texts), "small": len(subject.texts) < 30,
        "largest": {kind: max((row for row in rows if row["kind"] == kind), key=lambda row: row["measured"])["group"]
                    for kind in tests},
    }  # fmt: skip
