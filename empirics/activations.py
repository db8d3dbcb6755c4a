r"""What linear layers are fed: second moments of their inputs, and their spectrum. How large the blocks' outputs are.

The squared error of a layer's own output is :math:`\operatorname{tr}(dW\,E[xx^\top]\,dW^\top)`, whose metric is
:math:`G = E[xx^\top] \otimes I`: the eigenvalues say which directions of a row of weights matter to the layer.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from empirics.functional import BATCH_TOKENS, Sequence
from empirics.gradients import batches, owners, subject
from empirics.inference import Estimate, clustered_mean
from empirics.language_model import LanguageModel
from theory.geometry import condition_bound

_BLOCK = re.compile(r"(?:.*\.)?(?:layers|h)\.(\d+)")


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Inputs x of a linear layer, over tokens. Errors are clustered by text.

    Attributes
    ----------
    name : str
        Of its matrix.
    square : Estimate
        :math:`E|x|^2`.
    mean_square : Estimate
        :math:`|E x|^2`.
    effective_rank : Estimate
        :math:`(\sum\lambda_i)^2/\sum\lambda_i^2`: the directions, were they alike, that the inputs spread over.
    condition : Estimate
        :math:`\kappa(G) = \lambda_1/\lambda_d`; infinite, with an error of NaN, where the tokens span no full space.
    condition_bound : float
        :math:`|E x|^2/\lambda_d`, which is at most kappa.
    eigenvalues : array of shape (width,)
        Of :math:`E\,xx^\top`, the largest first.
    """

    name: str
    square: Estimate
    mean_square: Estimate
    effective_rank: Estimate
    condition: Estimate
    condition_bound: float
    eigenvalues: np.ndarray

    def record(self) -> dict[str, Any]:
        """As plain values, the ends of the spectrum for all of it."""
        values: dict[str, Any] = {"name": self.name, "width": len(self.eigenvalues)}
        for key in ("square", "mean_square", "effective_rank", "condition"):
            found: Estimate = getattr(self, key)
            values |= {key: found.value, f"{key}_error": found.standard_error}
        ends = {"largest": float(self.eigenvalues[0]), "smallest": float(self.eigenvalues[-1])}
        return values | {"condition_bound": self.condition_bound} | ends | {
            "tokens": self.square.n, "texts": self.square.clusters
        }  # fmt: skip


def moments(
    lm: LanguageModel,
    sequences: list[Sequence],
    names: Iterable[str] | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Moments]:
    r"""Second moments of the inputs of linear layers, their spectrum, and kappa of the layers' own error.

    Parameters
    ----------
    lm : LanguageModel
    sequences : sequence of functional.Sequence
        Windows of tokens; those of one language for the moments of that language.
    names : sequence of str, optional
        Matrices of linear layers; those of the blocks if not given. A layer holds float64 arrays of twice its width
        squared: name some at a time where that is too much.
    batch_tokens : int
        Tokens at a time.

    Returns
    -------
    dict of str to Moments

    Raises
    ------
    ValueError
        If there are no sequences, or a name is no linear layer's.

    Notes
    -----
    Two passes, both in float64: the moments, then each text's part in each eigenvalue,
    :math:`\sum_t (v_i^\top x_t)^2`, which gives errors by the delta method. Of few tokens the smallest eigenvalue is
    too small and kappa too large, by about :math:`(1-\sqrt{d/n})^{-2}` for n independent tokens: no error shows that.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> lm, name = open_model("pocket-llama"), "model.layers.5.mlp.down_proj.weight"
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> found = moments(lm, windows, [name])[name]
    >>> found.condition.value, bool(found.effective_rank.value <= 10)  # 10 tokens do not span 768 inputs
    (inf, True)
    """
    names = subject(lm, sequences, names)
    texts, order = np.unique([window.text for window in sequences], return_inverse=True)
    sizes = np.bincount(order, [len(window.ids) for window in sequences])
    modules = {name: module for name, module in owners(lm, names) if not isinstance(module, nn.Embedding)}
    if strange := set(names) - modules.keys():
        raise ValueError(f"{', '.join(sorted(strange))}: no linear layer, which has inputs")
    product: dict[str, torch.Tensor] = {}
    sums: dict[str, torch.Tensor] = {}
    basis: dict[str, torch.Tensor] = {}
    parts: dict[str, torch.Tensor] = {}

    def first(name: str, text: torch.Tensor, x: torch.Tensor) -> None:
        if name not in product:
            product[name] = x.new_zeros(2 * x.shape[-1:])
            sums[name] = x.new_zeros(len(texts), x.shape[-1])
        product[name].addmm_(x.flatten(0, 1).T, x.flatten(0, 1))
        sums[name].index_add_(0, text, x.sum(1))

    def second(name: str, text: torch.Tensor, x: torch.Tensor) -> None:
        parts.setdefault(name, torch.zeros_like(sums[name])).index_add_(0, text, (x @ basis[name]).square_().sum(1))

    _pass(lm, sequences, modules, order, first, batch_tokens)
    for name in names:
        basis[name] = torch.linalg.eigh(product.pop(name)).eigenvectors.flip(1)
    _pass(lm, sequences, modules, order, second, batch_tokens)
    return {name: _summary(name, sums[name].cpu().numpy(), parts[name].cpu().numpy(), sizes) for name in names}


