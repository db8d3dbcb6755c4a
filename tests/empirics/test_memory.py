"""A checkpoint that does not fit the memory allowed, measured under a limit that the kernel enforces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from empirics.synthetic import Law, checkpoint

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"
MATRICES, SIZE = 6, 2560  # a run takes some 25 MB beside a matrix: of 50 MB for one of 2048 x 2048 nothing is left
FLOAT32 = 4 * SIZE**2
ALLOWANCE = 3 * FLOAT32

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts private memory on Linux alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small checkpoint, and one of 157 MB in shards."""
    made = tmp_path_factory.mktemp("memory")
    law, names = Law(rows=0.2), [f"model.layers.{i}.mlp.up_proj.weight" for i in range(MATRICES)]
    checkpoint(made / "small", {names[0]: (law, (512, 256))})
    checkpoint(made / "large", dict.fromkeys(names, (law, (SIZE, SIZE))), dtype=torch.float32)
    return made


def run(folder: Path, *options: str) -> dict:
    command = [sys.executable, str(SCRIPT), "--under", str(folder), "--allowance", str(ALLOWANCE), *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_a_checkpoint_larger_than_the_memory_allowed(folder):
    stored = sum(file.stat().st_size for file in (folder / "large").glob("*.safetensors"))
    assert stored > ALLOWANCE
    found = run(folder)
    assert found["exit_code"] == 0, found["reason"]


def test_holding_the_matrices_is_not_possible(folder):
    """The limit is real: a process that lets go of nothing meets it."""
    found = run(folder, "--keep")
    assert found["exit_code"] != 0
    # Whichever asks first: numpy is "unable to allocate", torch "can't allocate memory".
    assert "allocate" in found["reason"]
