"""compressed-tensors: what llm-compressor writes, read as the library itself unpacks it.

Integers packed into 32-bit words ("pack-quantized"), or one number a weight, integer or 8-bit float ("int-quantized",
"float-quantized", "naive-quantized"); scales, and perhaps zero points, for the whole matrix, each row or each group.
"""

from __future__ import annotations

from typing import Any

import torch

from empirics import tensors
from empirics.checkpoints.packing import groups, in_order
from empirics.checkpoints.stored import Cells, Quantized, Stored, integers, required, split
from empirics.group_quantizers import Grid, Nearest, Rule, ZeroPoint
from empirics.models import Checkpoint
from theory.codebooks import Codebook

PACKED = "pack-quantized"
FORMATS = (PACKED, "int-quantized", "float-quantized", "naive-quantized")
STRATEGIES = ("tensor", "channel", "group")


def _eight_bit_floats() -> torch.Tensor:
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    return values[values.isfinite()].unique()


E4M3 = Codebook("e4m3", _eight_bit_floats().double().numpy() / 448, 8, origin="OCP 8-bit floating point, E4M3")


class CompressedTensors(Quantized):
    """A checkpoint whose quantization_config is compressed-tensors'."""

    method = "compressed-tensors"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._parts, others = split(checkpoint, ("weight_scale",))
        self._groups: dict[str, torch.Tensor] = {}
        self._schemes = {module: _scheme(module, checkpoint) for module in self._parts}
        stored = [self._describe(module, checkpoint.name) for module in self._parts]
        super().__init__(checkpoint, f"compressed-tensors, {stored[0].format}" if stored else "", stored, others)

    def _describe(self, module: str, model: str) -> Stored:
        parts, scheme = self._parts[module], self._schemes[module]
        bits, strategy, size = scheme["num_bits"], scheme["strategy"], scheme["group_size"]
        (scales,) = required(parts, module, "weight_scale")
        if scheme["format"] == PACKED:
            words, whole = required(parts, module, "weight_packed", "weight_shape")
            rows, columns = tensors.load(whole).tolist()
            if words.shape != (rows, -(-columns * bits // 32)):
                raise ValueError(
                    f"{model}: {module}.weight_packed has shape {words.shape} for {rows} x {columns} weights of"
                    f" {bits} bits: older versions of compressed-tensors packed 3, 5, 6 and 7 bits in another way"
                )
        else:
            rows, columns = required(parts, module, "weight")[0].shape
        block, count, label = {
            "tensor": (rows * columns, 1, "one scale"),
            "channel": (columns, 1, "a scale for each row"),
            "group": (size, -(-columns // size) if size else 0, f"groups of {size}"),
        }[strategy]
        if scales.shape not in ([(1,), (1, 1)] if strategy == "tensor" else [(rows, count)]):
            raise ValueError(f"{model}: {module}.weight_scale has shape {scales.shape}, weights {rows} x {columns}")
        given = tensors.load(parts["weight_g_idx"]) if "weight_g_idx" in parts else None
        self._groups[module] = index = groups(count, columns, f"{model}: {module}", given)
        label, rule, order = f"{scheme['type']}{bits}, {label}", _rule(scheme), in_order(index)
        return Stored(f"{module}.weight", (rows, columns), label, bits, block, rule, tuple(parts.values()), order)

    def cells(self, name: str) -> Cells:
        from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32  # seconds to import

        module = name.removesuffix(".weight")
        parts, scheme, shape = self._parts[module], self._schemes[module], self.stored(name).shape
        bits, index = scheme["num_bits"], self._groups[module]
        scale = tensors.load(parts["weight_scale"]).float().view(-1, int(index.max()) + 1)
        zero = tensors.load(parts["weight_zero_point"]) if "weight_zero_point" in parts else torch.zeros(1, 1)
        if scheme["format"] == PACKED:
            codes = unpack_from_int32(tensors.load(parts["weight_packed"]), bits, torch.Size(shape))
            if zero.dtype == torch.int32:
                zero = unpack_from_int32(zero, bits, torch.Size((shape[0], scale.shape[1])), packed_dim=0)
        else:
            codes = tensors.load(parts["weight"])
        zero = zero.float().expand(len(zero), scale.shape[1])
        top = 2.0 ** (bits - 1)
        levels = torch.from_numpy(E4M3.levels * 448).float() if scheme["type"] == "float" else torch.arange(-top, top)
        return integers(codes.float(), zero[:, index], scale[:, index], levels)


def _scheme(module: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """How the weights of a module were quantized: the arguments of its group, and the format.

    Raises
    ------
    ValueError
        If the configuration does not say, or says what is not read.
    """
    from compressed_tensors.utils import is_match  # seconds to import

    config = checkpoint.config["quantization_config"]
    for group in config.get("config_groups", {}).values():
        if not is_match(module, torch.nn.Linear(1, 1, device="meta"), group["targets"]):
            continue
        scheme = {"group_size": None, "symmetric": True, **(group.get("weights") or {})}
        scheme["strategy"] = scheme.get("strategy") or ("group" if scheme["group_size"] else "tensor")
        scheme["format"] = group.get("format") or config.get("format")
        wrong = [
            f"{key} {scheme.get(key)!r}; those read are {', '.join(map(str, known))}"
            for key, known in (("format", FORMATS), ("strategy", STRATEGIES), ("type", ("int", "float")))
            if scheme.get(key) not in known
        ]
        if scheme.get("type") == "float" and scheme["num_bits"] != 8:
            wrong.append(f"floats of {scheme['num_bits']} bits; those read have 8")
        if wrong:
            raise ValueError(f"{checkpoint.name}: {module} has {wrong[0]}")
        return scheme
    raise ValueError(f"{checkpoint.name}: {module} has scales, but no group of quantization_config targets it")


def _rule(scheme: dict[str, Any]) -> Rule:
    if scheme["type"] == "float":
        return Nearest(E4M3)
    bits, top = scheme["num_bits"], 2 ** (scheme["num_bits"] - 1)
    return Grid(top - 0.5, -top, top - 1) if scheme["symmetric"] else ZeroPoint(bits)
