"""Runs the measurements of a checkpoint, a tensor at a time, and keeps each as soon as it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from empirics import tensors
from empirics.checks import Verdict, judge_all
from empirics.measure import Matrix, Measurement
from empirics.models import Checkpoint
from empirics.quantizers import Quantizer
from empirics.store import Store, provenance
from empirics.tensors import TensorInfo
from theory.ledger import Ledger, average


@dataclass
class Results:
    """What a run found.

    Attributes
    ----------
    model, revision : str
    block_size : int
    measurements : list of Measurement
        In the order of the checkpoint's tensors, then of the quantizers.
    failures : list of (str, str)
        Tensors that could not be measured, and why. The others are not affected.
    skipped : list of (str, str)
        Tensors that are no weight matrices, and why.
    provenance : dict
    """

    model: str
    revision: str
    block_size: int
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def of(self, quantizer: str) -> list[Measurement]:
        """The measurements of one quantizer."""
        return [m for m in self.measurements if m.quantizer == quantizer]

    @property
    def quantizers(self) -> list[str]:
        """Names of the quantizers, in the order asked for."""
        return list(dict.fromkeys(m.quantizer for m in self.measurements))

    def total(self, quantizer: str) -> Ledger:
        """The ledger of the whole model: the mean over its weights."""
        chosen = self.of(quantizer)
        return average([m.ledger for m in chosen], [m.statistics.weights for m in chosen])

    def verdicts(self) -> list[Verdict]:
        """Every claim against every measurement."""
        return [verdict for m in self.measurements for verdict in judge_all(m)]


Progress = Callable[[str, int, int], None]
"""Called with the tensor's name, the weights measured so far, and the weights in all."""


def run(
    checkpoint: Checkpoint,
    quantizers: Sequence[Quantizer],
    block_size: int,
    store: Store,
    progress: Progress = lambda name, done, total: None,
) -> Results:
    """Measure every weight matrix of a checkpoint with every quantizer.

    What `store` already holds is not measured again, so that a run that was killed goes on where it stopped and
    ends with the same numbers. A tensor that cannot be measured is reported and the rest goes on.

    Parameters
    ----------
    checkpoint : Checkpoint
    quantizers : sequence of Quantizer
    block_size : int
        Weights that share a scale.
    store : Store
    progress : callable
        See `Progress`.

    Raises
    ------
    ValueError
        If a quantizer does not take the block size, or the checkpoint's files are damaged.
    """
    for quantizer in quantizers:
        quantizer.check_block_size(block_size)
    chosen, others = tensors.matrices(checkpoint)
    origin = provenance(checkpoint)
    results = Results(
        checkpoint.name, checkpoint.revision, block_size,
        skipped=[(info.name, reason) for info, reason in others], provenance=origin,
    )  # fmt: skip
    everything, done = sum(_weights(info) for info in chosen), 0
    for info in chosen:
        progress(info.name, done, everything)
        try:
            results.measurements += _one(info, checkpoint, quantizers, block_size, store, origin)
        except (ValueError, ArithmeticError) as error:
            results.failures.append((info.name, str(error)))
        done += _weights(info)
        progress(info.name, done, everything)
    return results


def _weights(info: TensorInfo) -> int:
    return info.shape[0] * info.shape[1]


def _one(
    info: TensorInfo, checkpoint: Checkpoint, quantizers: Sequence[Quantizer], block_size: int, store: Store,
    origin: dict[str, Any],
) -> list[Measurement]:  # fmt: skip
    keys = {q.name: key(checkpoint, tensor=info.name, quantizer=q.name, block_size=block_size) for q in quantizers}
    kept = {name: store.get(key) for name, key in keys.items()}
    matrix = None
    for quantizer in quantizers:
        if kept[quantizer.name] is None:
            matrix = matrix or Matrix(tensors.load(info), info)
            record = matrix.measure(quantizer, block_size).record()
            store.put(keys[quantizer.name], record, origin)
            kept[quantizer.name] = record
    return [Measurement.of(record) for record in kept.values() if record is not None]


def key(checkpoint: Checkpoint, **fields: str | int | float) -> dict[str, str | int | float]:
    """What decides the numbers of a measurement: another version of the code or of a kernel measures again."""
    return {
        "model": checkpoint.name, "revision": checkpoint.revision, **fields,
        **{package: version(package) for package in ("quantgap", "bitsandbytes", "torch")},
    }  # fmt: skip
