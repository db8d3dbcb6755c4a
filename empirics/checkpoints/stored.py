r"""What a quantized checkpoint holds of a matrix: integers or codes, and the scales that make weights of them.

Every format read here is a grid with a scale (and perhaps a zero) for each block of weights:
:math:`w = s\,(c - z)` with c one of a few levels. A kernel computes this product in the dtype that it multiplies in;
here it is computed in float32, where it is exact for integers and the 16-bit scales that the formats store, and
rounded once for float32 scales.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from empirics import tensors
from empirics.group_quantizers import Nearest, Rule
from empirics.models import Checkpoint
from empirics.tensors import TensorInfo
from theory.codebooks import Codebook


@dataclass(frozen=True, eq=False)
class Cells:
    """A matrix on its grid, whose points are ``(levels - zero) * scale + offset``.

    Attributes
    ----------
    values : tensor of shape (rows, columns)
        The weights, float32: each a point of the grid.
    scale : tensor
        Float32, broadcast to the weights.
    levels : tensor of shape (N,)
        Increasing.
    zero, offset : tensor or float
        Broadcast to the weights; 0 if not given.
    """

    values: torch.Tensor
    scale: torch.Tensor
    levels: torch.Tensor
    zero: torch.Tensor | float = 0.0
    offset: torch.Tensor | float = 0.0

    def nearest(self, weights: torch.Tensor) -> torch.Tensor:
        """Other weights, each rounded to the nearest point that the grid has for it."""
        codes = (weights - self.offset) / self.scale.where(self.scale != 0, 1) + self.zero
        if bool((self.levels.diff() == 1).all()):  # integers: five times as fast
            codes = codes.round_().clamp_(self.levels[0], self.levels[-1])
        else:
            middles = (self.levels[1:] + self.levels[:-1]) / 2
            codes = self.levels[torch.bucketize(codes.contiguous(), middles)]
        return (codes - self.zero) * self.scale + self.offset


def integers(codes: torch.Tensor, zero: torch.Tensor | float, scale: torch.Tensor, levels: torch.Tensor) -> Cells:
    """Cells of ``(codes - zero) * scale``: the difference is exact, and so is the product of 16-bit scales."""
    return Cells((codes - zero) * scale, scale, levels, zero)


@dataclass(frozen=True, eq=False)
class Stored:
    """A quantized matrix, as the headers describe it.

    Attributes
    ----------
    name : str
        That of the weight in the model that was quantized.
    shape : tuple of int
        Rows first: the outputs.
    format : str
        For people: "nf4, blocks of 64".
    bits : int
        Nominal bits per weight: the width of an index.
    block_size : int
        Weights that share a scale.
    rule : Rule
        How the format rounds a block to nearest, with scales that it does not round.
    parts : tuple of TensorInfo
        Everything that is stored of it.
    order : tensor of shape (columns,), optional
        The columns, those of a block one after another; as they come if not given.
    """

    name: str
    shape: tuple[int, int]
    format: str
    bits: int
    block_size: int
    rule: Rule
    parts: tuple[TensorInfo, ...]
    order: torch.Tensor | None = None

    @property
    def weights(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1]

    @property
    def codebook(self) -> Codebook | None:
        """The levels relative to the scale, where the format has a codebook on [-1, 1]."""
        return self.rule.codebook if isinstance(self.rule, Nearest) else None

    @property
    def effective_bits(self) -> float:
        """Bits per weight of all that is stored: indices, scales, zero points, group indices, tables of levels."""
        return 8 * sum(part.nbytes for part in self.parts) / self.weights

    def rounded(self, weights: torch.Tensor) -> torch.Tensor:
        """Other weights, rounded to nearest as the format does it plainly: with scales of their own, in full.

        Parameters
        ----------
        weights : tensor of shape (rows, columns)
            Float32.
        """
        ordered = weights if self.order is None else weights[:, self.order]
        flat = ordered.reshape(-1)
        # Zeros fill a short last block: it is divided by its largest magnitude, which they leave as it is.
        blocks = torch.nn.functional.pad(flat, (0, -len(flat) % self.block_size)).view(-1, self.block_size)
        low, high = blocks.aminmax(dim=1, keepdim=True)
        parameters = self.rule.parameters(low, high)
        values = self.rule.round(blocks, parameters, parameters).view(-1)[: len(flat)].view(self.shape)
        if self.order is None:
            return values
        return torch.empty_like(values).index_copy_(1, self.order, values)


class Quantized(ABC):
    """A checkpoint that is already quantized, under the tensor names of the model that was quantized.

    Nothing but headers and vectors is read before a matrix is asked for, and then that matrix alone.

    Parameters
    ----------
    checkpoint : Checkpoint
    description : str
        For people: "gptq, 4 bits, groups of 128".
    stored : iterable of Stored
    others : dict of str to TensorInfo
        Tensors that are not quantized.

    Raises
    ------
    ValueError
        If no matrix is quantized.
    """

    method: str
    """The format's name, as config.json writes it: "bitsandbytes", "gptq", "awq", "compressed-tensors", "gguf"."""

    only_rounds = False
    """Whether the method does nothing but round to the nearest level."""

    def __init__(
        self, checkpoint: Checkpoint, description: str, stored: Iterable[Stored], others: dict[str, TensorInfo]
    ) -> None:
        self.checkpoint = checkpoint
        self.description = description
        self._stored = {matrix.name: matrix for matrix in stored}
        self._others = others
        if not self._stored:
            raise ValueError(f"{checkpoint.name} says that it is quantized ({self.method}), but no matrix of it is")

    @property
    def name(self) -> str:
        return self.checkpoint.name

    @property
    def revision(self) -> str:
        """Which weights these are, as `empirics.models.Checkpoint.revision` says."""
        return self.checkpoint.revision

    def names(self) -> list[str]:
        """The quantized matrices."""
        return list(self._stored)

    def stored(self, name: str) -> Stored:
        """What the headers say of a quantized matrix."""
        return self._stored[name]

    def others(self) -> list[str]:
        """The tensors that are not quantized."""
        return list(self._others)

    def other(self, name: str) -> torch.Tensor:
        """A tensor that is not quantized, in its own dtype."""
        return tensors.load(self._others[name])

    def other_info(self, name: str) -> TensorInfo:
        """What the header says of a tensor that is not quantized."""
        return self._others[name]

    @property
    def bits(self) -> float:
        """Nominal bits per weight, on average over the quantized matrices."""
        return self._mean([matrix.bits for matrix in self._stored.values()])

    def effective_bits(self, name: str | None = None) -> float:
        """Bits per weight of all that is stored of a matrix; of all quantized matrices if none is named."""
        if name is not None:
            return self._stored[name].effective_bits
        return self._mean([matrix.effective_bits for matrix in self._stored.values()])

    def _mean(self, values: list[float]) -> float:
        weights = [matrix.weights for matrix in self._stored.values()]
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)

    @abstractmethod
    def cells(self, name: str) -> Cells:
        """Read a quantized matrix, alone.

        Raises
        ------
        ValueError
            If what is stored of it does not fit together, or a scale is NaN or infinite.
        """

    def dense(self, name: str) -> torch.Tensor:
        """A quantized matrix as the weights that its kernel multiplies with.

        Returns
        -------
        tensor of shape (rows, columns)
            Float32, in the orientation of the model that was quantized.
        """
        return self.cells(name).values


