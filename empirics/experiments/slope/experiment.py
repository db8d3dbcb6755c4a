r"""``quantgap run slope``: how fast the harm of quantization falls with the bits, and what was to be expected.

The notebook's hypothesis H4 has ln(degradation) fall by ln 2/2 a bit. Shannon's :math:`D = \sigma^2 4^{-R}` falls by
2 ln 2, and integers under absmax scaling, at the widths there are, by more (`theory.slopes`). Each is tested: on the
loss, on two measures of change that have no sign, and on the error of the weights itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from empirics import fit, histogram
from empirics.blocks import BlockSize
from empirics.engine import Progress, key
from empirics.experiments.degradation import (
    Degradation,
    Quantization,
    Subject,
    blocks,
    matrices,
    measure,
    open_subject,
    rounded,
)  # fmt: skip
from empirics.experiments.result import Experiment
from empirics.experiments.slope import notebook as slope_notebook
from empirics.experiments.slope.figures import figures
from empirics.experiments.slope.fits import (
    ALL,
    INTEGERS,
    MEASURED,
    QUANTITIES,
    SMALL,
    compared,
    fitted,
    hypotheses,
    logarithms,
)
from empirics.experiments.slope.report import METHOD, answer, views
from empirics.experiments.words import sample
from empirics.inference import exponential
from empirics.language_model import LanguageModel
from empirics.measure import predicted
from empirics.models import Checkpoint
from empirics.quantizers import get
from empirics.store import Store
from theory.sources import GGD

BLOCK = 64
WIDTHS = range(8, 1, -1)


class Configuration(NamedTuple):
    """A quantization and its nominal bits; `quantizer` is None for a floating-point type."""

    quantization: Quantization
    bits: int
    quantizer: str | None = None
    block_size: BlockSize = BLOCK

    @property
    def name(self) -> str:
        return self.quantization.name

    def effective_bits(self, lm: LanguageModel) -> float:
        """Bits per weight with the scales, over the matrices of the model."""
        if self.quantizer is None:
            return self.bits
        shapes = [matrix.shape for matrix in matrices(lm).values()]
        costs = [get(self.quantizer).effective_bits(self.block_size, shape) for shape in shapes]
        return float(np.average(costs, weights=[math.prod(shape) for shape in shapes]))


CONFIGURATIONS = (
    Configuration(rounded("bf16", torch.bfloat16), 16),
    Configuration(rounded("fp16", torch.float16), 16),
    Configuration(blocks("int8", "row", "int8 rows"), 8, "int8", "row"),
    Configuration(blocks("nf4", BLOCK), 4, "nf4"),
    Configuration(blocks("fp4", BLOCK), 4, "fp4"),
    *(Configuration(blocks(f"int{bits}", BLOCK), bits, f"int{bits}") for bits in WIDTHS),
)
NOTEBOOK = tuple(slope_notebook.CONFIGURATIONS.values())
LINES = {
    INTEGERS: tuple(f"int{bits}" for bits in WIDTHS),
    SMALL: tuple(f"int{bits}" for bits in WIDTHS if bits > 2),
    "notebook’s": tuple(name for name in NOTEBOOK if name != "fp16"),
    "all below 16 bits": tuple(c.name for c in CONFIGURATIONS if c.bits < 16),
}
"""What lines are drawn through."""


def run(
    model: str | Path | Checkpoint, *, revision: str | None = None, texts: Sequence[str] = (),
    store: Store | None = None, progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Quantize a model in every configuration, and fit slopes to what that does.

    Parameters
    ----------
    model, revision, texts
        As `empirics.experiments.degradation.open_subject` takes them.
    store : Store, optional
        What it holds is not measured again.
    progress : callable
        See `empirics.engine.Progress`.

    Returns
    -------
    Experiment
        Tables ``degradation`` (a row for each configuration and language), ``texts``, ``fits``, ``tests``,
        ``comparisons`` (whether languages differ in slope) and ``matrices``.

    Raises
    ------
    ValueError, OSError
        If the model or the texts cannot be read, or a configuration of the notebook's or two widths of integers
        cannot be measured.
    """
    subject = open_subject(model, revision, texts)
    checkpoint = subject.lm.checkpoint
    found, failures = measure(subject, [c.quantization for c in CONFIGURATIONS], store, progress)
    if not ({*NOTEBOOK} <= found.keys() and len(found.keys() & {*LINES[INTEGERS]}) > 1):
        raise ValueError(f"no slope of {checkpoint.name}: {'; '.join(reason for _, reason in failures)}")
    bits = {c.name: {"nominal": float(c.bits), "effective": c.effective_bits(subject.lm)}
            for c in CONFIGURATIONS if c.name in found}  # fmt: skip
    laws, strange = exponents(subject, store, progress)
    by_matrix = pd.DataFrame(matrix_errors(found, laws))
    degradation = pd.DataFrame(by_language(found, bits, subject.languages))
    samples = pd.DataFrame(by_text(found, bits, subject))
    fits = pd.DataFrame(all_fits(found, bits, subject.languages))
    tests = pd.DataFrame(all_tests(found, by_matrix))
    comparisons = pd.DataFrame(all_comparisons(found, subject.languages))
    notebook = slope_notebook.verdict(as_notebook(samples), checkpoint.name)
    return Experiment(
        "slope", "How fast the harm falls with the bits", checkpoint.name, checkpoint.revision,
        answer=answer(degradation, fits, tests, comparisons, by_matrix, notebook, sample(subject, found["fp16"])),
        tables={"degradation": degradation, "texts": samples, "fits": fits, "tests": tests,
                "comparisons": comparisons, "matrices": by_matrix},
        views=views(degradation, fits, tests, comparisons),
        figures=figures(degradation, fits, by_matrix, checkpoint.name),
        summary=notebook | {"corrected": {
            "fits": fits[fits["language"] == ALL].to_dict(orient="records"), "H4": tests.to_dict(orient="records"),
            "languages_differ": comparisons.to_dict(orient="records"),
        }},
        method=METHOD, failures=failures + strange, provenance=subject.provenance,
    )  # fmt: skip


