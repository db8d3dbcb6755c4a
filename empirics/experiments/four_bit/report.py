"""What ``quantgap run four-bit`` says, in sentences and in tables: the notebook's numbers beside the right ones."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from empirics import plots
from empirics.experiments.four_bit.geometry import Geometry
from empirics.experiments.result import View
from empirics.page import plus_minus

Rows = list[dict[str, Any]]

METHOD = {
    "weight MSE": "Over the weights of all matrices that the method quantizes: the linear layers of the blocks, or"
    " what a checkpoint has quantized. Relative: over their mean square. Exact for these weights; the standard error"
    " is that of other rows, clustered by row.",
    "gap": "Bits per weight spent beyond what the distortion needs, by the Gaussian of each matrix's variance, by the"
    " Shannon lower bound of its fitted GGD, and by a certified bracket of that GGD's R(D); the mean over matrices by"
    " their weights. Nominal: bits of an index. Effective: with scales and whatever else is stored.",
    "logits MSE": "Mean square of the change of the logits over tokens, without padding, and over the vocabulary.",
    "loss change": "Of the cross-entropy, paired token by token, in nats per token.",
    "KL": "D(model || quantized) of the next token's distribution, in bits; quantiles are over tokens.",
    "amplification": "Logits MSE over weight MSE, both of the same matrices. Predicted: Σ m_l tr(G_l)/V over the"
    " weight MSE, with m_l the mean squared error of matrix l, tr(G_l) the squared Jacobian of a token's logits, by"
    " random probes, V the vocabulary.",
    "first order": "The derivative of the logits along the very error of the weights, squared. Isotropic: Σ m_l"
    " tr(G_l)/V, which knows of the error its size in each matrix only. It is a mean over such errors: where few"
    " directions of the weights matter, a single error may be far from it.",
    "Fisher information": "Of labels drawn from the model. Predicted KL: half the sum of each weight's information"
    " times the MSE of its matrix; its error takes those of the matrices for wholly dependent. Concentration: share"
    " of the information in the top 1 % of the weights, chosen on half of the texts and summed over the other.",
    "kappa": "Largest over smallest eigenvalue of the second moments of a layer's inputs; its bound, |E x|²/smallest,"
    " is below it.",
    "allocation": "Whole bits for each matrix, 2 to 8, integers in blocks of 64: those that make Σ m_l(b_l) tr(G_l)/V"
    " least for as many bits as the uniform choice takes. Chosen on the texts of the traces, tried on the others.",
    "correlation": "Over methods, which are no random sample: intervals and p-values say what so few points could"
    " show if they were. Eight-bit integers are far from the rest and pull a correlation up: see that of 4 bits"
    " alone.",
    "as the notebook": "Weight MSE of one down projection; logits MSE and loss change of one sentence (its hundred"
    " copies have the same mean), or of ten, padded, with the padding averaged in; amplification of the two, though"
    " the one is of a matrix and the other of all; entropies with nats added to bits; scales left out of the rate."
    " The notebook's groups have 17 levels.",
    "standard errors": "Clustered by text unless said otherwise; of predictions over the texts of the traces.",
}


def answer(
    rows: Rows, theirs: Rows, found: dict[str, Any], duels: Rows, geometry: Geometry, audit: dict[str, Any]
) -> list[str]:
    """NF4 against FP4 and the rest, weights against function, first order, allocation, the notebook."""
    by = {row["method"]: row for row in rows}
    said = [text for text in (_duels(duels), _gap(by)) if text]
    said += [_correlation(found), _first_order(geometry), *_allocation(geometry)]
    if "NF4" in by:
        said.append(_notebook(by["NF4"], {row["method"]: row for row in theirs}["NF4"], audit))
    texts = rows[0]["texts"]
    said.append(f"{texts} texts, {rows[0]['tokens']} tokens{': a small sample' if texts < 30 else ''}; derivatives on"
                f" {len(geometry.subject.texts)} of the texts.")  # fmt: skip
    return said


def _duels(duels: Rows) -> str:
    """FP4 and every checkpoint."""
    said = []
    for d in duels:
        if d["method"] != "FP4" and d["kind"] != "checkpoint":
            continue
        low, high = d["logits_mse_ratio_low"], d["logits_mse_ratio_high"]
        verdict = "NF4 is better" if low > 1 else "NF4 is worse" if high < 1 else "no telling which is better"
        said.append(
            f"{d['method']} has {d['logits_mse_ratio']:.2f} [{_number(low)}, {_number(high)}] times the logits MSE of"
            f" NF4 ({verdict}: worth {plots.signed(d['functional_bits'], 2)} ± {_number(d['functional_bits_error'])}"
            f" bits per weight), {d['kl_bits_ratio']:.2f} times its KL, and a loss that differs by"
            f" {_pm(d, 'loss_difference')} nats per token (p = {d['loss_difference_p']:.2g})."
        )
    return " ".join(said)


def _gap(by: dict[str, dict[str, Any]]) -> str:
    if "NF4" not in by:
        return ""
    row = by["NF4"]
    return (
        f"NF4 spends {_pm(row, 'gap_gauss_nominal')} bits more than the Gaussian limit asks at 4 bits,"
        f" {row['gap_gauss_effective']:.3f} with its scales; by the fitted GGDs"
        f" {row['gap_ggd_nominal']:.3f} and {row['gap_ggd_effective']:.3f} (by their R(D), certified, between"
        f" {row['gap_rd_low_nominal']:.4f} and {row['gap_rd_high_nominal']:.4f} at 4 bits)."
    )


def _correlation(found: dict[str, Any]) -> str:
    said = []
    for row in found["rows"]:
        if row["quantity"] == "logits_mse":
            said.append(
                f"{row['method'].title()} r = {row['r']:.3f} [{row['low']:.2f}, {row['high']:.2f}], permutation p ="
                f" {row['p_permutation']:.2g}, {row['n']} methods ({row['methods']}), power {row['power']:.2f} at a"
                f" true {row['effect']:g}"
            )
    text = f"Weight MSE against logits MSE: {'; '.join(said)}." if said else "Too few methods to correlate."
    if theirs := found["as_notebook"]:
        text += (
            f" As the notebook has it: rank correlation {theirs['spearman']:.2f} of {theirs['n']} methods, by its"
            f" thresholds {theirs['verdict']}."
        )
    return text


def _first_order(geometry: Geometry) -> str:
    holds = {bits: row["first_order_holds"] for bits, row in geometry.sweep.items()}
    good = [bits for bits in holds if all(h for b, h in holds.items() if b >= bits)]
    bad = [bits for bits, h in holds.items() if h is False]
    whole, each = geometry.amplification[0], geometry.amplification[1:]
    off = max(each, key=lambda row: abs(math.log(row["measured_over_isotropic"])))
    where = f"holds to 10 % from {min(good)} bits up" if good else "holds to 10 % at no width"
    if bad:
        where += f" and fails at {max(bad)} and below"
    return (
        f"First order along the error {where} (integers, blocks of 64). For NF4, measured over first order is"
        f" {_pm(whole, 'measured_over_first_order')}, first order over"
        f" Σ m tr(G)/V {_pm(whole, 'first_order_over_isotropic')};"
        f" of the matrices one at a time {off['name']} is furthest from Σ m tr(G)/V:"
        f" {off['measured_over_isotropic']:.2f} times it."
    )


def _allocation(geometry: Geometry) -> list[str]:
    where = "other texts" if geometry.held_out else "the same texts, which is optimistic"
    return [
        f"Allocating {budget} bits by water-filling divides the logits MSE by"
        f" {found['gain']:.2f} [{_number(found['gain_low'])}, {_number(found['gain_high'])}] on {where}, predicted"
        f" {_pm(found, 'predicted_gain')}, at"
        f" {found['effective_bits']:.3f} effective bits against {found['uniform_effective_bits']:.3f}; it saves"
        f" {_pm(found, 'loss_saved')} nats of loss per token"
        f" (p = {found['loss_saved_p']:.2g})."
        for budget, found in geometry.allocations.items()
    ]  # fmt: skip


def _pm(row: dict[str, Any], name: str) -> str:
    """A value and its error, if there is one."""
    error = row[f"{name}_error"]
    return plus_minus(row[name], None if error is None or math.isnan(error) else error)


def _number(value: float | None, spec: str = ".2f") -> str:
    """What one text cannot tell is a question mark."""
    return "?" if value is None or math.isnan(value) else format(value, spec)


def _notebook(ours: dict[str, Any], theirs: dict[str, Any], audit: dict[str, Any]) -> str:
    bytes_ = audit["packed"]
    shape = "×".join(map(str, bytes_["shape"]))
    read = "numpy refuses to subtract them" if bytes_["refused"] else "they broadcast, to nonsense"
    return (
        f"As the notebook computes it NF4 has an amplification of {theirs['amplification']:.3g}, which is"
        f" {ours['amplification']:.3g} ± {_number(ours['amplification_error'], '.1g')}, and a gap to the GGD of"
        f" {theirs['gap_bits_vs_ggd']:.2f} bits, which is {ours['gap_ggd_nominal']:.2f}. Padding averaged in turns"
        f" {theirs['masked_logits_mse']:.3g} into {theirs['padded_logits_mse']:.3g} ({100 * theirs['pads']:.0f} %"
        f" padding). Reading .weight of a 4-bit module gives {shape} bytes: {read}."
    )


def views(
    rows: Rows, theirs: Rows, found: dict[str, Any], duels: Rows, geometry: Geometry, matrices: Rows
) -> list[View]:  # fmt: skip
    """Weights, function, NF4, theory, the notebook, correlations, first order, allocation, and each matrix."""
    return [
        _weights(rows), _function(rows), _against(duels), _theory(rows), *_beside(rows, theirs),
        _correlations(found["rows"]), _sweep(geometry), _allocations(geometry), *_matrices(matrices),
    ]  # fmt: skip


def _named(rows: Rows, columns: dict[str, str]) -> pd.DataFrame:
    """The columns under the names that people read, each error beside its value."""
    frame = pd.DataFrame(rows)
    chosen = {}
    for name, shown in columns.items():
        chosen[shown] = frame[name]
        if f"{name}_error" in frame:
            chosen[f"{shown}_error"] = frame[f"{name}_error"]
    return pd.DataFrame(chosen)


def _weights(rows: Rows) -> View:
    columns = {"method": "method", "bits": "bits", "effective_bits": "eff. bits", "relative_weight_mse": "weight MSE",
               "sqnr_db": "SQNR (dB)", "gap_gauss_nominal": "Gauss", "gap_gauss_effective": "Gauss eff.",
               "gap_ggd_nominal": "GGD", "gap_ggd_effective": "GGD eff."}  # fmt: skip
    formats = {"bits": "g", "eff. bits": ".4g", "weight MSE": ".6f", "SQNR (dB)": ".3f",
               **dict.fromkeys(("Gauss", "Gauss eff.", "GGD", "GGD eff."), ".3f")}  # fmt: skip
    frame = _named(rows, columns).drop(columns=["Gauss eff._error", "GGD eff._error"])
    caption = "Weight MSE over the mean square; gaps in bits per weight, at the nominal and at the effective rate."
    return View("The weights, and the bits beyond each limit", frame, formats, caption)


def _function(rows: Rows) -> View:
    columns = {"method": "method", "logits_mse": "logits MSE", "kl_bits": "KL (bits)",
               "kl_99_percent_bits": "99 %", "agreement": "agreement", "loss_change": "loss change",
               "perplexity_ratio": "perplexity"}  # fmt: skip
    formats = {"logits MSE": ".2e", "KL (bits)": ".2e", "99 %": ".1e", "agreement": ".3f", "loss change": "+.4f",
               "perplexity": ".4f"}  # fmt: skip
    caption = "99 %: quantile of KL over tokens. Loss in nats per token; perplexity: over the model's."
    return View("What it does to the function", _named(rows, columns), formats, caption)


def _against(duels: Rows) -> View:
    columns = {"method": "method", "logits_mse_ratio": "logits MSE", "functional_bits": "bits", "kl_bits_ratio": "KL",
               "loss_difference": "loss", "loss_difference_p": "p"}  # fmt: skip
    formats = {"logits MSE": ".3f", "bits": "+.3f", "KL": ".3f", "loss": "+.4f", "p": ".2g"}
    caption = "Ratios; half the binary logarithm of the first; loss in nats per token, signs flipped text by text."
    return View("Against NF4, text by text", _named(duels, columns), formats, caption)


def _theory(rows: Rows) -> View:
    known = [row for row in rows if "predicted_logits_mse" in row]
    columns = {"method": "method", "logits_mse": "logits MSE", "predicted_logits_mse": "predicted",
               "kl_bits": "KL (bits)", "predicted_kl_bits": "predicted KL"}  # fmt: skip
    formats = dict.fromkeys(("logits MSE", "predicted", "KL (bits)", "predicted KL"), ".2e")
    return View("Measured and predicted to first order", _named(known, columns), formats)


def _beside(rows: Rows, theirs: Rows) -> list[View]:
    """The notebook's numbers have no error to show."""
    names = {
        "As the notebook computes the weights, and right": {
            "weight MSE": ("weight_mse", "weight_mse", ".2e"),
            "Gauss": ("gap_gauss_nominal", "gap_bits_vs_gauss", ".3f"),
            "GGD": ("gap_ggd_nominal", "gap_bits_vs_ggd", ".3f"),
        },
        "As the notebook computes the function, and right": {
            "logits MSE": ("logits_mse", "logits_mse", ".2e"), "loss change": ("loss_change", "delta_ce", "+.4f"),
        },
        "Amplification as the notebook computes it, and right": {
            "measured": ("amplification", "amplification", ".4g"),
            "predicted": ("predicted_amplification", "", ".4g"),
        },
    }  # fmt: skip
    made = []
    for title, columns in names.items():
        frame: dict[str, Any] = {"method": [row["method"] for row in rows]}
        formats: dict[str, str] = {}
        for shown, (ours, other, spec) in columns.items():
            if other:
                frame[f"nb {shown}"] = [row[other] for row in theirs]
            frame[shown] = [row.get(ours) for row in rows]
            frame[f"{shown}_error"] = [row.get(f"{ours}_error") for row in rows]
            formats |= {f"nb {shown}": spec, shown: spec}
        made.append(View(title, pd.DataFrame(frame), formats, "nb: the notebook's, which have no standard error."))
    return made


