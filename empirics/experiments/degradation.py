"""What quantizing its weights does to a model on given texts: each quantization beside the model, text by text.

Experiments compare quantizations, languages and texts; all that they need is kept as one record a quantization, so
that none is measured twice, in one experiment or in several.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from empirics.blocks import BlockSize
from empirics.engine import Progress, key
from empirics.functional import Sequence, Weights, compare, encode
from empirics.inference import Estimate, mean_of_totals, sign_flip_test
from empirics.language_model import LanguageModel, open_model, quantized_weights
from empirics.models import Checkpoint
from empirics.store import Store, provenance
from empirics.texts import Text, embedded, given
from empirics.tokens import QUANTILES, Tokens
from theory.domain import unknown

CONTEXT = 512
"""Tokens that a model reads at once, unless it takes fewer."""

PREDICTED = ("loss", "loss_quantized", "loss_change")
"""Means over the tokens that are predicted, in nats."""

EVERYWHERE = ("kl_bits", "logits_mse", "agreement")
"""Means over all tokens, as `empirics.tokens.Tokens` defines them."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and what it reads.

    Attributes
    ----------
    lm : LanguageModel
        In float32, on the GPU if there is one.
    texts : list of Text
    sequences : list of Sequence
    """

    lm: LanguageModel
    texts: list[Text]
    sequences: list[Sequence]

    @property
    def languages(self) -> list[str]:
        """In the order of the texts."""
        return list(dict.fromkeys(text.language for text in self.texts))

    def key(self, experiment: str, **settings: str | int | float) -> dict[str, str | int | float]:
        """What decides a number that comes of this model reading these tokens."""
        content = json.dumps([[s.text, s.language, s.ids.tolist()] for s in self.sequences])
        return key(
            self.lm.checkpoint, experiment=experiment, tokens=hashlib.sha256(content.encode()).hexdigest(),
            device=self.lm.device.type, transformers=version("transformers"), **settings,
        )  # fmt: skip

    @property
    def provenance(self) -> dict[str, Any]:
        """As `empirics.store.provenance`, and where the texts are from."""
        files = dict.fromkeys(text.name.split(",")[0] for text in self.texts)
        return provenance(self.lm.checkpoint, seed=0) | {"device": self.lm.device.type, "texts": ", ".join(files)}


def open_subject(model: str | Path | Checkpoint, revision: str | None = None, texts: Iterable[str] = ()) -> Subject:
    """Load a model, and encode the texts in windows of at most `CONTEXT` tokens.

    Parameters
    ----------
    model, revision
        As `empirics.language_model.open_model` takes them.
    texts : iterable of str
        As `empirics.texts.given` takes them; the embedded set if there are none.

    Raises
    ------
    ValueError, OSError
        As `open_model`, `given` and `empirics.functional.encode`.
    """
    lm = open_model(model, revision, "cuda" if torch.cuda.is_available() else "cpu")
    chosen = list(texts)
    found = given(chosen) if chosen else embedded()
    return Subject(lm, found, encode(lm, found, min(CONTEXT, lm.context or CONTEXT)))


def matrices(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """The matrices of `LanguageModel.linear`, each with a row for each output: of GPT-2's layers the transpose."""
    transposed = {id(module.weight) for module in lm.network.modules() if isinstance(module, Conv1D)}
    return {name: p.T if id(p) in transposed else p for name, p in lm.linear().items()}


class Quantization(NamedTuple):
    """A change of a model's weights.

    Attributes
    ----------
    name : str
        For people.
    settings : dict
        All that decides the new weights, the model apart: the store knows the measurement by them.
    weights : callable
        Model to dense weights, as `empirics.language_model.replaced` takes them.
    """

    name: str
    settings: dict[str, str | int | float]
    weights: Callable[[LanguageModel], Weights]


def blocks(quantizer: str, block_size: BlockSize = 64, name: str | None = None) -> Quantization:
    """Every matrix of the linear layers by a quantizer of `empirics.quantizers`.

    >>> blocks("int8", "row", "int8 rows").settings
    {'quantizer': 'int8', 'block_size': 'row'}
    """
    settings: dict[str, str | int | float] = {"quantizer": quantizer, "block_size": block_size}
    return Quantization(name or quantizer, settings, lambda lm: quantized_weights(lm, quantizer, block_size))


