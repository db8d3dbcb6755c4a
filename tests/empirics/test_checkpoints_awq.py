"""AWQ checkpoints: AutoRound's, against GPTQModel's kernel; and the order of the packed outputs."""

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

FOLDER = Path(base.__file__).parent / "awq"


def test_dense_weights_are_those_of_gptqmodel_s_forward_pass():
    quantized, outputs = open_quantized(FOLDER), load_file(FOLDER / "outputs.safetensors")
    assert quantized.names() == sorted(base.SHAPES)
    for name, shape in base.SHAPES.items():
        dense = quantized.dense(name)
        assert (dense.shape, dense.dtype) == (shape, torch.float32)
        for end in ("", ".float32"):  # this kernel computes in fp16 in any case
            expected, tolerance = base.products(base.inputs(shape[1]), dense, 2.0**-11)
            assert ((outputs[name + end] - expected).abs() <= tolerance).all(), (name, end)


def test_what_the_headers_say():
    quantized = open_quantized(FOLDER)
    stored = quantized.stored("model.layers.0.mlp.down_proj.weight")
    assert (stored.bits, stored.block_size, stored.codebook) == (4, 32, None)
    assert stored.effective_bits == quantized.effective_bits() == 4 + (16 + 4) / 32
    assert (quantized.method, quantized.description) == ("awq", "awq, 4 bits, groups of 32")


def pack(codes: np.ndarray) -> np.ndarray:
    """As AutoAWQ does it: of eight outputs, the i-th four bits of the word are output [0, 2, 4, 6, 1, 3, 5, 7][i]."""
    words = np.zeros((len(codes), codes.shape[1] // 8), np.uint32)
    for i, output in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        words |= codes[:, output::8].astype(np.uint32) << np.uint32(4 * i)
    return words.view(np.int32)


def write(folder: Path, module: dict[str, Any], **config: Any) -> Path:
    tensors = {f"a.b.{key}": torch.from_numpy(value) for key, value in module.items() if value is not None}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq", **config}}))
    return folder


def module() -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(0)
    codes, zeros = rng.integers(0, 16, (64, 40)), rng.integers(0, 16, (2, 40))
    scales = rng.uniform(0.01, 0.02, (2, 40)).astype(np.float16)
    expected = (codes - zeros.repeat(32, 0)) * scales.repeat(32, 0).astype(np.float64)
    return {"qweight": pack(codes), "qzeros": pack(zeros), "scales": scales}, expected.T.astype(np.float32)


def test_packing_is_the_definition(tmp_path):
    made, expected = module()
    quantized = open_quantized(write(tmp_path, made, bits=4, version="gemm"))
    assert np.array_equal(quantized.dense("a.b.weight").numpy(), expected)
    cells = quantized.cells("a.b.weight")
    assert torch.equal(cells.nearest(cells.values), cells.values)


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        ({}, {"version": "gemv"}, "AWQ in 4 bits, layout 'gemv'"),
        ({}, {"bits": 3}, "AWQ in 3 bits"),
        ({"scales": None}, {}, "a.b lacks scales"),
        ({"qzeros": np.zeros((1, 5), np.int32)}, {}, r"qzeros \(1, 5\) .* do not fit together"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, config, said):
    with pytest.raises(ValueError, match=said):
        open_quantized(write(tmp_path, module()[0] | change, **config))
