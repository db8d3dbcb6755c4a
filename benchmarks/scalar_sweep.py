"""Every scalar quantizer at 1 to 8 bits on a 4096 x 4096 bf16 tensor: on its histogram, and by passes over weights.

``python benchmarks/scalar_sweep.py [--size 4096] [--full] [--json FILE]``

Ours is `empirics.histogram.exact`, then `empirics.scalar_quantizers.sweep`: all its quantizers, exact, the histogram
counted in. The baseline is written after the notebooks and does less: asymmetric, symmetric and clipped at 3 sigma,
a pass over the float32 array each, and Lloyd-Max by 20 rounds of `digitize` and masked means, at 2 to 8 bits; no
optimal clip and no entropy coding. Its Lloyd-Max runs on 2**20 weights unless --full: `ratio_measured` is then a
lower bound, and `ratio` takes its passes, linear in the weights, to cost as much for each of the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from weights import SUBSAMPLE, lloyd_max_passes, seconds, uniform_passes, weights

from empirics.histogram import exact
from empirics.scalar_quantizers import QUANTIZERS, sweep


def measure(size: int, full: bool) -> dict[str, Any]:
    x = weights(size)
    flat = x.float().numpy().ravel()
    some = flat if full else np.random.default_rng(1).choice(flat, min(SUBSAMPLE, flat.size), replace=False)
    histogram = seconds(lambda: exact(x), 3)
    atoms = exact(x)
    swept = seconds(lambda: sweep(atoms), 2)
    uniform, lloyd_max = seconds(lambda: uniform_passes(flat), 1), seconds(lambda: lloyd_max_passes(some), 1)
    return {
        "weights": flat.size, "threads": torch.get_num_threads(), "atoms": len(atoms.values),
        "quantizers": 8 * len(QUANTIZERS), "histogram_s": histogram, "sweep_s": swept, "uniform_passes_s": uniform,
        "lloyd_max_passes_s": lloyd_max, "lloyd_max_weights": some.size,
        "ratio_measured": (uniform + lloyd_max) / (histogram + swept),
        "ratio": (uniform + lloyd_max * flat.size / some.size) / (histogram + swept),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--full", action="store_true", help="Lloyd-Max on all weights, which takes many minutes")
    parser.add_argument("--json", type=Path, help="write the result there too")
    options = parser.parse_args()
    found = measure(options.size, options.full)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
