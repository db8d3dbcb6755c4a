"""The card of a pocket model: its README.md, every number in it measured on the run that made the folder."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import gammaln
from torch import nn

from empirics.pocket.corpus import SEPARATOR, Parts, Score
from empirics.pocket.recipe import Recipe


def ggd_beta(weights: NDArray[np.float64]) -> float:
    """Shape β of the generalized Gaussian, density ∝ exp(−|x/α|^β), most likely to give these weights.

    For each β the best α is known, so one dimension is left to search; at that α the log-likelihood of a
    weight is ln β − ln 2α − ln Γ(1/β) − 1/β on average.
    """
    magnitude = np.abs(weights).ravel() / np.abs(weights).max()

    def loss(beta: float) -> float:
        log_alpha = np.log(beta * np.mean(magnitude**beta)) / beta
        return float(gammaln(1 / beta) + log_alpha + 1 / beta - np.log(beta))

    return float(minimize_scalar(loss, bounds=(0.2, 10.0), method="bounded").x)


def row_spread(weights: NDArray[np.float64]) -> float:
    """Bits that rows of unequal second moment are worth: ½ log₂ of their arithmetic over geometric mean."""
    moments = np.mean(weights**2, axis=1)
    return float(0.5 * (np.log2(moments.mean()) - np.log2(moments).mean()))


@dataclass(frozen=True)
class Matrix:
    """What one matrix of the shipped model looks like."""

    name: str
    shape: tuple[int, ...]
    deviation: float
    beta: float
    spread: float


def matrices(model: nn.Module) -> list[Matrix]:
    """Every matrix of the model, in its own order; a tied one counts once."""
    table = []
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            weights = parameter.detach().double().cpu().numpy()
            spread = row_spread(weights)
            table.append(Matrix(name, weights.shape, weights.std(), ggd_beta(weights), spread))
    return table


@dataclass(frozen=True)
class Text:
    """The text of one language. `tokens` counts those of the training, validation and test part."""

    sha256: str
    parts: Parts
    tokens: tuple[int, ...]

    @property
    def characters(self) -> int:
        return sum(len(run) for runs in vars(self.parts).values() for run in runs)


def label(texts: Mapping[str, Text], language: str, name: str) -> str:
    """`name`, after the language if there are several."""
    return f"{language}: {name}" if len(texts) > 1 else name


@dataclass(frozen=True)
class Run:
    """What a training run did and what was measured on the model it wrote.

    `texts` are keyed by language; `history` is the validation loss in nats per token at each step it was
    taken; `scores` are on the test parts.
    """

    recipe: Recipe
    seed: int
    device: str
    texts: dict[str, Text]
    history: list[tuple[int, float]]
    scores: dict[str, Score]
    weights: int
    matrices: list[Matrix]


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def _data(run: Run) -> str:
    rows = []
    for language, text in run.texts.items():
        for (name, runs), count in zip(vars(text.parts).items(), text.tokens, strict=True):
            characters, size = sum(map(len, runs)), sum(len(piece.encode()) for piece in runs)
            name = label(run.texts, language, name)
            rows.append([name, f"{len(runs)}", f"{characters:,}", f"{size:,}", f"{count:,}"])
    return _table(["part", "runs of text", "characters", "bytes", "tokens"], rows)


def _loss(run: Run) -> list[str]:
    chunks = sorted(len(text.parts.test) for text in run.texts.values())
    rows = []
    for name, score in run.scores.items():
        (nats, nats_error), (bits, bits_error) = score.nats_per_token, score.bits_per_byte
        rows.append([name, f"{nats:.4f} ± {nats_error:.4f}", f"{bits:.4f} ± {bits_error:.4f}"])
    if len(chunks) == 1:
        clusters = f"its {chunks[0]} chunks."
    else:
        clusters = (
            f"chunks, of which a language has {chunks[0]} to {chunks[-1]}: where they are few, the errors are "
            "rough themselves. The n-grams of a language are those of its own training part."
        )
    about = (
        "On the test part: the shipped bfloat16 weights in float32 arithmetic, in windows of "
        f"{run.recipe.context} tokens that do not overlap. Each row counts every token of the part. "
        f"±: one standard error over {clusters}"
    )
    return ["## Loss", about, _table(["", "nats per token", "bits per byte"], rows)]


def _matrices(run: Run) -> str:
    rows = [
        [f"`{m.name}`", "×".join(map(str, m.shape)), f"{m.deviation:.4f}", f"{m.beta:.2f}", f"{m.spread:.3f}"]
        for m in run.matrices
    ]
    return _table(["matrix", "rows×columns", "deviation", "β", "spread of rows (bits)"], rows)


def _files(folder: Path) -> str:
    rows = [
        [f"`{path.name}`", f"{path.stat().st_size:,}", f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`"]
        for path in sorted(folder.iterdir())
        if path.name != "README.md"
    ]
    return _table(["file", "bytes", "sha256"], rows)


def _text(run: Run) -> list[str]:
    recipe = run.recipe
    sizes = [
        label(run.texts, language, f"{text.characters:,} characters, sha256 `{text.sha256}`")
        for language, text in run.texts.items()
    ]
    return [
        "## Text",
        recipe.about,
        "; ".join(sizes) + ". The text does not travel with the model.",
        f"{'Each language' if len(run.texts) > 1 else 'It'} is cut at line ends into chunks of at least "
        f"{recipe.chunk:,} characters. Of every {recipe.period} in a row, number {recipe.period // 2} is for "
        f"validation (it chose the step and guided the recipe) and number {recipe.period} for the test (it chose "
        "nothing); the rest is trained on. A held-out chunk thus mostly comes from a document whose other chunks "
        "were trained on.",
        _data(run),
    ]


def _model(run: Run) -> list[str]:
    config = run.recipe.config
    sizes = {
        name: value
        for name, value in sorted(config.to_dict().items())
        if type(value) in (int, float) and not name.endswith("_token_id")
    }
    return [
        "## Model",
        f"`{config.model_type}`, {run.weights:,} weights, "
        f"{'tied embedding' if config.tie_word_embeddings else 'untied embeddings'}: "
        + ", ".join(f"{name} {value:g}" for name, value in sizes.items())
        + ".",
        f"Tokenizer: byte-level BPE of {config.vocab_size:,} tokens, trained on the training part. Id 0, "
        f"`{SEPARATOR}`, opens each run of text.",
    ]


def _training(run: Run) -> list[str]:
    recipe = run.recipe
    passes = recipe.steps * recipe.batch * recipe.context / sum(text.tokens[0] for text in run.texts.values())
    best_step, best_loss = min(run.history, key=lambda entry: entry[1])
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers")]
    return [
        "## Training",
        f"AdamW (β₁ {recipe.betas[0]:g}, β₂ {recipe.betas[1]:g}), {recipe.steps:,} steps of "
        f"{recipe.batch} × {recipe.context} tokens ({passes:.1f} times the training part); "
        f"learning rate {recipe.learning_rate:g} after {recipe.warmup} steps of warm-up, then a cosine to 0; "
        f"weight decay {recipe.weight_decay:g} on matrices; gradients clipped at norm {recipe.clip:g}; "
        f"dropout {recipe.dropout:g} after "
        + (", ".join(f"`{name}`" for name in recipe.dropout_after) or "no module")
        + f", in training only. Shipped is the moving average of the weights (decay {recipe.average:g}) at "
        f"step {best_step:,}, the best of {len(run.history)} tried on the validation part "
        f"({best_loss:.4f} nats per token).",
        recipe.choice,
        f"Seed {run.seed}; on {run.device}; {', '.join([f'Python {platform.python_version()}', *versions])}. "
        "The command `python -m empirics.pocket.train` asks for deterministic kernels, so that the same "
        "seed, text, device and versions give the same files; another device or version gives others.",
    ]


def write_card(run: Run, folder: Path) -> None:
    """Write README.md beside the files it describes."""
    betas, spreads = [m.beta for m in run.matrices], [m.spread for m in run.matrices]
    sections = [
        "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\n---",
        f"# {run.recipe.name}",
        "A language model trained from scratch, small enough to travel with the package and trained enough "
        "to have matrices that are no longer those of its initialization. It is there to be quantized and "
        "measured, not for what it writes.",
        *_text(run),
        *_model(run),
        *_training(run),
        *_loss(run),
        "## Matrices",
        "β: shape of the generalized Gaussian most likely to give the entries (2 is Gaussian, 1 Laplace). "
        "Spread of rows: ½ log₂ of the arithmetic over the geometric mean of the rows' second moments. "
        f"Over the {len(betas)} matrices, β is {min(betas):.2f} to {max(betas):.2f} (median "
        f"{np.median(betas):.2f}) and the spread {min(spreads):.3f} to {max(spreads):.3f} bits (median "
        f"{np.median(spreads):.3f}).",
        _matrices(run),
        "## Files",
        _files(folder),
    ]
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
