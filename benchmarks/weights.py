"""Statistics of a 4096 x 4096 bf16 tensor: ours, and one pass over the weights for each number, side by side.

``python benchmarks/weights.py [--size 4096] [--full] [--json FILE]``

Every line is measured in this run, on this machine: the best of three for ours, once for what takes seconds. The
baseline of lines 1 to 4 is written after the notebooks: a pass over the float32 array for each bit width and
quantizer; Lloyd-Max from percentiles by 20 rounds of `digitize` and masked means; `gennorm.fit`. The last two run
on 2**20 weights unless --full, so their ratio is a lower bound. The floor is a copy of the bf16 tensor.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

from empirics.distortion import distortion
from empirics.fit import marginal, within_rows
from empirics.histogram import exact
from empirics.quantizers import get
from theory import scalar

BITS = range(2, 9)
SUBSAMPLE = 2**20


def weights(size: int, beta: float = 1.7) -> torch.Tensor:
    """Seeded GGD draws of standard deviation about 0.02, made row by row: no large temporary."""
    rng = np.random.default_rng(0)
    out = torch.empty(size, size, dtype=torch.bfloat16)
    for row in out:
        x = rng.gamma(1 / beta, size=size) ** (1 / beta) * rng.choice([-0.03, 0.03], size)
        row.copy_(torch.from_numpy(x))
    return out


def seconds(f: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def moments(x: np.ndarray) -> tuple[float, ...]:
    return float(x.mean()), float(x.std()), float(stats.kurtosis(x, fisher=False)), float(np.abs(x).max())


def uniform_passes(x: np.ndarray) -> list[float]:
    """Asymmetric, symmetric and clipped at 3 sigma, for each bit width."""
    errors = []
    for bits in BITS:
        sigma = x.std()
        for low, high in ((x.min(), x.max()), (-np.abs(x).max(), np.abs(x).max()), (-3 * sigma, 3 * sigma)):
            scale = (high - low) / (2**bits - 1)
            q = np.round((np.clip(x, low, high) - low) / scale) * scale + low
            errors.append(float(np.mean((x - q) ** 2)))
    return errors


def lloyd_max_passes(x: np.ndarray) -> list[float]:
    errors = []
    for bits in BITS:
        levels = np.percentile(x, np.linspace(0, 100, 2**bits + 2)[1:-1])
        for _ in range(20):
            cell = np.digitize(x, (levels[1:] + levels[:-1]) / 2)
            levels = np.array([x[cell == i].mean() if np.any(cell == i) else levels[i] for i in range(2**bits)])
        errors.append(float(np.mean((x - levels[np.digitize(x, (levels[1:] + levels[:-1]) / 2)]) ** 2)))
    return errors


def library_nf4(x: torch.Tensor) -> float:
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(x, blocksize=64, quant_type="nf4")
    return float((functional.dequantize_4bit(packed, state).float() - x.float()).square().mean())


def ours_from_histogram(x: torch.Tensor) -> list[float]:
    histogram = exact(x)
    beta = marginal(histogram).beta
    kurtosis = histogram.abs_moment(4) / histogram.second_moment**2
    sweeps = [q(histogram, 2**bits).mse for bits in BITS for q in (scalar.lloyd_max, scalar.uniform)]
    return [histogram.mean, histogram.variance, kurtosis, beta, *sweeps]


def ours_all(x: torch.Tensor) -> None:
    ours_from_histogram(x)
    within_rows(x)
    distortion(get("nf4"), x, 64)


def baseline_all(x: torch.Tensor) -> None:
    """Without Lloyd-Max and gennorm.fit, which need less memory than the rest."""
    flat = x.float().numpy().ravel()
    moments(flat)
    uniform_passes(flat)
    library_nf4(x)


def peak_memory(task: str, size: int) -> float:
    """Growth of a fresh process's resident memory, at its peak, over the tensor's fp32 size (Linux)."""
    command = [sys.executable, __file__, "--size", str(size), "--peak-of", task]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def print_peak(task: str, size: int) -> None:
    tensor, run = weights(size), {"ours": ours_all, "baseline": baseline_all}[task]
    run(weights(64))  # imports and thread pools are not the task's
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far

    def resident(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))

    before = resident("VmRSS")
    run(tensor)
    print((resident("VmHWM") - before) / (4 * tensor.numel()))


def measure(size: int, full: bool) -> dict[str, Any]:
    x = weights(size)
    flat = x.float().numpy().ravel()
    some = flat if full else np.random.default_rng(1).choice(flat, min(SUBSAMPLE, flat.size), replace=False)
    histogram = exact(x)
    nf4 = get("nf4")
    distortion(nf4, x[:64], 64), library_nf4(x[:64])  # import
    floor = seconds(x.clone, 5)
    lines = [
        ("histogram, then moments", lambda: exact(x).variance, lambda: moments(flat), flat.size),
        ("uniform, 2-8 bits (1)", lambda: [scalar.uniform(histogram, 2**b) for b in BITS],
         lambda: uniform_passes(flat), flat.size),
        ("Lloyd-Max, 2-8 bits", lambda: [scalar.lloyd_max(histogram, 2**b) for b in BITS],
         lambda: lloyd_max_passes(some), some.size),
        ("marginal beta", lambda: marginal(histogram), lambda: stats.gennorm.fit(some, floc=0), some.size),
        ("within-row beta", lambda: within_rows(x), None, 0),
        ("NF4 distortion, block 64", lambda: distortion(nf4, x, 64), lambda: library_nf4(x), flat.size),
    ]  # fmt: skip
    rows = []
    for name, ours, baseline, count in lines:
        repeats = 3 if count == flat.size and "NF4" in name else 1  # both sides alike where they are close
        mine = seconds(ours, 3)
        theirs = seconds(baseline, repeats) if baseline else None
        rows.append({"name": name, "ours_s": mine, "baseline_s": theirs, "baseline_weights": count})
    memory = {task: peak_memory(task, size) for task in ("ours", "baseline")}
    return {
        "weights": flat.size,
        "threads": torch.get_num_threads(),
        "copy_s": floor,
        "rows": rows,
        "peak_over_fp32": memory,
    }


def show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['weights']:,} bf16 weights, {result['threads']} threads")
    for heading in ("", "ours (ms)", "x copy", "baseline (ms)", "on weights", "baseline / ours"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in result["rows"]:
        mine, theirs = row["ours_s"], row["baseline_s"]
        cells = [f"{1e3 * mine:,.1f}", f"{mine / result['copy_s']:,.1f}"]
        if theirs is not None:
            less = ">= " if row["baseline_weights"] < result["weights"] else ""
            cells += [f"{1e3 * theirs:,.0f}", f"{row['baseline_weights']:,}", f"{less}{theirs / mine:,.1f}"]
        table.add_row(row["name"], *cells)
    scalar_part = result["rows"][:4]
    mine, theirs = (math.fsum(row[side] for row in scalar_part) for side in ("ours_s", "baseline_s"))
    less = ">= " if any(row["baseline_weights"] < result["weights"] for row in scalar_part) else ""
    ours = [f"{1e3 * mine:,.1f}", f"{mine / result['copy_s']:,.1f}"]
    table.add_row("the first four together", *ours, f"{1e3 * theirs:,.0f}", "", f"{less}{theirs / mine:,.1f}")
    table.add_row("copy of the tensor", f"{1e3 * result['copy_s']:,.1f}", "1.0")
    console = Console(width=110)
    console.print(table)
    console.print("(1) ours: the optimal step; baseline: asymmetric, symmetric and clipped at 3 sigma, no search")
    peaks = result["peak_over_fp32"]
    console.print(f"peak memory over the fp32 size: ours {peaks['ours']:.2f}, baseline {peaks['baseline']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--full", action="store_true", help="Lloyd-Max and gennorm.fit on all weights (minutes)")
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--peak-of", choices=["ours", "baseline"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        return print_peak(options.peak_of, options.size)
    result = measure(options.size, options.full)
    show(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1))
    return None


if __name__ == "__main__":
    main()
