r"""Channels that were scaled before quantization, as AWQ and SmoothQuant do it.

The outputs of a layer are divided by a positive vector s, and the columns of the next layer multiplied by it: no
function changes. A normalization weight g (base) became g' (stored), and the columns of the matrices that it feeds
were multiplied by g/g'. Between two matrices (v and o, up and down) s is the least-squares factor of each column.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from empirics import tensors
from empirics.checkpoints.stored import Quantized

FEEDS = {"input_layernorm": ("q", "k", "v"), "post_attention_layernorm": ("gate", "up")}
"""Which matrices of its layer a normalization is the input of. The rows of the first one are not scaled too."""

FOLLOWS = {"v": "o", "up": "down"}
"""Between which matrices of a layer a channel may be scaled."""

UNEXPLAINED = 0.25
"""What share of the factors' variance the first matrix may leave unexplained, ..."""
SHRUNK = 0.05
"""... and by how much of itself, besides the noise of rounding, a factor may be off: AWQ clips."""
NOISE = 4.0
"""How many times the variance that rounding gives a least-squares factor counts as rounding."""

Weights = Callable[[str], torch.Tensor]
"""The base's tensor of that name, float32."""


def behind(norm: str, quantized: Quantized, weights: Weights) -> dict[str, torch.Tensor] | None:
    """By what the columns of each matrix behind a normalization were multiplied.

    Parameters
    ----------
    norm : str
        A normalization whose weight is not the base's.
    quantized : Quantized
    weights : callable

    Returns
    -------
    dict of str to tensor of shape (columns,), or None
        None if the matrices do not bear it out: then the normalization differs for another reason.
    """
    layer, _, kind = norm.removesuffix(".weight").rpartition(".")
    fed = [name for role in FEEDS.get(kind, ()) if (name := _named(quantized, layer, role))]
    base, stored = weights(norm), quantized.other(norm).float()
    if not fed or bool((base * stored <= 0).any()):
        return None
    factors = base / stored
    seen, noise = _least_squares(quantized.dense(fed[0]), weights(fed[0]))
    off = float((seen - factors).square().mean())
    most = NOISE * noise + SHRUNK**2 * float(factors.square().mean())
    if off > min(most, UNEXPLAINED * float((factors - 1).square().mean())):
        return None
    return dict.fromkeys(fed, factors)


def between(layer: str, quantized: Quantized, weights: Weights) -> list[tuple[str, str, torch.Tensor]]:
    """The pairs of matrices of a layer between which channels were scaled.

    Returns
    -------
    list of (str, str, tensor of shape (channels,))
        The rows of the first were divided by it, the columns of the second multiplied.
    """
    pairs = []
    for role, next_role in FOLLOWS.items():
        first, second = _named(quantized, layer, role), _named(quantized, layer, next_role)
        if first is None or second is None or quantized.stored(first).shape[0] != quantized.stored(second).shape[1]:
            continue
        factors, noise = _least_squares(quantized.dense(second), weights(second))
        if (factors - 1).square().mean() > NOISE * noise and bool((factors > 0).all()):
            pairs.append((first, second, factors))
    return pairs


def _named(quantized: Quantized, layer: str, role: str) -> str | None:
    """The one quantized matrix of that role in a layer."""
    names = [name for name in quantized.names() if name.startswith(f"{layer}.") and tensors.role(name) == role]
    return names[0] if len(names) == 1 else None


def _least_squares(stored: torch.Tensor, base: torch.Tensor) -> tuple[torch.Tensor, float]:
    """By what each column of the base is multiplied, and the mean variance of these estimates."""
    energy = base.square().sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    factors = (stored * base).sum(0) / energy
    residual = (stored - factors * base).square().sum(0) / max(len(base) - 1, 1)
    return factors, float((residual / energy).mean())
