"""Clips for a model's matrices, found on some texts, and what first order predicts of them on others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from empirics import histogram, weighted_histogram
from empirics.activations import mean_squares
from empirics.experiments import degradation
from empirics.experiments.degradation import Subject
from empirics.store import Store
from empirics.traces import Traces
from theory import clipping
from theory.sources import Histogram

GRID = "symmetric"
GLOBAL, PLAIN, ABSMAX, RULE = "one for all", "unweighted", "largest weight", "kurtosis rule"


def calibrated(half: Subject, held_out: Subject, traces: Traces, bits: int, store: Store | None) -> dict[str, Any]:
    """Clips by language and by rule, and the logits MSE that first order predicts of them.

    Parameters
    ----------
    half, held_out : Subject
        The texts that the clips are made from, and those that they are predicted for; of the same languages.
    traces : Traces
        Of all texts.
    bits : int
    store : Store or None

    Returns
    -------
    dict
        "clips": language or rule -> matrix -> clip, in the weights' units; "predicted": language of the texts ->
        whose clips -> logits MSE.

    Notes
    -----
    A layer's output has the error :math:`\\sum_{ij} s_j e_{ij}^2` if the errors of its weights do not depend on each
    other, with :math:`s_j = E x_j^2`. If what the output does to the logits does not depend on the input,
    :math:`\\operatorname{tr} G = \\operatorname{tr}(E xx^\\top)\\operatorname{tr} H`, and an error in column j costs
    :math:`s_j \\operatorname{tr}(H)/(V\\,\\text{rows})` of logits MSE.
    """
    lm, languages = half.lm, half.languages

    def compute() -> dict[str, Any]:
        here, there = ({of: mean_squares(lm, [s for s in part.sequences if s.language == of]) for of in languages}
                       for part in (half, held_out))  # fmt: skip
        clips: dict[str, dict[str, float]] = {}
        predicted: dict[str, dict[str, float]] = {of: {} for of in languages}
        for name, matrix in degradation.matrices(lm).items():
            mean = torch.stack([here[of][name] for of in languages]).mean(0)
            sources = {of: weighted_histogram.exact(matrix, here[of][name], name) for of in languages}
            sources |= {GLOBAL: weighted_histogram.exact(matrix, mean, name), PLAIN: histogram.exact(matrix, name)}
            own = {who: float(clipping.optimal_clip(source, bits, GRID)[0]) for who, source in sources.items()}
            own |= _rules(sources[PLAIN])
            each = traces[name].value / len(matrix) / float(mean.sum()) / lm.vocabulary
            for of in languages:
                source = weighted_histogram.exact(matrix, there[of][name], name)
                for who, clip in own.items():
                    cost = float(source.counts.sum()) * each * float(clipping.clip_mse(clip, source, bits, GRID))
                    predicted[of][who] = predicted[of].get(who, 0.0) + cost
            for who, clip in own.items():
                clips.setdefault(who, {})[name] = clip
        return {"clips": clips, "predicted": predicted}

    if store is None:
        return compute()
    return store.remember(half.key("clips", bits=bits, grid=GRID), compute, half.provenance)


def _rules(atoms: Histogram) -> dict[str, float]:
    excess = atoms.abs_moment(4) / atoms.second_moment**2 - 3
    return {
        ABSMAX: float(np.abs(atoms.values[[0, -1]]).max()),
        RULE: float(clipping.kurtosis_rule(excess, math.sqrt(atoms.variance))),
    }


def clipped(weights: torch.Tensor, clip: float, bits: int, seed: int | None = None) -> torch.Tensor:
    """Round to the integers -m ... m times clip/m, m = 2**(bits - 1) - 1.

    With a seed, of a grid shifted for each weight by up to half a step, the same shifts for every clip: subtractive
    dither, another draw of the rounding errors with the same mean square.

    >>> clipped(torch.tensor([-9.0, 0.4, 2.6]), 7.0, 4)
    tensor([-7.,  0.,  3.])
    """
    top = 2 ** (bits - 1) - 1
    step, shift = clip / top, torch.zeros(())
    if seed is not None:
        shift = torch.rand(weights.shape, generator=torch.Generator().manual_seed(seed)).sub_(0.5)
    shift = shift.to(weights)
    return (weights / step + shift).round_().clamp_(-top, top).sub_(shift).mul_(step) + 0.0