Parts = dict[str, TensorInfo]
"""What is stored of a module, by the end of the name."""


def split(checkpoint: Checkpoint, marks: tuple[str, ...]) -> tuple[dict[str, Parts], dict[str, TensorInfo]]:
    """The tensors of the modules that hold one of `marks`, module by module; and all the others, by name.

    A module is what is before the last dot but for `marks`' own dots; of the tensors of a quantized module, its bias
    is one of the others.
    """
    catalogue = {info.name: info for info in tensors.catalogue(checkpoint)}
    modules = {name.removesuffix(f".{mark}") for name in catalogue for mark in marks if name.endswith(f".{mark}")}
    parts: dict[str, Parts] = {module: {} for module in sorted(modules, key=tensors.natural)}
    others = {}
    for name, info in catalogue.items():
        # The longest module first: "a.b" and "a.b.c" may both be.
        module = next((name[:i] for i in range(len(name) - 1, 0, -1) if name[i] == "." and name[:i] in modules), None)
        suffix = name[len(module) + 1 :] if module else ""
        if module and suffix != "bias":
            parts[module][suffix] = info
        else:
            others[name] = info
    return parts, others


def required(parts: Parts, module: str, *suffixes: str) -> list[TensorInfo]:
    """The parts of a module with these suffixes.

    Raises
    ------
    ValueError
        If one is missing.
    """
    for suffix in suffixes:
        if suffix not in parts:
            raise ValueError(f"{module} lacks {suffix}, without which its weights cannot be known; download it again")
    return [parts[suffix] for suffix in suffixes]
