"""``quantgap ledger QUANTIZED --base BASE``: what is measured, and what a person is told."""

from __future__ import annotations

import json
import math
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from typer.testing import CliRunner

from empirics import quantizers
from empirics.checkpoints import Base, check_base, open_quantized
from empirics.checkpoints.ledger import run
from empirics.cli import app
from empirics.measure import Matrix
from empirics.models import open_checkpoint
from empirics.store import Store
from empirics.tensors import matrices
from tests.empirics.checkpoints import base, gguf_model
from theory.ledger import STEPS, STORED

FOLDER = Path(base.__file__).parent
UP = "model.layers.0.mlp.up_proj.weight"
FIXTURES = {"gptq-4-bits-ordered": 4, "gptq-2-bits": 2, "awq": 4, "compressed-awq": 4}
"""Their bits."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base.save(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def saved(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """bitsandbytes' NF4, a GGUF of two types, and what other libraries made."""
    folder = tmp_path_factory.mktemp("quantized")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(source, quantization_config=config, device_map="cpu")
    model.save_pretrained(folder / "nf4")
    gguf = gguf_model.write(folder / "mixed.gguf", "Q4_0", ffn_down="Q5_1")
    return {"nf4": folder / "nf4", "mixed": gguf} | {name: FOLDER / name for name in FIXTURES}


