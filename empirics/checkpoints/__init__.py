"""Checkpoints that are already quantized, as dense weights: bitsandbytes, GPTQ, AWQ, compressed-tensors and GGUF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from empirics.checkpoints.awq import AWQ
from empirics.checkpoints.base import Base, WrongBase, check_base
from empirics.checkpoints.bitsandbytes import BitsAndBytes
from empirics.checkpoints.compressed import CompressedTensors
from empirics.checkpoints.gguf import GGUF, files
from empirics.checkpoints.gguf import checkpoint as gguf_checkpoint
from empirics.checkpoints.gptq import GPTQ
from empirics.checkpoints.stored import Cells, Quantized, Stored
from empirics.models import Checkpoint, open_checkpoint

__all__ = ["Base", "Cells", "Quantized", "Stored", "WrongBase", "check_base", "open_quantized"]

METHODS: dict[str, Callable[[Checkpoint], Quantized]] = {
    "bitsandbytes": BitsAndBytes,
    "gptq": GPTQ,
    "awq": AWQ,
    "compressed-tensors": CompressedTensors,
}
"""By quantization_config's quant_method."""


def open_quantized(model: str | Path, revision: str | None = None) -> Quantized:
    """Open a checkpoint that is already quantized.

    Parameters
    ----------
    model : str or Path
        As for `empirics.models.open_checkpoint`; or a local .gguf file, or a folder with one model in such files.
    revision : str, optional
        As for `empirics.models.open_checkpoint`.

    Returns
    -------
    Quantized
        One of its matrices is read when it is asked for, and no more.

    Raises
    ------
    ValueError
        If it is not quantized, or in a way that is not read; or its files are damaged.
    OSError
        If there is no such model.
    """
    path = Path(model).expanduser()
    if found := files(path):
        for file in found:
            if not file.is_file():
                raise FileNotFoundError(f"no file {file}")
        return GGUF(gguf_checkpoint(path.resolve().name.removesuffix(".gguf"), found, revision))
    checkpoint = open_checkpoint(model, revision)
    if not checkpoint.quantized:
        raise ValueError(
            f"{checkpoint.name} is not quantized: its config.json has no quantization_config. Give the quantized"
            " checkpoint first, and the model that it was made from as its base"
        )
    method = checkpoint.config["quantization_config"].get("quant_method")
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise ValueError(f"{checkpoint.name}: unknown quant_method {method!r}; those read are {known} and GGUF files")
    return METHODS[method](checkpoint)
