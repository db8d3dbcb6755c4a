"""A checkpoint of several times the memory allowed, measured under a limit of three times its largest matrix.

``python benchmarks/memory.py [--matrices 24] [--size 4096] [--dtype float32] [-- rate-distortion]``

Writes a sharded checkpoint, a matrix at a time, and runs ``quantgap run weights`` on it, or another experiment with
its options. The process may allocate 3 times the float32 size of a matrix beyond what it has after the same run on a
small checkpoint: imports, fonts and thread stacks. The limit is RLIMIT_DATA: the kernel holds all private memory to
it, but not the files that are mapped, as RLIMIT_AS would. --keep holds every matrix that was loaded: that must fail,
or the limit proves nothing. Linux only. Beside a matrix `weights` needs some 30 MB, whatever the matrix, and
`rate-distortion` some 110 MB: a small matrix takes more than 3 times its size.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ALLOWED = 3
SMALL = (512, 256)  # takes every path that a large matrix takes


def status(field: str) -> int:
    """A field of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def limited(folder: Path, allowance: int, keep: bool, experiment: list[str]) -> None:
    """Run the experiment on the small checkpoint, then on the large one with no more than `allowance` bytes more."""
    from typer.testing import CliRunner

    from empirics import tensors
    from empirics.cli import app

    def run(which: str) -> Any:
        with tempfile.TemporaryDirectory() as out:  # a report of its own: what is known is not measured again
            return CliRunner().invoke(app, ["run", experiment[0], str(folder / which), "--out", out, *experiment[1:]])

    first = run("small")
    if first.exit_code:
        raise SystemExit(f"the small checkpoint failed already: {first.output}")
    if keep:
        load, kept = tensors.load, []
        tensors.load = lambda info: kept.append(load(info)) or kept[-1]  # type: ignore[func-returns-value]
    ctypes.CDLL(None).malloc_trim(0)  # what the small checkpoint left free is not there to be used
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, began = status("VmRSS"), time.perf_counter()
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + allowance, resource.RLIM_INFINITY))
    found = run("large")
    reason = "" if found.exit_code == 0 else repr(found.exception) + found.output[-500:]
    print(json.dumps({"exit_code": found.exit_code, "reason": reason, "seconds": time.perf_counter() - began,
                      "peak_growth": status("VmHWM") - before}))  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from empirics.synthetic import Law, checkpoint

    law, dtype, size = Law(beta=1.7, rows=0.2), getattr(torch, options.dtype), options.size
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(options.matrices)]
    allowance = ALLOWED * 4 * size * size
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        checkpoint(folder / "small", {names[0]: (law, SMALL)}, dtype=dtype)
        checkpoint(folder / "large", dict.fromkeys(names, (law, (size, size))), dtype=dtype)
        command = [sys.executable, __file__, "--under", str(folder), "--allowance", str(allowance)]
        command += ["--keep"] * options.keep + ["--", *options.experiment]
        child = subprocess.run(command, check=False, capture_output=True, text=True)
        if child.returncode and not child.stdout:
            return {"exit_code": child.returncode, "reason": child.stderr[-500:]}
        stored = sum(file.stat().st_size for file in (folder / "large").glob("*.safetensors"))
    about = {"matrices": options.matrices, "matrix_float32": 4 * size * size}
    about |= {"checkpoint": stored, "allowance": allowance}
    return about | json.loads(child.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrices", type=int, default=24)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16", "float64"])
    parser.add_argument("--keep", action="store_true", help="hold every matrix: must fail")
    parser.add_argument("experiment", nargs="*", default=["weights"], help="of quantgap run, with its options")
    parser.add_argument("--under", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--allowance", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.under:
        return limited(options.under, options.allowance, options.keep, options.experiment)
    found = measure(options)
    print(json.dumps(found, indent=1))
    sys.exit(found["exit_code"] != 0)


if __name__ == "__main__":
    main()
