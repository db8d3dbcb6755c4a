"""GPTQ checkpoints of GPTQModel against its own kernel, and the packing against its definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from empirics.checkpoints import open_quantized
from tests.empirics.checkpoints import base

FOLDER = Path(base.__file__).parent
CHECKPOINTS = ("gptq-4-bits-ordered", "gptq-3-bits", "gptq-2-bits")
NAME = "model.layers.0.mlp.down_proj.weight"
UNEQUAL = "a.b does not put 64 inputs into 2 groups of equal size"


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_dense_weights_are_those_of_gptqmodel_s_forward_pass(checkpoint):
    quantized = open_quantized(FOLDER / checkpoint)
    outputs = load_file(FOLDER / checkpoint / "outputs.safetensors")
    assert quantized.names() == sorted(base.SHAPES)
    for name, shape in base.SHAPES.items():
        dense = quantized.dense(name)
        assert (dense.shape, dense.dtype) == (shape, torch.float32)
        for end, eps in (("", 2.0**-11), (".float32", 2.0**-22)):
            expected, tolerance = base.products(base.inputs(shape[1]), dense, eps)
            assert ((outputs[name + end] - expected).abs() <= tolerance).all(), (name, end)


def test_what_the_headers_say():
    ordered, three, two = (open_quantized(FOLDER / name) for name in CHECKPOINTS)
    assert [q.bits for q in (ordered, three, two)] == [4, 3, 2]
    assert [q.stored(NAME).block_size for q in (ordered, three, two)] == [32, 64, 32]
    assert "ordered by activation" in ordered.description
    assert "ordered" not in three.description
    # 64 outputs, 128 inputs: fp16 scales and 4-bit zeros in 4 groups, an int32 for each input.
    assert ordered.effective_bits(NAME) == 4 + (16 + 4) / 32 + 32 / 64
    assert three.effective_bits(NAME) == 3 + (16 + 3) / 64 + 32 / 64
    assert ordered.stored(NAME).codebook is None


def test_a_borrowed_zero_point_is_given_back():
    """Of the fixture's zero points some are 0, which the first format stores as the carry of the next."""
    quantized = open_quantized(FOLDER / "gptq-2-bits")
    zeros = torch.cat([torch.as_tensor(quantized.cells(name).zero).flatten() for name in quantized.names()])
    assert set(zeros.unique().tolist()) >= {0.0, 1.0, 2.0}


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Column by column into int32, the first in the lowest bits: through Python's integers."""
    rows = []
    for column in codes.T:
        stream = sum(int(code) << (bits * i) for i, code in enumerate(column))
        rows.append([stream >> (32 * i) & 0xFFFFFFFF for i in range(len(column) * bits // 32)])
    return np.array(rows, dtype=np.uint32).T.view(np.int32)


def write(folder: Path, module: dict[str, Any], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    tensors = {f"a.b.{key}": torch.from_numpy(np.ascontiguousarray(value)) for key, value in module.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "gptq", **config}}))
    return folder


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packing_is_the_definition(tmp_path, bits, form, ordered):
    rng = np.random.default_rng(bits)
    inputs, outputs, size = 96, 64, 32
    codes, zeros = rng.integers(0, 2**bits, (inputs, outputs)), rng.integers(0, 2**bits, (3, outputs))
    scales = rng.uniform(0.01, 0.02, (3, outputs)).astype(np.float16)
    index = rng.permutation(np.arange(inputs) // size) if ordered else np.arange(inputs) // size
    kept = pack(zeros.T, bits).T
    if form == "gptq" and 32 % bits:
        kept = pack((zeros.T - 1) % 2**bits, bits).T
    elif form == "gptq":  # 1 from each, borrowed within a word
        kept = (kept.view(np.uint32) - np.uint32(sum(1 << i for i in range(0, 32, bits)))).view(np.int32)
    module = {"qweight": pack(codes, bits), "qzeros": kept, "scales": scales, "g_idx": index.astype(np.int32)}
    quantized = open_quantized(write(tmp_path, module, checkpoint_format=form, sym=False, bits=bits))
    expected = (codes - zeros[index]) * scales[index].astype(np.float64)
    assert np.array_equal(quantized.dense("a.b.weight").numpy(), expected.T.astype(np.float32))
    if not ordered:  # g_idx may be left out
        del module["g_idx"]
        quantized = open_quantized(write(tmp_path, module, checkpoint_format=form, sym=False))
        assert np.array_equal(quantized.dense("a.b.weight").numpy(), expected.T.astype(np.float32))


@pytest.mark.parametrize("symmetric", [True, False])
def test_plain_rounding_is_what_gptq_begins_with(tmp_path, symmetric):
    """Scales from each group's ends, all weights to the nearest: by the definition, group by group."""
    rng = np.random.default_rng(0)
    index = rng.permutation(np.arange(64) // 32)
    module = {
        "qweight": np.zeros((8, 32), np.int32), "qzeros": np.zeros((2, 4), np.int32),
        "scales": np.ones((2, 32), np.float16), "g_idx": index.astype(np.int32),
    }  # fmt: skip
    stored = open_quantized(write(tmp_path, module, sym=symmetric)).stored("a.b.weight")
    weights = rng.standard_normal((32, 64)).astype(np.float32)
    rounded = stored.rounded(torch.from_numpy(weights)).numpy()
    for group in range(2):
        w = weights[:, index == group].astype(np.float64)
        if symmetric:
            scale, zero = 2 * np.abs(w).max(1, keepdims=True) / 15, 8
        else:
            low, high = np.minimum(w.min(1, keepdims=True), 0), np.maximum(w.max(1, keepdims=True), 0)
            scale = (high - low) / 15
            zero = np.rint(-low / scale)
        expected = (np.clip(np.rint(w / scale) + zero, 0, 15) - zero) * scale
        off = np.abs(rounded[:, index == group] - expected)
        # At a tie float32 may round the other way: by a whole step, and never more.
        assert off.max() <= 1.001 * scale.max()
        assert (off > 1e-5).mean() < 0.01


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        ({}, {"checkpoint_format": "marlin"}, "unknown GPTQ format 'marlin'; those read are gptq, gptq_v2"),
        ({}, {"pack_dtype": "int8"}, "packed in int8"),
        ({"qzeros": None}, {}, "a.b lacks qzeros"),
        ({"qzeros": np.zeros((2, 5), np.int32)}, {}, r"qzeros \(2, 5\) .* do not fit together"),
        ({"g_idx": np.full(64, 2, np.int32)}, {}, UNEQUAL),
        ({"g_idx": (np.arange(64) // 40).astype(np.int32)}, {}, UNEQUAL),
        ({"g_idx": np.full(64, -1, np.int32)}, {}, UNEQUAL),
        ({"scales": np.full((2, 32), np.nan, np.float16)}, {}, "a.b.scales: 64 NaN"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, config, said):
    module = {
        "qweight": np.zeros((8, 32), np.int32), "qzeros": np.zeros((2, 4), np.int32),
        "scales": np.ones((2, 32), np.float16), "g_idx": (np.arange(64) // 32).astype(np.int32),
    }  # fmt: skip
    module = {key: value for key, value in (module | change).items() if value is not None}
    with pytest.raises(ValueError, match=said):
        open_quantized(write(tmp_path, module, **config)).dense("a.b.weight")