@pytest.fixture(scope="module")
def documents(source: Path, saved: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command prints for each."""
    documents = {}
    for name, place in saved.items():
        found = invoke("ledger", place, "--base", source, "--json", "--out", tmp_path_factory.mktemp(name))
        assert found.exit_code == 0, found.output
        documents[name] = json.loads(found.stdout)
    return documents


def invoke(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize("name", ["nf4", "mixed", *FIXTURES])
def test_the_document(source, saved, documents, name):
    document = documents[name]
    assert document.keys() >= {"model", "quantizer", "bits", "effective_bits", "block_size", "tensors", "model_total"}
    assert document["base"]["model"] == "tiny"
    assert document["base"]["revision"] == open_checkpoint(source).revision
    quantized = open_quantized(saved[name])
    assert [t["name"] for t in document["tensors"]] == quantized.names()
    for tensor in [*document["tensors"], document["model_total"]]:
        steps = [step["bits"] for step in tensor["steps"]]
        assert math.fsum(steps) == pytest.approx(tensor["total_bits"], abs=1e-12)
        assert tuple(step["name"] for step in tensor["steps"][-2:]) == STORED
    for tensor in document["tensors"]:
        weights = base.weights()[tensor["name"]].float()
        assert tensor["total_bits"] == pytest.approx(math.log2(tensor["measured_mse"] * 4 ** tensor["bits"]) / 2)
        assert tensor["effective_bits"] == quantized.effective_bits(tensor["name"])
        rate = tensor["effective_bits"] - tensor["bits"]
        assert tensor["effective_total_bits"] == pytest.approx(tensor["total_bits"] + rate)
        if "awq" not in name:  # there, the base's coordinates are not those that are stored
            error = (quantized.dense(tensor["name"]) - weights).double().square().mean()
            variance = weights.double().var(correction=0)
            assert tensor["measured_mse"] == pytest.approx(float(error / variance), rel=1e-6)
    sizes = np.array([np.prod(t["shape"]) for t in document["tensors"]])
    mean = sizes @ [t["total_bits"] for t in document["tensors"]] / sizes.sum()
    assert document["model_total"]["total_bits"] == pytest.approx(mean, abs=1e-12)
    assert document["model_total"]["weights"] == sizes.sum()
    if name in FIXTURES:
        assert document["bits"] == FIXTURES[name]


def test_the_steps_of_nf4_are_those_of_our_own_quantizer(source, documents):
    """bitsandbytes does nothing but round to nearest with full scales: the same ledger, and two steps of 0."""
    infos = {info.name: info for info in matrices(open_checkpoint(source))[0]}
    for tensor in documents["nf4"]["tensors"]:
        measured = Matrix(base.weights()[tensor["name"]], infos[tensor["name"]]).measure(quantizers.get("nf4"), 64)
        assert [s["name"] for s in tensor["steps"]] == [*STEPS, *STORED]
        assert [s["bits"] for s in tensor["steps"][:8]] == pytest.approx(
            [s.bits for s in measured.ledger.steps], abs=1e-6
        )
        assert [s["bits"] for s in tensor["steps"][8:]] == pytest.approx([0, 0], abs=1e-6)
        assert tensor["predicted_mse_row"] == pytest.approx(measured.predicted_mse_row, rel=1e-9)
        assert tensor["not_nearest"] == 0


def test_what_each_method_does_is_in_its_own_step(documents):
    gptq, awq = (
        {step["name"]: step["bits"] for step in documents[name]["model_total"]["steps"]}
        for name in ("gptq-4-bits-ordered", "awq")
    )
    assert list(gptq) == [*STEPS[:5], "format", *STORED]
    # GPTQ keeps the scales of plain rounding, and moves weights to other levels; AWQ moves the scales, and rounds.
    assert abs(gptq["scales"]) < 0.05 < 0.3 < gptq["method"]
    assert abs(awq["method"]) < 0.05 < 0.2 < awq["scales"]


def test_a_model_of_several_formats_has_its_mean_rate(documents):
    document = documents["mixed"]
    bits = {t["name"]: (t["bits"], t["format"], t["effective_bits"]) for t in document["tensors"]}
    assert bits["model.layers.0.mlp.down_proj.weight"] == (5, "Q5_1", 6.0)
    assert bits[UP] == (4, "Q4_0", 4.5)
    sizes = {t["name"]: math.prod(t["shape"]) for t in document["tensors"]}
    mean = sum(bits[n][0] * size for n, size in sizes.items()) / sum(sizes.values())
    assert document["bits"] == pytest.approx(mean)
    assert document["block_size"] == 32


def test_tables_figures_and_standard_errors(source, saved, tmp_path):
    found = invoke("ledger", saved["awq"], "--base", source, "--out", tmp_path)
    assert found.exit_code == 0, found.output
    for word in ("awq, 4 bits, groups of 32", "scales as stored", "gap at the effective rate", "normalizations"):
        assert word in found.output.replace("\n", " "), word
    folder = tmp_path / "awq" / "ledger"
    assert {path.name for path in folder.iterdir()} >= {
        "matrices.csv", "matrices.parquet", "ledger.json", "waterfall.png", "waterfall.svg", "section.html"
    }  # fmt: skip
    assert "awq" in (tmp_path / "report.html").read_text()
    table = pd.read_csv(folder / "matrices.csv")
    assert len(table) == len(base.SHAPES)
    # By hand: the ratio of two sums over rows, its error from the spread of the rows.
    pair = check_base(open_quantized(saved["awq"]), open_checkpoint(source)).pair(UP)
    squared = (pair.dense - pair.weights).double().square().sum(1)
    energy = pair.weights.double().square().sum(1)
    ratio = float(squared.sum() / energy.sum())
    beyond = (squared - ratio * energy).numpy()
    error = math.sqrt(128 / 127 * float(beyond @ beyond)) / float(energy.sum())
    row = table.set_index("tensor").loc[UP]
    assert row.measured_mse_error / row.measured_mse == pytest.approx(error / ratio, rel=0.01)
    assert row.total_bits_error == pytest.approx(error / ratio / (2 * math.log(2)), rel=0.01)


def test_what_is_stored_is_not_measured_again(source, saved, monkeypatch):
    with Store(":memory:") as store:
        first = run(saved["gptq-4-bits-ordered"], source, store=store)
        monkeypatch.setattr("empirics.checkpoints.ledger.measure", lambda *args: pytest.fail("measured again"))
        assert run(saved["gptq-4-bits-ordered"], source, store=store).summary == first.summary


def test_progress_counts_weights(source, saved):
    seen: list[Any] = []
    run(saved["gptq-4-bits-ordered"], source, progress=lambda *args: seen.append(args))
    assert seen[0][1:] == (0, sum(math.prod(shape) for shape in base.SHAPES.values()))
    assert len(seen) == len(base.SHAPES)


def test_a_wrong_base_ends_the_run_even_if_only_the_last_matrix_tells(source, saved, tmp_path):
    other = base.save(tmp_path / "other")
    weights = base.weights()
    last = open_quantized(saved["nf4"]).names()[-1]
    weights[last] = weights[last].flip(0)
    save_file(weights, other / "model.safetensors")
    found = invoke("ledger", saved["nf4"], "--base", other, "--out", tmp_path / "out", "--json")
    assert (found.exit_code, found.stdout) == (2, "")
    assert f"{last} has correlation" in found.stderr.replace("\n", " ")


def test_a_matrix_that_cannot_be_measured_is_reported_and_the_rest_kept(source, saved, monkeypatch):
    from empirics.checkpoints import ledger

    def measure(found: Any, name: str, split: bool) -> Any:
        if name == UP:
            raise ValueError(f"{name}: no")
        return real(found, name, split)

    real = ledger.measure
    monkeypatch.setattr(ledger, "measure", measure)
    found = run(saved["gptq-4-bits-ordered"], source)
    assert found.failures == [(UP, f"{UP}: no")]
    assert len(found.summary["tensors"]) == len(base.SHAPES) - 1


def test_weights_that_are_points_of_the_grid_have_no_gap(saved, tmp_path):
    quantized = open_quantized(saved["mixed"])
    dense = {name: quantized.dense(name) for name in quantized.names()}
    dense |= {name: quantized.other(name) for name in quantized.others()}
    folder = base.save(tmp_path / "dense")
    save_file({name: tensor.contiguous() for name, tensor in dense.items()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="every weight is a point of its grid"):
        run(saved["mixed"], folder)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["NF4"], "is quantized already: `quantgap ledger .* --base BASE`"),
        (["GGUF"], "is a GGUF model: `quantgap ledger .* --base BASE`"),
        (["TINY", "--base", "TINY"], "tiny is not quantized"),
        (["NF4", "--base", "NF4"], "is itself quantized"),
        (["NF4", "--base", "TINY/nowhere"], "nowhere"),
        (["NF4", "--base", "TINY", "-q", "nf4"], "leave --quantizer out"),
        (["NF4", "--base", "pocket-llama"], "is not what nf4 was quantized from"),
    ],
)
def test_bad_input_is_one_clear_line(source, saved, tmp_path, args, said):
    places = {"NF4": saved["nf4"], "GGUF": saved["mixed"], "TINY": source}
    for word, place in places.items():
        args = [arg.replace(word, str(place)) for arg in args]
    found = invoke("ledger", *args, "--out", tmp_path / "out")
    assert (found.exit_code, found.stdout) == (2, "")
    assert re.search(said, found.stderr.replace("\n", " "))
    assert "Traceback" not in found.stderr


def test_one_matrix_is_in_memory_at_a_time(source, saved, monkeypatch):
    real, alive = Base.pair, weakref.WeakSet[Any]()

    def pair(found: Base, name: str) -> Any:
        assert not alive
        made = real(found, name)
        alive.add(made)
        return made

    monkeypatch.setattr(Base, "pair", pair)
    run(saved["awq"], source)
    assert not alive
