"""A run: what it measures, what it survives, and that a killed one ends with the same numbers."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from empirics import quantizers
from empirics.engine import run
from empirics.models import open_checkpoint
from empirics.store import Store

QUANTIZERS = [quantizers.get(name) for name in ("nf4", "int4")]


def checkpoint(folder, **tensors):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    return open_checkpoint(folder)


def normal(*shape, seed=0, dtype=torch.bfloat16):
    return (0.02 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def test_a_bad_tensor_does_not_cost_the_good_ones(tmp_path):
    spoiled = normal(32, 64, seed=1)
    spoiled[2, 3] = torch.nan
    found = run(
        checkpoint(
            tmp_path / "m",
            **{
                "a.good": normal(32, 64),
                "b.spoiled": spoiled,
                "c.zero": torch.zeros(32, 64),
                "d.constant": torch.full((32, 64), 0.25),
                "e.integers": torch.ones(32, 64, dtype=torch.int32),
                "f.empty": torch.zeros(0, 64),
                "g.vector": normal(64),
                "h.good": normal(64, 96, seed=2),
                "i.single": normal(40, 64, seed=3, dtype=torch.float32),
            },
        ),
        QUANTIZERS,
        64,
        Store(":memory:"),
    )
    assert [(m.statistics.name, m.quantizer) for m in found.measurements] == [
        (name, q) for name in ("a.good", "h.good", "i.single") for q in ("nf4", "int4")
    ]
    reasons = dict(found.failures)
    assert list(reasons) == ["b.spoiled", "c.zero", "d.constant"]
    assert "b.spoiled: 1 NaN and 0 infinite of 2048 values" in reasons["b.spoiled"]
    assert "c.zero is constant (0)" in reasons["c.zero"]
    assert "d.constant is constant (0.25)" in reasons["d.constant"]
    skipped = dict(found.skipped)
    assert skipped.keys() == {"e.integers", "f.empty", "g.vector"}
    assert "not floating-point" in skipped["e.integers"]
    assert "empty" in skipped["f.empty"]


def test_the_model_total_is_the_mean_over_its_weights(tmp_path):
    model = checkpoint(tmp_path / "m", a=normal(32, 64), b=normal(64, 128, seed=1))
    found = run(model, QUANTIZERS, 64, Store(":memory:"))
    a, b = found.of("nf4")
    mean = (2048 * a.ledger.total + 8192 * b.ledger.total) / 10240
    assert found.total("nf4").total == pytest.approx(mean, abs=1e-14)
    assert found.quantizers == ["nf4", "int4"]


def test_a_block_size_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"block_size = 0 is not a positive integer"):
        run(checkpoint(tmp_path / "m", a=normal(32, 64)), QUANTIZERS, 0, Store(":memory:"))


def test_what_is_stored_is_not_measured_again(tmp_path, monkeypatch):
    model = checkpoint(tmp_path / "m", a=normal(32, 64), b=normal(32, 64, seed=1))
    with Store(tmp_path / "s.sqlite") as store:
        first = run(model, QUANTIZERS, 64, store)
        monkeypatch.setattr("empirics.tensors.load", lambda info: pytest.fail(f"{info.name} was read again"))
        assert run(model, QUANTIZERS, 64, store).measurements == first.measurements
        monkeypatch.undo()
        # Other weights under the same name are another model.
        changed = checkpoint(tmp_path / "m", a=normal(32, 64, seed=7), b=normal(32, 64, seed=1))
        assert run(changed, QUANTIZERS, 64, store).measurements[0] != first.measurements[0]


def test_progress_counts_weights(tmp_path):
    seen = []
    model = checkpoint(tmp_path / "m", a=normal(32, 64), b=normal(64, 64, seed=1))
    run(model, QUANTIZERS, 64, Store(":memory:"), lambda *args: seen.append(args))
    assert seen == [("a", 0, 6144), ("a", 2048, 6144), ("b", 2048, 6144), ("b", 6144, 6144)]


SLOW_RUN = """
import sys, time
from empirics import engine, models, quantizers, store
progress = lambda name, done, total: (print(name, done, flush=True), time.sleep(0.2))
engine.run(models.open_checkpoint(sys.argv[1]), [quantizers.get("nf4"), quantizers.get("int4")], 64,
           store.Store(sys.argv[2]), progress)
"""


def test_a_killed_run_ends_with_the_same_numbers(tmp_path):
    tensors = {f"layer.{i}": normal(32, 64, seed=i) for i in range(6)}
    model = checkpoint(tmp_path / "m", **tensors)
    whole = run(model, QUANTIZERS, 64, Store(":memory:"))
    path = tmp_path / "s.sqlite"
    child = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(tmp_path / "m"), str(path)],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    for line in child.stdout:
        if line.startswith("layer.2"):
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    child.stdout.close()
    with Store(path) as store:
        kept = len(store.records())
        assert 4 <= kept < 12  # two tensors are safe; it was killed before the end
        begun = time.time()
        resumed = run(model, QUANTIZERS, 64, store)
        assert time.time() > begun
        assert len(store.records()) == 12
    assert resumed.measurements == whole.measurements
