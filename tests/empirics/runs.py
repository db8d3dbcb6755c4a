"""Runs built by hand, for the tests of figures and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empirics.checks import Verdict
from empirics.engine import Results
from empirics.measure import Measurement, Statistics
from theory.ledger import STEPS, Ledger, Step

BITS = (-0.01, 0.0002, 0.25, 0.4, -0.15, 0.05, -0.02, 0.01)
"""Steps of the first matrix; the second has `shift` more in each."""


def ledger(shift: float = 0.0, bits: int = 4, side: float = 0.5) -> Ledger:
    steps, total = [], 0.0
    for name, step in zip(STEPS, BITS, strict=True):
        total += step + shift
        steps.append(Step(name, step + shift, 4.0 ** (total - bits)))
    return Ledger(total, tuple(steps), bits, bits + side, 1e-7)


def measurement(name: str = "model.layers.0.mlp.up_proj.weight", quantizer: str = "nf4", **given: Any) -> Measurement:
    """One matrix and quantizer; what is not given is plausible."""
    shift, role, layer = given.pop("shift", 0.0), given.pop("role", "up"), given.pop("layer", 0)
    parts = ledger(shift)
    mse = parts.steps[-1].distortion
    statistics: dict[str, Any] = dict(  # noqa: C408
        name=name, role=role, layer=layer, shape=[30, 100], dtype="BF16", weights=3000, mean=0.0, variance=2e-4,
        kurtosis=3.4, kurtosis_error=0.2, beta=1.625, beta_error=0.012, beta_row=1.875, beta_row_error=0.017,
        row_gain=0.9, row_deviation=0.97, displacement=0.0, notes=[],
    )  # fmt: skip
    statistics |= {key: given.pop(key) for key in list(given) if key in statistics}
    values: dict[str, Any] = dict(  # noqa: C408
        quantizer=quantizer, bits=4, effective_bits=4.5, block_size=64, measured_mse=mse, mse_error=0.01 * mse,
        predicted_mse_iid=1.07 * mse, predicted_mse_row=0.985 * mse, absmax_mean=2.6, absmax_mean_error=0.01,
        absmax_second_moment=7.0, worst=0.15, lloyd_max_mse=0.0095, uniform_mse=0.0115, ecsq_mse=0.006, ledger=parts,
    )  # fmt: skip
    return Measurement(Statistics(**statistics), **(values | given))


def run(quantizers: Sequence[str] = ("nf4", "fp4"), **given: Any) -> Results:
    """Two matrices of different sizes, a failure and a vector."""
    values: dict[str, Any] = dict(  # noqa: C408
        model="tiny-llama", revision="abc123", block_size=64,
        measurements=[
            measurement(name, quantizer, shift=0.01 * i + 0.02 * j, layer=i, weights=3000 + 6000 * i)
            for i, name in enumerate(["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"])
            for j, quantizer in enumerate(quantizers)
        ],
        failures=[("model.layers.1.mlp.down_proj.weight", "3 of 9 weights are NaN")],
        skipped=[("model.norm.weight", "1 dimensions, not 2")],
        provenance={"versions": {"python": "3.11.7", "torch": None}, "platform": "Linux", "seed": 7},
    )  # fmt: skip
    return Results(**(values | given))


def verdicts(results: Results) -> list[Verdict]:
    """For each measurement: a claim that holds, one that is violated, one that does not apply."""
    made = []
    for i, m in enumerate(results.measurements):
        name = m.statistics.name, m.quantizer
        made += [
            Verdict("block.converse", *name, "holds", "", 0.002, 0.009 + i / 1000, 0.007 + i / 1000, 0.0005),
            Verdict("block.best-codebook", *name, "violated", "", 0.00934, 0.00897, -0.00037, 0.00005),
            Verdict("ggd.stam", *name, "inapplicable", "compares theory with theory: nothing is measured"),
        ]
    return made
