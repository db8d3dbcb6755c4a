"""What ``quantgap run slope`` says: sentences, and tables for people."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from empirics.experiments.result import View
from empirics.experiments.slope.fits import ALL, FITTED, INTEGERS, LEVEL, MEASURED, SMALL, WRITTEN
from empirics.experiments.words import number, p_value
from empirics.page import counted

NAMES = {
    "loss_change": "loss change", "kl_bits": "divergence", "logits_mse": "logits MSE", "weight_mse": "weight MSE",
}  # fmt: skip

METHOD = {
    "H4": "ln(degradation) against bits has the slope −ln 2/2 = −0.347, as the notebook EXP-004 derives it; its"
    " D = σ² 4^−R gives −2 ln 2 = −1.386. Integers under absmax scaling give up a level for symmetry, and fall by"
    " more: what the law fitted to each matrix (a generalized Gaussian in rows of their own variance) says of these"
    " widths is computed exactly, and so is tested as a curve, not as a number.",
    "configurations": "Matrices of the linear layers in the blocks; neither embeddings nor the head. int2 to int8,"
    " nf4 and fp4: blocks of 64 with float32 scales. int8 rows: a scale a row, as LLM.int8() has it, but of weights"
    " only: activations stay float32. bf16 and fp16: rounded, which a checkpoint stored so does not notice.",
    "loss change": "Cross-entropy of the quantized model less the model’s, token by token, nats; of either sign. The"
    " notebook’s relative change of a text’s perplexity is in the table of texts.",
    "divergence": "Of the quantized model’s next-token distribution from the model’s, bits; never negative.",
    "standard errors": "Clustered by text. Of a slope: Student’s, from the scatter about the line, with n − 2 degrees"
    " of freedom; and over texts, what other texts would change.",
    "logarithms": "A loss change that is not above 0 by its 95 % interval has none. The line ends before the first"
    " such width, and what is left out is counted, never set to a floor.",
    "tests": "Student’s, two-sided, of the slope of what is left when the expectation is taken off bit by bit. Within"
    " 10 %: two one-sided tests that it differs by less than a tenth of 2 ln 2. Power: of the test, if the truth were"
    " −2 ln 2 (for H4 as written) or −ln 2/2 (for the others).",
    "languages": "“Shared curve”: F test of one slope for lines that bend alike. “Errors over texts”: Welch’s F test,"
    " each slope with its own error. Power: if the slopes have a standard deviation of a tenth of 2 ln 2.",
}


def answer(
    degradation: pd.DataFrame, fits: pd.DataFrame, tests: pd.DataFrame, comparisons: pd.DataFrame,
    by_matrix: pd.DataFrame, notebook: dict[str, Any], texts: str,
) -> list[str]:  # fmt: skip
    """H4 and what is true instead, the loss, the languages, the notebook's verdict, how far to trust it."""
    return [sentence for sentence in (
        _hypothesis(fits, tests), _theory(tests, by_matrix), _loss(degradation, fits, tests),
        _comparisons(comparisons), _notebook(notebook), texts,
    ) if sentence]  # fmt: skip


def _test(tests: pd.DataFrame, quantity: str, hypothesis: str, points: str = INTEGERS) -> Any:
    """That row of the tests, or None."""
    if not len(tests):
        return None
    found = tests[(tests["quantity"] == quantity) & (tests["hypothesis"] == hypothesis)]
    return next(found[found["points"] == points].itertuples(), None)


def _fit(fits: pd.DataFrame, quantity: str) -> Any:
    chosen = (fits["quantity"] == quantity) & (fits["points"] == INTEGERS) & (fits["language"] == ALL)
    return next(fits[chosen & (fits["rate"] == "nominal")].itertuples())


def _measured(fits: pd.DataFrame, quantity: str) -> str:
    fit = _fit(fits, quantity)
    return (
        f"slope {number(fit.slope)} ± {number(fit.slope_error)} a bit (95 % {number(fit.low)} to"
        f" {number(fit.high)}, Student’s t, {fit.n} widths)"
    )


def _hypothesis(fits: pd.DataFrame, tests: pd.DataFrame) -> str:
    """H4 on the measure that is never lost in noise."""
    written = _test(tests, "kl_bits", WRITTEN)
    if written is None:
        return f"H4 cannot be tested: {counted(_fit(fits, 'kl_bits').n, 'width')} of integers."
    return (
        f"H4, that ln(degradation) falls by ln 2/2 = 0.347 a bit, is {written.verdict}: the divergence from the"
        f" model’s own predictions has the {_measured(fits, 'kl_bits')}; {p_value(written.p)}, and if the truth were"
        f" −2 ln 2 the test would see it with probability {written.power:.2f}."
    )


