"""``quantgap run kurtosis``: whether the kurtosis that a language meets says how much 4 bits harm it (EXP-003).

The notebook's hypothesis H2: over languages, effective kurtosis and degradation correlate with |r| > 0.7. Beside it,
which layers are outliers, and what the clip that is said to follow from the kurtosis loses to the best one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empirics import clustered_correlation, correlation
from empirics.engine import Progress, key
from empirics.experiments.degradation import Degradation, Subject, blocks, matrices, measure, open_subject
from empirics.experiments.kurtosis import notebook
from empirics.experiments.kurtosis.effective import Activity, activity
from empirics.experiments.kurtosis.figures import figures
from empirics.experiments.kurtosis.matrix import measured
from empirics.experiments.kurtosis.report import METHOD, answer, views
from empirics.experiments.result import Experiment
from empirics.models import Checkpoint
from empirics.page import counted
from empirics.store import Store
from empirics.tensors import layer, role

QUANTIZERS = ("nf4", "int4")
WEIGHTINGS = ("outputs", "inputs")
OUTCOMES = ("loss_change", "kl_bits")
FAR = 3.5
"""Robust standard scores beyond which a layer is an outlier."""


def run(
    model: str | Path | Checkpoint, *, revision: str | None = None, texts: Sequence[str] = (),
    store: Store | None = None, progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Measure the kurtosis of a model's layers, what each language meets of it, and what 4 bits do to each.

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
        Tables ``languages`` (a row for each language and quantizer), ``texts``, ``correlations``, ``layers``,
        ``matrices``, ``clips`` (of each matrix and number of bits) and ``notebook`` (its rule on each passage).

    Raises
    ------
    ValueError, OSError
        If the model or the texts cannot be read, a quantizer cannot be measured, or no matrix has a kurtosis.
    """
    subject = open_subject(model, revision, texts)
    checkpoint = subject.lm.checkpoint
    found, failures = measure(subject, [blocks(name) for name in QUANTIZERS], store, progress)
    if failures:
        raise ValueError(f"{checkpoint.name}: {'; '.join(reason for _, reason in failures)}")
    by_matrix, clips, failures = by_matrices(subject, store, progress)
    plain = notebook.layer_kurtosis(subject.lm)
    layers = by_layer(by_matrix, plain)
    seen = activity(subject, store, progress)
    known = {int(row["layer"]): float(row["kurtosis"]) for row in layers.to_dict(orient="records")}
    statistics = {"outputs": lambda texts: seen.by_outputs(known, texts), "inputs": seen.by_inputs}
    languages = by_language(subject, found, seen, statistics)
    samples = by_text(subject, found, statistics)
    correlations, untested = correlated(languages, samples)
    passages = as_notebook(subject, found["nf4"], seen, plain)
    first = notebook.verdict(passages[passages["passage"] == 0], plain, checkpoint.name)
    repeated = pd.DataFrame(
        {"passage": number, "texts": len(part)} | notebook.h2(notebook.degraded(part))
        for number, part in passages.groupby("passage")
    )
    return Experiment(
        "kurtosis", "Does the kurtosis that a language meets predict the harm?", checkpoint.name, checkpoint.revision,
        answer=answer(subject, found, languages, correlations, layers, clips, repeated),
        tables={"languages": languages, "texts": samples, "correlations": correlations, "layers": layers,
                "matrices": by_matrix, "clips": clips, "notebook": repeated},
        views=views(languages, correlations, layers, clips, repeated),
        figures=figures(languages, correlations, layers, by_matrix, clips, checkpoint.name),
        summary=first | {"corrected": {
            "H2": correlations.to_dict(orient="records"), "languages": languages.to_dict(orient="records"),
            "layers": layers.to_dict(orient="records"),
            "notebook_supported_on": int((repeated["supported"] == True).sum()),  # noqa: E712
            "passages": len(repeated),
        }},
        method=METHOD, failures=failures, skipped=untested, provenance=subject.provenance,
    )  # fmt: skip


Statistics = Mapping[str, Callable[[np.ndarray], float]]


def by_matrices(
    subject: Subject, store: Store | None, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]]]:
    """Kurtosis of each matrix, its clips, and the matrices that have none."""
    given, table, clips, failures = matrices(subject.lm), [], [], []
    for number, (name, view) in enumerate(given.items()):
        matrix = view.contiguous()
        progress(name, number, len(given))
        known = key(subject.lm.checkpoint, experiment="kurtosis", matrix=name)
        try:
            if store is None:
                record = measured(matrix, name)
            else:
                record = store.remember(known, lambda m=matrix, n=name: measured(m, n), subject.provenance)  # type: ignore[misc]
        except (ValueError, ArithmeticError) as error:
            failures.append((name, str(error)))
            continue
        head = {"matrix": name, "role": role(name), "layer": layer(name)}
        clips += [head | clip for clip in record["clips"]]
        table.append(head | {field: value for field, value in record.items() if field != "clips"})
    if not table:
        raise ValueError("; ".join(reason for _, reason in failures))
    return pd.DataFrame(table), pd.DataFrame(clips), failures


