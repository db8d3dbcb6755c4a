r"""How far a single isotropic error may be from the mean over isotropic errors.

An error w of the weights with independent normal entries, of variance :math:`m_l` in matrix l, costs
:math:`w^\top G w` of squared logits error to first order. The mean over such errors is :math:`\operatorname{tr}(DG)`,
D the diagonal of the :math:`m_l`; their standard deviation is :math:`\sqrt{2\operatorname{tr}((DG)^2)}`. Where G has
few directions, one error is far from the mean, and says nothing against isotropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from empirics.engine import Progress
from empirics.functional import BATCH_TOKENS, Sequence
from empirics.gradients import subject
from empirics.language_model import LanguageModel
from empirics.traces import probes, signs
from theory.domain import Domain, accept


@dataclass(frozen=True)
class Spread:
    """A relative standard deviation over isotropic errors, these tokens given.

    Attributes
    ----------
    value : float
        Standard deviation over mean.
    standard_error : float
        Over the probes, by the jackknife. Of few directions it is large: the squares of few normals.
    """

    value: float
    standard_error: float

    @property
    def effective_rank(self) -> float:
        r""":math:`\operatorname{tr}(DG)^2/\operatorname{tr}((DG)^2)`: directions that matter, were they alike."""
        return 2 / self.value**2


class Spreads(Mapping[str, Spread]):
    """The spread of errors in each matrix alone, and in several at once.

    Parameters
    ----------
    names : list of str
        The matrices.
    products : array of shape (matrices, probes, probes)
        Inner products of the probes' gradients with respect to each matrix, all tokens together.
    """

    def __init__(self, names: list[str], products: np.ndarray) -> None:
        self.names, self.products = names, products

    def __getitem__(self, name: str) -> Spread:
        if name not in self.names:
            raise KeyError(name)
        return self.of({name: 1.0})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, mses: Mapping[str, float]) -> Spread:
        """The spread of errors with these mean squares in the matrices named, and none in the others.

        Raises
        ------
        ValueError
            If a matrix is not among the names.
        """
        if strange := sorted(mses.keys() - set(self.names)):
            raise ValueError(f"there is no spread of {', '.join(strange)}: name it when asking for spreads")
        product = np.tensordot([mses.get(name, 0.0) for name in self.names], self.products, 1)
        count = len(product)
        every = np.arange(count)
        without = np.array([_spread(product[np.ix_(every != i, every != i)]) for i in every])
        error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
        return Spread(_spread(product), error)


def _spread(product: np.ndarray) -> float:
    r"""For independent signs, :math:`E(u^\top A u')^2 = |A|_F^2`, and :math:`E\,u^\top A u = \operatorname{tr} A`."""
    diagonal = np.diag(product)
    squares = (product**2).sum() - diagonal @ diagonal
    return math.sqrt(2 * float(squares / (diagonal.sum() ** 2 - diagonal @ diagonal)))


def spreads(
    lm: LanguageModel,
    sequences: list[Sequence],
    names: Iterable[str] | None = None,
    count: int = 16,
    seed: int = 0,
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> Spreads:
    r"""Estimate the spread of isotropic errors in many matrices at once.

    With independent signs u and u' for all logits of all tokens, the gradients g and g' of
    :math:`\langle u, \text{logits}\rangle` and :math:`\langle u', \text{logits}\rangle` have
    :math:`E\langle g, g'\rangle^2 = \operatorname{tr}(G^2)`, each G summed over the tokens.

    Parameters
    ----------
    lm, sequences, names, seed, batch_tokens, progress
        As for `empirics.traces.traces`.
    count : int
        Probes, >= 3.

    Returns
    -------
    Spreads

    Raises
    ------
    ValueError
        As `traces`.

    Notes
    -----
    Memory: `count` gradients of every matrix, which are what is compared. Name matrices some at a time where that is
    too much.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> lm, name = open_model("pocket-llama"), "model.layers.5.mlp.down_proj.weight"
    >>> windows = [Sequence(text, "en", np.arange(5) + 300 * text) for text in range(2)]
    >>> bool(0 < spreads(lm, windows, [name])[name].value < 2**0.5)
    True
    """
    accept(count=(count, Domain(3, low_open=False, integer=True)))
    names = subject(lm, sequences, names)
    gradients: dict[str, torch.Tensor] = {}
    done = 0
    for number, chosen, factors in probes(lm, sequences, names, signs, range(count), seed, batch_tokens):
        for name in names:
            rows, columns = (x.flatten(0, 1) for x in factors.pop(name))
            if name not in gradients:
                gradients[name] = rows.new_zeros(count, rows.shape[1], columns.shape[1])
            gradients[name][number].addmm_(rows.T, columns)
        progress("spread", done := done + len(chosen), count * len(sequences))
    flat = (gradients.pop(name).flatten(1) for name in names)
    return Spreads(names, np.stack([(g @ g.T).double().cpu().numpy() for g in flat]))
