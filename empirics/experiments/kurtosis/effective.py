r"""The kurtosis that a language meets: that of the weights, averaged as its activations have it.

Two ways. By outputs, as the notebook EXP-003 has it: a layer counts with its share of the mean magnitudes of the
blocks' outputs. By inputs, as quantization has it: in a linear layer y = W x the square of an error in column j costs
:math:`s_j = E x_j^2`, so that each weight counts with the :math:`s_j` of its column, and each matrix with the energy
:math:`\sum_{ij}s_j(w_{ij}-\bar w)^2` that it then has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from empirics.activations import mean_squares, outputs
from empirics.engine import Progress
from empirics.experiments.degradation import Subject, matrices
from empirics.inference import Estimate
from empirics.store import Store

ROWS = 2**20
"""Weights of a matrix made float64 at a time, about."""


@dataclass(frozen=True, eq=False)
class Activity:
    r"""What each text does in a model: sums over its tokens.

    Attributes
    ----------
    tokens : array of shape (texts,)
    outputs : dict of int to array of shape (texts,)
        Of each block the sum over tokens of the mean magnitude of its output.
    powers : dict of str to array of shape (texts, 5)
        Of each matrix :math:`\sum_t\sum_{ij} x_{tj}^2 w_{ij}^k`, for k = 0 to 4.
    """

    tokens: np.ndarray
    outputs: dict[int, np.ndarray]
    powers: dict[str, np.ndarray]

    def by_outputs(self, kurtosis: Mapping[int, float], texts: np.ndarray) -> float:
        """Mean of the layers' kurtosis, as those texts' outputs weight it."""
        weights = {block: float(sums[texts].sum()) for block, sums in self.outputs.items() if block in kurtosis}
        return math.fsum(w * kurtosis[block] for block, w in weights.items()) / math.fsum(weights.values())

    def by_inputs(self, texts: np.ndarray) -> float:
        """Excess kurtosis of the weights, as those texts' inputs weight them."""
        total = energy = 0.0
        for sums in self.powers.values():
            mass, *raw = sums[texts].sum(0)
            m1, m2, m3, m4 = (moment / mass for moment in raw)
            second = m2 - m1**2
            fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
            total += mass * second * (fourth / second**2 - 3)
            energy += mass * second
        return total / energy

    def estimate(self, statistic: Callable[[np.ndarray], float], texts: np.ndarray) -> Estimate:
        """A statistic of some texts, given by number; its error is the jackknife's, a text left out at a time."""
        n, value = len(texts), statistic(texts)
        error = math.nan
        if n > 1:
            without = np.array([statistic(np.delete(texts, i)) for i in range(n)])
            error = math.sqrt((n - 1) / n * float(np.sum((without - without.mean()) ** 2)))
        return Estimate(value, error, int(self.tokens[texts].sum()), n)


def activity(subject: Subject, store: Store | None, progress: Progress) -> Activity:
    """Run the model over each text, once for what its blocks put out and once for what its layers are fed."""

    def compute() -> dict[str, Any]:
        lm, count = subject.lm, len(subject.texts)
        columns = {name: _column_powers(matrix) for name, matrix in matrices(lm).items()}
        tokens = np.bincount([s.text for s in subject.sequences], [len(s.ids) for s in subject.sequences], count)
        by_block: dict[str, list[float]] = {}
        for found in outputs(lm, [replace(s, language=str(s.text)) for s in subject.sequences]):
            mean = found.mean_absolute
            by_block.setdefault(str(found.block), [0.0] * count)[int(found.language)] = mean.value * mean.n
        powers: dict[str, list[list[float]]] = {name: [] for name in columns}
        for text in range(count):
            progress("activations", text, count)
            squares = mean_squares(lm, [s for s in subject.sequences if s.text == text])
            for name, column in columns.items():
                powers[name].append((column @ squares[name] * tokens[text]).tolist())
        return {"tokens": tokens.tolist(), "outputs": by_block, "powers": powers}

    known = subject.key("activity")
    found = compute() if store is None else store.remember(known, compute, subject.provenance)
    return Activity(
        np.array(found["tokens"]),
        dict(sorted((int(block), np.array(sums)) for block, sums in found["outputs"].items())),
        {name: np.array(found["powers"][name]) for name in sorted(found["powers"])},  # as a store has them
    )


def _column_powers(matrix: torch.Tensor) -> torch.Tensor:
    """Of each column the sums of its weights to the power 0 to 4: float64, of shape (5, columns)."""
    sums = torch.zeros(5, matrix.shape[1], dtype=torch.float64, device=matrix.device)
    sums[0] = len(matrix)
    for chunk in matrix.split(max(1, ROWS // matrix.shape[1])):
        x = chunk.double()
        power = x.clone()
        for k in range(1, 5):
            sums[k] += power.sum(0)
            power.mul_(x)
    return sums
