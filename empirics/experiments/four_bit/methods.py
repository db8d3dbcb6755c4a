"""The methods that are compared: how each makes dense weights, and how many bits it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from empirics import quantizers
from empirics.blocks import BlockSize
from empirics.checkpoints import Base, check_base, open_quantized
from empirics.experiments.degradation import Quantization, blocks, matrices, rounded
from empirics.experiments.four_bit.weights import names_of
from empirics.language_model import LanguageModel

BASELINE = "bf16"
"""A method, and its kind."""
REFERENCE = "NF4"
"""What the others are held against."""
BLOCKS: tuple[tuple[str, str, BlockSize, str], ...] = (
    ("NF4", "nf4", 64, "nf4"),
    ("NF4 double", "nf4-double", 64, "nf4-double"),
    ("FP4", "fp4", 64, "fp4"),
    ("int4 tensor", "int4", "tensor", "int4"),
    ("int4 rows", "int4", "row", "int4"),
    ("int4 g128", "int4", 128, "notebook_group4"),
    ("int4 g64", "int4", 64, "notebook_group4"),
    ("int8 rows", "int8", "row", "int8"),
)
"""Name, quantizer and block size; and the quantizer that the notebooks have for it."""


@dataclass(frozen=True)
class Bits:
    """Bits per weight of a matrix: of an index, and with all that is stored."""

    nominal: float
    effective: float


@dataclass(frozen=True)
class Method:
    """A way to quantize the model.

    Attributes
    ----------
    quantization : Quantization
    description : str
        For people.
    kind : str
        "bf16", "normal or floating point", "integers" or "checkpoint".
    bits : dict of str to Bits
        By matrix, by the model's own names.
    """

    quantization: Quantization
    description: str
    kind: str
    bits: dict[str, Bits]

    @property
    def name(self) -> str:
        return self.quantization.name

    @property
    def four(self) -> bool:
        """Whether an index has 4 bits, in every matrix."""
        return all(bits.nominal == 4 for bits in self.bits.values())

    def mean_bits(self, lm: LanguageModel) -> Bits:
        """Over all weights that are quantized."""
        sizes = {name: lm.parameter(name).numel() for name in self.bits}
        total = sum(sizes.values())
        nominal = math.fsum(sizes[name] * bits.nominal for name, bits in self.bits.items()) / total
        return Bits(nominal, math.fsum(sizes[name] * bits.effective for name, bits in self.bits.items()) / total)


def methods(lm: LanguageModel, quantized: Iterable[str | Path]) -> list[Method]:
    """The baseline, every quantizer, and the checkpoints given.

    Raises
    ------
    empirics.checkpoints.WrongBase
        If a checkpoint was not quantized from this model.
    ValueError, OSError
        If a checkpoint cannot be read, or two have one name.
    """
    shapes = {name: matrix.shape for name, matrix in matrices(lm).items()}
    found = [Method(rounded(BASELINE, torch.bfloat16), "rounded to bf16", BASELINE,
                    {name: Bits(16, 16) for name in shapes})]  # fmt: skip
    for name, quantizer, size, _ in BLOCKS:
        rule = quantizers.get(quantizer)
        bits = {n: Bits(rule.bits, rule.effective_bits(size, shape)) for n, shape in shapes.items()}
        kind = "integers" if quantizer.startswith("int") else "normal or floating point"
        unit = f"blocks of {size}" if isinstance(size, int) else f"a scale a {size}"
        found.append(Method(blocks(quantizer, size, name), f"{quantizer}, {unit}", kind, bits))
    for checkpoint in quantized:
        made = _checkpoint(lm, checkpoint)
        if made.name in {method.name for method in found}:
            raise ValueError(f"two methods are called {made.name}: rename the folder of {checkpoint}")
        found.append(made)
    return found


def _checkpoint(lm: LanguageModel, checkpoint: str | Path) -> Method:
    base: Base = check_base(open_quantized(checkpoint), lm.checkpoint)
    stored = {name: base.quantized.stored(name) for name in base.quantized.names()}
    settings: dict[str, str | int | float] = {
        "quantized": base.quantized.name, "quantized_revision": base.quantized.revision
    }  # fmt: skip

    def dense(lm: LanguageModel) -> dict[str, torch.Tensor]:
        return {name: base.dense(name).to(lm.device) for name in stored}

    own = names_of(lm, stored)
    bits = {own[name]: Bits(matrix.bits, matrix.effective_bits) for name, matrix in stored.items()}
    quantization = Quantization(base.quantized.name, settings, dense)
    return Method(quantization, base.quantized.description, "checkpoint", bits)
