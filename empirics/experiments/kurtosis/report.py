"""What ``quantgap run kurtosis`` says: sentences, and tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from empirics.experiments.degradation import Degradation, Subject
from empirics.experiments.result import View
from empirics.experiments.words import number, p_value, sample
from empirics.page import counted

STRONG = 0.7
"""The magnitude that H2 asks of the correlation."""

NAMES = {"loss_change": "loss change", "kl_bits": "divergence"}

METHOD = {
    "kurtosis": "Fourth standardized moment about the mean, less 3 (0 for a Gaussian). Of a layer: the mean over the"
    " weights of its matrices. Standard errors are clustered by row and by column of a matrix.",
    "effective kurtosis": "By outputs, as the notebook EXP-003: layers weighted with the mean magnitude of their"
    " blocks’ outputs. By inputs: each weight weighted with the mean square of the input of its column, and each"
    " matrix with the energy that it then has, which is how a layer’s output sees errors. Standard errors by the"
    " jackknife over texts.",
    "degradation": "Change of the loss, quantized less original, nats a token, paired; and the divergence of the"
    " predictions, bits a token. Standard errors clustered by text. Blocks of 64.",
    "H2": "Over languages, effective kurtosis and degradation correlate with |r| > 0.7. Tested by the permutation"
    " test; intervals by Fisher’s z; power is that of the test at 5 % if the true |r| is 0.7. The first row is H2 as"
    " written; the others are other choices of the same, and the smallest of their p-values is no finding.",
    "ceiling": "Effective kurtosis and degradation are known with errors, which are part of their variance. As what a"
    " perfect correlation would then be seen.",
    "texts": "Texts of a language share what the language has. “Texts”: all of them, the error by the jackknife over"
    " languages. “Texts within languages”: what they differ by from their language’s mean, pairs exchanged within"
    " languages only. Translations of one passage are taken as independent.",
    "outliers": "Notebook: beyond the mean and two standard deviations of the layers; of n layers none can be further"
    " than √(n−1), so that with five or fewer none ever is. Robust: more than 3.5 from the median, in units of 1.4826"
    " median absolute deviations and the layer’s own standard error, in quadrature.",
    "clips": "Uniform levels, 2^b cells that fill [−c, c]. Best: the least squared error on the matrix’s own values,"
    " by search. Rule: c = σ (2.5 + 0.3 ln(1 + max(0, κ))), which the notebook ascribes to Banner et al. 2019; theirs"
    " weighs clipping against steps. Regret: ½ log₂ of the error over the best, bits; exact for these weights.",
}


def answer(
    subject: Subject, found: Mapping[str, Degradation], languages: pd.DataFrame, correlations: pd.DataFrame,
    layers: pd.DataFrame, clips: pd.DataFrame, repeated: pd.DataFrame,
) -> list[str]:  # fmt: skip
    """H2, how far it could be seen, texts, layers, clips, the notebook, how far to trust it."""
    return [sentence for sentence in (
        _hypothesis(correlations, languages), _choices(correlations), _texts(correlations), _layers(layers),
        _clips(clips), _notebook(repeated), sample(subject, found["nf4"]),
    ) if sentence]  # fmt: skip


def verdict(r: float, low: float, high: float, p: float) -> str:
    """Of |r| > 0.7: seen, excluded by the interval, or neither."""
    if abs(r) > STRONG and p < 0.05:
        return "supported"
    return "rejected" if max(abs(low), abs(high)) < STRONG else "undecided"


def _hypothesis(correlations: pd.DataFrame, languages: pd.DataFrame) -> str:
    if not len(correlations):
        return f"H2 cannot be tested over {counted(languages['language'].nunique(), 'language')}."
    one = next(correlations.itertuples())
    met = languages[languages["quantizer"] == one.quantizer]
    spread = met["by_outputs"].max() - met["by_outputs"].min()
    return (
        f"H2, that effective kurtosis and degradation correlate with |r| > 0.7 over languages, is"
        f" {verdict(one.r, one.low, one.high, one.p)}: r = {number(one.r, 2)} (95 % {number(one.low, 2)} to"
        f" {number(one.high, 2)}), permutation {p_value(one.p)}, {counted(one.n, 'language')}. If the true |r| were"
        f" 0.7 the test would see it with probability {one.power:.2f}; it asks for |r| of {one.critical:.2f}."
        f" Effective kurtosis spans {spread:.2g} over the languages, with errors of"
        f" {met['by_outputs_error'].mean():.1g}; with the errors of both sides, a perfect correlation would be seen"
        f" as {one.ceiling:.2f}."
    )


def _choices(correlations: pd.DataFrame) -> str:
    rows = correlations[correlations["over"] == "languages"] if len(correlations) else correlations
    if len(rows) < 2:
        return ""
    least = rows.loc[rows["p"].idxmin()]
    return (
        f"By other choices of weights, quantizer, measure and coefficient, {len(rows)} in all, r is"
        f" {number(rows['r'].min(), 2)} to {number(rows['r'].max(), 2)}; the least p is {least['p']:.2g}"
        f" ({least['quantizer']}, by {least['weighting']}, {NAMES[least['outcome']]}, {least['method']}),"
        f" {min(1.0, least['p'] * len(rows)):.2g} after Bonferroni."
    )


def _texts(correlations: pd.DataFrame) -> str:
    if not len(correlations):
        return ""
    rows = correlations[(correlations["over"] != "languages") & (correlations["quantizer"] == "nf4")]
    each = "; ".join(
        f"{row.over}, by {row.weighting}: r = {number(row.r, 2)} ({number(row.low, 2)} to {number(row.high, 2)},"
        f" {p_value(row.p)})" for row in rows[rows["outcome"] == "loss_change"].itertuples()
    )  # fmt: skip
    first = next(rows.itertuples(), None)
    if first is None:
        return ""
    return f"Over {first.n} texts, clustered in {first.clusters} languages (nf4, loss change): {each}."


def _layers(layers: pd.DataFrame) -> str:
    far = layers[layers["outlier"]]
    theirs = layers[layers["notebook_outlier"]]["layer"]
    most = layers.loc[layers["kurtosis"].idxmax()]
    named = ", ".join(f"{row.layer} (κ {number(row.kurtosis, 2)} ± {row.kurtosis_error:.2f}, score {row.score:.1f})"
                      for row in far.itertuples())  # fmt: skip
    never = " With five layers or fewer, no layer can be by that rule." if len(layers) <= 5 else ""
    return (
        f"Excess kurtosis of the {len(layers)} layers is {number(layers['kurtosis'].min(), 2)} to"
        f" {number(most['kurtosis'], 2)} ± {most['kurtosis_error']:.2f} (layer {int(most['layer'])}). Outliers by"
        f" robust score: {named or 'none'}; by the notebook’s rule: {', '.join(map(str, theirs)) or 'none'}.{never}"
    )


def _clips(clips: pd.DataFrame) -> str:
    each = "; ".join(
        f"{bits} bits {part['rule_regret'].mean():.3f} ({part['rule_regret'].min():.3f} to"
        f" {part['rule_regret'].max():.3f}), no clip {part['largest_regret'].mean():.3f}, Banner et al.’s"
        f" {part['banner_regret'].mean():.3f}" for bits, part in clips.groupby("bits")
    )  # fmt: skip
    return (
        "The clip by kurtosis does not know the number of bits. Against the best clip of each matrix it loses, in"
        f" bits on average over {counted(clips['matrix'].nunique(), 'matrix')}: {each}."
    )


def _notebook(repeated: pd.DataFrame) -> str:
    tested = repeated[repeated["supported"].notna()]
    if not len(tested):
        return (
            "The notebook’s rule says nothing here: a layer has a parameter that is constant, or languages are few."
        )
    first, supported = tested.iloc[0], int(tested["supported"].astype(bool).sum())
    said = (
        f"The notebook’s own rule, on one text of each language, says"
        f" {'SUPPORTED' if first['supported'] else 'NOT SUPPORTED'}: r = {number(first['r_pearson'], 2)},"
        f" p = {first['p_pearson']:.2g}."
    )
    if len(tested) > 1:
        said += (
            f" On each of {len(tested)} passages in turn it says SUPPORTED {counted(supported, 'time')}, with r from"
            f" {number(tested['r_pearson'].min(), 2)} to {number(tested['r_pearson'].max(), 2)}."
        )
    return said


def views(
    languages: pd.DataFrame, correlations: pd.DataFrame, layers: pd.DataFrame, clips: pd.DataFrame,
    repeated: pd.DataFrame,
) -> list[View]:  # fmt: skip
    """Languages, H2, layers, clips."""
    made = [_languages(languages)]
    for over in ("languages", "texts", "texts within languages") if len(correlations) else ():
        part = correlations[correlations["over"] == over]
        columns = ["quantizer", "weighting", "outcome", "method", "r", "low", "high", "p"]
        columns += ["power", "ceiling"] if over == "languages" else []
        shown = part[columns].assign(outcome=part["outcome"].map(NAMES))
        formats = dict.fromkeys(("r", "low", "high"), "+.2f") | {"p": ".2g", "power": ".2f", "ceiling": ".2f"}
        count = f"{part['n'].iloc[0]} points" if len(part) else ""
        made.append(View(
            f"Effective kurtosis and degradation, over {over}", shown, formats, f"{count}; low and high: 95 %."
        ))  # fmt: skip
    named = layers.rename(columns={"notebook_kurtosis": "all parameters", "notebook_outlier": "notebook’s outlier"})
    made.append(View(
        "Excess kurtosis by layer",
        named[["layer", "weights", "kurtosis", "kurtosis_error", "score", "outlier", "all parameters",
               "notebook’s outlier"]],
        {"kurtosis": ".2f", "score": ".1f", "all parameters": ".2f"},
        "± one standard error. All parameters: with biases and norms, as the notebook.",
    ))  # fmt: skip
    by_bits: list[dict[str, Any]] = [
        {"bits": bits, "best clip": part["best"].mean(), "rule": part["rule"].mean(),
         "largest": part["largest"].mean(),
         "regret of the rule": part["rule_regret"].mean(), "worst": part["rule_regret"].max(),
         "of Banner et al.’s": part["banner_regret"].mean(), "of no clip": part["largest_regret"].mean()}
        for bits, part in clips.groupby("bits")
    ]  # fmt: skip
    formats = dict.fromkeys(("best clip", "rule", "largest"), ".2f")
    formats |= dict.fromkeys(("regret of the rule", "worst", "of Banner et al.’s", "of no clip"), ".3f")
    made.append(View("Clips", pd.DataFrame(by_bits), formats, "Means over matrices; clips in standard deviations,"
                     " regrets in bits."))  # fmt: skip
    shown = repeated.rename(columns={"r_pearson": "r", "p_pearson": "p", "r_spearman": "ρ", "p_spearman": "p of ρ"})
    made.append(View(
        "The notebook’s rule, passage by passage", shown.assign(passage=shown["passage"] + 1),
        {"r": "+.2f", "p": ".2g", "ρ": "+.2f", "p of ρ": ".2g"}, "One text of each language at a time.",
    ))  # fmt: skip
    return made


def _languages(languages: pd.DataFrame) -> View:
    """A row for each language: what it meets, and what each quantizer does to it."""
    first = languages.drop_duplicates("language")
    columns = ["language", "texts", "loss", "loss_error", "by_outputs", "by_outputs_error", "by_inputs",
               "by_inputs_error"]  # fmt: skip
    wide = first[columns].reset_index(drop=True)
    formats = {"loss": ".2f", "by outputs": ".4f", "by inputs": ".3f"}
    for quantizer, part in languages.groupby("quantizer", sort=False):
        for outcome, unit, spec in (("loss_change", 1000, "+.1f"), ("kl_bits", 1000, ".2f")):
            name = f"{quantizer} {NAMES[outcome].split()[0]}"
            wide[name] = unit * part[outcome].to_numpy()
            wide[f"{name}_error"] = unit * part[f"{outcome}_error"].to_numpy()
            formats[name] = spec
    shown = wide.rename(columns={column: column.replace("by_", "by ") for column in wide})
    return View(
        "Languages", shown, formats,
        "± one standard error over texts. By outputs, by inputs: effective kurtosis. Loss: of the model, nats a"
        " token; its change in thousandths. Divergence: thousandths of a bit.",
    )  # fmt: skip
