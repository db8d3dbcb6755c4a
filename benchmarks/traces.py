"""Probes of all traces at once beside forward and backward passes of the same batches, in one run.

``python benchmarks/traces.py [--device cuda] [--hidden 1024 --layers 8 --vocabulary 32000] [--json FILE]``

The model is pocket-llama on the embedded texts; with --hidden, a Llama of random weights built on the spot, on random
tokens. The baseline makes the gradients of the same matrices, which is what a training step does: of whole batches,
whose gradients mix the windows, and of one window at a time, whose norms would be probes as ours are. All take turns;
each time is the best of three. Peak memory, on CUDA, is the allocator's, less the weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from functional import random_llama, seconds
from rich.console import Console
from rich.table import Table

from empirics.amplification import first_order
from empirics.functional import BATCH_TOKENS, Sequence, encode
from empirics.gradients import batches
from empirics.language_model import LanguageModel, open_model, quantized_weights
from empirics.texts import embedded
from empirics.traces import probes, signs, traces


def forward(lm: LanguageModel, sequences: list[Sequence], tokens: int) -> None:
    with torch.no_grad():
        for _, ids, mask in batches(sequences, lm.device, tokens):
            lm.network(input_ids=ids, attention_mask=mask, use_cache=False)


def backward(lm: LanguageModel, sequences: list[Sequence], tokens: int) -> None:
    """The gradients of the matrices, a batch at a time."""
    parameters = list(lm.linear().values())
    for parameter in parameters:
        parameter.requires_grad_()
    for _, ids, mask in batches(sequences, lm.device, tokens):
        logits = lm.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
        torch.autograd.grad(logits, parameters, torch.ones_like(logits))
    for parameter in parameters:
        parameter.requires_grad_(False)


def probe(lm: LanguageModel, sequences: list[Sequence], tokens: int, count: int) -> None:
    for _, _, factors in probes(lm, sequences, list(lm.linear()), signs, range(count), 0, tokens):
        torch.stack([one.square_norms() for one in factors.values()]).cpu()


def peak(lm: LanguageModel, run: Callable[[], None]) -> float | None:
    """Gigabytes beyond what was there."""
    if lm.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.hidden:
        lm, sequences = random_llama(options)
    else:
        lm = open_model("pocket-llama", device=options.device)
        sequences = encode(lm, embedded(), 256)[: options.sequences]
    tokens, names = options.batch_tokens, list(lm.linear())
    weights = quantized_weights(lm, "int4")
    change = {name: weight - lm.parameter(name) for name, weight in weights.items()}
    tasks: dict[str, Callable[[], Any]] = {
        "forward passes": lambda: forward(lm, sequences, tokens),
        "forward and backward, gradients of the batch": lambda: backward(lm, sequences, tokens),
        "forward and backward, a window at a time": lambda: backward(lm, sequences, 1),
        "forward and 1 probe of every matrix": lambda: probe(lm, sequences, tokens, 1),
        "forward and 3 probes of every matrix": lambda: probe(lm, sequences, tokens, 3),
        "derivative along a change of all matrices": lambda: first_order(lm, {"all": change}, sequences, tokens),
        "derivatives along each of 8 matrices": lambda: first_order(
            lm, {name: {name: change[name]} for name in names[:: len(names) // 8][:8]}, sequences, tokens
        ),
    }
    for task in tasks.values():
        task()
    times = {name: min(seconds(task) for _ in range(3)) for name, task in tasks.items()}
    found: dict[str, Any] = {}
    asked = seconds(lambda: found.update(traces(lm, sequences, batch_tokens=tokens)))
    return {
        "device": torch.cuda.get_device_name() if lm.device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "weights": sum(p.numel() for p in lm.network.parameters()),
        "vocabulary": lm.vocabulary,
        "windows": len(sequences),
        "tokens": sum(len(s.ids) for s in sequences),
        "batch_tokens": tokens,
        "seconds": times,
        "gigabytes": {name: peak(lm, task) for name, task in tasks.items()},
        "traces_5_percent_s": asked,
        "probes": next(iter(found.values())).probes,
        "worst_relative_error": max(one.relative_error for one in found.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, help="a random Llama of this width, instead of pocket-llama")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--sequences", type=int, default=16, help="windows of 256 tokens at the most")
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    parser.add_argument("--json", type=Path, help="write the result here too")
    options = parser.parse_args()
    result = measure(options)
    title = f"{result['weights']:,} weights, vocabulary {result['vocabulary']:,}, {result['windows']} windows, "
    title += f"{result['tokens']:,} tokens, {result['device']}, {result['threads']} threads"
    table = Table("", "seconds", "over forward", "GB", title=title)
    plain = result["seconds"]["forward passes"]
    for name, time in result["seconds"].items():
        memory = result["gigabytes"][name]
        table.add_row(name, f"{time:.3f}", f"{time / plain:.2f}", "" if memory is None else f"{memory:.2f}")
    console = Console(width=120)
    console.print(table)
    console.print(
        f"traces of every matrix to 5 %: {result['traces_5_percent_s']:.1f} s, {result['probes']} probes of each "
        f"window, worst relative error {100 * result['worst_relative_error']:.1f} %"
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
