r"""The Fisher information of each weight, and how much of it few weights hold.

For a weight w, :math:`F_{ww} = E_t\,E_y\,(\partial \ln p(y\mid\text{context}_t)/\partial w)^2`: errors of the weights
that are independent, small and of variance m move the predictions by a KL divergence of
:math:`\tfrac12 m \sum_w F_{ww}` nats per token, on average. With the text's own next token for y it is the empirical
Fisher information, another quantity: no curvature of anything, but what an optimizer sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import one_hot

from empirics.engine import Progress
from empirics.functional import BATCH_TOKENS, Sequence
from empirics.gradients import subject
from empirics.inference import Estimate, clustered_ratio
from empirics.language_model import LanguageModel
from empirics.traces import Trace, Traces, probes, signs
from theory.domain import Domain, accept

SHARE = 0.01
"""The weights whose part of the whole is the concentration."""


@dataclass(frozen=True, eq=False)
class Fisher:
    """Fisher information of the weights of a matrix, in nats per squared weight and token.

    Attributes
    ----------
    name : str
    trace : Trace
        Its sum over the weights.
    concentration : Estimate
        Share of the trace that the top 1 % of the weights hold, from below: those that are top in half of the texts
        are summed over the other half. NaN where there is one text.
    concentration_high : float
        The same from above: those that are top by the very estimate that is summed, so that noise made them top too.
    diagonal : Tensor of the parameter's shape
    """

    name: str
    trace: Trace
    concentration: Estimate
    concentration_high: float
    diagonal: torch.Tensor = field(repr=False)

    def record(self) -> dict[str, Any]:
        """As plain values, without the diagonal."""
        return {"name": self.name} | self.trace.record() | {
            "concentration": self.concentration.value,
            "concentration_error": self.concentration.standard_error,
            "concentration_high": self.concentration_high,
        }  # fmt: skip


def fisher(
    lm: LanguageModel,
    sequences: list[Sequence],
    names: Iterable[str] | None = None,
    labels: Literal["sampled", "text"] = "sampled",
    draws: int = 4,
    seed: int = 0,
    *,
    relative_error: float = 0.05,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> dict[str, Fisher]:
    r"""Estimate the diagonal of the Fisher information of many matrices at once.

    With labels y and independent signs :math:`\varepsilon_t`, the gradient of
    :math:`\sum_t \varepsilon_t \ln p(y_t)` over a window has squares whose mean is the sum of the tokens' squares.

    Parameters
    ----------
    lm, sequences, names, seed, batch_tokens, progress
        As for `empirics.traces.traces`.
    labels : {"sampled", "text"}
        Drawn from the model at every token: the Fisher information. The text's next token, where the window has one:
        the empirical Fisher information.
    draws : int
        Gradients of each window, >= 2.
    relative_error : float
        Of a trace that is called converged; the number of draws does not depend on it.

    Returns
    -------
    dict of str to Fisher

    Raises
    ------
    ValueError
        As `traces`, or if `labels` is neither.

    Notes
    -----
    Memory: a float32 number for each weight, besides the gradients of a batch.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> lm, name = open_model("pocket-llama"), "model.layers.5.mlp.down_proj.weight"
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> found = fisher(lm, windows, [name], draws=2)[name]
    >>> found.diagonal.shape, bool(found.concentration_high > 0.01)
    (torch.Size([256, 768]), True)
    """
    if labels not in ("sampled", "text"):
        raise ValueError(f'labels = {labels!r}: give "sampled" or "text"')
    accept(draws=(draws, Domain(2, low_open=False, integer=True)))
    own = labels == "text"
    windows = [window for window in sequences if len(window.ids) > own]
    scored = [replace(window, ids=window.ids[own:]) for window in windows]
    names = subject(lm, windows, names)
    texts = np.unique([window.text for window in windows], return_inverse=True)[1]
    samples, held = np.empty((2, draws, len(windows), len(names)))
    diagonals: dict[str, torch.Tensor] = {}
    top: dict[str, torch.Tensor] = {}
    done, score = 0, _text_score if own else _sampled_score
    first, second = (np.flatnonzero(texts % 2 == half) for half in (0, 1))
    for mine in (first, second) if len(second) else (first,):
        start, some = draws * bool(top), [windows[i] for i in mine]  # no window has the draws of another
        numbers = range(start, start + draws)
        for number, chosen, factors in probes(lm, some, names, score, numbers, seed, batch_tokens):
            for column, name in enumerate(names):
                rows, columns = factors.pop(name)
                squares = (rows.mT @ columns).float().square_()
                at = number - start, mine[chosen], column
                samples[at] = squares.sum((1, 2), dtype=torch.float64).cpu().numpy()
                if top:
                    held[at] = squares.flatten(1)[:, top[name]].sum(1, dtype=torch.float64).cpu().numpy()
                diagonals[name] = squares.sum(0) + diagonals.get(name, 0.0)
            progress("Fisher information", done := done + len(chosen), draws * len(windows))
        top = top or {name: _top(diagonal) for name, diagonal in diagonals.items()}
    traces = Traces(names, samples, scored, relative_error)
    part, whole = held.mean(0)[second], samples.mean(0)[second]
    found = {}
    for column, name in enumerate(names):
        diagonal = diagonals.pop(name) / (draws * int(traces.tokens.sum()))
        low = Estimate(math.nan, math.nan, 0, 0)
        if len(second):
            low = clustered_ratio(part[:, column], whole[:, column], texts[second])
        high = diagonal.flatten()[_top(diagonal)].sum(dtype=torch.float64) / diagonal.sum(dtype=torch.float64)
        found[name] = Fisher(name, traces[name], low, float(high), diagonal)
    return found


def _top(diagonal: torch.Tensor) -> torch.Tensor:
    """Positions of the top 1 % in the flattened matrix."""
    return diagonal.flatten().topk(math.ceil(SHARE * diagonal.numel())).indices


def _sampled_score(logits: torch.Tensor, ids: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    p = logits.softmax(-1)
    return _score(p, torch.multinomial(p, 1, generator=generator)[:, 0], generator)


def _text_score(logits: torch.Tensor, ids: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    score = _score(logits.softmax(-1), ids.roll(-1), generator)
    score[-1] = 0  # the last token's next one is not there
    return score


def _score(p: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Derivative of the log-probability of the labels, each token with a sign of its own."""
    return signs(p[:, :1], labels, generator) * (one_hot(labels, p.shape[-1]).to(p) - p)
