import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from empirics import tensors
from empirics.models import INDEX, open_checkpoint
from empirics.tensors import TensorInfo, catalogue, layer, load, matrices, role


def save(path: Path, **content: torch.Tensor) -> Path:
    save_file(content, path)
    return path


def write_raw(path: Path, header: Any, data: bytes, size: int | None = None) -> Path:
    """A file in the format of safetensors, whose header may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data)
    return path


def only(path: Path) -> TensorInfo:
    (info,) = catalogue(open_checkpoint(path))
    return info


# Roles and layers.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("model.layers.0.self_attn.k_proj.weight", "k"),
        ("model.layers.0.self_attn.v_proj.bias", "v"),
        ("model.layers.10.self_attn.o_proj.qweight", "o"),
        ("model.layers.0.mlp.gate_proj.weight", "gate"),
        ("model.layers.0.mlp.experts.7.down_proj.weight", "down"),
        ("lm_head.weight", "head"),
        ("h.3.self_attention.query_key_value.weight", "qkv"),
        ("transformer.h.3.mlp.dense_4h_to_h.weight", "down"),
        ("transformer.h.3.mlp.dense_h_to_4h.weight", "up"),
        ("word_embeddings.weight", "embedding"),
        ("h.0.mlp.c_proj.weight", "down"),
        ("h.0.attn.c_proj.weight", "o"),
        ("wpe.weight", "position"),
        # Near names of other things.
        ("h.0.c_proj.weight", "other"),
        ("word_embeddings_layernorm.weight", "other"),
        ("model.layers.0.self_attn.k_norm.weight", "other"),
        ("model.layers.0.mlp.gate.weight", "other"),
        ("model.layers.0.mlp.dense.weight", "other"),
        ("dense.weight", "other"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "other"),
        ("model.layers.0.my_q_proj.weight", "other"),
        ("q_proj", "other"),
        ("", "other"),
    ],
)
def test_role(name: str, expected: str) -> None:
    assert role(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.0.mlp.up_proj.weight", 0),
        ("layers.31.x", 31),
        ("h.7.ln_1.weight", 7),
        ("lm_head.weight", None),
        ("model.experts.3.weight", None),
        ("model.sublayers.3.weight", None),
        ("layers.weight", None),
    ],
)
def test_layer(name: str, expected: int | None) -> None:
    assert layer(name) == expected


def test_roles_of_a_llama(llama: Path) -> None:
    found = {info.name: info.role for info in catalogue(open_checkpoint(llama))}
    assert set(found.values()) == {*"qkvo", "gate", "up", "down", "embedding", "head", "other"}
    assert all((value == "other") == ("norm" in name) for name, value in found.items())
    assert list(found.values()).count("q") == 12


def test_roles_of_a_bloom(bloom: Path) -> None:
    chosen, skipped = matrices(open_checkpoint(bloom))
    assert Counter(info.role for info in chosen) == {"qkv": 2, "o": 2, "up": 2, "down": 2, "embedding": 1}
    assert {len(info.shape) for info, _ in skipped} == {1}


# Naming schemes, as transformers writes them.

SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LIKE_LLAMA = SMALL | {"intermediate_size": 24, "num_key_value_heads": 1}
SCHEMES = {
    "llama": (LIKE_LLAMA, "q k v o gate up down", "embedding head"),
    "mistral": (LIKE_LLAMA, "q k v o gate up down", "embedding head"),
    "qwen2": (LIKE_LLAMA, "q k v o gate up down", "embedding head"),
    "qwen3": (LIKE_LLAMA, "q k v o gate up down", "embedding head"),
    "phi": (SMALL | {"intermediate_size": 24}, "q k v o up down", "embedding head"),
    "phi3": (SMALL | {"intermediate_size": 24, "pad_token_id": 0}, "qkv o gate_up down", "embedding head"),
    "opt": (
        SMALL | {"ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 8},
        "q k v o up down", "embedding position",
    ),
    "gpt_neox": (SMALL | {"intermediate_size": 24}, "qkv o up down", "embedding head"),
    "bloom": (SMALL, "qkv o up down", "embedding"),
    "gpt2": (SMALL | {"n_positions": 8, "n_inner": 24}, "qkv o up down", "embedding position"),
    "gpt_bigcode": (SMALL | {"n_positions": 8, "n_inner": 24}, "qkv o up down", "embedding position"),
}  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_matrix_has_its_role_its_layer_and_outputs_first(scheme: str, tmp_path: Path) -> None:
    settings, inside, outside = SCHEMES[scheme]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(scheme, **settings)).eval()
    model.save_pretrained(tmp_path / "model")
    chosen, skipped = matrices(open_checkpoint(tmp_path / "model"))
    expected = [(role, number) for number in range(2) for role in inside.split()]
    expected += [(role, None) for role in outside.split()]
    assert Counter((info.role, layer(info.name)) for info in chosen) == Counter(expected)
    assert all(len(info.shape) == 1 for info, _ in skipped)
    modules = dict(model.named_modules()) | {"embed_out": model.get_output_embeddings()}
    for info in chosen:
        module, weight = modules[info.name.removesuffix(".weight")], load(info)
        assert weight.shape == info.shape
        assert weight.is_contiguous()
        if isinstance(module, torch.nn.Embedding):
            assert torch.equal(weight, module.weight)
            continue
        # What the layer does to unit vectors, one for each input: its columns.
        inputs = weight.shape[1]
        with torch.no_grad():
            columns = module(torch.eye(inputs)) - module(torch.zeros(inputs, inputs))
        torch.testing.assert_close(weight.T, columns)


def test_inputs_first_only_where_the_config_says_so(tmp_path: Path) -> None:
    weight, names = torch.arange(12.0).view(3, 4), ("h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias")
    path = save(tmp_path / "model.safetensors", **dict(zip(names, (weight, torch.zeros(4)), strict=True)))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    bias, turned = catalogue(open_checkpoint(tmp_path))
    assert (bias.transposed, turned.transposed, turned.shape) == (False, True, (4, 3))
    assert torch.equal(load(turned), weight.T)
    (tmp_path / "config.json").unlink()
    assert torch.equal(load(catalogue(open_checkpoint(path))[1]), weight)


# The catalogue.


@pytest.mark.parametrize("kind", ["llama", "sharded", "bloom"])
def test_catalogue_and_load_agree_with_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    state = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
    infos = catalogue(open_checkpoint(folder))
    assert {info.name for info in infos} <= set(state)
    assert len(infos) >= len(state) - 1  # a tied head is not stored
    for info in infos:
        tensor = load(info)
        assert tensor.dtype == state[info.name].dtype
        assert torch.equal(tensor, state[info.name])
        assert info.shape == tensor.shape
        assert info.nbytes == tensor.nbytes
        assert info.dtype == ("F32" if kind == "bloom" else "BF16")


def test_shards_hold_what_one_file_holds(llama: Path, sharded: Path) -> None:
    one, many = catalogue(open_checkpoint(llama)), catalogue(open_checkpoint(sharded))
    assert len({info.file for info in many}) > 2
    assert [(a.name, a.role, a.shape) for a in one] == [(b.name, b.role, b.shape) for b in many]


def test_natural_order(llama: Path) -> None:
    layers = [layer(info.name) for info in catalogue(open_checkpoint(llama))]
    inside = [number for number in layers if number is not None]
    assert inside == sorted(inside)
    assert inside[-1] == 11


def test_only_headers_are_read(tmp_path: Path) -> None:
    size = 2**40
    header = {"w": {"dtype": "BF16", "shape": [2**20, 2**19], "data_offsets": [0, size]}}
    path = write_raw(tmp_path / "model.safetensors", header, b"")
    os.truncate(path, path.stat().st_size + size)  # a hole: to read it would take minutes
    assert only(path).nbytes == size


def test_index_names_a_tensor_that_its_shard_lacks(sharded: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    index = json.loads((folder / INDEX).read_text())
    shards = sorted(set(index["weight_map"].values()))
    index["weight_map"]["model.layers.99.weight"] = shards[1]
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=rf"{shards[1]} lacks model\.layers\.99\.weight, which .*index\.json says"):
        catalogue(open_checkpoint(folder))


def test_index_names_the_wrong_shard(sharded: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    index = json.loads((folder / INDEX).read_text())
    shards = sorted(set(index["weight_map"].values()))
    index["weight_map"]["lm_head.weight"] = next(s for s in shards if s != index["weight_map"]["lm_head.weight"])
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks lm_head\.weight"):
        catalogue(open_checkpoint(folder))


def test_same_tensor_in_two_files(tmp_path: Path) -> None:
    save(tmp_path / "one.safetensors", a=torch.ones(2, 2), w=torch.ones(2, 2))
    save(tmp_path / "two.safetensors", w=torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"^w is both in .*one\.safetensors and in two\.safetensors: remove"):
        catalogue(open_checkpoint(tmp_path))


def damaged_files() -> dict[str, Any]:
    def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    return {
        "empty": lambda path: path.write_bytes(b""),
        "shorter than a length": lambda path: path.write_bytes(b"\0\0\0"),
        "a web page": lambda path: path.write_text("<!doctype html><title>Not found</title>"),
        "a git-lfs pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "a pickle": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
        "header cut short": lambda path: write_raw(path, {"w": entry([2], 0, 8)}, b"", size=1000),
        "header of 2**62 bytes": lambda path: write_raw(path, {}, b"", size=2**62),
        "header not JSON": lambda path: write_raw(path, b"{not json}", b""),
        "header a list": lambda path: write_raw(path, [], b""),
        "data cut short": lambda path: write_raw(path, {"w": entry([2], 0, 8)}, bytes(7)),
        "data too long": lambda path: write_raw(path, {"w": entry([2], 0, 8)}, bytes(9)),
        "offsets overlap": lambda path: write_raw(path, {"v": entry([2], 0, 8), "w": entry([2], 4, 12)}, bytes(12)),
        "offsets leave a hole": lambda path: write_raw(path, {"w": entry([2], 4, 12)}, bytes(12)),
        "offsets backwards": lambda path: write_raw(path, {"w": entry([2], 8, 0)}, bytes(8)),
        "shape too large": lambda path: write_raw(path, {"w": entry([3], 0, 8)}, bytes(8)),
        "shape overflows": lambda path: write_raw(path, {"w": entry([2**40, 2**40], 0, 8)}, bytes(8)),
        "shape negative": lambda path: write_raw(path, {"w": entry([-2], 0, 8)}, bytes(8)),
        "dtype unheard of": lambda path: write_raw(path, {"w": entry([2], 0, 8, "Q4")}, bytes(8)),
    }


@pytest.mark.parametrize("damage", damaged_files())
def test_damaged_file(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    damaged_files()[damage](path)
    size = path.stat().st_size
    expected = rf"model\.safetensors \({size} bytes\) is not a complete safetensors file: .*; download it"
    with pytest.raises(ValueError, match=expected):
        catalogue(open_checkpoint(tmp_path))


def test_truncated_anywhere(llama: Path, tmp_path: Path) -> None:
    content = (llama / "model.safetensors").read_bytes()
    for size in np.linspace(0, len(content) - 1, 23, dtype=int):
        path = tmp_path / f"{size}.safetensors"
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{size}\.safetensors \({size} bytes\) is not a complete"):
            catalogue(open_checkpoint(path))


def test_file_gone(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    checkpoint = open_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        catalogue(checkpoint)


# Matrices.


def test_matrices_and_the_reasons_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    wanted = {name: torch.ones(2, 3, dtype=dtype) for name, dtype in tensors.DTYPES.items() if name[0] in "FB"}
    fp8 = {name: wanted.pop(name) for name in ("F8_E4M3", "F8_E5M2")}
    bools = {"mask": wanted.pop("BOOL")}
    rest = {
        "norm": torch.ones(3),
        "scalar": torch.tensor(1.0),
        "experts": torch.ones(2, 3, 4),
        "none": torch.ones(0, 4),
        "row": torch.ones(1, 4),
        "column": torch.ones(4, 1),
        "packed": torch.ones(4, 4, dtype=torch.int32),
        "m.q_proj.scales": torch.ones(4, 4),
    }
    chosen, skipped = matrices(open_checkpoint(save(path, **wanted, **fp8, **bools, **rest)))
    assert {info.name for info in chosen} == set(wanted) == {"F64", "F32", "F16", "BF16"}
    assert {info.name: reason for info, reason in skipped} == {
        "norm": "1 dimensions, not 2",
        "scalar": "0 dimensions, not 2",
        "experts": "3 dimensions, not 2",
        "none": "empty: shape (0, 4)",
        "row": "a vector: shape (1, 4)",
        "column": "a vector: shape (4, 1)",
        "packed": "I32 values, not floating-point weights",
        "mask": "BOOL values, not floating-point weights",
        "F8_E4M3": "F8_E4M3 is unsupported: such weights are already quantized",
        "F8_E5M2": "F8_E5M2 is unsupported: such weights are already quantized",
        "m.q_proj.scales": "the scales of an already quantized weight",
    }


def test_matrices_of_a_llama_are_its_linear_layers(llama: Path) -> None:
    chosen, skipped = matrices(open_checkpoint(llama))
    assert len(chosen) == 12 * 7 + 2
    assert all("norm" in info.name for info, _ in skipped)
    assert len(skipped) == 12 * 2 + 1


# Loading.


@pytest.mark.parametrize("dtype", tensors.DTYPES)
def test_every_dtype_is_kept(dtype: str, tmp_path: Path) -> None:
    raw = torch.randint(0, 2, (7, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensor = raw.view(tensors.DTYPES[dtype])
    info = only(save(tmp_path / "one.safetensors", w=tensor))
    assert info.dtype == dtype
    loaded = load(info)
    assert loaded.dtype == tensor.dtype
    assert torch.equal(loaded.view(torch.uint8), raw)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (1,), (2, 3, 4)])
def test_every_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = torch.ones(shape)
    assert torch.equal(load(only(save(tmp_path / "one.safetensors", w=tensor))), tensor)


def test_unaligned_data(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0], np.float32)
    header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    text += b" " * ((1 - len(text)) % 4)
    path = write_raw(tmp_path / "one.safetensors", text, values.tobytes())
    info = only(path)
    assert info.offset % 4 == 1
    assert load(info).tolist() == [1.5, -2.0]


def test_a_loaded_tensor_is_ours_to_write(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    before = (folder / "model.safetensors").read_bytes()
    info = catalogue(open_checkpoint(folder))[0]
    load(info).zero_()
    assert (folder / "model.safetensors").read_bytes() == before
    assert load(info).any()


def test_unsupported_dtype(tmp_path: Path) -> None:
    header = {"w": {"dtype": "F4", "shape": [4, 4], "data_offsets": [0, 8]}}
    info = only(write_raw(tmp_path / "one.safetensors", header, bytes(8)))
    with pytest.raises(ValueError, match=r"w in .*one\.safetensors has dtype F4, .* those that are: F64"):
        load(info)


def test_file_cut_short_after_the_catalogue(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    info = max(catalogue(open_checkpoint(folder)), key=lambda info: info.offset)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-3])
    with pytest.raises(ValueError, match=rf"ends 3 bytes before {info.name} does"):
        load(info)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_nan_and_infinity_are_counted(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.ones(2, tensors.CHUNK, dtype=dtype)  # two chunks, both with something in them
    tensor[0, :2] = float("nan")
    tensor[1, 5] = float("nan")
    tensor[1, -1] = float("-inf")
    info = only(save(tmp_path / "one.safetensors", **{"model.layers.0.w": tensor}))
    expected = rf"^model\.layers\.0\.w: 3 NaN and 1 infinite of {2 * tensors.CHUNK} values in .*one\.safetensors"
    with pytest.raises(ValueError, match=expected):
        load(info)


@pytest.mark.parametrize(
    ("value", "counts"), [("nan", "1 NaN and 0"), ("inf", "0 NaN and 1"), ("-inf", "0 NaN and 1")]
)
def test_one_bad_value(value: str, counts: str, tmp_path: Path) -> None:
    tensor = torch.tensor([[1.0, -2.0], [float(value), 0.0]])
    with pytest.raises(ValueError, match=rf"^w: {counts} infinite of 4 values"):
        load(only(save(tmp_path / "one.safetensors", w=tensor)))


@pytest.mark.parametrize(("dtype", "counts"), [("F8_E4M3", "1 NaN and 0"), ("F8_E5M2", "1 NaN and 1")])
def test_nan_and_infinity_of_eight_bits(dtype: str, counts: str, tmp_path: Path) -> None:
    raw = torch.tensor([0x7F, 0x7C, 0x00], dtype=torch.uint8)  # NaN; infinity, in E5M2 only; zero
    info = only(save(tmp_path / "one.safetensors", w=raw.view(tensors.DTYPES[dtype])))
    with pytest.raises(ValueError, match=rf"^w: {counts} infinite of 3 values"):
        load(info)


@pytest.mark.parametrize("value", [3.3e38, -3.3e38, 1e-40])
def test_extreme_finite_values_pass(value: float, tmp_path: Path) -> None:
    info = only(save(tmp_path / "one.safetensors", w=torch.full((4, 4), value, dtype=torch.bfloat16)))
    assert load(info).isfinite().all()


READ_ALL = """
import sys
from dataclasses import replace
from pathlib import Path
from empirics.models import open_checkpoint
from empirics.tensors import catalogue, load

def resident(what):
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) * 1024

infos = catalogue(open_checkpoint(Path(sys.argv[1])))
load(replace(infos[0], shape=(2, 2), nbytes=8))  # whatever the first call allocates for good
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
for info in infos:
    load(info)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read and reset through /proc")
def test_memory_is_one_tensor(tmp_path: Path) -> None:
    size = 2**25
    content = {f"w{i}": torch.zeros(2**13, size // 2**14, dtype=torch.bfloat16) for i in range(4)}
    path = save(tmp_path / "model.safetensors", **content)
    # A process of its own: one that has run other tests has freed memory to spare.
    child = subprocess.run([sys.executable, "-c", READ_ALL, path], capture_output=True, text=True, check=True)
    assert 0.9 * size < int(child.stdout) < 1.3 * size


def test_load_reads_the_tensor_alone(llama: Path) -> None:
    expected = load_file(llama / "model.safetensors")
    infos = catalogue(open_checkpoint(llama))
    for info in reversed(infos):
        assert torch.equal(load(info), expected[info.name])
