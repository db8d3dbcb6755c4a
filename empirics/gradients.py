r"""First derivatives of the logits with respect to weight matrices, backwards and forwards, for all of them at once.

What a matrix does, it does at the outputs of the modules that hold it. With the inputs x and the gradients g at the
outputs, of shape (tokens, width), the gradient of a matrix is :math:`g^\top x`: one backward pass to the outputs
serves every matrix, keeps the sequences of a batch apart, and holds no gradient of a weight. The derivative along a
change of the weights is the transpose of that pass: exact, without a step size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import one_hot
from transformers.pytorch_utils import Conv1D

from empirics.functional import BATCH_TOKENS, Sequence, _batches, _padded
from empirics.language_model import LanguageModel


def subject(lm: LanguageModel, windows: list[Sequence], names: Iterable[str] | None) -> list[str]:
    """The parameters asked for: the linear layers' of the blocks if none are named. ValueError if nothing is left."""
    chosen = list(lm.linear() if names is None else names)
    if not chosen or not windows:
        raise ValueError(f"{len(chosen)} matrices and {len(windows)} windows of tokens: there must be some of each")
    return chosen


def batches(
    windows: list[Sequence], device: torch.device, tokens: int = BATCH_TOKENS
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Positions in `windows`; their ids, padded on the right to one length; and the mask of what is no padding.

    A batch has at most `tokens` tokens, or one window.
    """
    for chosen in _batches([len(window.ids) for window in windows], tokens):
        yield chosen, *_padded([windows[i].ids for i in chosen], device)


class Factors(NamedTuple):
    """The gradient of a matrix, for each sequence s of a batch: ``rows[s].T @ columns[s]``.

    Attributes
    ----------
    rows, columns : Tensor of shape (batch, tokens, rows of the matrix) and (batch, tokens, its columns)
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def square_norms(self) -> torch.Tensor:
        """Squared Frobenius norm of each sequence's gradient: shape (batch,), float64."""
        rows, columns = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in self)
        tokens, height, width = rows.shape[1], rows.shape[2], columns.shape[2]
        if tokens * (height + width) < height * width:  # products of tokens are cheaper than the gradient
            return ((rows @ rows.mT) * (columns @ columns.mT)).sum((1, 2), dtype=torch.float64)
        return (rows.mT @ columns).square_().sum((1, 2), dtype=torch.float64)


class _Call(NamedTuple):
    """One use of a matrix in a forward pass: what the module got and what it made of it."""

    name: str
    module: nn.Module
    x: torch.Tensor
    y: torch.Tensor

    @property
    def rows_out(self) -> bool:
        """Whether the rows of the matrix make the output: ``y = x @ W.T``, not ``x @ W``."""
        return isinstance(self.module, nn.Linear)

    def inputs(self, batch: int) -> torch.Tensor:
        """What the matrix is multiplied with, of shape (batch, tokens, width); of an embedding, the one-hot ids."""
        x = one_hot(self.x, self.module.num_embeddings) if isinstance(self.module, nn.Embedding) else self.x
        return x.reshape(batch, -1, x.shape[-1]).to(self.y.dtype)

    def move(self, change: torch.Tensor) -> torch.Tensor:
        """What a change of the matrix does to the output, the input unchanged."""
        x, change = self.inputs(1), change.to(self.y)
        return (x @ (change.T if self.rows_out else change)).reshape(self.y.shape)


class Linearization:
    """A forward pass that remembers what its derivatives need.

    Parameters
    ----------
    lm : LanguageModel
    names : iterable of str
        Parameters, each the weight of a linear layer (transformers' Conv1D is one) or an embedding, or tied to both.
    ids, mask : LongTensor of shape (batch, length)
        As `batches` gives them. What stands on padding has no meaning, and no effect on what comes before it.
    twice : bool
        Whether `jvp` will be called. Attention is then computed by plain products: the derivatives of its fused
        kernels cannot be differentiated.

    Attributes
    ----------
    logits : Tensor of shape (batch, length, vocabulary)

    Raises
    ------
    ValueError
        If a name is no such parameter, or one that is not applied to each token.
    """

    def __init__(
        self, lm: LanguageModel, names: Iterable[str], ids: torch.Tensor, mask: torch.Tensor, twice: bool = False
    ) -> None:
        names = list(names)
        self._calls: list[_Call] = []
        self._transposed: tuple[torch.Tensor, tuple[torch.Tensor, ...]] | None = None
        with contextlib.ExitStack() as stack, torch.enable_grad():
            for name, module in owners(lm, names):
                stack.callback(module.register_forward_hook(partial(self._record, name)).remove)
            if twice:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            self.logits = lm.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for name in names:
            calls = [call for call in self._calls if call.name == name]
            if not calls or any(call.y.numel() != ids.numel() * call.y.shape[-1] for call in calls):
                raise ValueError(f"{name} is not applied to every token: its derivative is not supported")

    def _record(self, name: str, module: nn.Module, args: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        if not y.requires_grad:  # the parameters do not: derivatives begin here
            y.requires_grad_()
        self._calls.append(_Call(name, module, args[0].detach(), y))

    def vjp(self, cotangent: torch.Tensor, again: bool = False) -> dict[str, Factors]:
        r"""Gradient of :math:`\langle c, \text{logits}\rangle` with respect to each matrix, a sequence at a time.

        Parameters
        ----------
        cotangent : Tensor of the shape of the logits
        again : bool
            Whether another derivative of this pass will be asked for.
        """
        deltas = torch.autograd.grad(self.logits, [call.y for call in self._calls], cotangent, retain_graph=again)
        parts: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for call, delta in zip(self._calls, deltas, strict=True):
            x = call.inputs(len(cotangent))
            delta = delta.reshape(*x.shape[:2], -1)
            parts.setdefault(call.name, []).append((delta, x) if call.rows_out else (x, delta))
        # A matrix that is used more than once, such as a tied embedding, has the sum of the gradients.
        joined = {name: map(torch.cat, zip(*uses, strict=True), (1, 1)) for name, uses in parts.items()}
        return {name: Factors(*both) for name, both in joined.items()}

    def jvp(self, change: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Derivative of the logits along a change of the matrices; those not named stay as they are.

        Parameters
        ----------
        change : mapping of str to Tensor
            Of each parameter's shape.
        """
        if self._transposed is None:
            cotangent = torch.zeros_like(self.logits, requires_grad=True)
            outputs = [call.y for call in self._calls]
            self._transposed = cotangent, torch.autograd.grad(self.logits, outputs, cotangent, create_graph=True)
        cotangent, deltas = self._transposed
        moved = [(call, delta) for call, delta in zip(self._calls, deltas, strict=True) if call.name in change]
        moves = [call.move(change[call.name]) for call, _ in moved]
        return torch.autograd.grad([delta for _, delta in moved], cotangent, moves, retain_graph=True)[0]


def owners(lm: LanguageModel, names: Iterable[str]) -> list[tuple[str, nn.Module]]:
    """The modules whose weight is the parameter, which may be several."""
    owners = []
    for name in names:
        parameter = lm.parameter(name)
        modules = [module for module in lm.network.modules() if getattr(module, "weight", None) is parameter]
        # Exactly these: a subclass may do something else with its weight.
        if not modules or any(type(m) not in (nn.Linear, Conv1D, nn.Embedding) for m in modules):
            raise ValueError(f"{name} is not the weight of a linear layer or an embedding")
        owners += [(name, module) for module in modules]
    return owners
