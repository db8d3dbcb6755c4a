"""bitsandbytes checkpoints that transformers saved, against its own modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from empirics import quantizers
from empirics.checkpoints import open_quantized
from tests.empirics.checkpoints import base
from theory.codebooks import FP4, NF4, integer

CONFIGS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "nf4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}
BASE = base.weights()


every_kind = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What transformers saved, by kind."""
    folder = tmp_path_factory.mktemp("bitsandbytes")
    source = base.save(folder / "base")
    for kind, config in CONFIGS.items():
        AutoModelForCausalLM.from_pretrained(
            source, quantization_config=BitsAndBytesConfig(**config), device_map="cpu", dtype=torch.float32
        ).save_pretrained(folder / kind)
    return {kind: folder / kind for kind in CONFIGS}


@every_kind
def test_dense_weights_are_those_of_the_library_s_forward_pass(folders, kind):
    quantized = open_quantized(folders[kind])
    model = AutoModelForCausalLM.from_pretrained(folders[kind], device_map="cpu", dtype=torch.float32)
    assert quantized.names() == sorted(base.SHAPES)
    for name, shape in base.SHAPES.items():
        module = model.get_submodule(name.removesuffix(".weight"))
        assert type(module).__name__ == ("Linear8bitLt" if kind == "int8" else "Linear4bit")
        dense = quantized.dense(name)
        assert (dense.shape, dense.dtype) == (shape, torch.float32)
        # LLM.int8 rounds the inputs to 8 bits as well, but not the unit vectors.
        x = torch.eye(shape[1]) if kind == "int8" else base.inputs(shape[1])
        # 8 bits: the products are scaled in fp16. 4 bits: some processors compute in bf16, but not in training; for
        # that the weights are packed anew, for good.
        for training, eps in ((False, 2.0**-10),) if kind == "int8" else ((True, 2.0**-22), (False, 2.0**-8)):
            with torch.no_grad():
                found = module.train(training)(x)
            expected, tolerance = base.products(x, dense, eps)
            assert ((found - expected).abs() <= tolerance).all()
        assert torch.corrcoef(torch.stack([dense.flatten(), BASE[name].float().flatten()]))[0, 1] > 0.98


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_without_double_quantization_are_our_own_quantizer(folders, kind):
    quantized = open_quantized(folders[kind])
    for name in quantized.names():
        assert torch.equal(quantized.dense(name), quantizers.get(kind).quantize(BASE[name], 64))


@every_kind
def test_what_the_headers_say(folders, kind):
    quantized = open_quantized(folders[kind])
    stored = quantized.stored("model.layers.0.mlp.up_proj.weight")
    n = 128 * 64
    raw = load_file(folders[kind] / "model.safetensors")
    module = "model.layers.0.mlp.up_proj."
    # 4 + 32/64 or 4 + 8/64 + 32/(64 * 256) [AUDIT 18], and tables and a description in each matrix; the mean of the
    # scales is in the description. 8 bits: a scale for each row, and a byte that says how they are laid out.
    state = 0 if kind == "int8" else next(raw[k].numel() for k in raw if k.startswith(module) and "quant_state" in k)
    expected = {
        "int8": 8 + 32 / 64 + 8 / n,
        "nf4": 4 + 32 / 64 + (16 * 32 + 8 * state) / n,
        "nf4-double": 4 + 8 / 64 + 32 / (64 * 128) + ((16 + 256) * 32 + 8 * state) / n,
    }
    assert stored.effective_bits == pytest.approx(expected[kind.replace("fp4", "nf4")], abs=1e-12)
    assert quantized.bits == stored.bits == (8 if kind == "int8" else 4)
    assert quantized.stored("model.layers.0.mlp.down_proj.weight").block_size == (128 if kind == "int8" else 64)
    levels = {"int8": integer(8), "nf4": NF4, "fp4": FP4}[kind.removesuffix("-double")].levels
    assert stored.codebook is not None
    assert (stored.codebook.levels == levels).all()
    assert quantized.method == "bitsandbytes"
    assert ("doubly" in quantized.description) == ("double" in kind)
    assert sorted(quantized.others()) == sorted(set(BASE) - set(base.SHAPES))
    assert torch.equal(quantized.other("model.norm.weight"), BASE["model.norm.weight"].float())


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "int8"])
def test_the_packed_bytes_are_no_weights(folders, kind):
    """AUDIT 12: what `.weight` of a 4-bit module holds has neither the weights' shape nor their values."""
    raw = load_file(folders[kind] / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert (raw.dtype, raw.shape) == (torch.uint8, (128 * 64 // 2, 1))
    assert open_quantized(folders[kind]).dense("model.layers.0.mlp.up_proj.weight").shape == (128, 64)


@every_kind
def test_nearest_is_the_definition(folders, kind):
    quantized = open_quantized(folders[kind])
    name = "model.layers.0.self_attn.q_proj.weight"
    cells = quantized.cells(name)
    assert torch.equal(cells.nearest(cells.values), cells.values)
    weights = BASE[name].float()
    points = cells.levels * torch.as_tensor(cells.scale).expand(weights.shape)[..., None]
    least = (points - weights[..., None]).abs().amin(-1)
    # Near the middle of two points, rounding decides: the division's, or that of the differences.
    assert ((cells.nearest(weights) - weights).abs() - least).abs().max() <= 2.0**-22 * weights.abs().max()


def test_an_int8_layout_for_one_gpu_is_refused(folders, tmp_path):
    tensors = load_file(folders["int8"] / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight_format"] = torch.tensor(2, dtype=torch.uint8)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders["int8"] / "config.json").read_text())
    with pytest.raises(ValueError, match="up_proj is laid out for one kind of GPU"):
        open_quantized(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("model.layers.0.mlp.up_proj.weight.quant_map"), r"up_proj lacks weight\.quant_map"),
        (lambda t: t.pop("model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4"), "0 quant_state entries"),
        (lambda t: t.update({"model.layers.0.mlp.up_proj.weight": torch.zeros(7, 1, dtype=torch.uint8)}), "7 bytes"),
        (
            lambda t: t.update({
                "model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4": torch.tensor(
                    list(json.dumps({"quant_type": "nf5", "blocksize": 64, "shape": [128, 64]}).encode()),
                    dtype=torch.uint8,
                )
            }),
            "unknown quant_type 'nf5'; those read are nf4 and fp4",
        ),
    ],
)  # fmt: skip
def test_damage_is_named(folders, tmp_path, change, said):
    tensors = load_file(folders["nf4"] / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders["nf4"] / "config.json").read_text())
    with pytest.raises(ValueError, match=said):
        open_quantized(tmp_path).dense("model.layers.0.mlp.up_proj.weight")