def _correlations(rows: Rows) -> View:
    columns = {"methods": "methods", "quantity": "weight MSE with", "method": "kind", "n": "n", "r": "r",
               "low": "low", "high": "high", "p_permutation": "p", "critical": "critical",
               "power": "power"}  # fmt: skip
    formats = {"r": ".3f", "low": ".2f", "high": ".2f", "p": ".2g", "critical": ".2f", "power": ".2f"}
    frame = pd.DataFrame(rows, columns=list(columns)).rename(columns=columns)
    return View("Is the weight MSE a proxy for the function?", frame, formats,
                "95 % intervals; permutation p; the power to see a true correlation of 0.7.")  # fmt: skip


def _sweep(geometry: Geometry) -> View:
    rows = [{"method": f"int{bits}", **row} for bits, row in geometry.sweep.items()]
    rows.append({"method": "NF4", **geometry.amplification[0]})
    columns = {"method": "method", "measured": "logits MSE", "first_order": "first order", "isotropic": "Σ m tr(G)/V",
               "measured_over_first_order": "measured/first", "first_order_over_isotropic": "first/Σ"}  # fmt: skip
    formats = {**dict.fromkeys(("logits MSE", "first order", "Σ m tr(G)/V"), ".3g"), "measured/first": ".3f",
               "first/Σ": ".3f"}  # fmt: skip
    return View("Where first order stops", _named(rows, columns), formats, "All matrices, blocks of 64.")