def by_layer(by_matrix: pd.DataFrame, plain: Mapping[int, float]) -> pd.DataFrame:
    """Kurtosis of each layer, averaged over weights, and whether it is an outlier by either rule.

    The robust score is the distance from the median over the root sum of squares of the layer's own standard error
    and 1.4826 times the median absolute deviation, a standard deviation that outliers do not stretch.
    """
    table = []
    for number, part in by_matrix.groupby("layer"):
        share = part["weights"].to_numpy() / part["weights"].sum()
        table.append({
            "layer": int(number), "weights": int(part["weights"].sum()), "kurtosis": float(share @ part["kurtosis"]),
            "kurtosis_error": float(np.linalg.norm(share * part["kurtosis_error"])),
        })  # fmt: skip
    frame = pd.DataFrame(table)
    beyond = frame["kurtosis"] - frame["kurtosis"].median()
    frame["score"] = beyond / np.hypot(1.4826 * beyond.abs().median(), frame["kurtosis_error"])
    frame["outlier"] = frame["score"] > FAR
    threshold, far = notebook.outliers(plain)
    frame["notebook_kurtosis"] = frame["layer"].map(plain)
    frame["notebook_threshold"] = threshold
    frame["notebook_outlier"] = frame["layer"].isin(far)
    return frame


def by_language(
    subject: Subject, found: Mapping[str, Degradation], seen: Activity, statistics: Statistics
) -> pd.DataFrame:
    """Effective kurtosis and degradation; errors over texts, the jackknife's of the former."""
    tags, table = np.array([text.language for text in subject.texts]), []
    for language in subject.languages:
        texts = np.flatnonzero(tags == language)
        head: dict[str, Any] = {"language": language, "texts": len(texts)}
        for weighting, statistic in statistics.items():
            estimate = seen.estimate(statistic, texts)
            head |= {f"by_{weighting}": estimate.value, f"by_{weighting}_error": estimate.standard_error}
        for quantizer, one in found.items():
            row = head | {"quantizer": quantizer, "p": one.loss_change_p(language)}
            for quantity in ("loss", *OUTCOMES):
                mean = one.mean(quantity, language)
                row |= {quantity: mean.value, f"{quantity}_error": mean.standard_error}
            table.append(row | {"perplexity_change": math.expm1(row["loss_change"])})
    return pd.DataFrame(table)


def by_text(subject: Subject, found: Mapping[str, Degradation], statistics: Statistics) -> pd.DataFrame:
    """The same of each text; the error of its loss change is over its tokens, as if they were independent."""
    met = {weighting: [statistic(np.array([i])) for i in range(len(subject.texts))]
           for weighting, statistic in statistics.items()}  # fmt: skip
    table = []
    for quantizer, one in found.items():
        means = {quantity: one.by_text(quantity) for quantity in ("loss", *OUTCOMES)}
        means["loss_change_error"] = one.loss_change_error
        for i, text in enumerate(subject.texts):
            row: dict[str, Any] = {"language": text.language, "text": text.name, "quantizer": quantizer}
            row |= {f"by_{weighting}": values[i] for weighting, values in met.items()}
            table.append(row | {quantity: float(values[i]) for quantity, values in means.items()})
    return pd.DataFrame(table)


def correlated(languages: pd.DataFrame, samples: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Correlation of effective kurtosis and degradation, over languages and over texts in languages.

    The ceiling is what a perfect correlation would be seen as: a part of the variance of each side is that of its
    errors, and the ceiling is the root of the product of what is left of both, 0 where nothing is.
    """
    table: list[dict[str, Any]] = []
    failures = []
    if (count := languages["language"].nunique()) < 3:
        return pd.DataFrame(), [("H2", f"a correlation takes 3 languages, and there is {counted(count, 'language')}")]
    for quantizer in QUANTIZERS:
        of, texts = (frame[frame["quantizer"] == quantizer] for frame in (languages, samples))
        for weighting in WEIGHTINGS:
            for outcome in OUTCOMES:
                x, y = f"by_{weighting}", outcome
                head = {"quantizer": quantizer, "weighting": weighting, "outcome": outcome}
                try:
                    for method in (correlation.pearson, correlation.spearman):
                        one = method(of[x], of[y])
                        table.append(head | {
                            "over": "languages", "method": one.method, "r": one.r, "low": one.low, "high": one.high,
                            "p": one.p_permutation, "n": one.n, "clusters": one.n, "critical": one.critical,
                            "power": one.power, "ceiling": math.sqrt(_reliability(of, x) * _reliability(of, y)),
                        })  # fmt: skip
                    for over, test in (
                        ("texts", clustered_correlation.pooled),
                        ("texts within languages", clustered_correlation.within),
                    ):
                        found = test(texts[x].to_numpy(), texts[y].to_numpy(), texts["language"].to_numpy())
                        table.append(head | {"over": over, "method": "pearson"} | found._asdict())
                except ValueError as error:
                    failures.append((f"H2, {quantizer}, by {weighting}, {outcome}", str(error)))
    return pd.DataFrame(table), failures


def _reliability(frame: pd.DataFrame, name: str) -> float:
    """Share of the variance that errors do not explain."""
    errors = frame[f"{name}_error"].to_numpy()
    return max(1 - float(np.mean(errors**2)) / float(frame[name].var()), 0.0)


def as_notebook(subject: Subject, one: Degradation, seen: Activity, plain: Mapping[int, float]) -> pd.DataFrame:
    """What `notebook.verdict` takes, of the first text of each language, of the second, and so on."""
    tags, table = np.array([text.language for text in subject.texts]), []
    before, after = np.exp(one.by_text("loss")), np.exp(one.by_text("loss_quantized"))
    numbers = {language: np.flatnonzero(tags == language) for language in subject.languages}
    for passage in range(min(len(texts) for texts in numbers.values())):
        for language, texts in numbers.items():
            i = int(texts[passage])
            table.append({"passage": passage, "lang": language, "k_eff": seen.by_outputs(plain, np.array([i])),
                          "ppl_fp16": before[i], "ppl_int4": after[i]})  # fmt: skip
    return pd.DataFrame(table)
