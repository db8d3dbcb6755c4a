"""compressed-tensors: what the library compresses, against its own decompression; and llm-compressor's AWQ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file

from empirics.checkpoints import open_quantized
from tests.empirics.checkpoints import base

FOLDER = Path(base.__file__).parent / "compressed-awq"
NAME = "model.layers.0.mlp.down_proj.weight"
WEIGHTS = base.weights()[NAME]

PACKED, INT, FLOAT = "pack-quantized", "int-quantized", "float-quantized"
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "int4 in groups": (PACKED, {"num_bits": 4, "strategy": "group", "group_size": 32}),
    "int4 asymmetric": (PACKED, {"num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": False}),
    "int3 asymmetric": (PACKED, {"num_bits": 3, "strategy": "group", "group_size": 64, "symmetric": False}),
    "int4 in rows": (PACKED, {"num_bits": 4, "strategy": "channel"}),
    "int8 packed": (PACKED, {"num_bits": 8, "strategy": "channel"}),
    "int8": (INT, {"num_bits": 8, "strategy": "channel"}),
    "int8 asymmetric": (INT, {"num_bits": 8, "strategy": "channel", "symmetric": False}),
    "fp8 in rows": (FLOAT, {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "fp8": (FLOAT, {"num_bits": 8, "type": "float", "strategy": "tensor"}),
}


def compressed(name: str, weights: torch.Tensor = WEIGHTS) -> tuple[dict[str, torch.Tensor], QuantizationScheme, Any]:
    """The library's own tensors for the weights, with scales from the ends of each group."""
    form, arguments = SCHEMES[name]
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    rows, columns = weights.shape
    size = {"group": args.group_size, "channel": columns, "tensor": rows * columns}[args.strategy]
    groups = weights.float().reshape(-1, size)
    scale, zero = calculate_qparams(groups.amin(1), groups.amax(1), args)
    shape = (1,) if args.strategy == "tensor" else (rows, -1)
    state = {"weight": weights, "weight_scale": scale.bfloat16().reshape(shape)}
    if not args.symmetric:
        state["weight_zero_point"] = zero.reshape(shape).to(torch.int8)
    compressor = BaseCompressor.get_value_from_registry(form)
    return compressor.compress(state, scheme), scheme, compressor


def write(folder: Path, name: str, state: dict[str, torch.Tensor], **config: Any) -> Path:
    form, arguments = SCHEMES[name]
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, **arguments}}
    config = {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}} | config
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    module = NAME.removesuffix("weight")
    save_file({module + key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", SCHEMES)
def test_dense_weights_are_those_that_the_library_decompresses(tmp_path, name):
    state, scheme, compressor = compressed(name)
    dense = open_quantized(write(tmp_path, name, state)).dense(NAME)
    assert (dense.shape, dense.dtype) == (WEIGHTS.shape, torch.float32)
    exact = compressor.decompress({**state, "weight_scale": state["weight_scale"].float()}, scheme)["weight"]
    assert torch.equal(dense, exact)
    # As it is, the library rounds the product to the dtype of the scales.
    assert torch.equal(dense.bfloat16(), compressor.decompress(state, scheme)["weight"])


@pytest.mark.parametrize("name", SCHEMES)
def test_the_library_rounded_to_nearest_with_scales_as_the_format_does(tmp_path, name):
    state, _, _ = compressed(name)
    quantized = open_quantized(write(tmp_path, name, state))
    weights, dense, cells = WEIGHTS.float(), quantized.dense(NAME), quantized.cells(NAME)
    # It divides in bf16: a quotient past 64 is itself rounded to half a level, and one near the middle of two levels
    # may go to either.
    nearest, stored, plain = (
        float((values - weights).square().mean())
        for values in (cells.nearest(weights), dense, quantized.stored(NAME).rounded(weights))
    )
    assert nearest <= stored <= (1.25 if name.startswith("int8") else 1.02) * nearest
    # Plain rounding has the same scales, not rounded to bf16.
    assert plain == pytest.approx(nearest, rel=0.03)


def test_what_the_headers_say(tmp_path):
    for name, effective, block in [
        ("int4 in groups", 4 + 16 / 32, 32), ("int4 asymmetric", 4 + (16 + 4) / 32, 32),
        ("int3 asymmetric", 3 + (16 + 3) / 64, 64), ("int8 packed", 8 + 16 / 128, 128), ("int8", 8 + 16 / 128, 128),
        ("fp8 in rows", 8 + 16 / 128, 128), ("fp8", 8 + 16 / 8192, 8192),
    ]:  # fmt: skip
        stored = open_quantized(write(tmp_path, name, compressed(name)[0])).stored(NAME)
        shape = 128 / 8192 if SCHEMES[name][0] == PACKED else 0  # two int64
        # Packed zero points of 3 bits fill whole words: 64 rows, 6 words, for each of 2 groups.
        assert stored.effective_bits == effective + shape, name
        assert (stored.bits, stored.block_size) == (SCHEMES[name][1]["num_bits"], block)
        assert (stored.codebook is None) == (not name.startswith("fp8"))


def test_groups_may_be_ordered_by_activation(tmp_path):
    """As versions before 0.20 wrote it: the columns as they are, and the group of each."""
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    state, _, _ = compressed("int4 asymmetric", WEIGHTS[:, order])
    plain = open_quantized(write(tmp_path, "int4 asymmetric", state)).dense(NAME)
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

    codes = unpack_from_int32(state["weight_packed"], 4, torch.Size((64, 128)))
    back = order.argsort()
    state["weight_packed"] = pack_to_int32(codes[:, back].contiguous(), 4)
    state["weight_g_idx"] = (torch.arange(128) // 32)[back].int()
    quantized = open_quantized(write(tmp_path, "int4 asymmetric", state))
    assert torch.equal(quantized.dense(NAME), plain[:, back])
    weights = WEIGHTS.float()
    assert torch.equal(quantized.stored(NAME).rounded(weights)[:, order],
                       open_quantized(write(tmp_path, "int4 asymmetric", compressed("int4 asymmetric")[0]))
                       .stored(NAME).rounded(weights[:, order]))  # fmt: skip


def test_dense_weights_are_those_of_llm_compressor_s_forward_pass():
    quantized, outputs = open_quantized(FOLDER), load_file(FOLDER / "outputs.safetensors")
    assert quantized.names() == sorted(base.SHAPES)
    for name, shape in base.SHAPES.items():
        expected, tolerance = base.products(base.inputs(shape[1]), quantized.dense(name), 2.0**-8)  # in bf16
        assert ((outputs[name] - expected).abs() <= tolerance).all(), name


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        ({}, {"format": "nvfp4-pack-quantized"}, "format 'nvfp4-pack-quantized'; those read are pack-quantized"),
        ({}, {"config_groups": {"group_0": {"targets": ["re:.*q_proj"], "weights": {}}}}, "no group .* targets it"),
        ({"weight_scale": torch.ones(64, 3)}, {}, r"weight_scale has shape \(64, 3\)"),
        ({"weight_packed": torch.zeros(64, 13, dtype=torch.int32)}, {}, "older versions"),
        ({"weight_shape": None}, {}, "lacks weight_shape"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, config, said):
    state = {k: v for k, v in (compressed("int4 in groups")[0] | change).items() if v is not None}
    with pytest.raises(ValueError, match=said):
        open_quantized(write(tmp_path, "int4 in groups", state, **config))
