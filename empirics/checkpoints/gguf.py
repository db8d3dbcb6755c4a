"""GGUF: llama.cpp's files, read and dequantized by the gguf library, under the names that transformers has.

llama.cpp stores the rows of the query and key projections of Llama models in another order (its rotary embedding
pairs neighbours, transformers' pairs halves): they are put back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from empirics.checkpoints.stored import Cells, Quantized, Stored
from empirics.group_quantizers import Asymmetric, Nearest, Rule
from empirics.histogram import refuse_non_finite
from empirics.models import Checkpoint, digest
from empirics.tensors import TensorInfo, role
from theory import codebooks
from theory.codebooks import Codebook

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those whose tensors are transformers' own, but for the order of rows in "llama"."""

PLAIN = ("F32", "F16", "BF16")
"""Types that are not quantized, named as safetensors names them."""

SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class BlockType:
    """How a type of GGML stores its blocks.

    Attributes
    ----------
    bits, block_size : int
        Of an index; weights that share a scale.
    indices : slice
        The bytes of a block that hold the indices, all of them and nothing else.
    first, last : float
        The levels that bytes of zeros and of ones mean.
    levels : array
        All levels, increasing.
    rule : Rule
        How weights are rounded plainly.
    """

    bits: int
    block_size: int
    indices: slice
    first: float
    last: float
    levels: np.ndarray
    rule: Rule


def _uniform(bits: int, block_size: int, indices: slice, signed: bool) -> BlockType:
    """Levels 0 ... 2**bits - 1 and an offset: the least weight, or minus half of the levels (signed)."""
    top = 2 ** (bits - 1)
    rule: Rule = Asymmetric(bits)
    if signed:  # the weight of largest magnitude is -top steps, or all signs the other way round
        levels = [k / top for k in range(1 - top, top + 1)]
        rule = Nearest(Codebook(f"signed{bits}", levels, bits, scaling="signed", origin="GGML"))
    return BlockType(bits, block_size, indices, 0, 2**bits - 1, np.arange(2.0**bits), rule)


def _nonlinear(indices: slice) -> BlockType:
    levels = np.array(gguf.quants.IQ4_NL.kvalues, dtype=float)
    rule = Nearest(Codebook("iq4-nl", sorted(levels / levels[0]), 4, scaling="signed", origin="GGML"))
    return BlockType(4, 32, indices, levels[0], levels[-1], levels, rule)


TYPES = {
    "Q4_0": _uniform(4, 32, slice(2, 18), signed=True),
    "Q4_1": _uniform(4, 32, slice(4, 20), signed=False),
    "Q5_0": _uniform(5, 32, slice(2, 22), signed=True),
    "Q5_1": _uniform(5, 32, slice(4, 24), signed=False),
    # One byte an index, two's complement: a byte of ones is -1.
    "Q8_0": BlockType(8, 32, slice(2, 34), 0, -1, np.arange(-128.0, 128.0), Nearest(codebooks.integer(8))),
    "Q2_K": _uniform(2, 16, slice(16, 80), signed=False),
    "Q3_K": _uniform(3, 16, slice(0, 96), signed=True),
    "Q4_K": _uniform(4, 32, slice(16, 144), signed=False),
    "Q5_K": _uniform(5, 32, slice(16, 176), signed=False),
    "Q6_K": _uniform(6, 16, slice(0, 192), signed=True),
    "IQ4_NL": _nonlinear(slice(2, 18)),
    "IQ4_XS": _nonlinear(slice(8, 136)),
}


def files(path: Path) -> tuple[Path, ...]:
    """The GGUF files that make a model, in order; none if the path is no GGUF file, and no folder of nothing else.

    Raises
    ------
    ValueError
        If a folder holds several models.
    """
    if path.suffix == ".gguf":
        return (path,)
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return ()
    found = sorted(path.glob("*.gguf"))
    if len({SHARD.sub("", file.name) for file in found}) > 1:
        listed = ", ".join(file.name for file in found)
        raise ValueError(f"{path} holds several GGUF models ({listed}): give one of the files")
    return tuple(found)


def checkpoint(name: str, paths: tuple[Path, ...], expected: str | None) -> Checkpoint:
    """The files as a checkpoint, its revision a digest of the contents.

    Raises
    ------
    ValueError
        If the revision is not the one that is expected.
    """
    revision = digest(list(paths))
    if expected not in (None, revision):
        raise ValueError(f"{name} has revision {revision}, not {expected}: use the file that you pinned, or pin this")
    return Checkpoint(name, paths[0].parent, revision, paths, {"quantization_config": {"quant_method": "gguf"}}, {})


