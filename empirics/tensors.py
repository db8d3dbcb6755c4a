"""The tensors of a checkpoint, one at a time: from the headers what they are, by loading what they hold."""

from __future__ import annotations

import json
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from empirics.models import INDEX, Checkpoint

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
WEIGHT_DTYPES = {"BF16", "F16", "F32", "F64"}

# The module that owns the parameter, by its last one or two components.
ROLES = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "embed_tokens": "embedding",
    "lm_head": "head",
    "query_key_value": "qkv",
    "self_attention.dense": "o",
    "dense_h_to_4h": "up",
    "dense_4h_to_h": "down",
    "word_embeddings": "embedding",
    "c_attn": "qkv",
    "attn.c_proj": "o",
    "c_fc": "up",
    "mlp.c_proj": "down",
    "wte": "embedding",
    "wpe": "position",
    "attention.dense": "o",
    "embed_in": "embedding",
    "embed_out": "head",
    "self_attn.dense": "o",
    "self_attn.out_proj": "o",
    "fc1": "up",
    "fc2": "down",
    "embed_positions": "position",
    "qkv_proj": "qkv",
    "gate_up_proj": "gate_up",
}

# GPT-2's linear layers (transformers' Conv1D) store their weights with a row for each input; everyone else's have one
# for each output. Other models have layers of these names, not of this kind.
INPUTS_FIRST = {"gpt2": {"c_attn", "q_attn", "c_proj", "c_fc"}}

# Floating-point matrices that stand beside an already quantized weight.
SCALES = {"scales", "weight_scale", "weight_scale_inv"}

CHUNK = 2**20


@dataclass(frozen=True)
class TensorInfo:
    """What a header says about a tensor.

    Attributes
    ----------
    name : str
        The parameter's path, as in the file.
    role : str
        See `role`.
    shape : tuple of int
        Rows first: of a linear layer's weight, outputs first (see `transposed`).
    dtype : str
        In safetensors' words: "BF16", "F16", "F32", "I32" and so on.
    file : Path
        The file that holds it.
    offset, nbytes : int
        Where its bytes begin in the file, and how many they are.
    transposed : bool
        Whether the file has it with inputs first, which `load` turns.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int
    nbytes: int
    transposed: bool = False


def role(name: str) -> str:
    """What the parameter does: q, k, v, qkv, o, gate, up, gate_up, down, embedding, position, head, or "other".

    Decided by the components of the module that owns it, for Llama, Mistral, Qwen, BLOOM, GPT-2, GPT-NeoX, Phi and
    OPT. "qkv" and "gate_up" are fused; "position" is a table of position embeddings.

    >>> role("model.layers.0.self_attn.q_proj.weight"), role("h.0.self_attention.dense.weight")
    ('q', 'o')
    >>> role("model.layers.0.self_attn.q_norm.weight")
    'other'
    """
    module = name.split(".")[:-1]
    return ROLES.get(".".join(module[-1:])) or ROLES.get(".".join(module[-2:])) or "other"


def layer(name: str) -> int | None:
    """The number of the layer that the parameter is in, from 0; None outside the layers.

    >>> layer("model.layers.12.mlp.experts.3.up_proj.weight")
    12
    """
    found = re.search(r"(?:^|\.)(?:layers|h)\.(\d+)\.", name)
    return int(found[1]) if found else None


def catalogue(checkpoint: Checkpoint) -> list[TensorInfo]:
    """Every tensor of the checkpoint, from the headers alone, in natural order (layer 2 before layer 10).

    Raises
    ------
    ValueError
        If a file is not a complete safetensors file, two files hold the same tensor, or a file lacks a tensor
        that the index says it has.
    """
    found: dict[str, TensorInfo] = {}
    for file in checkpoint.files:
        for info in _read_header(file, INPUTS_FIRST.get(checkpoint.model_type or "", set())):
            if info.name in found:
                raise ValueError(
                    f"{info.name} is both in {found[info.name].file} and in {file.name}: remove the file "
                    "that does not belong to this model"
                )
            found[info.name] = info
    for name, shard in checkpoint.index.items():
        if name not in found or found[name].file.name != Path(shard).name:
            raise ValueError(
                f"{checkpoint.folder / shard} lacks {name}, which {INDEX} says it has; download both again"
            )
    return [found[name] for name in sorted(found, key=natural)]


def natural(name: str) -> list[str | int]:
    """The key that sorts layer 2 before layer 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _read_header(path: Path, inputs_first: set[str]) -> list[TensorInfo]:
    try:
        # The reference implementation checks the JSON, the dtypes, the offsets and the file's size. It maps the
        # file to read only; with framework="pt", torch maps it to write too and asks for as much memory.
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is not a complete safetensors file: {reason}; download it "
            "again (`git lfs pull` if it was cloned)"
        ) from error
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
    header.pop("__metadata__", None)
    infos = []
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        transposed = len(shape) == 2 and not inputs_first.isdisjoint(name.split(".")[-2:-1])
        infos.append(
            TensorInfo(
                name, role(name), shape[::-1] if transposed else shape, entry["dtype"], path, 8 + size + begin,
                end - begin, transposed,
            )
        )  # fmt: skip
    return infos


