"""Makes the checkpoints of this folder with the libraries whose formats they have. Run by hand: see README.md.

    python -m tests.empirics.checkpoints.make gptqmodel | auto-round | awq-outputs | llmcompressor | ggml LIBGGML_BASE

Each checkpoint is a folder with config.json, model.safetensors, and outputs.safetensors: what the library's own
linear modules return for `base.inputs`, matrix by matrix, with scales as stored and (X.float32) in float32.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.empirics.checkpoints import base

HERE = Path(__file__).parent
GGML_TYPES = {
    "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
    "IQ4_NL": 20, "IQ4_XS": 23,
}  # fmt: skip


def source(folder: Path) -> Path:
    """The base with a tokenizer of 32 words, which the libraries ask for."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(32)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "w0")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return base.save(folder)


def calibration() -> list[list[int]]:
    return np.random.RandomState(1).randint(0, 32, (32, 64)).tolist()


def keep(name: str, written: Path, outputs: dict[str, torch.Tensor]) -> None:
    """Copy what belongs to the checkpoint, without the paths of the machine that it was made on."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config: dict[str, Any] = json.loads((written / "config.json").read_text())
    meta = config["quantization_config"].get("meta", {})
    meta.pop("offload_to_disk_path", None)
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    shutil.copyfile(written / "model.safetensors", folder / "model.safetensors")
    save_file({key: value.contiguous() for key, value in outputs.items()}, folder / "outputs.safetensors")


def forward(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What every quantized module returns."""
    outputs = {}
    for name, shape in base.SHAPES.items():
        module = model.get_submodule(name.removesuffix(".weight"))
        x = base.inputs(shape[1])
        with torch.no_grad():
            outputs[name] = module(x.to(getattr(module, "scales", x).dtype)).float()
            if hasattr(module, "scales"):
                module.scales = module.scales.float()
                outputs[f"{name}.float32"] = module(x).float()
    return outputs


def gptqmodel(work: Path) -> None:
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    samples = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in calibration()]
    for name, options in {
        "gptq-4-bits-ordered": {"bits": 4, "group_size": 32, "desc_act": True, "sym": True},
        "gptq-3-bits": {"bits": 3, "group_size": 64, "desc_act": False, "sym": False, "format": "gptq_v2"},
        "gptq-2-bits": {"bits": 2, "group_size": 32, "desc_act": False, "sym": False},
    }.items():
        torch.manual_seed(0)
        model = GPTQModel.load(str(work / "base"), QuantizeConfig(**options), device="cpu")
        model.quantize(samples, batch_size=4)
        model.save(str(work / name))
        loaded = GPTQModel.load(str(work / name), device="cpu", backend=BACKEND.GPTQ_TORCH, dtype=torch.float16)
        keep(name, work / name, forward(loaded.model))


def auto_round(work: Path) -> None:
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer

    samples = [{"input_ids": torch.tensor([ids])} for ids in calibration()]
    model = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    # alg_configs="awq": channels are scaled, as in the paper; without it, AutoRound only packs as AWQ does.
    rounder = AutoRound(
        model, tokenizer, scheme="W4A16", sym=False, group_size=32, iters=0, nsamples=32, seqlen=64, dataset=samples,
        device_map="cpu", alg_configs="awq",
    )  # fmt: skip
    rounder.quantize_and_save(str(work / "awq"), format="auto_awq")
    (written,) = (path.parent for path in (work / "awq").glob("**/config.json"))
    keep("awq", written, {})


def awq_outputs(work: Path) -> None:
    """By GPTQModel, which wrote none of it."""
    from gptqmodel import BACKEND, GPTQModel

    shutil.copytree(HERE / "awq", work / "base", dirs_exist_ok=True)  # beside the tokenizer
    loaded = GPTQModel.load(str(work / "base"), device="cpu", backend=BACKEND.AWQ_TORCH, dtype=torch.float16)
    save_file(forward(loaded.model), HERE / "awq" / "outputs.safetensors")


def llmcompressor(work: Path) -> None:
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.awq import AWQModifier
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    torch.Tensor.pin_memory = lambda self, *args: self  # type: ignore[method-assign]  # it is called on a CPU too
    ids = calibration()
    data = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    weights = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 32}
    recipe = AWQModifier(ignore=["lm_head"], config_groups={"group_0": {"targets": ["Linear"], "weights": weights}})
    model = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.bfloat16)
    oneshot(model=model, recipe=[recipe], dataset=data, num_calibration_samples=32, max_seq_length=64)
    model.save_pretrained(work / "compressed-awq", save_compressed=True)
    dense = CompressedTensorsConfig(run_compressed=False)
    loaded = AutoModelForCausalLM.from_pretrained(
        work / "compressed-awq", dtype=torch.bfloat16, quantization_config=dense
    )
    outputs = {}
    for name, shape in base.SHAPES.items():
        with torch.no_grad():
            module = loaded.get_submodule(name.removesuffix(".weight"))
            outputs[name] = module(base.inputs(shape[1]).bfloat16()).float()
    keep("compressed-awq", work / "compressed-awq", outputs)


def ggml(library: str) -> None:
    """Two rows of 256 weights in each type, by ggml's own code: the bytes, and what it makes of them."""
    lib = ctypes.CDLL(library)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    floats = ctypes.POINTER(ctypes.c_float)
    rows, columns = 2, 256
    weights = base.block_weights()
    source_pointer = weights.numpy().ctypes.data_as(floats)
    kept = {}
    for name, number in GGML_TYPES.items():
        lib.ggml_quantize_init(number)
        packed, back = np.zeros(4 * rows * columns, np.uint8), np.zeros((rows, columns), np.float32)
        size = lib.ggml_quantize_chunk(
            number, source_pointer, packed.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0), ctypes.c_int64(rows),
            ctypes.c_int64(columns), None,
        )  # fmt: skip
        decode = getattr(lib, f"dequantize_row_{name.lower() if name[-1] != 'K' else name[:-1].lower() + 'K'}")
        decode(packed.ctypes.data_as(ctypes.c_void_p), back.ctypes.data_as(floats), ctypes.c_int64(rows * columns))
        kept[f"{name}.bytes"], kept[f"{name}.values"] = torch.from_numpy(packed[:size].copy()), torch.from_numpy(back)
    save_file(kept, HERE / "ggml.safetensors")


if __name__ == "__main__":
    if sys.argv[1] == "ggml":
        ggml(sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as folder:
            source(Path(folder) / "base")
            makers = {"gptqmodel": gptqmodel, "auto-round": auto_round, "awq-outputs": awq_outputs}
            (makers | {"llmcompressor": llmcompressor})[sys.argv[1]](Path(folder))
