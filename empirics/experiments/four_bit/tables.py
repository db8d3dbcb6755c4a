"""The rows of ``quantgap run four-bit``: methods, matrices, pairs of methods, correlations, geometry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from empirics import correlation
from empirics.experiments.degradation import Degradation, Subject
from empirics.experiments.four_bit.geometry import Geometry
from empirics.experiments.four_bit.methods import BASELINE, REFERENCE, Bits, Method
from empirics.experiments.four_bit.weights import Law, RowSums, WeightMSE, gaps, mean_rates, rates
from empirics.inference import Estimate, exponential, sign_flip_test
from empirics.tensors import layer, role
from theory.geometry import predicted_logits_mse
from theory.units import from_nats

Rows = list[dict[str, Any]]
FUNCTIONAL = ("logits_mse", "kl_bits", "agreement", "loss_change")


def matrix_rows(method: Method, sums: dict[str, RowSums], fitted: dict[str, Law]) -> Rows:
    """What a method does to each matrix."""
    rows = []
    for name, own in sums.items():
        mse, bits, law = WeightMSE.of([own]), method.bits[name], fitted[name]
        sqnr, sqnr_error = mse.sqnr
        row: dict[str, Any] = {
            "method": method.name, "name": name, "role": role(name), "layer": layer(name), "weights": own.weights,
            "bits": bits.nominal, "effective_bits": bits.effective,
            "weight_mse": mse.absolute, "weight_mse_error": mse.absolute_error,
            "relative_weight_mse": mse.relative, "relative_weight_mse_error": mse.relative_error,
            "sqnr_db": sqnr, "sqnr_db_error": sqnr_error, "beta": law.beta, "beta_error": law.beta_error,
        }  # fmt: skip
        row |= _gaps(rates(law, mse), bits)
        rows.append(row)
    return rows


def _gaps(found: Mapping[str, float | None], bits: Bits) -> dict[str, float | None]:
    """As columns, at both rates: gauss_error is gap_gauss_nominal_error and gap_gauss_effective_error."""
    return {
        f"gap_{key.removesuffix('_error')}_{rate}{'_error' * key.endswith('_error')}": value
        for rate in ("nominal", "effective")
        for key, value in gaps(found, getattr(bits, rate)).items()
    }


def method_row(
    subject: Subject, method: Method, measured: Degradation, sums: dict[str, RowSums], fitted: dict[str, Law],
    geometry: Geometry,
) -> dict[str, Any]:  # fmt: skip
    """A row of the main table."""
    mse, bits = WeightMSE.of(list(sums.values())), method.mean_bits(subject.lm)
    sqnr, sqnr_error = mse.sqnr
    row: dict[str, Any] = {
        "method": method.name, "description": method.description, "kind": method.kind, "four_bit": method.four,
        "bits": bits.nominal, "effective_bits": bits.effective, "matrices": len(sums),
        "weights": sum(own.weights for own in sums.values()),
        "weight_mse": mse.absolute, "weight_mse_error": mse.absolute_error,
        "relative_weight_mse": mse.relative, "relative_weight_mse_error": mse.relative_error,
        "sqnr_db": sqnr, "sqnr_db_error": sqnr_error,
    }  # fmt: skip
    each = [rates(fitted[name], WeightMSE.of([own])) for name, own in sums.items()]
    row |= _gaps(mean_rates(each, [own.weights for own in sums.values()]), bits)
    for quantity in FUNCTIONAL:
        row |= _estimate(quantity, measured.mean(quantity))
    row["loss_change_p"] = measured.loss_change_p()
    row |= _estimate("perplexity_ratio", exponential(measured.mean("loss_change")))
    for p, quantile in measured.kl_quantiles.items():
        row |= _estimate(f"kl_{100 * p:g}_percent_bits", quantile)
    found = measured.mean("logits_mse")
    row |= _estimate("amplification", found, 1 / mse.absolute if mse.absolute else math.nan)
    return row | predictions(subject, sums, geometry, mse.absolute) | {"tokens": found.n, "texts": found.clusters}


def _estimate(name: str, found: Estimate, factor: float = 1.0) -> dict[str, float]:
    return {name: factor * found.value, f"{name}_error": factor * found.standard_error}


def predictions(subject: Subject, sums: dict[str, RowSums], geometry: Geometry, mse: float) -> dict[str, Any]:
    """Logits MSE, amplification and divergence to first order; none if a matrix has no trace.

    The errors are those of the texts that the traces are from. The divergence is half the Fisher information's sum;
    its error takes those of the matrices for wholly dependent.
    """
    names = list(sums)
    if not mse or any(name not in geometry.traces for name in names):
        return {}
    each = np.array([sums[name].s / sums[name].weights for name in names])
    columns = [geometry.traces.names.index(name) for name in names]
    samples = predicted_logits_mse(geometry.traces.samples[..., columns], each, subject.lm.vocabulary)
    found = geometry.traces.summary(samples)
    information = [geometry.fisher[name] for name in names]
    kl = math.fsum(m * f["value"] for m, f in zip(each, information, strict=True)) / 2
    errors = [m * (math.nan if f["text_error"] is None else f["text_error"])
              for m, f in zip(each, information, strict=True)]  # fmt: skip
    return {
        "predicted_logits_mse": found.value, "predicted_logits_mse_error": found.text_error,
        "predicted_amplification": found.value / mse, "predicted_amplification_error": found.text_error / mse,
        "predicted_kl_bits": float(from_nats(kl)), "predicted_kl_bits_error": float(from_nats(math.fsum(errors) / 2)),
    }  # fmt: skip


def duel(measured: dict[str, Degradation], method: Method) -> dict[str, Any]:
    """A method over NF4, paired text by text: ratios with their intervals, and the difference of the losses.

    ``functional_bits`` are half the binary logarithm of the ratio of logits MSEs: bits per weight that would make up
    for it, were the error to fall by 6.02 dB a bit.
    """
    a, b = measured[method.name], measured[REFERENCE]
    found: dict[str, Any] = {"method": method.name, "kind": method.kind}
    for quantity in ("logits_mse", "kl_bits"):
        top, bottom = a.mean(quantity), b.mean(quantity)
        value = top.value / bottom.value
        pull = (a.influence(quantity) - value * b.influence(quantity)) / bottom.value
        ratio = Estimate(value, float(np.sqrt(np.sum(pull**2))), top.n, top.clusters)
        low, high = ratio.interval()
        found |= {f"{quantity}_ratio": value, f"{quantity}_ratio_error": ratio.standard_error,
                  f"{quantity}_ratio_low": low, f"{quantity}_ratio_high": high}  # fmt: skip
    logits, error = found["logits_mse_ratio"], found["logits_mse_ratio_error"]
    found |= {"functional_bits": math.log2(logits) / 2, "functional_bits_error": error / logits / (2 * math.log(2))}
    difference = a.totals["loss_change"] - b.totals["loss_change"]
    pull = a.influence("loss_change") - b.influence("loss_change")
    return found | {
        "loss_difference": a.mean("loss_change").value - b.mean("loss_change").value,
        "loss_difference_error": float(np.sqrt(np.sum(pull**2))),
        "loss_difference_p": sign_flip_test(difference, np.arange(len(difference))),
    }


def correlations(rows: Rows) -> Rows:
    """Weight MSE against functional distortion over the methods.

    Pearson of the logarithms and Spearman; the loss change, of either sign, has ranks alone. Of fewer than 4 methods
    nothing is said.
    """
    made: Rows = []
    compared = [row for row in rows if row["kind"] != BASELINE and row["weight_mse"] > 0]
    for which, mine in (("all", compared), ("4 bits", [row for row in compared if row["four_bit"]])):
        if len(mine) < 4:
            continue
        x = np.log([row["weight_mse"] for row in mine])
        for quantity in ("logits_mse", "kl_bits", "loss_change"):
            y = np.array([row[quantity] for row in mine])
            if quantity != "loss_change":
                made.append({"methods": which, "quantity": quantity} | asdict(correlation.pearson(x, np.log(y))))
            made.append({"methods": which, "quantity": quantity} | asdict(correlation.spearman(x, y)))
    return made


def geometry_rows(geometry: Geometry) -> Rows:
    """A row for each matrix."""
    measured = {row["name"]: row for row in geometry.amplification}
    rows = []
    for name, trace in geometry.traces.items():
        information, inputs = geometry.fisher[name], geometry.moments[name]
        row: dict[str, Any] = {
            "name": name, "role": role(name), "layer": layer(name),
            "trace": trace.value, "trace_error": trace.standard_error, "trace_text_error": trace.text_error,
            "fisher_trace": information["value"], "fisher_trace_error": information["standard_error"],
            **{key: information[key] for key in ("concentration", "concentration_error", "concentration_high")},
            "width": inputs["width"],
            **{key: inputs[key] for key in ("effective_rank", "effective_rank_error", "condition", "condition_error",
                                            "condition_bound", "square", "square_error")},
        }  # fmt: skip
        alone = {key: value for key, value in measured.get(name, {}).items() if key not in ("name", "weights")}
        row |= {f"nf4_{key}": value for key, value in alone.items()}
        row |= {f"bits_of_{b}": next(s["bits"] for s in found["shares"] if s["name"] == name)
                for b, found in geometry.allocations.items()}  # fmt: skip
        rows.append(row)
    return rows


def first_order_rows(geometry: Geometry) -> Rows:
    """The sweep over bits, then NF4; all matrices."""
    rows = [{"method": f"int{bits}", "bits": bits, **row} for bits, row in geometry.sweep.items()]
    rows.append({"method": "NF4", "bits": 4, **geometry.amplification[0]})
    return [{key: value for key, value in row.items() if key != "name"} for row in rows]


def allocation_rows(geometry: Geometry) -> Rows:
    """A row for each budget and matrix."""
    return [
        {"budget": budget, "role": role(share["name"]), "layer": layer(share["name"]), **share}
        for budget, found in geometry.allocations.items() for share in found["shares"]
    ]  # fmt: skip
