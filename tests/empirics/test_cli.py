"""The command line, as a person types it."""

import csv
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from empirics.cli import app

KEYS = {"model", "quantizer", "bits", "effective_bits", "block_size", "tensors", "model_total"}
TENSOR = {"name", "role", "shape", "beta", "beta_row", "measured_mse", "predicted_mse_iid", "predicted_mse_row",
          "total_bits", "steps"}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    save_file(
        {f"model.layers.{i}.mlp.up_proj.weight": 0.02 * torch.randn(64, 128, generator=generator) for i in range(2)},
        tmp_path / "model.safetensors",
    )
    return tmp_path


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_json_is_all_there_is_on_standard_output(folder):
    found = subprocess.run(
        [sys.executable, "-m", "empirics", "ledger", str(folder), "--json", "--out", str(folder / "out")],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    document = json.loads(found.stdout)
    assert document.keys() == KEYS
    assert (document["quantizer"], document["bits"], document["effective_bits"]) == ("nf4", 4, 4.5)
    assert [t["name"] for t in document["tensors"]] == [f"model.layers.{i}.mlp.up_proj.weight" for i in range(2)]
    for tensor in document["tensors"]:
        assert tensor.keys() == TENSOR
        assert math.fsum(s["bits"] for s in tensor["steps"]) == pytest.approx(tensor["total_bits"], abs=1e-12)
        assert tensor["measured_mse"] == pytest.approx(0.00846, rel=0.05)  # Gaussian weights: THEORY's value
    totals = [t["total_bits"] for t in document["tensors"]]
    assert document["model_total"]["total_bits"] == pytest.approx(sum(totals) / 2, abs=1e-12)
    assert "Traceback" not in found.stderr


def test_table_page_and_figures(folder):
    out = folder / "out"
    found = invoke("ledger", folder, "--out", out)
    assert found.exit_code == 0, found.output
    for word in ("nf4", "fp4", "int4", "up_proj", "0.5"):
        assert word in found.output
    page = (out / "ledger.html").read_text()
    assert "model.layers.1.mlp.up_proj.weight" in page
    assert {p.suffix for p in out.iterdir()} >= {".html", ".csv", ".json", ".png", ".sqlite"}
    with (out / "measurements.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6


def test_block_size_and_quantizer_are_obeyed(folder):
    found = invoke("ledger", folder, "--out", folder / "out", "--json", "-q", "int4", "--block-size", 32)
    document = json.loads(found.stdout)
    assert (document["quantizer"], document["block_size"], document["effective_bits"]) == ("int4", 32, 5.0)


def test_check_prints_every_verdict(folder):
    found = invoke("check", folder, "--out", folder / "out", "-q", "nf4", "--json")
    verdicts = json.loads(found.stdout)
    assert {v["verdict"] for v in verdicts} == {"holds", "inapplicable"}
    assert "ggd.stam" in invoke("check", folder, "--out", folder / "out", "-q", "nf4").output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ledger", "pocket-lama"], "pocket-llama"),
        (["ledger", "FOLDER", "-q", "nf5"], "did you mean nf4"),
        (["ledger", "FOLDER", "--block-size", "0"], "positive integer"),
        (["ledger", "FOLDER", "--json", "-q", "nf4", "-q", "fp4"], "one --quantizer"),
        (["ledger", "FOLDER/nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_clear_line(folder, args, said):
    found = invoke(*(a.replace("FOLDER", str(folder)) for a in args), "--out", folder / "out")
    assert found.exit_code == 2
    assert found.stdout == ""
    assert said in found.stderr.replace("\n", " ")
    assert "Traceback" not in found.stderr


def test_a_truncated_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    found = invoke("ledger", folder, "--out", folder / "out")
    assert (found.exit_code, "model.safetensors" in found.stderr) == (2, True)


def test_one_bad_tensor_is_reported_and_the_rest_kept(folder):
    good = 0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    save_file({"a.good": good, "b.bad": torch.full((64, 64), torch.nan)}, folder / "model.safetensors")
    found = invoke("ledger", folder, "--out", folder / "out", "--json")
    assert found.exit_code == 1
    assert [t["name"] for t in json.loads(found.stdout)["tensors"]] == ["a.good"]
    assert "b.bad" in found.stderr


def test_help_shows_an_example():
    for command in ("ledger", "check"):
        assert "Example" in invoke(command, "--help").output
