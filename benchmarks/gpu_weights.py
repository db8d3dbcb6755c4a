"""The statistics of a bf16 matrix on a GPU, beside the time in which its bytes could be read once, in one run.

``python benchmarks/gpu_weights.py [--sizes 4096 16384] [--json FILE]``

The floor of every line is the bytes of the matrix over the bandwidth of a large copy on the same device, measured in
this run, read and written bytes counted. `passes` says how often a line reads the weights, whatever else it does.
Times are medians by CUDA events after a warm-up, over several inputs that together are larger than the L2 cache; they
include what the host does in between. A line marked * needs no host: it is timed by replaying a graph of its kernels.
The numbers of each line are compared with the CPU's, for the first size. Before anything is timed, the counts of the
kernel in `empirics.histogram_cuda` are held against `torch.bincount` on every bit pattern and on awkward lengths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from empirics import blocks_cuda, cuda, fit, histogram, histogram_cuda, rows_cuda
from empirics.distortion import distortion
from empirics.experiments.weights import experiment as weights
from empirics.influence import standard_errors
from empirics.quantizers import get
from empirics.tensors import TensorInfo

COPIED = 2**31  # bytes
L2 = 2**26  # bytes, or a little less on an H200
SECONDS, RUNS = 1.0, 30  # a line is repeated until either is spent
NAME = "model.layers.0.mlp.up_proj.weight"


class Line(NamedTuple):
    """What is timed, how often it reads the weights if that is known before, and whether it does without the host.

    `reference` is what the CPU computes instead, if not the same.
    """

    name: str
    run: Callable[[torch.Tensor], Any]
    passes: int | None = 1
    graph: bool = False
    reference: Callable[[torch.Tensor], Any] | None = None


def drawn(size: int, seed: int) -> torch.Tensor:
    """Weights with rows of scales of their own and heavier tails than a Gaussian's, standard deviation about 0.03."""
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(size, size, device="cuda", generator=generator)
    x *= x.abs().pow(0.2)
    scale = torch.randn(size, 1, device="cuda", generator=generator).mul(0.3).exp()
    return (x.mul_(scale).mul_(0.02)).bfloat16()


def counts_by_bincount(x: torch.Tensor) -> torch.Tensor:
    counts = torch.zeros(2**16, dtype=torch.int64, device=x.device)
    for chunk in x.view(-1).split(histogram.GPU_CHUNK):
        counts += torch.bincount(chunk.view(torch.int16).int() + 2**15, minlength=2**16)
    return counts


def counts_with_one_zero(x: torch.Tensor) -> torch.Tensor:
    """What the kernel finds: -0 is counted as 0."""
    counts = counts_by_bincount(x)
    counts[2**15] += counts[0].clone()
    counts[0] = 0
    return counts


def counts_by_kernel(x: torch.Tensor) -> torch.Tensor:
    counts = histogram_cuda.pattern_counts(x.view(-1))
    if counts is None:
        raise RuntimeError("the kernel of empirics.histogram_cuda does not compile here")
    return counts


def check() -> None:
    """Hold the kernel against bincount: every pattern, lengths around its vectors, one value alone, no alignment."""
    generator = torch.Generator("cuda").manual_seed(0)
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16, device="cuda")
    random = torch.randint(-(2**15), 2**15, (100_003,), dtype=torch.int16, device="cuda", generator=generator)
    small = (torch.randn(3_000_001, device="cuda", generator=generator) * 0.02).bfloat16().view(torch.int16)
    cases = [every, every.repeat(77), random, small, small.clamp(0, 0), small.clamp(16000, 16000), small.clamp(7, 7)]
    cases += [small[:n] for n in (1, 7, 8, 9, 4095, 32767, 32769, 2**22)]
    for patterns in cases:
        for kind in (torch.bfloat16, torch.float16):
            found, expected = (f(patterns.view(kind)) for f in (counts_by_kernel, counts_with_one_zero))
            assert torch.equal(found, expected), f"{len(patterns)} of {kind}"
    shifted = small.view(torch.bfloat16)[1:]
    assert histogram_cuda.pattern_counts(shifted) is None, "16-byte loads of what is not aligned"
    assert histogram.exact(shifted).counts.sum() == len(shifted)


def moments(x: torch.Tensor) -> list[float]:
    found = histogram.exact(x)
    return [found.mean, found.variance, found.abs_moment(4) / found.second_moment**2, len(found.values)]


def of_fit(found: fit.Fit) -> np.ndarray:
    assert found.row_second_moments is not None
    energy = float(found.row_second_moments.sum())  # of all rows they would take longer to copy than to compute
    return np.array([energy, found.beta, found.standard_error, found.sigma, found.log_likelihood])


