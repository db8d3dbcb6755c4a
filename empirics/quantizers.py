r"""Quantizers of groups of weights: name -> quantized tensor, nominal and effective bits.

Groups (blocks) run over the flattened tensor, whatever its rows, and the last one may be short: that is what
bitsandbytes does. A block may also be a row (per-channel) or the tensor. `empirics.group_quantizers` has the rules
that round a block, and the formats that store its scale; `empirics.distortion` measures the error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from empirics.blocks import Blocks, BlockSize, block_length
from empirics.group_quantizers import AS_NOTEBOOK, Asymmetric, Grid, Nearest, Parameters, Rule, ZeroPoint, stored
from theory import block_scaling, codebooks, scale_formats
from theory.codebooks import Codebook
from theory.domain import unknown
from theory.sources import Source


@dataclass(frozen=True, eq=False)
class Quantizer:
    """A rule that rounds blocks, and how their scales are stored.

    Attributes
    ----------
    name : str
        With the format of the scales, if that is not fp32: "nf4-bf16".
    bits : int
        Nominal bits per weight.
    index_bits : float
        Bits of an index: `bits`, or log2 of the number of levels if there are more than ``2**bits``.
    rule : Rule
    codebook : theory.codebooks.Codebook or None
        The levels in units of the scale, for predictions; None if they are not the same for every block.
    scale_format : str
        What stores the scales: fp32, fp16, bf16, fp8_e4m3, fp8_e5m2, e8m0 or double (`theory.scale_formats`).
    """

    name: str
    bits: int
    index_bits: float
    rule: Rule
    codebook: Codebook | None
    scale_format: str = "fp32"

    @property
    def encode(self) -> Literal["exact", "rounded"]:
        """Whether weights are divided by the exact scale or by the stored one, as `theory.scale_formats` says.

        By the stored one, the best that it allows; double quantization has bitsandbytes' order.
        """
        return "exact" if self.scale_format == "double" else "rounded"

    @property
    def scale_bits(self) -> float:
        """Bits of a block's parameters; double quantization's second scale is shared, its mean not counted."""
        if self.scale_format == AS_NOTEBOOK:
            return 16.0
        signed = self.codebook is not None and self.codebook.scaling == "signed"
        sign = signed and self.scale_format in ("e8m0", "double")  # of magnitudes: it takes a bit beside them
        a_number = scale_formats.get(self.scale_format).bits_per_weight(1)
        return self.rule.formatted * a_number + self.rule.other_bits + sign

    def effective_bits(self, block_size: BlockSize, shape: Sequence[int] | None = None) -> float:
        """Bits per weight with the parameters of each block, ``index_bits + scale_bits / block_size``.

        Parameters
        ----------
        block_size : int, "row" or "tensor"
        shape : sequence of int, optional
            Of the tensor: its blocks are counted, a short last one like the others. Needed for a row or the tensor.

        Raises
        ------
        ValueError
            If the block size is not a positive integer, or a row or the tensor without a shape.

        Examples
        --------
        >>> get("nf4").effective_bits(64), get("int4").effective_bits("row", (1024, 4096))
        (4.5, 4.0078125)
        """
        length = block_length(block_size, shape)
        weights = length if shape is None else math.prod(shape)
        return self.index_bits + self.scale_bits * -(-weights // length) / weights

    def check_block_size(self, block_size: BlockSize) -> None:
        """Raise ValueError unless this is a block size."""
        block_length(block_size, ())

    def predicted_mse(self, n: int, source: Source) -> float:
        """Mean squared error of blocks of n independent draws, in the source's units squared.

        It is `theory.block_scaling.mse`, or `theory.scale_formats.mse` where scales are rounded: then the standard
        deviation of the source matters. Raises ValueError if there is no codebook.

        >>> from theory.sources import GGD
        >>> round(get("nf4-double").predicted_mse(64, GGD(2.0)), 8)
        0.00846439
        """
        if self.codebook is None:
            raise ValueError(f"{self.name} has no prediction: its levels depend on both ends of a block")
        if self.scale_format in ("fp32", AS_NOTEBOOK):
            return float(block_scaling.mse(self.codebook, n, source))
        return scale_formats.mse(self.codebook, n, source, self.scale_format, self.encode)

    def quantize(self, tensor: torch.Tensor, block_size: BlockSize, name: str = "tensor") -> torch.Tensor:
        """Quantize and dequantize.

        Parameters
        ----------
        tensor : torch.Tensor
            Floating-point; any shape and device. It is converted to float32 first, as kernels do.
        block_size : int, "row" or "tensor"
            Weights that share a scale.
        name : str
            What the error messages call the tensor.

        Returns
        -------
        torch.Tensor
            float32, of the same shape: the values before a library rounds them to the dtype of its input.

        Raises
        ------
        TypeError
            If the dtype is not floating-point.
        ValueError
            If the block size is not a positive integer, the tensor is empty or holds NaN or infinity, or a scale is
            beyond the largest of its format.

        Examples
        --------
        >>> get("int4").quantize(torch.tensor([7.0, 3.4, -0.5, 0.0]), 4)
        tensor([7., 3., -0., 0.])
        """
        blocks = Blocks(tensor, block_size, name)
        out = torch.empty(blocks.flat.shape, dtype=torch.float32, device=tensor.device)
        for start, _, values, _ in self.rounded(blocks):
            out[start : start + values.numel()] = values.view(-1)[: len(out) - start]
        return out.view(tensor.shape)

    def rounded(self, blocks: Blocks) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """First index, float32 blocks, the same quantized, and their absmax, a chunk at a time."""
        parameters = self.parameters(blocks)
        for start, first, x in blocks.chunks():
            here = slice(first, first + len(x))
            coding, decoding = (tuple(p[here, None] for p in of_all) for of_all in parameters)
            yield start, x, self.rule.round(x, coding, decoding), blocks.absmax[here]

    def parameters(self, blocks: Blocks) -> tuple[Parameters, Parameters]:
        """What the blocks are coded and decoded with."""
        exact, formatted = self.rule.parameters(blocks.low, blocks.high), self.rule.formatted
        kept = *(stored(p, self.scale_format, blocks.name) for p in exact[:formatted]), *exact[formatted:]
        return (exact if self.encode == "exact" else kept), kept


def _coded(name: str, codebook: Codebook) -> Quantizer:
    return Quantizer(name, codebook.bits, codebook.bits, Nearest(codebook), codebook)


def _integers(bits: int) -> Quantizer:
    top = 2 ** (bits - 1) - 1
    return Quantizer(f"int{bits}", bits, bits, Grid(top, -top, top), codebooks.integer(bits))


def _symmetric(bits: int) -> Quantizer:
    half, top = 2 ** (bits - 1), (2**bits - 1) / 2
    codebook = Codebook(f"sym{bits}", [(k + 0.5) / top for k in range(-half, half)], bits, origin="uniform")
    return Quantizer(codebook.name, bits, bits, Grid(top, -half, half - 1, middles=True), codebook)


def _notebook_group(bits: int) -> Quantizer:
    # The largest magnitude is top = 7.5 steps and goes to the even 8, a level of its own: 17 levels at "4 bits". It
    # would be as far from 7, of the levels within [-1, 1]: with those the predictions are right.
    top, inside, end = (2**bits - 1) / 2, 2 ** (bits - 1) - 1, round((2**bits - 1) / 2)
    codebook = Codebook(f"notebook_group{bits}", [k / top for k in range(-inside, inside + 1)], bits)
    rule = Grid(top, -end, end)
    return Quantizer(codebook.name, bits, math.log2(2 * end + 1), rule, codebook, AS_NOTEBOOK)


_QUANTIZERS = {
    q.name: q
    for q in (
        _coded("nf4", codebooks.NF4),
        _coded("fp4", codebooks.FP4),
        *(_integers(bits) for bits in range(2, 9)),
        *(_symmetric(bits) for bits in range(1, 9)),
        *(Quantizer(f"asym{bits}", bits, bits, Asymmetric(bits), None) for bits in range(1, 9)),
        *(Quantizer(f"uint{bits}", bits, bits, ZeroPoint(bits), None) for bits in range(2, 9)),
        *(_notebook_group(bits) for bits in range(1, 9)),
        _coded("e2m1", codebooks.E2M1),
        _coded("af4", codebooks.AF4_64),
        _coded("bof4", codebooks.BOF4_64),
        _coded("bof4s", codebooks.BOF4S_64),
    )
}


def names() -> list[str]:
    """The quantizers that there are, with fp32 scales.

    nf4 and fp4 are bitsandbytes'; e2m1 that of Microscaling; af4, bof4 and bof4s (signed scales) the published
    codebooks for blocks of 64. With b bits, 2 to 8: intb, the integers up to 2**(b-1) - 1 and their negatives; uintb,
    uniform from the least weight of a block to its greatest, with 0 among the levels. With 1 to 8: asymb, the same
    without; symb, uniform with 2**b levels, plus and minus the largest magnitude among them; notebook_groupb, x/step
    rounded half to even with a step of 2 absmax/(2**b - 1), which makes 2**b + 1 levels.

    >>> names()[:4], len(names())
    (['nf4', 'fp4', 'int2', 'int3'], 44)
    """
    return list(_QUANTIZERS)


def get(name: str, scale_format: str | None = None) -> Quantizer:
    """Return the quantizer of that name.

    Parameters
    ----------
    name : str
        One of `names`, in any case; or one with the format of its scales behind, "nf4-double".
    scale_format : str, optional
        Instead of the latter: fp16, bf16, fp8_e4m3, fp8_e5m2, e8m0, double, or fp32, which is the default.

    Raises
    ------
    ValueError
        If there is none, near misses are suggested; or the format cannot store the quantizer's parameters.

    Examples
    --------
    >>> get("nf4", "double").name, get("nf4-double").effective_bits(64)
    ('nf4-double', 4.126953125)
    >>> get("nf5")
    Traceback (most recent call last):
    ...
    ValueError: no quantizer is called 'nf5': did you mean nf4?
    """
    base, _, behind = name.lower().partition("-")
    scale_format = scale_format or behind or "fp32"
    if base not in _QUANTIZERS:
        raise unknown("quantizer", name, _QUANTIZERS)
    found = _QUANTIZERS[base]
    if scale_formats.get(scale_format).name == "fp32":
        return found
    if found.scale_format == AS_NOTEBOOK:
        raise ValueError(f"{base} does not round its scales: it takes no scale format, not even {scale_format}")
    if scale_format == "e8m0" and not found.rule.any_format:
        raise ValueError(f"{base}-e8m0: a power of two stores the scale of a codebook, not the step of {base}")
    return replace(found, name=f"{base}-{scale_format}", scale_format=scale_format)
