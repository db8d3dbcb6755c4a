"""The functional pass beside plain forward passes of the same batches of the same two models, in one run.

``python benchmarks/functional.py [--device cuda] [--hidden 1024 --layers 8 --vocabulary 32000] [--json FILE]``

The two models are pocket-llama and itself in 4-bit integers, on the embedded texts; with --hidden, a Llama of random
weights built on the spot, on random tokens. The pass (`empirics.functional.compare`) and the baseline, which forwards
each batch through one model and then the other and looks at nothing, take turns; each time is the best of three.
Peak memory, both models' weights within it, is the growth of a fresh process on a CPU (Linux) and the allocator's on
CUDA.
"""

from __future__ import annotations

import argparse
import copy
import json
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
from transformers import LlamaConfig, LlamaForCausalLM

from empirics import functional
from empirics.functional import Sequence, compare, encode
from empirics.language_model import LanguageModel, open_model, quantized_weights
from empirics.texts import embedded


def random_llama(options: argparse.Namespace) -> tuple[LanguageModel, list[Sequence]]:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=options.hidden, intermediate_size=3 * options.hidden, num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64, vocab_size=options.vocabulary, tie_word_embeddings=False,
    )  # fmt: skip
    network = LlamaForCausalLM(config).eval().requires_grad_(False).to(options.device)
    pocket = open_model("pocket-llama")
    lm = LanguageModel(pocket.checkpoint, network, pocket.tokenizer, network.device)
    ids = np.random.default_rng(0).integers(options.vocabulary, size=(options.sequences, 256))
    return lm, [Sequence(i, "und", row) for i, row in enumerate(ids)]


def models(options: argparse.Namespace) -> tuple[LanguageModel, LanguageModel, list[Sequence]]:
    if options.hidden:
        lm, sequences = random_llama(options)
    else:
        lm = open_model("pocket-llama", device=options.device)
        sequences = encode(lm, embedded(), 256)
    other = LanguageModel(lm.checkpoint, copy.deepcopy(lm.network), lm.tokenizer, lm.device)
    for name, weight in quantized_weights(lm, "int4").items():
        other.parameter(name).data = weight
    return lm, other, sequences


def forward(lm: LanguageModel, other: LanguageModel, sequences: list[Sequence], batch_tokens: int) -> None:
    """The batches of `compare` through both models, and nothing else."""
    with torch.no_grad():
        for batch in functional._batches([len(s.ids) for s in sequences], batch_tokens):
            ids, mask = functional._padded([sequences[i].ids for i in batch], lm.device)
            for one in (lm, other):
                functional._logits(one, ids, mask)


def seconds(f: Callable[[], Any]) -> float:
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronize()
    start = time.perf_counter()
    f()
    synchronize()
    return time.perf_counter() - start


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def size(lm: LanguageModel) -> int:
    return sum(p.numel() * p.element_size() for p in lm.network.parameters())


def peak_of(task: str) -> float:
    """Peak of a fresh process over the size of both models, whose weights are within it."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", task]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def print_peak(options: argparse.Namespace) -> None:
    lm, other, sequences = models(options)
    both = size(lm) + size(other)
    run = {"pass": compare, "forward": forward}[options.peak_of]
    run(lm, other, sequences[-1:], options.batch_tokens)  # thread pools and the like are not the task's
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run(lm, other, sequences, options.batch_tokens)
        print(torch.cuda.max_memory_allocated() / both)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = resident("VmRSS")
        run(lm, other, sequences, options.batch_tokens)
        print((both + resident("VmHWM") - before) / both)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    lm, other, sequences = models(options)
    arguments = lm, other, sequences, options.batch_tokens
    forward(*arguments), compare(*arguments)
    pairs = [(seconds(lambda: compare(*arguments)), seconds(lambda: forward(*arguments))) for _ in range(3)]
    ours, plain = (min(times) for times in zip(*pairs, strict=True))
    lengths = [len(s.ids) for s in sequences]
    largest = max(len(batch) * max(lengths[i] for i in batch)
                  for batch in functional._batches(lengths, options.batch_tokens))  # fmt: skip
    return {
        "device": torch.cuda.get_device_name() if lm.device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "weights": sum(p.numel() for p in lm.network.parameters()),
        "vocabulary": lm.vocabulary,
        "tokens": sum(lengths),
        "batch_tokens": options.batch_tokens,
        "pass_s": ours,
        "forward_s": plain,
        "ratios": [mine / theirs for mine, theirs in pairs],
        "logits_over_models": 2 * 4 * largest * lm.vocabulary / (size(lm) + size(other)),
        "peak_over_models": {task: peak_of(task) for task in ("pass", "forward")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, help="a random Llama of this width, instead of pocket-llama")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--sequences", type=int, default=8, help="of 256 random tokens, with --hidden")
    parser.add_argument("--batch-tokens", type=int, default=functional.BATCH_TOKENS)
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--peak-of", choices=["pass", "forward"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        return print_peak(options)
    result = measure(options)
    table = Table(
        "", "the pass", "forward passes", "ratio",
        title=f"{result['weights']:,} weights twice, vocabulary {result['vocabulary']:,}, "
        f"{result['tokens']:,} tokens, {result['device']}, {result['threads']} threads",
    )  # fmt: skip
    mine, theirs = result["pass_s"], result["forward_s"]
    table.add_row("seconds", f"{mine:.3f}", f"{theirs:.3f}", f"{mine / theirs:.3f}")
    mine, theirs = (result["peak_over_models"][task] for task in ("pass", "forward"))
    table.add_row("peak memory over both models' size", f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"of which two models' logits of the largest batch: {result['logits_over_models']:.2f}")
    console.print("ratios of seconds, pair by pair: " + ", ".join(f"{ratio:.3f}" for ratio in result["ratios"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return None


if __name__ == "__main__":
    main()