def in_rows(x: torch.Tensor) -> np.ndarray:
    return of_fit(fit.within_rows(x))


def in_blocks(x: torch.Tensor) -> np.ndarray:
    return of_fit(fit.within_rows(x.view(-1, 64)))


def spreads(x: torch.Tensor) -> np.ndarray:
    return np.array([[s.bits, s.standard_error, s.noise, *s.rms] for s in weights.spreads(x)]).ravel()


def error(x: torch.Tensor, quantizer: str) -> np.ndarray:
    found = distortion(get(quantizer), x, 64)
    sums = found.absmax_sum, found.absmax_square_sum, found.worst
    return np.concatenate([found.squared_error, found.energy, sums])


def ends(x: torch.Tensor) -> torch.Tensor:
    found = blocks_cuda.ends(x.view(-1), 64)
    assert found is not None
    return torch.stack(found)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Ends, then errors, and nothing that waits for the host."""
    absmax = ends(x).abs().amax(0)
    found = blocks_cuda.errors(x.view(-1), 64, get("nf4").rule, (absmax,), (absmax,), absmax)
    assert found is not None
    return found[0].view(2, len(x), -1).sum(2)


def sums_over_rows(x: torch.Tensor) -> torch.Tensor:
    found = rows_cuda.summary(x)
    assert found is not None
    return found[1]


def sums_over_columns(x: torch.Tensor) -> torch.Tensor:
    found = rows_cuda.columns(x)
    assert found is not None
    return found


def powers(x: torch.Tensor) -> torch.Tensor:
    rows, peaks = (torch.arange(len(x), device=x.device), torch.ones(len(x), dtype=torch.float64, device=x.device))
    found = rows_cuda.powers(x, rows, peaks, 1.5)
    assert found is not None
    return found


def kernels() -> list[Line]:
    """Each alone, in a graph: how near the floor it is without the host."""

    def squares(x: torch.Tensor, dim: int) -> torch.Tensor:
        return torch.stack([x.double().pow(2).sum(dim), x.double().pow(4).sum(dim)])

    def of_powers(x: torch.Tensor) -> torch.Tensor:
        s, first, second = fit._power_sums(x, torch.ones(len(x)), 1.5)
        return torch.stack([s, s * first, s * second])

    def of_nf4(x: torch.Tensor) -> np.ndarray:
        found = distortion(get("nf4"), x, 64)
        return np.stack([found.squared_error, found.energy])

    return [
        Line("ends of blocks of 64", ends, graph=True,
             reference=lambda x: torch.stack([x.float().view(-1, 64).amin(1), x.float().view(-1, 64).amax(1)])),
        Line("those, then errors of nf4", rounded, 2, graph=True, reference=of_nf4),
        Line("sums over rows", sums_over_rows, graph=True, reference=partial(squares, dim=1)),
        Line("sums over columns", sums_over_columns, graph=True, reference=partial(squares, dim=0)),
        Line("powers within rows", powers, graph=True, reference=of_powers),
    ]  # fmt: skip


def clustered(x: torch.Tensor) -> list[float]:
    return standard_errors(x, lambda x: x.square() - 1e-3)


def everything(x: torch.Tensor) -> list[float]:
    info = TensorInfo(NAME, "up", tuple(x.shape), "BF16", Path("x"), 0, 0)
    record = weights.measure(x, info).record()
    return [value for value in record.values() if isinstance(value, float)]


def by_torch(run: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """The same without kernels of our own."""

    def plain(x: torch.Tensor) -> Any:
        kernel, cuda.kernel = cuda.kernel, lambda *_: None
        try:
            return run(x)
        finally:
            cuda.kernel = kernel

    return plain


def distortions(quantizer: str) -> list[Line]:
    run, name = partial(error, quantizer=quantizer), f"{quantizer} distortion, block 64"
    return [Line(name, run, 2), Line(f"{name}, by torch", by_torch(run), 2)]


LINES = [
    Line("copy of the matrix", torch.clone, graph=True),
    Line("counts of bit patterns", counts_by_kernel, graph=True, reference=counts_with_one_zero),
    *kernels(),
    Line("counts by torch.bincount", counts_by_bincount),
    Line("histogram, then moments", moments),
    Line("spread of rows and columns", spreads, 2),
    Line("the same by torch", by_torch(spreads)),
    Line("exponent within rows", in_rows, None),
    Line("the same by torch", by_torch(in_rows), None),
    Line("exponent in blocks of 64", in_blocks, None),
    Line("the same by torch", by_torch(in_blocks), None),
    *(line for quantizer in ("nf4", "int4", "asym4", "uint4") for line in distortions(quantizer)),
    Line("errors clustered by row and column", clustered, None),
    Line("quantgap run weights, a matrix", everything, None),
    Line("the same by torch", by_torch(everything), None),
]


def median(run: Callable[[], Any], warm_up: int = 3) -> float:
    """Milliseconds."""
    for _ in range(warm_up):
        run()
    torch.cuda.synchronize()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 5 or (len(times) < RUNS and time.perf_counter() - began < SECONDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def timed(line: Line, inputs: Sequence[torch.Tensor]) -> float:
    """Milliseconds for one input."""
    if not line.graph:
        turn = iter(range(10**6))
        return median(lambda: line.run(inputs[next(turn) % len(inputs)]), warm_up=len(inputs))
    for x in inputs:
        line.run(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [line.run(x) for x in inputs]  # each output in memory of its own, as when they are used
    found = median(graph.replay) / len(inputs)
    del kept
    return found


def copy_bandwidth() -> float:
    """Bytes a second, read and written."""
    source = torch.randint(0, 2**30, (COPIED // 4,), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPIED / (median(lambda: target.copy_(source)) / 1e3)


def from_host(x: torch.Tensor) -> float:
    pinned, target = x.cpu().pin_memory(), torch.empty_like(x)
    return median(lambda: target.copy_(pinned, non_blocking=True))


def difference(found: Any, expected: Any) -> float:
    """Largest relative difference."""
    a, b = (torch.as_tensor(v, dtype=torch.float64).cpu().numpy() for v in (found, expected))
    return float(np.max(np.abs(a - b) / np.where(b == 0, 1, np.abs(b))))


def measure(size: int, bandwidth: float, compare: bool) -> dict[str, Any]:
    inputs = [drawn(size, seed) for seed in range(max(2, -(-4 * L2 // (2 * size * size))))]
    floor = 1e3 * 2 * size * size / bandwidth
    host = inputs[0].cpu()
    rows = []
    for line in LINES:
        row: dict[str, Any] = {"name": line.name, "passes": line.passes, "graph": line.graph}
        try:
            row["ms"] = timed(line, inputs)
            if compare:
                began = time.perf_counter()
                expected = (line.reference or line.run)(host)
                row["cpu_s"] = time.perf_counter() - began
                row["difference"] = difference(line.run(inputs[0]), expected)
        except Exception as reason:  # the other lines are worth having
            row["failed"] = f"{type(reason).__name__}: {reason}"
        rows.append(row)
    iterations = fit.within_rows(inputs[0]).iterations
    return {"size": size, "inputs": len(inputs), "floor_ms": floor, "from_host_ms": from_host(inputs[0]),
            "evaluations_within_rows": iterations, "rows": rows}  # fmt: skip


def show(result: dict[str, Any]) -> None:
    console = Console(width=118)
    console.print(f"{result['device']}, torch {result['torch']}: a copy of 2 GiB moves"
                  f" {result['copy_bytes_per_s'] / 1e12:.2f} TB/s")  # fmt: skip
    for found in result["sizes"]:
        size = found["size"]
        floor = found["floor_ms"]
        table = Table(title=f"{size} x {size} bf16, {found['inputs']} inputs in turn: floor {floor:.4f} ms")
        for heading in ("", "passes", "ms", "of the floor", "off the CPU by"):
            table.add_column(heading, justify="right" if heading else "left")
        for row in found["rows"]:
            name = row["name"] + " *" * row["graph"]
            if "failed" in row:
                table.add_row(name, "", row["failed"][:60])
                continue
            apart = f"{row['difference']:.1e}" if "difference" in row else ""
            table.add_row(name, str(row["passes"] or ""), f"{row['ms']:.4f}", f"{floor / row['ms']:.1%}", apart)
        console.print(table)
        console.print(f"from the host's memory: {found['from_host_ms']:.3f} ms; the fit within rows reads the weights"
                      f" once, then {found['evaluations_within_rows']} times")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384], help="rows and columns")
    parser.add_argument("--json", type=Path, help="write the result there too")
    options = parser.parse_args()
    began = time.perf_counter()
    check()
    print(f"counts are right ({time.perf_counter() - began:.1f} s with compilation)", flush=True)
    bandwidth = copy_bandwidth()
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__, "copy_bytes_per_s": bandwidth, "sizes": []
    }  # fmt: skip
    for size in options.sizes:
        result["sizes"].append(measure(size, bandwidth, compare=size == options.sizes[0]))
        if options.json:
            options.json.write_text(json.dumps(result, indent=1))
        torch.cuda.empty_cache()
    show(result)


if __name__ == "__main__":
    main()
