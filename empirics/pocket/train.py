"""Train a pocket model from scratch and write its folder.

``python -m empirics.pocket.train llama --text FILE --out DIR [--seed 0]``

A text in several languages is a folder with a file for each (en.txt, ...).
"""

import argparse
import hashlib
import math
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.nn.functional import cross_entropy, dropout
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from empirics.pocket.card import Run, Text, label, matrices, write_card
from empirics.pocket.corpus import SEPARATOR, Chunks, Score, encode, ngrams, split, train_tokenizer
from empirics.pocket.recipe import RECIPES, Recipe

IGNORED = -100  # the label cross_entropy skips


def _logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    # Left to itself, Bloom sums a mask of floats, for which a GPU has no deterministic kernel.
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits.float()


def chunk_nats(model: nn.Module, chunks: Chunks, context: int, device: torch.device) -> NDArray[np.float64]:
    """Nats the model needs for each chunk, in windows of `context` tokens that do not overlap."""
    totals = []
    for chunk in chunks:
        size = len(chunk) - 1
        shape = (math.ceil(size / context), context)
        inputs, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
        inputs.view(-1)[:size], labels.view(-1)[:size] = torch.tensor(chunk[:-1]), torch.tensor(chunk[1:])
        with torch.no_grad():
            logits = _logits(model, inputs.to(device))
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten().to(device), ignore_index=IGNORED, reduction="sum")
        totals.append(loss.item())
    return np.array(totals)


def _schedule(recipe: Recipe) -> Callable[[int], float]:
    """Linear warm-up, then a cosine down to zero."""

    def scale(step: int) -> float:
        if step < recipe.warmup:
            return (step + 1) / recipe.warmup
        done = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * done))

    return scale


def fit(
    recipe: Recipe, train: Chunks, validation: Chunks, seed: int, device: torch.device
) -> tuple[PreTrainedModel, list[tuple[int, float]]]:
    """The moving average of the weights that did best on the validation part, and its loss at each step."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(deepcopy(recipe.config), dtype=torch.float32).to(device)
    average, best = deepcopy(model).eval(), deepcopy(model).eval()
    for name, module in model.named_modules():
        if name.endswith(recipe.dropout_after):
            module.register_forward_hook(lambda _, __, output: dropout(output, recipe.dropout))
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.dim() > 1], "weight_decay": recipe.weight_decay},
            {"params": [w for w in weights if w.dim() == 1], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=recipe.betas,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(recipe))
    stream = torch.tensor(np.concatenate(train)).to(device)
    window = torch.arange(recipe.context + 1, device=device)
    draws = torch.Generator().manual_seed(seed)
    validation_tokens = sum(len(chunk) - 1 for chunk in validation)
    history: list[tuple[int, float]] = []

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(recipe.name, total=recipe.steps)
        for step in range(1, recipe.steps + 1):
            starts = torch.randint(len(stream) - recipe.context, (recipe.batch, 1), generator=draws)
            tokens = stream[starts.to(device) + window]
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = _logits(model, tokens[:, :-1])
            loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, recipe.clip)
            optimizer.step()
            scheduler.step()
            # Until it has seen enough steps, the average follows the weights more closely.
            decay = min(recipe.average, step / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), weights, 1 - decay)
            if step % recipe.evaluate_every == 0 or step == recipe.steps:
                nats = chunk_nats(average, validation, recipe.context, device).sum() / validation_tokens
                if not history or nats < min(value for _, value in history):
                    best.load_state_dict(average.state_dict())
                history.append((step, float(nats)))
                progress.update(task, description=f"{recipe.name}  validation {nats:.4f} nats/token")
            progress.advance(task)
    return best, history


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model.bfloat16().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)  # it repeats config.json


def _scores(
    model: nn.Module,
    recipe: Recipe,
    texts: Mapping[str, Text],
    chunks: Mapping[str, list[Chunks]],
    device: torch.device,
) -> dict[str, Score]:
    """On each language's test part, of the model and of the n-grams of its training part; then on all of them."""
    scores: dict[str, Score] = {}
    own = []
    for language, (training, validation, test) in chunks.items():
        count = np.array([len(chunk) - 1 for chunk in test])
        size = np.array([len(run.encode()) for run in texts[language].parts.test])
        own.append(Score(chunk_nats(model, test, recipe.context, device), count, size))
        others = ngrams(training, validation, test, recipe.config.vocab_size)
        named = {"this model": own[-1]} | {name: Score(nats, count, size) for name, nats in others.items()}
        scores |= {label(texts, language, name): score for name, score in named.items()}
    if len(texts) > 1:
        scores["all: this model"] = Score(*map(np.concatenate, zip(*(vars(s).values() for s in own), strict=True)))
    return scores


def train(recipe: Recipe, texts: Mapping[str, bytes], folder: Path, seed: int = 0, device: str = "cpu") -> Run:
    """Make the model of `recipe` from `texts`, one for each language, and write its folder."""
    place = torch.device(device)
    parts = {language: split(text.decode(), recipe.chunk, recipe.period) for language, text in texts.items()}
    for language, each in parts.items():
        if not each.test:
            raise ValueError(
                f"the text of {language!r} is too short to hold out a test part: "
                f"it needs {recipe.period} chunks of {recipe.chunk} characters"
            )
    tokenizer = train_tokenizer((run for each in parts.values() for run in each.train), recipe.config.vocab_size)
    chunks = {language: [encode(tokenizer, runs) for runs in vars(each).values()] for language, each in parts.items()}
    training, validation = ([chunk for each in chunks.values() for chunk in each[part]] for part in (0, 1))
    model, history = fit(recipe, training, validation, seed, place)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )
    _save(model, wrapped, folder)

    # What is measured is what is shipped: the file's weights, rounded to bfloat16, in float32 arithmetic.
    shipped: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    about = {
        language: Text(
            sha256=hashlib.sha256(text).hexdigest(),
            parts=parts[language],
            tokens=tuple(sum(len(chunk) - 1 for chunk in part) for part in chunks[language]),
        )
        for language, text in texts.items()
    }
    run = Run(
        recipe=recipe,
        seed=seed,
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU",
        texts=about,
        history=history,
        scores=_scores(shipped.to(place).eval(), recipe, about, chunks, place),
        weights=sum(w.numel() for w in shipped.parameters()),
        matrices=matrices(shipped),
    )
    write_card(run, folder)
    return run


def read_texts(path: Path) -> dict[str, bytes]:
    """The texts of a folder, by the name of each file without its .txt, or that of one file."""
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"no text in {path}: it needs a file for each language, such as en.txt")
    return {file.stem: file.read_bytes() for file in files}


def main() -> None:
    """Read the command line, train, and show the card."""
    parser = argparse.ArgumentParser(prog="python -m empirics.pocket.train", description=__doc__)
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--text", type=Path, required=True, help="what to train on, UTF-8: a file or a folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # With these two a GPU repeats itself to the last bit, on the same device and versions.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train(RECIPES[options.model], read_texts(options.text), options.out, options.seed, device)
    print((options.out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
