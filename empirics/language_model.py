"""A causal language model in memory: its network, its tokenizer, and its weight matrices replaced for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from empirics import quantizers
from empirics.blocks import BlockSize
from empirics.models import SINGLE, Checkpoint, open_checkpoint
from empirics.tensors import layer
from theory.domain import unknown

TOKENIZER = "tokenizer.json"


@dataclass
class LanguageModel:
    """A network to evaluate, without gradients.

    Attributes
    ----------
    checkpoint : Checkpoint
    network : transformers.PreTrainedModel
        In evaluation mode; its parameters ask for no gradient.
    tokenizer : transformers.PreTrainedTokenizerBase
    device : torch.device
    """

    checkpoint: Checkpoint
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def vocabulary(self) -> int:
        """Tokens that the network tells apart; the tokenizer may use fewer."""
        embedding: Any = self.network.get_input_embeddings()
        return int(embedding.weight.shape[0])

    @property
    def context(self) -> int | None:
        """The longest sequence that the network takes, in tokens; None where its configuration sets no limit."""
        return getattr(self.network.config.get_text_config(), "max_position_embeddings", None)

    def linear(self) -> dict[str, nn.Parameter]:
        """The matrices of the linear layers inside the blocks, by name: what is quantized unless said otherwise.

        Neither embeddings nor the head, and no matrix whose weights are no floating-point numbers because they are
        quantized already. Experts that share one parameter of three dimensions are no linear layers.
        """
        modules = self.network.named_modules()
        layers = {id(module.weight) for _, module in modules if isinstance(module, nn.Linear | Conv1D)}
        return {
            name: parameter
            for name, parameter in self.network.named_parameters()
            if id(parameter) in layers and layer(name) is not None and parameter.is_floating_point()
        }

    def embedding(self) -> dict[str, nn.Parameter]:
        """The embedding of the tokens and, unless it is the same matrix, the head; by name."""
        ends: tuple[Any, ...] = (self.network.get_input_embeddings(), self.network.get_output_embeddings())
        chosen = {id(end.weight) for end in ends if end is not None}
        return {name: parameter for name, parameter in self.network.named_parameters() if id(parameter) in chosen}

    def parameter(self, name: str) -> nn.Parameter:
        """The parameter of that name, which may lack the prefix ("transformer.") that checkpoints often leave out.

        Raises
        ------
        ValueError
            If there is none.
        """
        known = dict(self.network.named_parameters(remove_duplicate=False))
        for candidate in (name, f"{self.network.base_model_prefix}.{name}"):
            if candidate in known:
                return known[candidate]
        raise unknown(f"parameter of {self.checkpoint.name}", name, known)


def open_model(
    model: str | Path | Checkpoint,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """Load a causal language model and its tokenizer from safetensors and JSON; no code comes with a model.

    Parameters
    ----------
    model, revision
        As `empirics.models.open_checkpoint` takes them; or a checkpoint already found.
    device : str or torch.device
    dtype : torch.dtype
        What the network computes in. bf16 and fp16 weights are exact in the default, float32.

    Raises
    ------
    ValueError
        If transformers has no such causal language model, a weight is missing or has another shape, there is no
        tokenizer.json, or the tokenizer has more tokens than the embedding.
    MemoryError
        If the weights do not fit.
    OSError
        As `open_checkpoint`.

    Examples
    --------
    >>> lm = open_model("pocket-llama")
    >>> len(lm.linear()), list(lm.embedding()), lm.vocabulary, lm.context
    (42, ['model.embed_tokens.weight'], 2048, 256)
    """
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model, revision)
    name, folder = checkpoint.name, checkpoint.folder
    if not checkpoint.index and [file.name for file in checkpoint.files] != [SINGLE]:
        raise ValueError(
            f"{folder}: transformers reads {SINGLE}, or shards with an index; rename the file, or give an index"
        )
    if not (folder / TOKENIZER).is_file():
        raise ValueError(
            f"{name} has no {TOKENIZER} in {folder}, so that no text can be read; make one with transformers: "
            'AutoTokenizer.from_pretrained("...").save_pretrained("...")'
        )
    try:
        with _quiet(), out_of_memory(f"the weights of {name}", "choose a smaller dtype, or a larger device"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, device_map=torch.device(device), use_safetensors=True, local_files_only=True,
                trust_remote_code=False, output_loading_info=True,
            )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, from one release of transformers to the next
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{name} ({checkpoint.model_type}) is no causal language model that transformers loads: {reason[0]}"
        ) from error
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{name} lacks {len(missing)} tensors, {missing[0]} for one: the files are incomplete, or of a model "
            "without a language modelling head"
        )
    lm = LanguageModel(checkpoint, network.eval().requires_grad_(False), tokenizer, network.device)
    if len(tokenizer) > lm.vocabulary:
        raise ValueError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens and its embedding {lm.vocabulary}: they are not of "
            "the same model; use the tokenizer that came with the weights"
        )
    _refuse_unless_causal(lm)
    return lm


def _refuse_unless_causal(lm: LanguageModel) -> None:
    """An encoder may load as a causal model, and then sees the token that it is to predict."""
    with torch.no_grad():
        first = lm.network(input_ids=torch.tensor([[0, 0], [0, 1]], device=lm.device), use_cache=False).logits[:, 0]
    if not torch.allclose(first[0], first[1], rtol=1e-2, atol=1e-2 * float(first.abs().max())):
        raise ValueError(
            f"{lm.checkpoint.name} ({lm.checkpoint.model_type}) is not causal: what follows a token changes what it "
            "predicts; give a decoder"
        )


@contextmanager
def out_of_memory(what: str, remedy: str) -> Iterator[None]:
    """Turn the errors of torch's allocators, CPU or CUDA, into one MemoryError that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise MemoryError(f"out of memory for {what}: {remedy}") from error
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and tables: what a user can mend becomes an error here."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def replaced(lm: LanguageModel, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Have other dense weights in the network; the old ones are back afterwards, bit for bit, whatever happens.

    Parameters
    ----------
    lm : LanguageModel
    weights : mapping of str to torch.Tensor
        By name, as `LanguageModel.parameter` takes it, each in the parameter's own shape. One of another dtype or
        device is converted; otherwise nothing is copied.

    Raises
    ------
    ValueError
        If there is no such parameter, or it has another shape.

    Examples
    --------
    >>> lm = open_model("pocket-llama")
    >>> with replaced(lm, {"model.norm.weight": torch.zeros(256)}):
    ...     float(lm.parameter("model.norm.weight").sum())
    0.0
    >>> bool(lm.parameter("model.norm.weight").sum() > 0)
    True
    """
    new = []
    for name, weight in weights.items():
        parameter = lm.parameter(name)
        if parameter.shape != weight.shape:
            raise ValueError(
                f"{name} has shape {tuple(parameter.shape)} in {lm.checkpoint.name}, not {tuple(weight.shape)}"
            )
        new.append((parameter, weight.detach().to(parameter)))
    old = [parameter.data for parameter, _ in new]
    try:
        for parameter, weight in new:
            parameter.data = weight
        yield
    finally:
        for (parameter, _), data in zip(new, old, strict=True):
            parameter.data = data


def quantized_weights(
    lm: LanguageModel, quantizer: str, block_size: BlockSize = 64, names: Iterable[str] | None = None
) -> dict[str, torch.Tensor]:
    """The dense weights that a block quantizer leaves: what `replaced` takes.

    Parameters
    ----------
    lm : LanguageModel
    quantizer : str
        See `empirics.quantizers.names`.
    block_size : int, "row" or "tensor"
        Weights that share a scale. Blocks run over the flattened matrix with a row for each output.
    names : iterable of str, optional
        Which parameters; those of `LanguageModel.linear` if not given.

    Returns
    -------
    dict of str to torch.Tensor
        In each parameter's own shape, dtype and device.

    Raises
    ------
    ValueError
        If there is no such quantizer or parameter, the quantizer does not take the block size, or the model has no
        linear layer that is not quantized already.

    Examples
    --------
    >>> lm = open_model("pocket-llama")
    >>> weights = quantized_weights(lm, "int4", 64, ["model.layers.0.self_attn.q_proj.weight"])
    >>> len(weights["model.layers.0.self_attn.q_proj.weight"][0, :64].unique()) <= 15
    True
    """
    chosen, rounding = list(lm.linear() if names is None else names), quantizers.get(quantizer)
    if names is None and not chosen:
        raise ValueError(f"{lm.checkpoint.name} has no linear layers left to quantize inside its blocks")
    transposed = {id(module.weight) for module in lm.network.modules() if isinstance(module, Conv1D)}
    weights = {}
    for name in chosen:
        parameter = lm.parameter(name)
        if id(parameter) in transposed:  # a row for each input: the library would quantize the transpose
            weights[name] = rounding.quantize(parameter.T.contiguous(), block_size, name).T.contiguous()
        else:
            weights[name] = rounding.quantize(parameter, block_size, name)
        weights[name] = weights[name].to(parameter.dtype)
    return weights
