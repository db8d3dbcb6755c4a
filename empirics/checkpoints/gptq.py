r"""GPTQ: integers packed along the inputs, and for each group of inputs and each output a scale and a zero point.

.. math:: W_{oi} = s_{g(i)\,o}\,(q_{io} - z_{g(i)\,o}),

with the group g(i) of an input as g_idx says, or one group after another.

Checkpoints in the format "gptq" (the first one) hold z - 1, in "gptq_v2" z. The 1 is subtracted from and added to
whole words of 32 bits (of 3 bits: to each zero point, modulo 8), as GPTQModel does it: where a zero point is 0 it is
borrowed from the next one.
"""

from __future__ import annotations

import torch

from empirics import tensors
from empirics.checkpoints.packing import groups, in_order, unpack
from empirics.checkpoints.stored import Cells, Quantized, Stored, integers, required, split
from empirics.group_quantizers import Grid, Rule, ZeroPoint
from empirics.models import Checkpoint

WIDTHS = (2, 3, 4, 8)
FORMATS = ("gptq", "gptq_v2")


class GPTQ(Quantized):
    """A checkpoint of GPTQModel, AutoGPTQ, or AutoRound's export to their format."""

    method = "gptq"

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config["quantization_config"]
        form = config.get("checkpoint_format", "gptq")
        if form not in FORMATS:
            raise ValueError(f"{checkpoint.name}: unknown GPTQ format {form!r}; those read are {', '.join(FORMATS)}")
        if config.get("pack_dtype", "int32") != "int32":
            raise ValueError(f"{checkpoint.name} is packed in {config['pack_dtype']}; only int32 is read")
        self._first_format, self._symmetric = form == "gptq", bool(config.get("sym", True))
        self._parts, others = split(checkpoint, ("qweight",))
        self._groups: dict[str, torch.Tensor] = {}
        stored = [self._describe(module, checkpoint.name) for module in self._parts]
        super().__init__(checkpoint, f"{form}, {stored[0].format}" if stored else "", stored, others)

    def _describe(self, module: str, model: str) -> Stored:
        parts = self._parts[module]
        packed, zeros, scales = required(parts, module, "qweight", "qzeros", "scales")
        count, rows = scales.shape
        # Bits and groups may differ from module to module: what is stored says what they are.
        bits = 32 * zeros.shape[1] // rows
        columns = 32 * packed.shape[0] // bits if bits else 0
        if bits not in WIDTHS or packed.shape[1] != rows or zeros.shape[0] != count:
            raise ValueError(
                f"{model}: {module} has qweight {packed.shape}, qzeros {zeros.shape} and scales {scales.shape}, which"
                f" do not fit together with {', '.join(map(str, WIDTHS))} bits"
            )
        given = tensors.load(parts["g_idx"]) if "g_idx" in parts else None
        index = groups(count, columns, f"{model}: {module}", given)
        self._groups[module], order, size = index, in_order(index), columns // count
        top = 2 ** (bits - 1)
        rule: Rule = Grid(top - 0.5, -top, top - 1) if self._symmetric else ZeroPoint(bits)
        label = f"{bits} bits, groups of {size}" + (", ordered by activation" if order is not None else "")
        return Stored(f"{module}.weight", (rows, columns), label, bits, size, rule, tuple(parts.values()), order)

    def cells(self, name: str) -> Cells:
        module = name.removesuffix(".weight")
        parts, bits, index = self._parts[module], self.stored(name).bits, self._groups[module]
        packed, zeros, scales = (tensors.load(parts[suffix]) for suffix in ("qweight", "qzeros", "scales"))
        return integers(
            codes=unpack(packed.T, bits).float(),
            scale=_of_inputs(scales, index),
            zero=_of_inputs(_zero_points(zeros, bits, self._first_format), index),
            levels=torch.arange(float(2**bits)),
        )


def _of_inputs(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """What belongs to each weight, of values of shape (groups, outputs)."""
    return values.float().T.contiguous()[:, index]


def _zero_points(words: torch.Tensor, bits: int, less_one: bool) -> torch.Tensor:
    """The integers packed in the words, each more by 1 if 1 was taken from it."""
    if not less_one:
        return unpack(words, bits)
    if 32 % bits:  # one that begins in a word and ends in the next: by itself
        return unpack(words, bits) + 1 & 2**bits - 1
    ones = sum(1 << place for place in range(0, 32, bits))
    return unpack((words.long() + ones & 0xFFFFFFFF).to(torch.int32), bits)