def _theory(tests: pd.DataFrame, by_matrix: pd.DataFrame) -> str:
    """Shannon's slope, and that of absmax at these widths."""
    shannon, fitted = _test(tests, "kl_bits", "Shannon"), _test(tests, "kl_bits", FITTED)
    own = _test(tests, "weight_mse", FITTED)
    if shannon is None or fitted is None or own is None:
        return ""
    spread = _matrix_slopes(by_matrix)
    logits, small = _test(tests, "logits_mse", FITTED), _test(tests, "kl_bits", FITTED, SMALL)
    rest = "" if small is None else (
        f" From 3 bits up, where changes are small, the divergence’s difference is {number(small.difference)} ±"
        f" {number(small.difference_error)} ({small.verdict}, {p_value(small.p)})."
    )  # fmt: skip
    return (
        f"Shannon’s −2 ln 2 = −1.386 is {shannon.verdict} ({p_value(shannon.p)}). Absmax blocks of the law fitted to"
        f" each matrix have {number(fitted.expected)} at these widths: the weight MSE differs from that by"
        f" {number(own.difference, 4)} ± {number(own.difference_error, 4)} ({own.verdict}), the divergence by"
        f" {number(fitted.difference)} ± {number(fitted.difference_error)} ({fitted.verdict}, {p_value(fitted.p)}),"
        f" the squared error of the logits by {number(logits.difference)} ± {number(logits.difference_error)}"
        f" ({logits.verdict}, {p_value(logits.p)}).{rest} Matrix by matrix the weight MSE has {number(min(spread))}"
        f" to {number(max(spread))}: no weighting of the matrices predicts another slope."
    )


def _loss(degradation: pd.DataFrame, fits: pd.DataFrame, tests: pd.DataFrame) -> str:
    """What of the loss can be on a line at all."""
    whole = degradation[(degradation["language"] == ALL) & (degradation["bits"] < 16)]
    above, below = whole[whole["low"] > 0]["configuration"], whole[whole["high"] < 0]["configuration"]
    said = (
        f"The loss is above the model’s, by its 95 % interval, in {len(above)} of {len(whole)} configurations"
        f"{_listed(above)}, and below it in {len(below)}{_listed(below)}. "
    )
    if (written := _test(tests, "loss_change", WRITTEN)) is None:
        return said + (
            "A line through its logarithm ends before the first width that cannot be told from 0, and so has"
            f" {counted(_fit(fits, 'loss_change').n, 'point')}: H4 cannot be tested on it. Changes of either sign are"
            " the mark of a first-order part, which is there where the texts are not what the model is best at."
        )
    others = "; ".join(
        f"{name} ({number(row.expected)}) {row.verdict}, {p_value(row.p)}"
        for name in ("Shannon", FITTED) if (row := _test(tests, "loss_change", name)) is not None
    )  # fmt: skip
    return said + (
        f"Through the first {written.n} widths its logarithm has the {_measured(fits, 'loss_change')}: H4 as written"
        f" is {written.verdict} ({p_value(written.p)}; power {written.power:.2f}); {others}."
    )


def _listed(names: pd.Series) -> str:
    return f" ({', '.join(names)})" if len(names) else ""


def _comparisons(comparisons: pd.DataFrame) -> str:
    if not len(comparisons):
        return ""
    said = []
    for quantity, part in comparisons.groupby("quantity", sort=False):
        least, greatest = part["slope_least"].iloc[0], part["slope_greatest"].iloc[0]
        tests = "; ".join(f"{row.test} {p_value(row.p)}, power {row.power:.2f}" for row in part.itertuples())
        said.append(f"{NAMES[str(quantity)]} {number(least)} to {number(greatest)} ({tests})")
    differ = comparisons["p"].min() < LEVEL / len(comparisons)
    return f"The slopes of the languages {'differ' if differ else 'are not shown to differ'}: {'; '.join(said)}."


def _notebook(notebook: dict[str, Any]) -> str:
    found = notebook["hypothesis"]["H4_rate_distortion"]
    rows = [row for row in notebook["per_precision"] if row["bits"] < 16]
    means = ", ".join(f"{row['precision']} {row['degradation_mean']:.4f}" for row in rows)
    return (
        f"The notebook’s own rule on these texts says {found['result']}: slope {number(found['empirical_slope'])}"
        f" through the mean relative changes of the perplexity ({means}), with changes below 0 set to 0, 10⁻⁶ added"
        " before the logarithm, and 1.96 standard errors with one degree of freedom."
    )


def _matrix_slopes(by_matrix: pd.DataFrame) -> list[float]:
    """Slope of ln MSE through the integers, of each matrix."""
    chosen = by_matrix[by_matrix["configuration"].str.fullmatch(r"int\d") & (by_matrix["mse"] > 0)]
    return [float(np.polyfit(part["bits"], np.log(part["mse"]), 1)[0]) for _, part in chosen.groupby("matrix")
            if part["bits"].nunique() > 1]  # fmt: skip


