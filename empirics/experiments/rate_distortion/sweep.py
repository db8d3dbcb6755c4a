"""What ``quantgap run rate-distortion`` tries on a matrix: each quantizer at each rate, a row of values each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from empirics import lattice_quantizers, quantizers, scalar_quantizers, vector_quantizers
from empirics.blocks import BlockSize
from empirics.distortion import distortion
from empirics.quantizers import Quantizer
from empirics.vector_quantizers import Vector
from theory.sources import Histogram

UNIFORM: dict[str, tuple[BlockSize, ...]] = {
    "sym": (16, 32, 64, 128, 256, "row"), "asym": (32, 64, 128, "row"), "int": (32, 64, 128, "row", "tensor"),
    "notebook_group": (32, 128),
}  # fmt: skip
"""Uniform quantizers of groups by their names without the bits, and the groups; scales are fp16."""

CODEBOOKS: tuple[tuple[str, BlockSize], ...] = (
    ("nf4", 64), ("fp4", 64), ("e2m1", 64), ("af4", 64), ("bof4", 64), ("bof4s", 64),
    ("nf4", 32), ("nf4", 128), ("nf4", 256),
    *((f"{name}-{kept}", 64) for name in ("nf4", "sym4", "int4") for kept in ("bf16", "fp8_e4m3", "double")),
    ("e2m1-e8m0", 32), ("e2m1-fp8_e4m3", 16),
)  # fmt: skip
"""4-bit quantizers with the format of their scales (fp32 if not said), and the group."""

KMEANS = {2: (4, 6, 8), 4: (4, 6), 8: (6,)}
"""Dimension, and the bits of codebooks."""

PRODUCTS = ((8, 2, 6), (8, 4, 6))
"""Dimension, parts, and the bits of each part's codebook."""

NOTEBOOK_PRODUCTS = (2, 4, 8)
"""Dimensions of the notebook's variant; codebooks have 6 bits."""

LATTICE_RATES = (1, 2, 3, 4)
BALL_RATES = {"D4": (1.5, 2, 3), "E8": (1, 1.5)}
"""Rates of lattices cut down to a ball: E8 at 2 bits has 65,535 points already."""

SAMPLE = 2**20
"""Weights that the vector quantizers see at most: rows evenly spaced in the matrix."""


class Found(NamedTuple):
    """Bits per weight and mean squared error in the weights' units squared; an error is 0 where a number is exact."""

    index_bits: float
    effective_bits: float
    effective_bits_error: float
    mse: float
    mse_error: float
    status: str = "converged"


@dataclass(frozen=True)
class Trial:
    """A quantizer at a rate, not yet measured.

    Attributes
    ----------
    family : str
        "scalar", "group", "codebook", "lattice", "vector" or "product".
    quantizer : str
        Its name, the same at every rate.
    dimension : int
        Weights coded together.
    block_size : int, "row" or "tensor"
        Weights that share a scale or a codebook.
    scale_format : str
        What stores the parameters.
    nominal_bits : float
    measure : callable
    """

    family: str
    quantizer: str
    dimension: int
    block_size: BlockSize
    scale_format: str
    nominal_bits: float
    measure: Callable[[], Found]

    def row(self) -> dict[str, Any]:
        """What was found, in the weights' units squared; if nothing, numbers are None and `status` says why."""
        about = {
            "family": self.family, "quantizer": self.quantizer, "dimension": self.dimension,
            "block_size": str(self.block_size), "scale_format": self.scale_format, "nominal_bits": self.nominal_bits,
        }  # fmt: skip
        try:
            return about | self.measure()._asdict()
        except (ValueError, ArithmeticError) as error:
            return about | dict.fromkeys(Found._fields) | {"status": str(error)}


def scalars(atoms: Histogram, bits: Sequence[int]) -> Iterator[Trial]:
    """Every quantizer of `empirics.scalar_quantizers`; errors are bounds, 0 where the histogram is exact."""

    def measure(quantizer: Callable[[Histogram, int], scalar_quantizers.Scalar], b: int) -> Found:
        q = quantizer(atoms, b)
        moved = atoms.displacement * (2 * math.sqrt(q.mse) + atoms.displacement)
        return Found(q.index_bits, q.effective_bits, 0.0, q.mse, moved, q.status)

    for quantizer in scalar_quantizers.QUANTIZERS:
        name = quantizer.__name__.removesuffix("_levels")
        for b in bits:
            yield Trial("scalar", name, 1, "tensor", "fp32", b, partial(measure, quantizer, b))


def groups(tensor: torch.Tensor, bits: Sequence[int], name: str) -> Iterator[Trial]:
    """`UNIFORM` at every number of bits that there is, and `CODEBOOKS`; exact."""

    def trial(family: str, known: str, b: int, quantizer: Quantizer, block: BlockSize) -> Trial:
        def measure() -> Found:
            mse = distortion(quantizer, tensor, block, name).mse
            return Found(quantizer.index_bits, quantizer.effective_bits(block, tensor.shape), 0.0, mse, 0.0)

        return Trial(family, known, 1, block, quantizer.scale_format, b, measure)

    there = set(quantizers.names())
    for base, blocks in UNIFORM.items():
        for b in (b for b in bits if f"{base}{b}" in there):
            quantizer = quantizers.get(f"{base}{b}", None if base == "notebook_group" else "fp16")
            yield from (trial("group", base, b, quantizer, block) for block in blocks)
    for named, block in CODEBOOKS:
        quantizer = quantizers.get(named)
        base = named.partition("-")[0]
        family, known = ("group", base[:-1]) if base[:-1] in UNIFORM else ("codebook", base)
        if quantizer.bits in bits:
            yield trial(family, known, quantizer.bits, quantizer, block)


def vectors(tensor: torch.Tensor, bits: Sequence[int], seed: int = 0) -> Iterator[Trial]:
    """Lattices, k-means and product quantization, at rates up to the most bits; of a sample of a large matrix."""
    sample = tensor[:: -(-tensor.numel() // SAMPLE)].cpu()

    def trial(family: str, quantizer: str, d: int, rate: float, make: Callable[..., Vector], *given: Any) -> Trial:
        def measure() -> Found:
            q = make(sample, *given, seed=seed)
            # The parameters are shared by all weights, not by those of the sample.
            effective = q.index_bits + (q.effective_bits - q.index_bits) * q.weights / tensor.numel()
            return Found(q.index_bits, effective, q.index_error, q.mse, q.mse_error, q.status)

        return Trial(family, quantizer, d, "tensor", "fp32", rate, measure)

    def every() -> Iterator[Trial]:
        for name, d in (("D4", 4), ("E8", 8)):
            for rate in (rate for rate in LATTICE_RATES if rate in bits):
                yield trial("lattice", name, d, rate, lattice_quantizers.lattice, name, rate)
            for ball in BALL_RATES[name]:
                yield trial("lattice", f"{name}_ball", d, ball, lattice_quantizers.ball_lattice, name, ball)
        for d, sizes in KMEANS.items():
            for b in sizes:
                yield trial("vector", "kmeans", d, b / d, vector_quantizers.kmeans, d, b)
        for d, parts, b in PRODUCTS:
            yield trial("product", "product", d, parts * b / d, vector_quantizers.product, d, parts, b)
        for d in NOTEBOOK_PRODUCTS:
            yield trial("product", "notebook_product", d, 6 / d, vector_quantizers.notebook_product, d, 6)

    return (found for found in every() if found.nominal_bits <= max(bits))
