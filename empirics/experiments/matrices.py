"""One measurement of every weight matrix of a checkpoint, a tensor at a time, kept as soon as it is made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from empirics import tensors
from empirics.engine import Progress, key
from empirics.models import Checkpoint, open_checkpoint
from empirics.store import Store, provenance
from empirics.tensors import TensorInfo


@dataclass
class ByMatrix:
    """What was measured of each matrix.

    Attributes
    ----------
    checkpoint : Checkpoint
    records : list of dict
        In the order of the checkpoint's tensors.
    failures, skipped : list of (str, str)
        Tensors that could not be measured, and those that are no weight matrices, and why.
    provenance : dict
    """

    checkpoint: Checkpoint
    records: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


def by_matrix(
    experiment: str, model: str | Path | Checkpoint, revision: str | None, store: Store | None, progress: Progress,
    measure: Callable[[torch.Tensor, TensorInfo], dict[str, Any]], seed: int | None = None,
    **settings: str | int | float,
) -> ByMatrix:  # fmt: skip
    """Measure every matrix of a model, one in memory at a time.

    Parameters
    ----------
    experiment : str
        Its name, part of the key that `store` keeps a record under; `settings` are the rest, with the model, its
        revision, the tensor and the versions.
    model, revision
        As `empirics.models.open_checkpoint` takes them, or what it returned.
    store : Store or None
        What it holds is not measured again.
    progress : callable
    measure : callable
        Tensor of shape (rows, columns), and its `TensorInfo`, to a record of JSON values.

    Raises
    ------
    ValueError, OSError
        If the model cannot be read, or none of its matrices can be measured.
    """
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model, revision)
    chosen, others = tensors.matrices(checkpoint)
    origin = provenance(checkpoint, seed)
    found = ByMatrix(checkpoint, skipped=[(info.name, reason) for info, reason in others], provenance=origin)
    sizes = [math.prod(info.shape) for info in chosen]
    for info, done in zip(chosen, itertools.accumulate(sizes, initial=0), strict=False):
        progress(info.name, done, sum(sizes))

        def compute(info: TensorInfo = info) -> dict[str, Any]:
            return measure(tensors.load(info), info)

        try:
            if store is None:
                found.records.append(compute())
            else:
                known = key(checkpoint, experiment=experiment, tensor=info.name, **settings)
                found.records.append(store.remember(known, compute, origin))
        except (ValueError, ArithmeticError) as error:
            found.failures.append((info.name, str(error)))
    if not found.records:
        reasons = "; ".join(reason for _, reason in found.failures) or "it has no weight matrix"
        raise ValueError(f"nothing in {checkpoint.name} could be measured: {reasons}")
    return found
