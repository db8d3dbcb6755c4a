"""Integers of a few bits, packed into 32-bit words."""

from __future__ import annotations

import torch


def unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The integers in each row of words: a little-endian stream of bits, as GPTQ and AWQ pack them.

    Parameters
    ----------
    words : tensor of shape (rows, words)
        Int32. Of 3 bits, an integer may begin in one word and end in the next.
    bits : int
        1 to 8.

    Returns
    -------
    tensor of shape (rows, 32 * words // bits)
        Uint8.

    Examples
    --------
    >>> unpack(torch.tensor([[0x76543210]], dtype=torch.int32), 4).tolist()
    [[0, 1, 2, 3, 4, 5, 6, 7]]
    """
    if not 32 % bits:
        shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
        return (words[:, :, None] >> shifts & 2**bits - 1).to(torch.uint8).flatten(1)
    first = torch.arange(32 * words.shape[1] // bits, device=words.device) * bits
    low = words.long() & 0xFFFFFFFF
    pairs = low | torch.nn.functional.pad(low, (0, 1))[:, 1:] << 32  # a word and the next one
    return (pairs[:, first // 32] >> first % 32 & 2**bits - 1).to(torch.uint8)


def in_order(index: torch.Tensor) -> torch.Tensor | None:
    """The inputs, those of a group one after another; None if that is how they are."""
    return None if bool((index.diff() >= 0).all()) else index.argsort(stable=True)


def groups(count: int, length: int, name: str, index: torch.Tensor | None = None) -> torch.Tensor:
    """Which of the `count` groups each of `length` inputs is in.

    Parameters
    ----------
    count, length : int
    name : str
        What the error message calls the matrix.
    index : tensor of shape (length,), optional
        The groups as they are stored; one after another if not given.

    Raises
    ------
    ValueError
        If the groups are not all of one size.
    """
    found = torch.arange(length) * count // length if index is None else index.long()
    sizes = found.bincount(minlength=count) if len(found) and found.min() >= 0 else found
    if found.shape != (length,) or len(sizes) != count or bool((sizes * count != length).any()):
        raise ValueError(f"{name} does not put {length} inputs into {count} groups of equal size")
    return found
