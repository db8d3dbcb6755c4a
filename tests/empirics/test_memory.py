"""A checkpoint that does not fit the memory allowed, measured under a limit that the kernel enforces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from empirics.synthetic import Law, checkpoint

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"
MATRICES, SIZE = 6, 2048
FLOAT32 = 4 * SIZE**2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts private memory on Linux alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small checkpoint, and one of 101 MB in shards."""
    made = tmp_path_factory.mktemp("memory")
    law, names = Law(rows=0.2), [f"model.layers.{i}.mlp.up_proj.weight" for i in range(MATRICES)]
    checkpoint(made / "small", {names[0]: (law, (512, 256))})
    checkpoint(made / "large", dict.fromkeys(names, (law, (SIZE, SIZE))), dtype=torch.float32)
    return made


def run(folder: Path, *options: str) -> dict:
    command = [sys.executable, str(SCRIPT), "--under", str(folder), "--allowance", str(3 * FLOAT32), *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_three_times_the_largest_matrix_is_enough(folder):
    stored = sum(file.stat().st_size for file in (folder / "large").glob("*.safetensors"))
    assert stored >= 2 * 3 * FLOAT32
    found = run(folder)
    assert found["exit_code"] == 0, found["reason"]


def test_holding_the_matrices_is_not_possible(folder):
    """The limit is real: a process that lets go of nothing meets it."""
    found = run(folder, "--keep")
    assert found["exit_code"] == 1
    assert "can't allocate memory" in found["reason"]