def views(
    degradation: pd.DataFrame, fits: pd.DataFrame, tests: pd.DataFrame, comparisons: pd.DataFrame
) -> list[View]:
    """Configurations, languages, slopes, tests."""
    said = {"effective_bits": "bits", **{quantity: NAMES[quantity] for quantity in MEASURED},
            "agreement": "agreement", "relative_weight_mse": "weight MSE"}  # fmt: skip
    errors = {f"{name}_error": f"{shown}_error" for name, shown in said.items() if f"{name}_error" in degradation}
    whole = degradation[degradation["language"] == ALL]
    columns = ["configuration", "effective_bits", "loss_change", "loss_change_error", "p", *(
        name for quantity in (*MEASURED[1:], "agreement") for name in (quantity, f"{quantity}_error")
    ), "relative_weight_mse"]  # fmt: skip
    made = [
        View(
            "Every language together", whole[columns].rename(columns=said | errors),
            {"bits": ".2f", "p": ".2g", "loss change": "+.1e", "divergence": ".1e", "logits MSE": ".1e",
             "agreement": ".3f", "weight MSE": ".1e"},
            "± one standard error, clustered by text. Bits: with the scales. Loss change: nats a token; p: of none,"
            " signs flipped by text. Divergence: bits a token. Weight MSE: over the mean square.",
        ),
        _by_language(degradation, "loss_change", 1000, "+.2f", "Loss change by language", "Thousandths of a nat"),
        _by_language(degradation, "perplexity", 1, ".1f", "Perplexity by language", "Exponential of the mean loss"),
    ]  # fmt: skip
    shown = fits[(fits["rate"] == "nominal") & (fits["language"] == ALL)]
    moved = fits[(fits["rate"] == "effective") & (fits["language"] == ALL)]
    frame = pd.DataFrame({
        "quantity": shown["quantity"].map(NAMES), "through": shown["points"], "n": shown["n"],
        "left out": shown["left_out"], "slope": shown["slope"], "slope_error": shown["slope_error"],
        "low": shown["low"], "high": shown["high"], "R²": shown["r_squared"], "over texts": shown["text_error"],
        "effective bits": moved["slope"].to_numpy(), "effective bits_error": moved["slope_error"].to_numpy(),
    })  # fmt: skip
    slopes = dict.fromkeys(("slope", "low", "high", "over texts", "effective bits"), ".3f") | {"R²": ".3f"}
    made.append(View(
        "Slopes of the logarithm, per nominal bit", frame, slopes,
        "± Student’s standard error; low and high: 95 %. Over texts: the error that the choice of texts makes."
        " Effective bits: the slope per bit with the scales counted, the same where all have the same scales.",
    ))  # fmt: skip
    for points, part in tests.groupby("points", sort=False) if len(tests) else ():
        chosen = part[["quantity", "hypothesis", "expected", "difference", "difference_error", "p", "p_equivalent",
                       "power", "verdict"]].rename(columns={"p_equivalent": "p within 10 %"})  # fmt: skip
        chosen["quantity"] = chosen["quantity"].map(NAMES)
        formats = {"expected": ".3f", "difference": "+.3f", "p": ".2g", "p within 10 %": ".2g", "power": ".2f"}
        title = f"What the slope through the {points} was said to be"
        made.append(View(title, chosen, formats, "Difference: measured less expected, ± Student’s standard error."))
    if len(comparisons):
        chosen = comparisons[["quantity", "test", "n", "slope_least", "slope_greatest", "f", "p", "power"]].assign(
            quantity=comparisons["quantity"].map(NAMES)
        ).rename(columns={"slope_least": "least", "slope_greatest": "greatest", "f": "F"})  # fmt: skip
        formats = {"least": ".3f", "greatest": ".3f", "F": ".2f", "p": ".2g", "power": ".2f"}
        made.append(View("Do languages differ in slope?", chosen, formats, "n: widths that every language has."))
    return made


def _by_language(frame: pd.DataFrame, quantity: str, unit: float, spec: str, title: str, caption: str) -> View:
    """A row for each configuration, a column for each language."""
    languages = [language for language in frame["language"].unique() if language != ALL]
    wide = {"configuration": frame["configuration"].unique()}
    for language in languages:
        chosen = frame[frame["language"] == language]
        wide[language] = unit * chosen[quantity].to_numpy()
        wide[f"{language}_error"] = unit * chosen[f"{quantity}_error"].to_numpy()
    formats = dict.fromkeys(languages, spec)
    return View(title, pd.DataFrame(wide), formats, f"{caption} ± one standard error, clustered by text.")
