"""``quantgap run clipping``: does each language want a clip of its own? (EXP-006, LA-ACIQ)

A layer's input weights its columns: where inputs are large, errors of the weights cost more. So each language has a
best clip of its own for every matrix. It is found on one half of the language's texts, and held on the other half
against one clip for all languages.

Another clip is another grid, and with it another draw of all rounding errors: the logits of one model move by several
per cent for no other reason. So each comparison is repeated with shifted grids, and its error has that part too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from empirics import correlation
from empirics.engine import Progress
from empirics.experiments import degradation
from empirics.experiments.clipping.calibration import ABSMAX, GLOBAL, GRID, PLAIN, RULE, calibrated, clipped
from empirics.experiments.clipping.report import METHOD, answer, figures, views
from empirics.experiments.degradation import Quantization, Subject
from empirics.experiments.result import Experiment
from empirics.experiments.sensitivity import kept_traces
from empirics.language_model import LanguageModel
from empirics.models import Checkpoint
from empirics.store import Store

DRAWS = 6
"""Shifted grids, beside the one that is not shifted."""

POWER = 0.8
HYPOTHESIS = (
    "A clip for each language's activation-weighted weights has a lower logits MSE than one for all languages."
)
TEST = "t test of (logits MSE with own clips)/(with one for all) - 1, texts held out, over grids and texts"

Sums = dict[str, list[list[np.ndarray]]]
"""Whose clips -> draw -> [logits MSE summed over each text, the text's tokens], languages in order; 0: unshifted."""


def run(
    model: str | Path | Checkpoint, *, revision: str | None = None, texts: Iterable[str] = (), bits: int = 4,
    store: Store | None = None, progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Clip each language at its own best, and all at one; on texts that the clips were not made from.

    Parameters
    ----------
    model, revision, texts
        As `empirics.experiments.degradation.open_subject` takes them: two texts of a language at least.
    bits : int
        Of the integers -(2**(b-1) - 1), ..., 2**(b-1) - 1 times a step, one clip a matrix; >= 2.
    store : Store, optional
        What it holds is not measured again.
    progress : callable
        See `empirics.engine.Progress`.

    Returns
    -------
    Experiment
        Tables ``languages``, ``policies`` (other clips for all), ``draws`` and ``clips``.

    Raises
    ------
    ValueError, OSError
        If the model or the texts cannot be read, a language has one text, or the bits are below 2.
    """
    subject = degradation.open_subject(model, revision, texts)
    halves, languages = halved(subject), subject.languages
    traces = kept_traces(subject, store, progress)
    made = [calibrated(halves[1 - i], halves[i], traces, bits, store) for i in (0, 1)]
    sums, of = _measured(halves, made, bits, store, progress)
    rows = [_row("language", name, change(sums["own"], sums[GLOBAL], of == name), _predicted(made, [name], None))
            | _moves(made, name) for name in languages]  # fmt: skip
    policies = [_row("clips", who, change(sums[who], sums[GLOBAL]), _predicted(made, languages, who))
                for who in (PLAIN, ABSMAX, RULE)]  # fmt: skip
    everything = _row("language", "all", change(sums["own"], sums[GLOBAL]), _predicted(made, languages, None))
    draws = pd.DataFrame([
        {"language": name, "draw": draw, "change": _ratio(sums["own"][draw], sums[GLOBAL][draw], of == name)}
        for name in languages for draw in range(DRAWS + 1)
    ])  # fmt: skip
    clips = _clip_table(made)
    checkpoint = subject.lm.checkpoint
    return Experiment(
        "clipping", f"A clip for each language: {bits} bits", checkpoint.name, checkpoint.revision,
        answer=answer(rows, policies, everything, verdict(everything), _direction(rows)),
        tables={"languages": pd.DataFrame([*rows, everything]), "policies": pd.DataFrame(policies), "draws": draws,
                "clips": clips},
        views=views([*rows, everything], policies),
        figures=figures(rows, draws, clips, checkpoint.name, bits),
        summary={
            "experiment": "EXP-006: LA-ACIQ intervention", "model": checkpoint.name, "bits": bits,
            "hypothesis": {"statement": HYPOTHESIS, "test": TEST, "verdict": verdict(everything), **everything,
                           "notebook": "announced there and not run: no verdict"},
            "texts": len(subject.texts), "small": len(subject.texts) < 30,
        },
        method=METHOD, provenance=subject.provenance,
    )  # fmt: skip


def halved(subject: Subject) -> tuple[Subject, Subject]:
    """Every other text of each language: the clips for one half are found on the other."""
    seen: dict[str, int] = {}
    half = []
    for text in subject.texts:
        half.append(seen.setdefault(text.language, 0) % 2)
        seen[text.language] += 1
    if lonely := [language for language, count in seen.items() if count < 2]:
        raise ValueError(f"{lonely[0]} has one text: give two, one to find the clips on and one to hold them against")
    return _part(subject, np.equal(half, 0)), _part(subject, np.equal(half, 1))


def _part(subject: Subject, chosen: np.ndarray) -> Subject:
    number = np.cumsum(chosen) - 1
    sequences = [replace(s, text=int(number[s.text])) for s in subject.sequences if chosen[s.text]]
    return Subject(subject.lm, [t for t, kept in zip(subject.texts, chosen, strict=True) if kept], sequences)


def _measured(
    halves: tuple[Subject, Subject], made: list[dict[str, Any]], bits: int, store: Store | None, progress: Progress
) -> tuple[Sums, np.ndarray]:
    """Logits MSE of every text, held out, under every clip and draw; and the language of each text."""
    languages = halves[0].languages
    parts = [(_part(half, np.array([t.language == name for t in half.texts])), name, m)
             for name in languages for half, m in zip(halves, made, strict=True)]  # fmt: skip
    sums: Sums = {}
    for who in ("own", GLOBAL, PLAIN, ABSMAX, RULE):
        for draw in range(DRAWS + 1):
            found = []
            for part, name, m in parts:
                quantization = _clipped(who, m["clips"][name if who == "own" else who], bits, draw)
                measured, failures = degradation.measure(part, [quantization], store, progress)
                if failures:
                    raise ValueError(f"{who}: {failures[0][1]}")
                found.append((measured[who].totals["logits_mse"], measured[who].sizes["tokens"]))
            sums.setdefault(who, []).append([np.concatenate(values) for values in zip(*found, strict=True)])
    return sums, np.repeat([name for _, name, _ in parts], [len(part.texts) for part, _, _ in parts])


def _clipped(who: str, clips: Mapping[str, float], bits: int, draw: int) -> Quantization:
    """Each matrix rounded to its own grid, shifted unless the draw is 0."""

    def weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
        return {
            name: clipped(lm.parameter(name), clip, bits, 1000 * draw + number if draw else None)
            for number, (name, clip) in enumerate(clips.items())
        }

    digest = hashlib.sha256(json.dumps(clips).encode()).hexdigest()
    return Quantization(who, {"clips": digest, "bits": bits, "grid": GRID, "draw": draw}, weights)


def _ratio(ours: list[np.ndarray], theirs: list[np.ndarray], chosen: np.ndarray | slice = slice(None)) -> float:
    return float(ours[0][chosen].sum() / theirs[0][chosen].sum()) - 1


def change(
    ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]], chosen: np.ndarray | slice = slice(None)
) -> dict[str, float]:
    """Mean of ours over the mean of theirs, less 1: its mean over the shifted grids, with both its errors.

    `grid_error` is of the grids, these texts given, and `text_error` of the texts, these grids given; `change_error`
    has both, and Student's t the degrees of freedom of the grids, the fewer. `unshifted` is the grid without shift.
    """
    each = np.array([_ratio(a, b, chosen) for a, b in zip(ours, theirs, strict=True)])
    drawn = each[1:]
    mean, grids = float(drawn.mean()), len(drawn)
    grid_error = float(drawn.std(ddof=1)) / math.sqrt(grids)
    a, b = (np.mean([draw[0][chosen] for draw in sums[1:]], axis=0) for sums in (ours, theirs))
    beyond, texts = a - a.sum() / b.sum() * b, len(a)
    text_error = math.sqrt(texts / (texts - 1) * float(beyond @ beyond)) / float(b.sum())
    error = math.hypot(grid_error, text_error)
    degrees = min(grids, texts) - 1
    t = stats.t(degrees)
    return {
        "change": mean, "change_error": error, "grid_error": grid_error, "text_error": text_error,
        "low": mean - float(t.ppf(0.975)) * error, "high": mean + float(t.ppf(0.975)) * error,
        "p": 2 * float(t.sf(abs(mean) / error)) if error else math.nan,
        "detectable": float(t.ppf(0.975) + t.ppf(POWER)) * error,
        "unshifted": float(each[0]), "texts": texts, "grids": grids,
    }  # fmt: skip


def _clip_table(made: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for half, m in enumerate(made):
        for who, own in m["clips"].items():
            for matrix, clip in own.items():
                ratio = clip / m["clips"][GLOBAL][matrix]
                rows.append({"half": half, "matrix": matrix, "clips": who, "clip": clip, "over_one_for_all": ratio})
    return pd.DataFrame(rows)


def _row(kind: str, name: str, found: dict[str, float], predicted: float) -> dict[str, Any]:
    return {kind: name, **found, "predicted": predicted}


def _predicted(made: list[dict[str, Any]], languages: list[str], who: str | None) -> float:
    """Of the clips of `who`, or of each language's own, over one for all, less 1."""
    ours = math.fsum(m["predicted"][name][who or name] for m in made for name in languages)
    return ours / math.fsum(m["predicted"][name][GLOBAL] for m in made for name in languages) - 1


def _moves(made: list[dict[str, Any]], language: str) -> dict[str, float]:
    """Own clips over one for all: geometric mean over the matrices, and root mean square of the logarithm."""
    logs = [
        math.log(m["clips"][language][matrix] / clip) for m in made for matrix, clip in m["clips"][GLOBAL].items()
    ]
    return {"clip_ratio": math.exp(float(np.mean(logs))), "clip_moves": float(np.sqrt(np.mean(np.square(logs))))}


def _direction(rows: list[dict[str, Any]]) -> correlation.Correlation | None:
    """Whether the change goes with how much wider the own clips are; None of fewer than 3 languages."""
    if len(rows) < 3:
        return None
    return correlation.pearson([row["clip_ratio"] for row in rows], [row["change"] for row in rows])


def verdict(found: Mapping[str, float]) -> str:
    """What an interval of the change says: "supported" below 0, "contradicted" above, "not shown" across it."""
    if found["high"] < 0:
        return "supported"
    return "contradicted" if found["low"] > 0 else "not shown"