class GGUF(Quantized):
    """A model in the format of llama.cpp."""

    method = "gguf"

    def __init__(self, checkpoint: Checkpoint) -> None:
        readers = [_reader(path) for path in checkpoint.files]

        def field(key: str) -> Any:
            found = readers[0].get_field(key)
            if found is None:
                raise ValueError(f"{checkpoint.name} lacks {key}, which such a GGUF file has: download it again")
            return found.contents()

        self._architecture = arch = field("general.architecture")
        if arch not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(f"{checkpoint.name}: GGUF of architecture {arch!r}; those read are {known}")
        self._heads = {
            "q": field(f"{arch}.attention.head_count"), "k": field(f"{arch}.attention.head_count_kv")
        }  # fmt: skip
        names = _names(arch, field(f"{arch}.block_count"))
        self._tensors: dict[str, gguf.ReaderTensor] = {}
        stored, others = [], {}
        for path, reader in zip(checkpoint.files, readers, strict=True):
            for tensor in reader.tensors:
                if tensor.name == "rope_freqs.weight":  # computed from the configuration
                    continue
                module, dot, suffix = tensor.name.rpartition(".")
                name = names.get(module, module) + dot + suffix
                info = _info(tensor, name, path)
                if info.dtype in PLAIN:
                    others[name] = info
                    continue
                kind, (rows, columns) = TYPES[info.dtype], info.shape
                stored.append(
                    Stored(name, (rows, columns), info.dtype, kind.bits, kind.block_size, kind.rule, (info,))
                )
                self._tensors[name] = tensor
        kinds = ", ".join(sorted({matrix.format for matrix in stored}))
        super().__init__(checkpoint, f"gguf, {kinds}", stored, others)

    def cells(self, name: str) -> Cells:
        tensor, stored = self._tensors[name], self.stored(name)
        known, kind = TYPES[stored.format], tensor.tensor_type
        block = gguf.GGML_QUANT_SIZES[kind][1]

        def dequantized(fill: int | None = None) -> torch.Tensor:
            """The weights; or what they would be with every byte of the indices that one."""
            data = tensor.data
            if fill is not None:
                data = np.array(data).reshape(-1, block)
                data[:, known.indices] = fill
                data = data.reshape(tensor.data.shape)
            return self._rows(torch.from_numpy(gguf.dequantize(data, kind)), name)

        values, low, high = dequantized(), dequantized(0), dequantized(255)
        refuse_non_finite(int((~values.isfinite()).sum()), values.numel(), name)
        scale = (high - low) / (known.last - known.first)
        levels = torch.from_numpy(known.levels).float()
        return Cells(values, scale, levels, offset=low - known.first * scale)

    def dense(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        return self._rows(torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type)), name)

    def _rows(self, weights: torch.Tensor, name: str) -> torch.Tensor:
        """The rows in transformers' order: of each head first the even ones, then the odd ones."""
        heads = self._heads.get(role(name))
        if self._architecture != "llama" or heads is None:
            return weights
        return weights.view(heads, -1, 2, weights.shape[1]).transpose(1, 2).reshape(weights.shape)


def _names(architecture: str, blocks: int) -> dict[str, str]:
    """GGUF's name of each module to transformers'."""
    arch = next(found for found, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names: dict[str, str] = {}
    for name, (_, short) in gguf.get_tensor_name_map(arch, blocks).mapping.items():
        # Of the names that several libraries have for a module, transformers' Llama is the first of these.
        if name == "lm_head" or (name.startswith("model.") and not name.endswith("_no_perm")):
            names.setdefault(short, name)
    return names


def _reader(path: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is not a complete GGUF file: {error}; download it again"
        ) from error


def _info(tensor: gguf.ReaderTensor, name: str, path: Path) -> TensorInfo:
    """What the header says of a tensor.

    Raises
    ------
    ValueError
        If it is of a type that is not read.
    """
    kind, shape = tensor.tensor_type.name, tuple(int(n) for n in reversed(tensor.shape))
    if kind not in PLAIN and not (kind in TYPES and len(shape) == 2):
        known = ", ".join(TYPES)
        raise ValueError(f"{path}: {tensor.name} is {kind}, shape {shape}; what is read are matrices of {known}")
    return TensorInfo(name, role(name), shape, kind, path, int(tensor.data_offset), int(tensor.n_bytes))
