r"""AWQ: four-bit integers packed along the outputs, in an order that suits the kernel, with scales and zero points.

.. math:: W_{oi} = s_{go}\,(q_{io} - z_{go}), \qquad g = \lfloor i/\text{group size}\rfloor

A word holds eight outputs; the one in its lowest four bits is the first, the next is the third, and so on: `ORDER`.
"""

from __future__ import annotations

import torch

from empirics import tensors
from empirics.checkpoints.packing import groups, unpack
from empirics.checkpoints.stored import Cells, Quantized, Stored, integers, required, split
from empirics.group_quantizers import ZeroPoint
from empirics.models import Checkpoint

ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in its word each of eight outputs is."""


class AWQ(Quantized):
    """A checkpoint in the layout of AutoAWQ's "gemm" kernel."""

    method = "awq"

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config["quantization_config"]
        layout, bits = config.get("version", "gemm"), config.get("bits", config.get("w_bit", 4))
        if layout.lower() != "gemm" or bits != 4:
            raise ValueError(f"{checkpoint.name}: AWQ in {bits} bits, layout {layout!r}; only 4-bit gemm is read")
        self._parts, others = split(checkpoint, ("qweight",))
        self._groups: dict[str, torch.Tensor] = {}
        stored = [self._describe(module, checkpoint.name) for module in self._parts]
        super().__init__(checkpoint, f"awq, {stored[0].format}" if stored else "", stored, others)

    def _describe(self, module: str, model: str) -> Stored:
        parts = self._parts[module]
        packed, zeros, scales = required(parts, module, "qweight", "qzeros", "scales")
        (columns, words), (count, rows) = packed.shape, scales.shape
        if 8 * words != rows or zeros.shape != (count, words):
            raise ValueError(
                f"{model}: {module} has qweight {packed.shape}, qzeros {zeros.shape} and scales {scales.shape}, which"
                " do not fit together with 4 bits"
            )
        self._groups[module] = groups(count, columns, f"{model}: {module}")
        size = columns // count
        label = f"4 bits, groups of {size}"
        return Stored(f"{module}.weight", (rows, columns), label, 4, size, ZeroPoint(4), tuple(parts.values()))

    def cells(self, name: str) -> Cells:
        module = name.removesuffix(".weight")
        parts = self._parts[module]
        packed, zeros, scales = (tensors.load(parts[suffix]) for suffix in ("qweight", "qzeros", "scales"))
        index = self._groups[module]
        return integers(
            codes=_outputs(packed).float().T.contiguous(),
            scale=scales.float().T.contiguous()[:, index],
            zero=_outputs(zeros).float().T.contiguous()[:, index],
            levels=torch.arange(16.0),
        )


def _outputs(words: torch.Tensor) -> torch.Tensor:
    """The integers in each row of words, in the order of the outputs."""
    return unpack(words, 4).view(len(words), -1, 8)[:, :, list(ORDER)].flatten(1)
