"""Blocks of draws, quantized by the definition: what block scaling is compared with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from tests import tolerances
from theory.sources import ScaleMixture


def nearest(levels: Any, x: Any) -> Any:
    """The level nearest to each element."""
    return levels[np.abs(x[..., None] - levels).argmin(axis=-1)]


def draws(source: Any, shape: tuple[int, ...], seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if isinstance(source, ScaleMixture):  # each element has its own row: the mixture, not its rows
        scale = rng.choice(source.scales, size=shape, p=source.weights)
        return scale * stats.gennorm(source.source.beta, scale=source.source.alpha).rvs(shape, random_state=rng)
    return stats.gennorm(source.beta, scale=source.alpha).rvs(shape, random_state=rng)


def block_errors(codebook: Any, x: Any, k: int | None = None, power: int = 2) -> Any:
    """Mean error of each row, divided by its k-th smallest magnitude (the largest, if no k) or by that element."""
    order = np.argsort(np.abs(x), axis=1)
    at = np.take_along_axis(x, order[:, (x.shape[1] if k is None else k) - 1][:, None], axis=1)
    scale = at if codebook.scaling == "signed" else np.abs(at)
    return np.mean(np.abs(x - scale * nearest(codebook.levels, x / scale)) ** power, axis=1)


def agrees(samples: Any, expected: float, resolution: float = 0.01) -> None:
    """The mean of independent samples is the expected one, within what they can tell."""
    error = samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - expected) < tolerances.STANDARD_ERRORS * error
    assert error < resolution * samples.mean()  # or the comparison says nothing
