"""GGUF: ggml's own blocks, and whole models against transformers' reader."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from empirics.checkpoints import open_quantized
from empirics.checkpoints.gguf import TYPES
from tests.empirics.checkpoints import base, gguf_model

GGML = load_file(Path(base.__file__).parent / "ggml.safetensors")
WEIGHTS = base.block_weights()


def block_file(folder: Path, kind: str) -> Path:
    """Two rows of 256 weights that ggml quantized, as a model's down projection."""
    writer = gguf.GGUFWriter(folder / f"{kind}.gguf", "llama")
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    rows = GGML[f"{kind}.bytes"].numpy().reshape(2, -1)
    writer.add_tensor("blk.0.ffn_down.weight", rows, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / f"{kind}.gguf"


NAME = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_are_what_ggml_makes_of_them(tmp_path, kind):
    quantized = open_quantized(block_file(tmp_path, kind))
    # ggml may fuse a product and a sum: an ulp of the larger.
    close = {"rtol": 0, "atol": 2.0**-23 * float(WEIGHTS.abs().max())}
    assert torch.allclose(quantized.dense(NAME), GGML[f"{kind}.values"], **close)
    cells, stored = quantized.cells(NAME), quantized.stored(NAME)
    assert torch.equal(cells.values, quantized.dense(NAME))
    assert len(cells.levels) == 2**stored.bits == 2 ** TYPES[kind].bits
    assert torch.allclose(cells.nearest(cells.values), cells.values, **close)  # each weight is a point of its grid
    blocks = torch.as_tensor(cells.scale).reshape(-1, stored.block_size)  # one scale for each: every index was found
    assert torch.allclose(blocks, blocks[:, :1].expand_as(blocks), rtol=1e-4, atol=0)
    size, number = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    assert stored.effective_bits == 8 * number / size


@pytest.mark.parametrize("kind", TYPES)
def test_ggml_rounds_to_the_nearest_point_of_the_grid(tmp_path, kind):
    quantized = open_quantized(block_file(tmp_path, kind))
    cells, stored = quantized.cells(NAME), quantized.stored(NAME)
    dense, nearest = (cells.values - WEIGHTS).square().mean(), (cells.nearest(WEIGHTS) - WEIGHTS).square().mean()
    # Q4_1 and Q5_1 round with scales that are not yet rounded to fp16.
    assert nearest <= dense * (1 + 1e-6)
    assert dense <= nearest * (1 + 1e-3)
    # What it searches the scales for: not to do worse than their plain choice, which for Q2_K is no choice of theirs.
    plain = (stored.rounded(WEIGHTS) - WEIGHTS).square().mean()
    assert 0.75 < dense / plain < 1.03


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0"])
def test_plain_rounding_is_the_gguf_library_s(tmp_path, kind):
    stored = open_quantized(block_file(tmp_path, kind)).stored(NAME)
    number = gguf.GGMLQuantizationType[kind]
    theirs = gguf.dequantize(gguf.quantize(WEIGHTS.numpy(), number), number)
    # Its scales are rounded to fp16, ours are not.
    assert np.abs(stored.rounded(WEIGHTS).numpy() - theirs).max() <= 2.0**-11 * np.abs(theirs).max()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_model_is_what_transformers_reads(tmp_path, kind):
    path = gguf_model.write(tmp_path / "model.gguf", kind, ffn_up="Q5_1")
    quantized = open_quantized(path)
    network = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    theirs = network.state_dict()
    assert sorted(quantized.names()) == sorted([*base.SHAPES, "model.embed_tokens.weight"])
    for name in quantized.names():
        assert torch.equal(quantized.dense(name), theirs[name]), name
        cells = quantized.cells(name)  # in the same order of rows
        assert torch.allclose(cells.nearest(theirs[name]), theirs[name], rtol=0, atol=1e-6)
    for name in quantized.others():
        assert torch.equal(quantized.other(name), theirs[name])
    assert sorted(quantized.others()) == sorted(name for name in base.weights() if "norm" in name)
    assert quantized.description == f"gguf, {', '.join(sorted([kind, 'Q5_1']))}"
    up = quantized.stored("model.layers.0.mlp.up_proj.weight")
    assert (up.bits, up.effective_bits, up.codebook) == (5, 6.0, None)
    assert 4 < quantized.effective_bits() < 9


def test_only_llama_s_rows_are_in_another_order(tmp_path):
    quantized = open_quantized(gguf_model.write(tmp_path / "model.gguf", "Q8_0", architecture="qwen2"))
    weights = base.weights()
    for name in base.SHAPES:
        # 8 bits: half a step of a 127th of the largest.
        assert (quantized.dense(name) - weights[name].float()).abs().max() < 0.005 * weights[name].abs().max()


def test_files_and_folders(tmp_path):
    path = gguf_model.write(tmp_path / "one.gguf", "Q8_0")
    by_file, by_folder = open_quantized(path), open_quantized(tmp_path)
    assert (by_file.name, by_folder.name) == ("one", tmp_path.name)
    assert by_file.revision == by_folder.revision
    assert by_file.revision.startswith("sha256:")
    assert open_quantized(path, by_file.revision).name == "one"
    with pytest.raises(ValueError, match=r"one has revision sha256:\w+, not abc"):
        open_quantized(path, "abc")
    gguf_model.write(tmp_path / "two.gguf", "Q4_0")
    with pytest.raises(ValueError, match=r"several GGUF models \(one.gguf, two.gguf\): give one"):
        open_quantized(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"three.gguf"):
        open_quantized(tmp_path / "three.gguf")


def test_what_cannot_be_read_is_named(tmp_path):
    path = gguf_model.write(tmp_path / "cut.gguf", "Q8_0")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut.gguf \(\d+ bytes\) is not a complete GGUF file"):
        open_quantized(path)
    (tmp_path / "no.gguf").write_bytes(b"not a model" * 100)
    with pytest.raises(ValueError, match=r"no.gguf .* is not a complete GGUF file"):
        open_quantized(tmp_path / "no.gguf")
    with pytest.raises(ValueError, match="architecture 'bloom'; those read are llama, qwen2, qwen3"):
        open_quantized(gguf_model.write(tmp_path / "bloom.gguf", "Q8_0", architecture="bloom"))
    with pytest.raises(ValueError, match=r"blk.0.ffn_up.weight is MXFP4.*Q4_K"):
        open_quantized(gguf_model.write(tmp_path / "mxfp4.gguf", "Q8_0", ffn_up="MXFP4"))