def rounded(name: str, dtype: torch.dtype) -> Quantization:
    """Every matrix of the linear layers rounded to a floating-point type."""
    return Quantization(
        name, {"dtype": str(dtype)}, lambda lm: {n: p.to(dtype).to(p.dtype) for n, p in lm.linear().items()}
    )


class WeightError(NamedTuple):
    """Of one matrix: how many weights, the sum of their squared errors, the sum of their squares."""

    weights: int
    squared_error: float
    energy: float


@dataclass(frozen=True, eq=False)
class Degradation:
    """A quantized model beside the model itself, on the same tokens, summed over each text.

    Attributes
    ----------
    name : str
        Of the quantization.
    languages : array of str, shape (texts,)
    sizes : dict of str to array of int, shape (texts,)
        "predictions" and "tokens" of each text: the last token of a window has no next one to predict.
    totals : dict of str to array, shape (texts,)
        Sums of the quantities of `PREDICTED` and `EVERYWHERE`, and of the squared change of the loss.
    matrices : dict of str to WeightError
        Of each matrix that was quantized.
    kl_quantiles : dict of float to Estimate
        Of the divergence over all tokens, in bits, as `empirics.tokens.Tokens.kl_quantiles` has them.
    """

    name: str
    languages: np.ndarray
    sizes: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]
    matrices: dict[str, WeightError]
    kl_quantiles: dict[float, Estimate]

    def mean(self, quantity: str, language: str | None = None) -> Estimate:
        """A quantity of `PREDICTED` or `EVERYWHERE` over the tokens of all texts, or of a language's.

        The standard error is clustered by text (`empirics.inference.clustered_mean`).
        """
        chosen, sizes = self._chosen(quantity, language)
        return mean_of_totals(self.totals[quantity][chosen], sizes[chosen])

    def influence(self, quantity: str, language: str | None = None) -> np.ndarray:
        """What each text moves that mean by, of shape (texts,): its standard error is their root sum of squares.

        So the error of a function of several means is that of the same function's derivative on their influences.
        """
        chosen, sizes = self._chosen(quantity, language)
        beyond = np.where(chosen, self.totals[quantity] - self.mean(quantity, language).value * sizes, 0.0)
        texts = int(chosen.sum())
        return beyond * math.sqrt(texts / (texts - 1)) / sizes[chosen].sum() if texts > 1 else beyond * math.nan

    def by_text(self, quantity: str) -> np.ndarray:
        """The mean over each text."""
        return self.totals[quantity] / self._sizes(quantity)

    @property
    def loss_change_error(self) -> np.ndarray:
        """Standard error of the loss change of each text, for independent tokens: of one text there is no other."""
        n, mean = self.sizes["predictions"], self.by_text("loss_change")
        squares = np.maximum(self.totals["loss_change_square"] / n - mean**2, 0.0)
        return np.sqrt(squares / np.where(n > 1, n - 1, np.nan))

    def loss_change_p(self, language: str | None = None) -> float:
        """Two-sided p-value of no change in the loss: signs flipped text by text."""
        chosen, _ = self._chosen("loss_change", language)
        return sign_flip_test(self.totals["loss_change"][chosen], np.flatnonzero(chosen))

    @cached_property
    def weight_mse(self) -> float:
        """Mean squared error of the weights that were quantized, exact, in their units squared."""
        return math.fsum(m.squared_error for m in self.matrices.values()) / sum(
            m.weights for m in self.matrices.values()
        )

    @property
    def relative_weight_mse(self) -> float:
        """The same over their mean square."""
        found = self.matrices.values()
        return math.fsum(m.squared_error for m in found) / math.fsum(m.energy for m in found)

    def _sizes(self, quantity: str) -> np.ndarray:
        if quantity not in PREDICTED + EVERYWHERE:
            raise unknown("quantity", quantity, PREDICTED + EVERYWHERE)
        return self.sizes["predictions" if quantity in PREDICTED else "tokens"]

    def _chosen(self, quantity: str, language: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Which texts, and how many values each has."""
        sizes = self._sizes(quantity)
        if language is None:
            return np.ones(len(sizes), dtype=bool), sizes
        if language not in self.languages:
            raise unknown("language among the texts", language, list(dict.fromkeys(self.languages.tolist())))
        return self.languages == language, sizes


def measure(
    subject: Subject, quantizations: Iterable[Quantization], store: Store | None = None,
    progress: Progress = lambda name, done, total: None,
) -> tuple[dict[str, Degradation], list[tuple[str, str]]]:  # fmt: skip
    """Run each quantization beside the model.

    Parameters
    ----------
    subject : Subject
    quantizations : iterable of Quantization
        By different names.
    store : Store, optional
        What it holds is not measured again; each measurement is kept as soon as it is made.
    progress : callable
        See `empirics.engine.Progress`; what it counts are tokens.

    Returns
    -------
    dict of str to Degradation
        By name, in the order given.
    list of (str, str)
        Quantizations that could not be measured, and why.

    Notes
    -----
    Memory holds the model twice, and one batch of logits of each.
    """
    chosen = list(quantizations)
    order = {name: number for number, (name, _) in enumerate(subject.lm.network.named_parameters())}
    languages = np.array([text.language for text in subject.texts])
    found: dict[str, Degradation] = {}
    failures = []
    for number, quantization in enumerate(chosen):

        def shown(_: str, done: int, total: int, name: str = quantization.name, before: int = number) -> None:
            progress(name, before * total + done, len(chosen) * total)

        def compute(quantization: Quantization = quantization, shown: Progress = shown) -> dict[str, Any]:
            return _record(subject, quantization, shown)

        try:
            if store is None:
                record = compute()
            else:
                known = subject.key("degradation", quantiles=str(QUANTILES), **quantization.settings)
                record = store.remember(known, compute, subject.provenance)
        except (ValueError, ArithmeticError) as error:
            failures.append((quantization.name, str(error)))
            continue
        sizes, totals = ({name: np.array(values) for name, values in record[kind].items()}
                         for kind in ("sizes", "totals"))  # fmt: skip
        # A store sorts by name.
        kept = sorted(record["matrices"].items(), key=lambda item: order.get(item[0], len(order)))
        matrices = {name: WeightError(*values) for name, values in kept}
        quantiles = {float(p): Estimate(value, math.nan if error is None else error, *counts)
                     for p, (value, error, *counts) in record["kl_quantiles"].items()}  # fmt: skip
        found[quantization.name] = Degradation(quantization.name, languages, sizes, totals, matrices, quantiles)
    return found, failures


def _record(subject: Subject, quantization: Quantization, progress: Progress) -> dict[str, Any]:
    """One measurement, as JSON can say it."""
    lm = subject.lm
    weights = quantization.weights(lm)
    matrices = {name: list(_weight_error(lm.parameter(name), new)) for name, new in weights.items()}
    tokens = compare(lm, weights, subject.sequences, progress=progress)
    quantiles = {  # JSON has no NaN, the error of one text's
        str(p): [q.value, None if math.isnan(q.standard_error) else q.standard_error, q.n, q.clusters]
        for p, q in tokens.kl_quantiles().items()
    }
    return _sums(tokens, len(subject.texts)) | {"matrices": matrices, "kl_quantiles": quantiles}


def _weight_error(old: torch.Tensor, new: torch.Tensor) -> WeightError:
    error = (new.double() - old.double()).square_().sum()
    return WeightError(old.numel(), float(error), float(old.double().square_().sum()))


def _sums(tokens: Tokens, texts: int) -> dict[str, dict[str, list[float]]]:
    """Counts and totals of each text."""
    predicted, change = ~np.isnan(tokens.nll), tokens.nll_quantized - tokens.nll

    def total(values: np.ndarray, which: np.ndarray | slice = slice(None)) -> list[float]:
        return np.bincount(tokens.text[which], values[which], texts).tolist()

    return {
        "sizes": {
            "predictions": np.bincount(tokens.text[predicted], minlength=texts).tolist(),
            "tokens": np.bincount(tokens.text, minlength=texts).tolist(),
        },
        "totals": {
            "loss": total(tokens.nll, predicted),
            "loss_quantized": total(tokens.nll_quantized, predicted),
            "loss_change": total(change, predicted),
            "loss_change_square": total(change**2, predicted),
            "kl_bits": total(tokens.kl),
            "logits_mse": total(tokens.logits_square),
            "agreement": total(tokens.agree.astype(float)),
        },
    }
