r"""How much the logits move with each weight matrix: :math:`\operatorname{tr}(G_l)`, by random probes.

:math:`G_l = E_t\,J_t^\top J_t` with :math:`J_t = \partial\,\text{logits}_t/\partial\operatorname{vec}(W_l)`, the
total derivative of one token's logits. An error of the weights with independent entries of variance m costs
:math:`m \operatorname{tr}(G_l)/V` of logits MSE, to first order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from empirics.engine import Progress
from empirics.functional import BATCH_TOKENS, Sequence
from empirics.gradients import Factors, Linearization, batches, subject
from empirics.inference import clustered_mean
from empirics.language_model import LanguageModel
from theory.domain import OPEN_UNIT, Domain, accept

_DEGREES = 32
"""Degrees of freedom below which the probes' spread is not yet a standard error."""


@dataclass(frozen=True)
class Trace:
    """A trace per token, estimated by probes.

    Attributes
    ----------
    value : float
    standard_error : float
        Over the probes, these tokens given.
    text_error : float
        Over texts (and probes), for the population that the texts were drawn from. NaN where there is one text.
    tokens, texts, probes : int
        Probes of each window of tokens.
    status : str
        "converged", or "probe limit": the standard error over probes is still above what was asked for.
    """

    value: float
    standard_error: float
    text_error: float
    tokens: int
    texts: int
    probes: int
    status: str

    @property
    def relative_error(self) -> float:
        """Standard error over probes in units of the value; 0 where both are 0."""
        return self.standard_error / self.value if self.standard_error else 0.0

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Traces(Mapping[str, Trace]):
    """The trace of each matrix, and the samples that it was made of.

    Parameters
    ----------
    names : list of str
        The matrices.
    samples : array of shape (probes, windows, matrices)
        Each unbiased for the trace summed over the tokens of the window.
    sequences : list of functional.Sequence
        The windows.
    relative_error : float
        Of a trace that is called converged.

    Attributes
    ----------
    tokens, texts : int array of shape (windows,)
        Tokens of each window, and the text that it is from.
    """

    def __init__(
        self, names: list[str], samples: np.ndarray, sequences: list[Sequence], relative_error: float
    ) -> None:
        self.names, self.samples, self.relative_error = names, samples, relative_error
        self.tokens = np.array([len(window.ids) for window in sequences])
        self.texts = np.array([window.text for window in sequences])
        if strange := [name for name, column in zip(names, samples.T, strict=True) if not np.isfinite(column).all()]:
            raise ValueError(f"the derivative with respect to {strange[0]} is not finite: see that its weights are")

    def __getitem__(self, name: str) -> Trace:
        if name not in self.names:
            raise KeyError(name)
        return self.summary(self.samples[..., self.names.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def summary(self, samples: np.ndarray) -> Trace:
        """Mean per token, with its errors, of a linear function of the matrices' samples: shape (probes, windows).

        The matrices share their probes, so that the error of a sum is not that of independent terms.
        """
        error = math.sqrt(samples.var(0, ddof=1).sum() / len(samples)) / int(self.tokens.sum())
        mean = clustered_mean(self.per_token(samples), np.repeat(self.texts, self.tokens))
        status = "converged" if error <= self.relative_error * abs(mean.value) else "probe limit"
        return Trace(mean.value, error, mean.standard_error, mean.n, mean.clusters, len(samples), status)

    def per_token(self, samples: np.ndarray) -> np.ndarray:
        """Mean over the probes for every token, the same for all tokens of a window: shape (tokens,)."""
        return np.repeat(samples.mean(0) / self.tokens, self.tokens)


def traces(
    lm: LanguageModel,
    sequences: list[Sequence],
    names: Iterable[str] | None = None,
    relative_error: float = 0.05,
    seed: int = 0,
    *,
    limit: int = 64,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> Traces:
    r"""Estimate :math:`\operatorname{tr}(G_l)` per token of many matrices at once, to a standard error.

    With independent signs u for every logit of a window, the gradient :math:`g_l` of
    :math:`\langle u, \text{logits}\rangle` has :math:`E|g_l|^2 = \sum_t |J_t|_F^2`.

    Parameters
    ----------
    lm : LanguageModel
    sequences : sequence of functional.Sequence
        Windows of tokens. All their tokens count, the first and the last of a window too.
    names : sequence of str, optional
        Parameters: weights of linear layers or embeddings. The linear layers of the blocks if not given.
    relative_error : float
        In (0, 1): the standard error over the probes that every matrix must reach, in units of its trace.
    seed : int
        The probes are the same for the same seed and device, whatever the batches.
    limit : int
        Most probes of a window, >= 2. A matrix that needs more has the status "probe limit".
    batch_tokens : int
        Tokens differentiated at a time.
    progress : callable
        See `empirics.engine.Progress`; of windows times probes, a total that grows when more turn out to be needed.

    Returns
    -------
    Traces
        A mapping of each name to its `Trace`, in logits squared per weight squared.

    Raises
    ------
    ValueError
        If there are no sequences, an argument is outside its domain, a name is no such parameter, or a derivative is
        not finite: the message names it.

    Notes
    -----
    A probe of a window costs one backward pass, for all matrices together, and no memory for gradients of weights.
    Its relative standard deviation is :math:`\sqrt{2/r}` with r the effective rank of the window's :math:`JJ^\top`,
    whatever the size of the matrix. References: [Hutchinson1990].

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> lm, name = open_model("pocket-llama"), "model.layers.5.mlp.down_proj.weight"
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> found = traces(lm, windows, [name], relative_error=0.2)
    >>> found[name].status, found[name].tokens, found[name].texts
    ('converged', 10, 2)
    """
    accept(relative_error=(relative_error, OPEN_UNIT), limit=(limit, Domain(2, low_open=False, integer=True)))
    names = subject(lm, sequences, names)
    samples = np.empty((0, len(sequences), len(names)))
    wanted = min(limit, 2 + _DEGREES // len(sequences))
    while len(samples) < wanted:
        more = np.full((wanted - len(samples), *samples.shape[1:]), np.nan)
        numbers, done = range(len(samples), wanted), samples.shape[1] * len(samples)
        for number, chosen, factors in probes(lm, sequences, names, signs, numbers, seed, batch_tokens):
            for column, name in enumerate(names):
                more[number - len(samples), chosen, column] = factors.pop(name).square_norms().cpu().numpy()
            progress("traces", done := done + len(chosen), wanted * len(sequences))
        samples = np.concatenate([samples, more])
        found = Traces(names, samples, sequences, relative_error)
        excess = max(trace.relative_error for trace in found.values()) / relative_error
        if excess > 1:  # never fewer than one more; the spread that this rests on is itself uncertain
            wanted = min(limit, max(wanted + 1, math.ceil(1.05 * wanted * excess**2)))
    return found


def probes(
    lm: LanguageModel,
    windows: list[Sequence],
    names: list[str],
    draw: Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor],
    numbers: range,
    seed: int,
    batch_tokens: int,
) -> Iterator[tuple[int, list[int], dict[str, Factors]]]:
    """Gradients of random combinations of the logits: probe number, positions of the batch in `windows`, gradients.

    Parameters
    ----------
    draw : callable
        Logits of a window, its ids, and a generator, to the combination, of the logits' shape.
    numbers : range
        Of the probes: each has draws of its own for each window.
    """
    for chosen, ids, mask in batches(windows, lm.device, batch_tokens):
        found = Linearization(lm, names, ids, mask)
        logits = found.logits.detach()
        for number in numbers:
            combination = torch.zeros_like(logits)
            for row, i in enumerate(chosen):
                state = np.random.SeedSequence((seed, number, i)).generate_state(1, np.uint64)
                generator = torch.Generator(logits.device).manual_seed(int(state[0]))
                own = slice(len(windows[i].ids))
                combination[row, own] = draw(logits[row, own], ids[row, own], generator)
            yield number, chosen, found.vjp(combination, again=number != numbers[-1])


def signs(like: torch.Tensor, ids: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Independent signs in the shape of `like`, whatever the ids."""
    return torch.empty_like(like).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
