"""A base is refused unless it is the model that was quantized; scaled channels are compared as the same function."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from empirics.checkpoints import WrongBase, check_base, open_quantized
from empirics.models import open_checkpoint
from tests.empirics.checkpoints import base, gguf_model

FOLDER = Path(base.__file__).parent
FIXTURES = ("gptq-4-bits-ordered", "gptq-3-bits", "gptq-2-bits", "awq", "compressed-awq")
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base.save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def nf4(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nf4")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    AutoModelForCausalLM.from_pretrained(source, quantization_config=config, device_map="cpu").save_pretrained(folder)
    return folder


def changed(source: Path, folder: Path, **tensors: torch.Tensor | None) -> Path:
    """The base with tensors replaced (`__` for a dot), or left out."""
    kept = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        kept.pop(name.replace("__", "."), None)
        if tensor is not None:
            kept[name.replace("__", ".")] = tensor
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    save_file(kept, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", FIXTURES)
def test_the_right_base_is_accepted(source, name):
    found = check_base(open_quantized(FOLDER / name), open_checkpoint(source))
    norms = ["model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"]
    assert found.equalized == (norms if "awq" in name else [])
    assert found.info(UP).name == UP
    assert torch.equal(found.weights(UP), base.weights()[UP].float())


def test_other_formats_are_accepted_too(source, nf4, tmp_path):
    check_base(open_quantized(nf4), open_checkpoint(source))
    check_base(open_quantized(gguf_model.write(tmp_path / "m.gguf", "Q4_0")), open_checkpoint(source))


@pytest.mark.parametrize("name", ["awq", "compressed-awq"])
def test_scaled_channels_are_the_same_function_in_the_base_s_coordinates(source, name):
    """Logits of the checkpoint as it is, and of the base with each matrix replaced by its counterpart."""
    quantized = open_quantized(FOLDER / name)
    found = check_base(quantized, open_checkpoint(source))
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    ids = torch.arange(32)[None]

    def logits(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        network.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
        with torch.no_grad():
            return network(ids).logits

    as_it_is = logits({name: quantized.dense(name) for name in quantized.names()}
                      | {name: quantized.other(name) for name in quantized.others()})  # fmt: skip
    in_base = logits(base.weights() | {name: found.dense(name) for name in quantized.names()})
    assert torch.allclose(in_base, as_it_is, rtol=0, atol=1e-4 * float(as_it_is.abs().max()))
    naive = logits(base.weights() | {name: quantized.dense(name) for name in quantized.names()})
    assert (naive - as_it_is).abs().max() > 0.1 * as_it_is.abs().max()  # or the comparison says nothing


def test_scaled_channels_keep_a_matrix_comparable(source):
    found = check_base(open_quantized(FOLDER / "awq"), open_checkpoint(source))
    for name in found.quantized.names():
        assert found.pair(name).relative_error < 0.03
    raw = found.quantized.dense(UP) - found.weights(UP)
    assert raw.square().sum() > 0.1 * found.weights(UP).square().sum()


@pytest.mark.parametrize("name", [*FIXTURES, "nf4"])
@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.layers.0.input_layernorm.weight",
                                    "model.embed_tokens.weight"])  # fmt: skip
def test_an_instruct_checkpoint_against_the_base_is_refused(source, nf4, tmp_path, name, tensor):
    """AUDIT 14: fine-tuning moves what is not quantized by a per cent or so, weights by less than rounding does.

    Where AWQ scaled the channels behind a normalization, that normalization alone shows only larger moves.
    """
    theirs = base.weights()[tensor].float()
    noise = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    size = 0.2 if "awq" in name and "layers" in tensor else 0.02
    moved = (theirs * (1 + size * noise)).bfloat16()
    other = changed(source, tmp_path / "other", **{tensor.replace(".", "__"): moved})
    quantized = open_quantized(nf4 if name == "nf4" else FOLDER / name)
    evidence = rf"{tensor}, which is not quantized, differs in \d+ of .*relative error"
    with pytest.raises(WrongBase, match=evidence) as said:
        check_base(quantized, open_checkpoint(other))
    assert "other is not what" in str(said.value)
    assert "Instruct" in str(said.value)


def test_weights_that_moved_less_than_a_level_are_found_where_only_rounding_was_done(source, nf4, tmp_path):
    theirs = base.weights()[UP].float()
    noise = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0)) * theirs.std()
    moved = (theirs + 0.05 * noise).bfloat16()
    other = changed(source, tmp_path / "other", model__layers__0__mlp__up_proj__weight=moved)
    with pytest.raises(WrongBase, match=rf"\d+\.\d % of {UP} are not at the level nearest to it"):
        check_base(open_quantized(nf4), open_checkpoint(other))


@pytest.mark.parametrize("name", [*FIXTURES, "nf4"])
def test_other_weights_are_refused(source, nf4, tmp_path, name):
    other = changed(source, tmp_path / "other", model__layers__0__mlp__up_proj__weight=base.weights()[UP].flip(0))
    with pytest.raises(WrongBase, match=rf"{UP} has correlation -?0\.\d+ with it"):
        check_base(open_quantized(nf4 if name == "nf4" else FOLDER / name), open_checkpoint(other))


def test_an_error_beyond_that_of_any_compensation_is_refused(source, tmp_path):
    theirs = base.weights()[UP].float()
    other = changed(source, tmp_path / "other", model__layers__0__mlp__up_proj__weight=(0.7 * theirs).bfloat16())
    quantized = open_quantized(gguf_model.write(tmp_path / "m.gguf", "Q8_0"))
    with pytest.raises(WrongBase, match=rf"{UP} has relative squared error \S+, and .* its own grid explains"):
        check_base(quantized, open_checkpoint(other))


def test_missing_and_other_tensors_shapes_and_vocabularies(source, nf4, tmp_path):
    quantized = open_quantized(nf4)

    def refused(name: str, said: str, **tensors: torch.Tensor | None) -> None:
        with pytest.raises(WrongBase, match=said):
            check_base(quantized, open_checkpoint(changed(source, tmp_path / name, **tensors)))

    refused("a", rf"the quantized checkpoint has {UP}, and it does not", model__layers__0__mlp__up_proj__weight=None)
    refused("b", "it has model.layers.1.x.weight, and the quantized checkpoint does not",
            model__layers__1__x__weight=torch.zeros(2))  # fmt: skip
    refused("c", rf"{UP} has shape \(64, 64\) in it and \(128, 64\) as quantized",
            model__layers__0__mlp__up_proj__weight=torch.zeros(64, 64))  # fmt: skip
    refused("d", r"model.embed_tokens.weight has shape \(48, 64\) in it and \(32, 64\) .*another vocabulary",
            model__embed_tokens__weight=torch.zeros(48, 64))  # fmt: skip


def test_what_is_no_difference(source, tmp_path):
    """fp16 instead of bf16, biases of 0 (AutoGPTQ), a prefix that is left out, buffers, a head that the base ties."""
    tensors = load_file(FOLDER / "gptq-3-bits" / "model.safetensors")
    tensors = {k: v.half() if v.dtype == torch.bfloat16 else v for k, v in tensors.items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors = {k.removeprefix("model."): v for k, v in tensors.items()}
    tensors["layers.0.mlp.up_proj.bias"] = torch.zeros(128).half()
    tensors["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(FOLDER / "gptq-3-bits" / "config.json", tmp_path)
    found = check_base(open_quantized(tmp_path), open_checkpoint(source))
    assert found.info("layers.0.mlp.up_proj.weight").name == UP
    tensors["layers.0.mlp.up_proj.bias"] = torch.ones(128).half()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WrongBase, match=r"the quantized checkpoint has layers\.0\.mlp\.up_proj\.bias, and"):
        check_base(open_quantized(tmp_path), open_checkpoint(source))


def test_a_quantized_base_is_no_base(nf4):
    with pytest.raises(ValueError, match="is itself quantized"):
        check_base(open_quantized(nf4), open_checkpoint(nf4))


def test_opening_what_is_not_quantized_or_unknown(source, tmp_path):
    with pytest.raises(ValueError, match=r"is not quantized: its config\.json has no quantization_config"):
        open_quantized(source)
    config = json.loads((source / "config.json").read_text()) | {"quantization_config": {"quant_method": "hqq"}}
    shutil.copy(source / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="unknown quant_method 'hqq'; those read are bitsandbytes, gptq, awq"):
        open_quantized(tmp_path)
    (tmp_path / "config.json").write_text((FOLDER / "awq" / "config.json").read_text())
    with pytest.raises(ValueError, match=r"says that it is quantized \(awq\), but no matrix of it is"):
        open_quantized(tmp_path)
