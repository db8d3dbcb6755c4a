"""Five families of models: their matrices, quantized beside the library's own forward pass; what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    BitsAndBytesConfig,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from empirics import language_model, quantizers
from empirics.language_model import LanguageModel, open_model, out_of_memory, quantized_weights, replaced
from empirics.models import POCKET, open_checkpoint

SMALL = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128,
}  # fmt: skip
BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=False)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=True)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=2048, hidden_size=64, n_layer=2, n_head=2)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=2048, n_embd=64, n_layer=2, n_head=2, n_positions=128)),
}
GATED = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
LINEAR = {
    "llama": ("model.layers", GATED),
    "mistral": ("model.layers", GATED),
    "qwen2": ("model.layers", GATED),
    "bloom": ("transformer.h", ["self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h",
                                "mlp.dense_4h_to_h"]),
    "gpt2": ("transformer.h", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
}  # fmt: skip
EMBEDDING = {
    "llama": ["model.embed_tokens.weight", "lm_head.weight"],
    "mistral": ["model.embed_tokens.weight", "lm_head.weight"],
    "qwen2": ["model.embed_tokens.weight"],
    "bloom": ["transformer.word_embeddings.weight"],
    "gpt2": ["transformer.wte.weight"],
}
# Logits of order 1 through a few dozen float32 sums of 64 to 256 terms, in another order in the library's kernels.
FLOAT32 = 2e-5
IDS = torch.randint(2048, (3, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of that family with weights that are not near 0, and pocket-llama's tokenizer."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def make(family: str) -> Path:
        if family not in made:
            torch.manual_seed(0)
            network = BUILDERS[family]()
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, 0.1, 0.2)
            network.save_pretrained(root / family)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(POCKET / "llama" / name, root / family)
            made[family] = root / family
        return made[family]

    return make


@pytest.fixture
def broken(folder, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(folder("llama"), tmp_path / "broken")


def logits(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.network(IDS).logits


@pytest.mark.parametrize("family", BUILDERS)
def test_the_matrices_of_each_family(folder, family):
    lm = open_model(folder(family))
    blocks, modules = LINEAR[family]
    assert list(lm.linear()) == [f"{blocks}.{i}.{module}.weight" for i in range(2) for module in modules]
    assert list(lm.embedding()) == EMBEDDING[family]
    assert lm.vocabulary == 2048
    assert lm.context == (None if family == "bloom" else 128)  # ALiBi has no end
    own = AutoModelForCausalLM.from_pretrained(folder(family), dtype=torch.float32).eval()
    assert torch.equal(logits(lm), own(IDS).logits.detach())
    assert not any(p.requires_grad for p in lm.network.parameters())
    # Every matrix in the file is one of these, but for what is no matrix product with the activations.
    others = {"transformer.wpe.weight"}
    matrices = {name for name, p in lm.network.named_parameters() if p.ndim == 2} - others
    assert matrices == {*lm.linear(), *lm.embedding()}


def test_the_dtype_asked_for_and_the_weights_of_the_file():
    half = open_model("pocket-llama", dtype=torch.bfloat16)
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    full = open_model(open_checkpoint("pocket-llama"))
    stored = load_file(POCKET / "llama" / "model.safetensors")
    for name, weight in stored.items():
        assert torch.equal(full.parameter(name), weight.float())
        assert torch.equal(half.parameter(name), weight)
    assert quantized_weights(half, "int4", 64, ["model.norm.weight"])["model.norm.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_quantized_weights_give_the_librarys_own_logits(folder, family, kind):
    """bitsandbytes' 4-bit modules in the whole model, which transformers puts there."""
    lm = open_model(folder(family))
    options = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["lm_head"],
    )  # fmt: skip
    own = AutoModelForCausalLM.from_pretrained(folder(family), dtype=torch.float32, quantization_config=options)
    own.train()  # no dropout in these; in evaluation some CPUs would round the scales to bf16
    with torch.no_grad():
        expected = own(IDS).logits
    before = logits(lm)
    with replaced(lm, quantized_weights(lm, kind)):
        scale = expected.abs().max()
        assert (logits(lm) - expected).abs().max() < FLOAT32 * scale
    assert (before - expected).abs().max() > 1e-2 * scale
    # Its packed matrices are no floating-point weights to quantize.
    theirs = LanguageModel(lm.checkpoint, own, lm.tokenizer, own.device)
    assert theirs.linear() == {}
    with pytest.raises(ValueError, match=f"{family} has no linear layers left"):
        quantized_weights(theirs, "nf4")


def test_a_transposed_weight_is_quantized_as_the_linear_layer_that_it_is(folder):
    """GPT-2 stores inputs by outputs: bitsandbytes' linear layer has a row for each output."""
    from bitsandbytes.nn import Linear4bit

    lm = open_model(folder("gpt2"))
    name = "transformer.h.0.mlp.c_fc.weight"
    weight = quantized_weights(lm, "nf4", names=[name])[name]
    layer = Linear4bit(64, 256, bias=False, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=False)
    layer.load_state_dict({"weight": lm.parameter(name).T.contiguous()})
    layer = layer.to("cpu")
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(x @ weight, layer(x), rtol=0, atol=FLOAT32 * float(layer(x).abs().max()))
    assert weight.shape == lm.parameter(name).shape
    assert not torch.equal(weight, quantizers.get("nf4").quantize(lm.parameter(name), 64))