def _allocations(geometry: Geometry) -> View:
    rows = [{"budget": budget, **found} for budget, found in geometry.allocations.items()]
    columns = {"budget": "bits", "effective_bits": "eff. bits", "uniform_effective_bits": "uniform eff.",
               "predicted_gain": "predicted gain", "gain": "measured gain", "loss_change_uniform": "uniform loss",
               "loss_change": "allocated loss", "loss_saved": "saved"}  # fmt: skip
    formats = {"bits": "g", "eff. bits": ".3f", "uniform eff.": ".3f", "predicted gain": ".3f",
               "measured gain": ".3f", "uniform loss": "+.4f", "allocated loss": "+.4f", "saved": "+.4f"}  # fmt: skip
    caption = "Gain: logits MSE of the uniform choice over that of the allocation. Losses: change, nats per token."
    return View("Bits by water-filling against the same for each", _named(rows, columns), formats, caption)


def _matrices(rows: Rows) -> list[View]:
    named = [{"matrix": f"{row['layer']} {row['role']}"} | row for row in rows]
    columns = {"matrix": "matrix", "trace": "tr(G)", "fisher_trace": "tr(F)", "concentration": "top 1 %",
               "effective_rank": "eff. rank", "width": "width", "condition": "kappa",
               "condition_bound": "bound"}  # fmt: skip
    formats = {"tr(G)": ".3g", "tr(F)": ".3g", "top 1 %": ".3f", "eff. rank": ".1f", "kappa": ".2g", "bound": ".2g"}
    alone = {"matrix": "matrix", "nf4_measured": "measured", "nf4_first_order": "first order",
             "nf4_isotropic": "m tr(G)/V", "nf4_measured_over_first_order": "measured/first",
             "nf4_measured_over_isotropic": "measured/m tr(G)/V"}  # fmt: skip
    spec = {**dict.fromkeys(("measured", "first order", "m tr(G)/V"), ".2e"), "measured/first": ".3f",
            "measured/m tr(G)/V": ".3f"}  # fmt: skip
    return [
        View("Geometry, matrix by matrix", _named(named, columns), formats,
             "Errors of traces: over the probes; of the others, over texts."),
        View("NF4 in one matrix at a time: logits MSE", _named(named, alone), spec,
             "Errors over texts; of m tr(G)/V, over the probes."),
    ]  # fmt: skip