def exponents(
    subject: Subject, store: Store | None, progress: Progress
) -> tuple[dict[str, dict[str, float]], list[tuple[str, str]]]:
    """Exponent of each matrix, of all its weights and within rows, and its root mean square; and what has none."""
    given, found, failures = matrices(subject.lm), {}, []
    sizes = [matrix.numel() for matrix in given.values()]
    for number, (name, matrix) in enumerate(given.items()):
        progress(name, sum(sizes[:number]), sum(sizes))

        def compute(name: str = name, matrix: torch.Tensor = matrix) -> dict[str, float]:
            atoms = histogram.exact(matrix, name)
            return {
                "beta": fit.marginal(atoms, name).beta, "beta_row": fit.within_rows(matrix, name=name).beta,
                "rms": math.sqrt(atoms.second_moment),
            }  # fmt: skip

        try:
            known = key(subject.lm.checkpoint, experiment="exponents", matrix=name)
            found[name] = compute() if store is None else store.remember(known, compute, subject.provenance)
        except (ValueError, ArithmeticError) as error:
            failures.append((name, str(error)))
    return found, failures


def matrix_errors(found: Mapping[str, Degradation], laws: Mapping[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Measured and predicted weight MSE, in the weights' units squared, of each matrix and configuration.

    Predicted for blocks drawn from the law of all weights (iid), and from rows of their own variance (row).
    """
    table = []
    configurations = {c.name: c for c in CONFIGURATIONS}
    for name, one in found.items():
        quantizer, block_size = configurations[name].quantizer, configurations[name].block_size
        for matrix, error in one.matrices.items():
            row: dict[str, Any] = {
                "matrix": matrix, "configuration": name, "bits": configurations[name].bits, "weights": error.weights,
                "mse": error.squared_error / error.weights, "predicted_iid": math.nan, "predicted_row": math.nan,
            }  # fmt: skip
            row |= laws.get(matrix, {})
            if quantizer and block_size == BLOCK and matrix in laws:
                for model, exponent in (("iid", "beta"), ("row", "beta_row")):
                    law = GGD(row[exponent], row["rms"])
                    row[f"predicted_{model}"] = predicted(get(quantizer), BLOCK, law, error.weights) * row["rms"] ** 2
            table.append(row)
    return table


def by_language(
    found: Mapping[str, Degradation], bits: Mapping[str, Mapping[str, float]], languages: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each configuration and language, and for all together; errors clustered by text."""
    table = []
    for name, one in found.items():
        for language in (None, *languages):
            row: dict[str, Any] = {
                "configuration": name, "language": language or ALL, "bits": bits[name]["nominal"],
                "effective_bits": bits[name]["effective"],
            }  # fmt: skip
            change = one.mean("loss_change", language)
            estimates = {quantity: one.mean(quantity, language) for quantity in ("loss", *MEASURED, "agreement")}
            estimates |= {"perplexity": exponential(one.mean("loss_quantized", language)),
                          "perplexity_ratio": exponential(change)}  # fmt: skip
            for quantity, estimate in estimates.items():
                row |= {quantity: estimate.value, f"{quantity}_error": estimate.standard_error}
            low, high = change.interval()
            row |= {"low": low, "high": high, "p": one.loss_change_p(language), "predictions": change.n,
                    "texts": change.clusters, "weight_mse": one.weight_mse,
                    "relative_weight_mse": one.relative_weight_mse}  # fmt: skip
            table.append(row)
    return table


def by_text(
    found: Mapping[str, Degradation], bits: Mapping[str, Mapping[str, float]], subject: Subject
) -> list[dict[str, Any]]:
    """A row for each configuration and text."""
    table = []
    for name, one in found.items():
        means = {quantity: one.by_text(quantity) for quantity in ("loss", *MEASURED, "agreement")}
        before, after = np.exp(means["loss"]), np.exp(one.by_text("loss_quantized"))
        means |= {"loss_change_error": one.loss_change_error, "perplexity": after,
                  "perplexity_change": after / before - 1}  # fmt: skip
        for i, text in enumerate(subject.texts):
            head = {"configuration": name, "language": text.language, "number": i, "text": text.name,
                    "bits": bits[name]["nominal"], "predictions": int(one.sizes["predictions"][i])}  # fmt: skip
            table.append(head | {quantity: float(values[i]) for quantity, values in means.items()})
    return table


def as_notebook(samples: pd.DataFrame) -> pd.DataFrame:
    """What `slope_notebook.verdict` takes: the notebook's configurations on every text."""
    names = {ours: theirs for theirs, ours in slope_notebook.CONFIGURATIONS.items()}
    chosen = samples[samples["configuration"].isin(names)]
    return pd.DataFrame({
        "precision": chosen["configuration"].map(names), "bits": chosen["bits"].astype(int),
        "lang": chosen["language"], "sample": chosen["number"], "ppl": chosen["perplexity"],
    })  # fmt: skip


def all_fits(
    found: Mapping[str, Degradation], bits: Mapping[str, Mapping[str, float]], languages: Sequence[str]
) -> list[dict[str, Any]]:
    """A line for each set of configurations, quantity, language and rate."""
    table = []
    for which in LINES:
        nominal = widths(found, which)
        for quantity in QUANTITIES:
            for language in (None,) if quantity == "weight_mse" else (None, *languages):
                points = logarithms(found, nominal, quantity, language)
                for rate in ("nominal", "effective"):
                    head = {"quantity": quantity, "language": language or ALL, "points": which, "rate": rate}
                    table.append(head | fitted(points, [bits[name][rate] for name in points.names]))
    return table


def all_tests(found: Mapping[str, Degradation], by_matrix: pd.DataFrame) -> list[dict[str, Any]]:
    """What the slopes through the integers were said to be; none where fewer than three points are left."""
    known = by_matrix.dropna(subset="predicted_row").groupby("configuration")
    expected = {name: np.average(part["predicted_row"], weights=part["weights"]) for name, part in known}
    table = []
    for which in (INTEGERS, SMALL):
        for quantity in QUANTITIES:
            points = logarithms(found, widths(found, which), quantity)
            if len(points.names) > 2:
                theirs = [expected[name] for name in points.names] if expected else None
                own = None if quantity == "weight_mse" else [found[name].weight_mse for name in points.names]
                table += [{"points": which, "quantity": quantity} | row for row in hypotheses(points, theirs, own)]
    return table


def all_comparisons(found: Mapping[str, Degradation], languages: Sequence[str]) -> list[dict[str, Any]]:
    """Whether languages differ in slope, through the integers where each of them has a point."""
    table = []
    for quantity in MEASURED if len(languages) > 1 else ():
        nominal = widths(found, INTEGERS)
        kept = [set(logarithms(found, nominal, quantity, language).names) for language in languages]
        common = {name: width for name, width in nominal.items() if all(name in one for one in kept)}
        if len(common) > 1:
            slopes = {language: logarithms(found, common, quantity, language) for language in languages}
            table += [{"quantity": quantity, "n": len(common)} | row for row in compared(slopes)]
    return table


def widths(found: Mapping[str, Degradation], points: str) -> dict[str, float]:
    """Nominal bits of the configurations of a line that were measured."""
    return {c.name: float(c.bits) for c in CONFIGURATIONS if c.name in LINES[points] and c.name in found}