def _pass(
    lm: LanguageModel,
    sequences: list[Sequence],
    modules: dict[str, nn.Module],
    order: np.ndarray,
    add: Callable[[str, torch.Tensor, torch.Tensor], None],
    batch_tokens: int,
) -> None:
    """Give the inputs of every module, of shape (batch, length, width), 0 on padding, and the texts they are from."""
    text = mask = torch.empty(0)

    def hook(name: str, _: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        add(name, text, args[0].reshape(*mask.shape, -1).double() * mask[..., None])

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(partial(hook, name)).remove)
        for chosen, ids, mask in batches(sequences, lm.device, batch_tokens):
            text = torch.as_tensor(order[chosen], device=lm.device)
            lm.network(input_ids=ids, attention_mask=mask, use_cache=False)


def _summary(name: str, sums: np.ndarray, parts: np.ndarray, sizes: np.ndarray) -> Moments:
    n, texts = int(sizes.sum()), len(sizes)

    def estimate(value: float, totals: np.ndarray, mean: np.ndarray, slope: np.ndarray | float) -> Estimate:
        """A function of means, its error by the delta method over texts."""
        beyond = (totals - sizes[:, None] * mean) @ np.broadcast_to(slope, mean.shape) / n
        error = math.sqrt(texts / (texts - 1) * float(beyond @ beyond)) if texts > 1 else math.nan
        return Estimate(float(value), error, n, texts)

    mean, spectrum = sums.sum(0) / n, parts.sum(0) / n
    trace, squares, smallest = spectrum.sum(), spectrum @ spectrum, spectrum[-1]
    condition, bound = Estimate(math.inf, math.nan, n, texts), math.inf
    if smallest > len(mean) * np.finfo(float).eps * spectrum[0]:
        slope = np.zeros_like(spectrum)
        slope[0], slope[-1] = 1 / smallest, -spectrum[0] / smallest**2
        condition = estimate(spectrum[0] / smallest, parts, spectrum, slope)
        bound = float(condition_bound(float(mean @ mean), float(smallest)))
    return Moments(
        name,
        square=estimate(trace, parts, spectrum, 1.0),
        mean_square=estimate(mean @ mean, sums, mean, 2 * mean),
        effective_rank=estimate(
            trace**2 / squares, parts, spectrum, 2 * trace / squares * (1 - trace * spectrum / squares)
        ),
        condition=condition,
        condition_bound=bound,
        eigenvalues=spectrum,
    )  # fmt: skip


@dataclass(frozen=True)
class Output:
    """The mean magnitude of the hidden states that a block puts out.

    Attributes
    ----------
    block : int
        From 0.
    language : str
    mean_absolute : Estimate
        Over tokens and components; the error is clustered by text.
    """

    block: int
    language: str
    mean_absolute: Estimate

    def record(self) -> dict[str, Any]:
        """As plain values."""
        found = self.mean_absolute
        return {
            "block": self.block, "language": self.language, "mean_absolute": found.value,
            "mean_absolute_error": found.standard_error, "tokens": found.n, "texts": found.clusters,
        }  # fmt: skip


def outputs(lm: LanguageModel, sequences: list[Sequence], *, batch_tokens: int = BATCH_TOKENS) -> list[Output]:
    """Mean magnitude of each block's output in each language, by block and then by language.

    Parameters
    ----------
    lm, sequences, batch_tokens
        As for `moments`.

    Raises
    ------
    ValueError
        If there are no sequences, or the model has no numbered blocks.
    """
    numbered = ((_BLOCK.fullmatch(path), module) for path, module in lm.network.named_modules())
    blocks = {int(found[1]): module for found, module in numbered if found}
    if not blocks or not len(sequences):
        raise ValueError(f"{len(blocks)} blocks and {len(sequences)} windows of tokens: there must be some of each")
    values: dict[int, list[np.ndarray]] = {block: [] for block in sorted(blocks)}
    visited: list[int] = []
    inside = torch.empty(0)

    def hook(block: int, _: nn.Module, __: Any, y: Any) -> None:
        hidden = y[0] if isinstance(y, tuple) else y
        values[block].append(hidden.double().abs().mean(-1)[inside].cpu().numpy())

    with contextlib.ExitStack() as stack, torch.no_grad():
        for block, module in blocks.items():
            stack.callback(module.register_forward_hook(partial(hook, block)).remove)
        for chosen, ids, mask in batches(sequences, lm.device, batch_tokens):
            inside = mask.bool()
            lm.network(input_ids=ids, attention_mask=mask, use_cache=False)
            visited += chosen
    lengths = [len(sequences[i].ids) for i in visited]
    texts = np.repeat([sequences[i].text for i in visited], lengths)
    languages = np.repeat([sequences[i].language for i in visited], lengths)
    return [
        Output(block, language, clustered_mean(np.concatenate(found)[mine := languages == language], texts[mine]))
        for block, found in values.items()
        for language in dict.fromkeys(window.language for window in sequences)
    ]


def mean_squares(
    lm: LanguageModel,
    sequences: list[Sequence],
    names: Iterable[str] | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, torch.Tensor]:
    """Mean square :math:`E x_j^2` of each input of linear layers, over tokens: float64, of shape (width,).

    Parameters and errors as for `moments`, of which these are the diagonals: one pass, and no memory to speak of.
    """
    names = subject(lm, sequences, names)
    modules = {name: module for name, module in owners(lm, names) if not isinstance(module, nn.Embedding)}
    sums: dict[str, torch.Tensor] = {}

    def add(name: str, _: torch.Tensor, x: torch.Tensor) -> None:
        square = x.square().sum((0, 1))
        sums[name] = sums[name] + square if name in sums else square

    _pass(lm, sequences, modules, np.zeros(len(sequences), dtype=int), add, batch_tokens)
    tokens = sum(len(window.ids) for window in sequences)
    return {name: sums[name] / tokens for name in names}