def test_block_sizes_and_names_are_passed_on(folder):
    lm = open_model(folder("llama"))
    names = ["lm_head.weight", "model.layers.1.mlp.up_proj.weight"]
    found = quantized_weights(lm, "int3", 32, names)
    assert list(found) == names
    for name in names:
        assert torch.equal(found[name], quantizers.get("int3").quantize(lm.parameter(name), 32))
    assert list(quantized_weights(lm, "int3")) == list(lm.linear())
    with pytest.raises(ValueError, match=r"'lm_head\.wight': did you mean lm_head\.weight"):
        quantized_weights(lm, "int3", 32, ["lm_head.wight"])
    with pytest.raises(ValueError, match="no quantizer is called 'nf5'"):
        quantized_weights(lm, "nf5")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_weights_are_replaced_and_restored_bit_for_bit(folder, family):
    lm = open_model(folder(family))
    before, saved = logits(lm), {name: p.clone() for name, p in lm.network.named_parameters()}
    places = {name: p.data_ptr() for name, p in lm.network.named_parameters()}
    weights = quantized_weights(lm, "int2") | {name: torch.zeros_like(p) for name, p in lm.embedding().items()}
    with replaced(lm, weights):
        for name, weight in weights.items():
            assert lm.parameter(name).data_ptr() == weight.data_ptr()  # nothing is copied
        assert float(logits(lm).abs().max()) == 0  # tied: the head went with the embedding
    with pytest.raises(Interrupted), replaced(lm, weights):
        raise Interrupted
    for name, parameter in lm.network.named_parameters():
        assert torch.equal(parameter, saved[name])
        assert parameter.data_ptr() == places[name]
    assert torch.equal(logits(lm), before)
    if family == "qwen2":  # either name of the tied matrix
        assert lm.parameter("lm_head.weight") is lm.parameter("model.embed_tokens.weight")


def test_names_may_lack_the_prefix_and_dtypes_are_converted(folder):
    lm = open_model(folder("bloom"))
    weight = torch.zeros(64, 64, dtype=torch.float64)
    with replaced(lm, {"h.1.self_attention.dense.weight": weight}):
        replacement = lm.parameter("transformer.h.1.self_attention.dense.weight")
        assert (replacement.dtype, float(replacement.abs().sum())) == (torch.float32, 0)
    assert float(lm.parameter("h.1.self_attention.dense.weight").abs().sum()) > 0


def test_a_weight_that_does_not_fit_leaves_the_network_alone(folder):
    lm = open_model(folder("llama"))
    before = logits(lm)
    good = {"model.norm.weight": torch.zeros(64)}
    for name, match in [("lm_head.weight", r"lm_head.weight has shape \(2048, 64\) in llama, not \(3,\)"),
                        ("h.0.weight", "no parameter of llama")]:  # fmt: skip
        with pytest.raises(ValueError, match=match), replaced(lm, good | {name: torch.zeros(3)}):
            pass
    assert torch.equal(logits(lm), before)


def test_no_tokenizer(broken):
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"broken has no tokenizer\.json"):
        open_model(broken)


def test_a_tokenizer_of_another_model(broken):
    content = json.loads((broken / "tokenizer.json").read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 2048, "content": "<|more|>"})
    (broken / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="tokenizer of broken has 2049 tokens and its embedding 2048"):
        open_model(broken)


def test_missing_and_misshapen_tensors(broken):
    file, name = broken / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    weights = load_file(file)
    save_file({n: w for n, w in weights.items() if n != name}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"broken lacks 1 tensors, {name} for one"):
        open_model(broken)
    save_file(weights | {name: torch.zeros(3, 3)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"broken \(llama\) is no causal language model that transformers loads"):
        open_model(broken)


@pytest.mark.parametrize("config", [None, {}, {"model_type": "nonesuch"}, {"model_type": "t5"}])
def test_what_transformers_does_not_load(broken, config):
    (broken / "config.json").unlink() if config is None else (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"broken \(.*\) is no causal language model that transformers loads"):
        open_model(broken)


def test_code_that_comes_with_a_model_is_not_run(broken):
    config = json.loads((broken / "config.json").read_text()) | {
        "model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }  # fmt: skip
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ValueError, match="custom code"):
        open_model(broken)


def test_an_encoder_is_refused(broken):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=2048, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2
    )
    network = BertLMHeadModel(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    network.save_pretrained(broken)
    with pytest.raises(ValueError, match=r"broken \(bert\) is not causal"):
        open_model(broken)


def test_a_file_that_transformers_would_not_read(broken):
    file = (broken / "model.safetensors").rename(broken / "weights.safetensors")
    for model in (broken, file):
        with pytest.raises(ValueError, match=r"transformers reads model\.safetensors"):
            open_model(model)


def test_shards_are_read(folder, tmp_path):
    lm = open_model(folder("llama"))
    lm.network.save_pretrained(tmp_path, max_shard_size="100KB")
    shutil.copy(POCKET / "llama" / "tokenizer.json", tmp_path)
    assert len(open_checkpoint(tmp_path).files) > 2
    assert torch.equal(logits(open_model(tmp_path)), logits(lm))


def test_memory_that_is_not_there(folder, monkeypatch):
    with pytest.raises(MemoryError, match="out of memory for it: give less"), out_of_memory("it", "give less"):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="another"), out_of_memory("it", "give less"):
        raise RuntimeError("another")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(language_model.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(MemoryError, match="the weights of llama: choose a smaller dtype, or a larger device"):
        open_model(folder("llama"))


def test_opening_says_nothing(folder, capfd):
    open_model(folder("gpt2"))
    assert capfd.readouterr() == ("", "")
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