def matrices(checkpoint: Checkpoint) -> tuple[list[TensorInfo], list[tuple[TensorInfo, str]]]:
    """The weight matrices of the checkpoint, and every other tensor with the reason why it is none.

    A weight matrix has two dimensions, both above 1, and is stored in BF16, F16, F32 or F64.
    """
    chosen, skipped = [], []
    for info in catalogue(checkpoint):
        reason = _not_a_matrix(info)
        if reason is None:
            chosen.append(info)
        else:
            skipped.append((info, reason))
    return chosen, skipped


def _not_a_matrix(info: TensorInfo) -> str | None:
    if info.nbytes == 0:
        return f"empty: shape {info.shape}"
    if info.dtype.split("_")[0] in {"F8", "F6", "F4"}:
        return f"{info.dtype} is unsupported: such weights are already quantized"
    if info.dtype not in WEIGHT_DTYPES:
        return f"{info.dtype} values, not floating-point weights"
    if len(info.shape) != 2:
        return f"{len(info.shape)} dimensions, not 2"
    if 1 in info.shape:
        return f"a vector: shape {info.shape}"
    if info.name.split(".")[-1] in SCALES:
        return "the scales of an already quantized weight"
    return None


def load(info: TensorInfo) -> torch.Tensor:
    """Read that tensor alone, in its own dtype, into memory of its own, with the shape that `info` has.

    One that the file has transposed takes its memory twice for a moment.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, the dtype has no counterpart in torch, or the file has been cut short
        since its header was read.
    """
    if info.dtype not in DTYPES:
        raise ValueError(
            f"{info.name} in {info.file} has dtype {info.dtype}, which is not supported; "
            f"those that are: {', '.join(DTYPES)}"
        )
    shape = info.shape[::-1] if info.transposed else info.shape
    tensor = load_bytes(info).view(DTYPES[info.dtype]).view(shape)
    _check_finite(info, tensor)
    if info.transposed:
        turned = _memory(info.nbytes).view(tensor.dtype).view(info.shape)
        return turned.copy_(tensor.T)
    return tensor


def load_bytes(info: TensorInfo) -> torch.Tensor:
    """Read the bytes of that tensor alone, uint8, whatever its dtype means.

    Raises
    ------
    ValueError
        If the file has been cut short since its header was read.
    """
    tensor = _memory(info.nbytes)
    with info.file.open("rb") as file:
        file.seek(info.offset)
        read = file.readinto(tensor.numpy().data)
    if read != info.nbytes:
        raise ValueError(
            f"{info.file} ends {info.nbytes - read} bytes before {info.name} does: it was cut short "
            "after its header was read; download it again"
        )
    return tensor


def _memory(nbytes: int) -> torch.Tensor:
    """That many bytes in pages of their own, which go back to the system with the tensor.

    The heap keeps what is freed amid small blocks, and the next matrix of that size would lie beside the hole.
    """
    # Shared is what Unix would give; Windows has no such flag.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return torch.frombuffer(mmap.mmap(-1, max(nbytes, 1), **private), dtype=torch.uint8)[:nbytes]


def _check_finite(info: TensorInfo, tensor: torch.Tensor) -> None:
    if not (tensor.is_floating_point() and tensor.numel()):
        return
    nan = infinite = 0
    for chunk in tensor.flatten().split(CHUNK):  # the masks of a whole tensor would be as large as itself
        values = chunk.float() if chunk.itemsize == 1 else chunk  # 8-bit floats cannot be compared
        low, high = values.aminmax()  # NaN if there is one; far faster than a mask
        if not (low.isfinite() and high.isfinite()):
            nan += int(values.isnan().sum())
            infinite += int(values.isinf().sum())
    if nan or infinite:
        raise ValueError(
            f"{info.name}: {nan} NaN and {infinite} infinite of {tensor.numel()} values in {info.file}; "
            "such weights cannot be measured: use a sound checkpoint"
        )
