"""bitsandbytes: NF4 and FP4, their scales in float32 or quantized themselves, and the int8 of LLM.int8.

Four bits: blocks run over the flattened matrix, two indices to a byte, the first in the high half. Eight bits: a row
is ``SCB / 127`` times its integers. What LLM.int8 multiplies in higher precision, for outliers, are columns of
activations: the weights are the same.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from empirics import tensors
from empirics.checkpoints.stored import Cells, Parts, Quantized, Stored, integers, required, split
from empirics.group_quantizers import Nearest
from empirics.models import Checkpoint
from theory import codebooks

STATE = "weight.quant_state.bitsandbytes__"


class BitsAndBytes(Quantized):
    """A checkpoint that transformers saved with a BitsAndBytesConfig."""

    method = "bitsandbytes"
    only_rounds = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._parts, others = split(checkpoint, ("weight.absmax", "SCB"))
        self._states = {module: _state(module, parts) for module, parts in self._parts.items()}
        stored = [self._describe(module) for module in self._parts]
        super().__init__(checkpoint, f"bitsandbytes, {stored[0].format}" if stored else "", stored, others)

    def _describe(self, module: str) -> Stored:
        parts, state = self._parts[module], self._states[module]
        if state is None:
            rows, columns = required(parts, module, "weight")[0].shape
            shape, kind, bits, block = (rows, columns), "int8", 8, columns
            label = "int8, a scale for each row"
        else:
            shape, kind, bits, block = tuple(state["shape"]), state["quant_type"], 4, state["blocksize"]
            label = f"{kind}, blocks of {block}" + (", doubly quantized" if "nested_offset" in state else "")
        rule = Nearest(codebooks.get(kind))
        return Stored(f"{module}.weight", shape, label, bits, block, rule, tuple(parts.values()))

    def cells(self, name: str) -> Cells:
        module = name.removesuffix(".weight")
        parts, state, shape = self._parts[module], self._states[module], self.stored(name).shape
        if state is None:
            codes, scale = (tensors.load(info).float() for info in required(parts, module, "weight", "SCB"))
            return integers(codes, 0.0, scale[:, None] / 127, torch.arange(-127.0, 128.0))
        weight, levels = required(parts, module, "weight", "weight.quant_map")
        table, count = tensors.load(levels), shape[0] * shape[1]
        packed = tensors.load_bytes(weight)  # whatever the dtype that it was stored as
        if len(packed) != -(-count // 2):
            raise ValueError(f"{name} has {len(packed)} bytes for {count} weights of 4 bits: shape {shape}")
        indices = torch.stack([packed >> 4, packed & 15], dim=1).view(-1)[:count].long()
        scale = _scales(parts, module, state).repeat_interleave(state["blocksize"])[:count]
        return integers(table[indices].view(shape), 0.0, scale.view(shape), table.unique())


def _state(module: str, parts: Parts) -> dict[str, Any] | None:
    """The description of a 4-bit matrix; None for 8 bits.

    Raises
    ------
    ValueError
        If it is missing, or of a kind or a layout that is not known.
    """
    if "SCB" in parts:
        if "weight_format" in parts and int(tensors.load(parts["weight_format"])) != 0:
            raise ValueError(f"{module} is laid out for one kind of GPU, as old versions did it; only rows are read")
        return None
    found = [info for suffix, info in parts.items() if suffix.startswith(STATE)]
    if len(found) != 1:
        raise ValueError(f"{module} has {len(found)} quant_state entries, not one: download the checkpoint again")
    state = json.loads(bytes(tensors.load_bytes(found[0]).tolist()))
    if state["quant_type"] not in ("nf4", "fp4"):
        raise ValueError(f"{module}: unknown quant_type {state['quant_type']!r}; those read are nf4 and fp4")
    return state


def _scales(parts: Parts, module: str, state: dict[str, Any]) -> torch.Tensor:
    """The scale of each block, float32."""
    (absmax,) = required(parts, module, "weight.absmax")
    scales = tensors.load(absmax)
    if "nested_offset" not in state:
        return scales.float()
    outer, table = required(parts, module, "weight.nested_absmax", "weight.nested_quant_map")
    repeated = tensors.load(outer).repeat_interleave(state["nested_blocksize"])[: len(scales)]
    return tensors.load(table)[scales.long()] * repeated + state["nested_offset"]
