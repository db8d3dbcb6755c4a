r"""What quantization does to the function: two models on the same tokens, position by position, in one streamed pass.

Differences are paired: both models read the same tokens, so that what they share (a hard text, an unlucky word)
cancels. A batch is forwarded, reduced to a few numbers for each position, and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedTokenizerBase

from empirics.engine import Progress
from empirics.language_model import LanguageModel, out_of_memory, replaced
from empirics.texts import Text
from empirics.tokens import Tokens
from theory.units import from_nats

BATCH_TOKENS = 1024
"""Tokens in a batch. Its logits take 4 bytes times the vocabulary for each, twice."""

_CHUNK = 2**18, 2**24  # logits reduced at a time on a CPU, to stay in its cache, and on a GPU, to fill it

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Sequence:
    """Tokens that a model reads at once.

    Attributes
    ----------
    text : int
        The number of the text that they are from.
    language : str
    ids : array of int, shape (tokens,)
    """

    text: int
    language: str
    ids: np.ndarray


def encode(model: LanguageModel | PreTrainedTokenizerBase, texts: Iterable[Text], context: int) -> list[Sequence]:
    """Token ids of texts, in windows that do not overlap.

    Each window opens with the tokenizer's start token if it has one, so that the first token of the window is
    predicted too; without one it is not.

    Parameters
    ----------
    model : LanguageModel or tokenizer
    texts : iterable of Text
        Numbered from 0 in this order.
    context : int
        Tokens of a window at the most, the start token among them; at least 2.

    Returns
    -------
    list of Sequence

    Raises
    ------
    ValueError
        If there are no texts, one is too short for a single prediction, or the context is below 2.

    Examples
    --------
    >>> from empirics.language_model import open_model
    >>> texts = [Text("en", "a greeting", "Good morning to all.")]
    >>> [len(s.ids) for s in encode(open_model("pocket-llama"), texts, 4)]
    [4, 4, 3]
    """
    if context < 2:
        raise ValueError(f"context = {context}: a prediction takes 2 tokens, one to see and one to predict")
    tokenizer = model.tokenizer if isinstance(model, LanguageModel) else model
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    width, sequences = context - len(start), []
    for number, text in enumerate(texts):
        ids = tokenizer(text.text, add_special_tokens=False, verbose=False).input_ids
        if len(start) + len(ids) < 2:
            raise ValueError(f"{text.name} is too short for one prediction ({len(ids)} tokens): give a longer text")
        for first in range(0, len(ids), width):
            window = np.array(start + ids[first : first + width])
            sequences.append(Sequence(number, text.language, window))
    if not sequences:
        raise ValueError("there are no texts to encode")
    return sequences


def compare(
    reference: LanguageModel,
    quantized: LanguageModel | Weights,
    sequences: list[Sequence],
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> Tokens:
    """Run a quantized model beside its reference on the same tokens: `compare_all` of one.

    Examples
    --------
    >>> from empirics.language_model import open_model, quantized_weights
    >>> lm = open_model("pocket-llama")
    >>> sequences = encode(lm, [Text("en", "a greeting", "My fellow citizens, good morning to all.")], 256)
    >>> tokens = compare(lm, quantized_weights(lm, "int8"), sequences)
    >>> len(tokens.kl), bool(0 < tokens.kl_divergence().value < 0.01)
    (13, True)
    """
    return compare_all(reference, {"quantized": quantized}, sequences, batch_tokens, progress)["quantized"]


def compare_all(
    reference: LanguageModel,
    others: Mapping[str, LanguageModel | Weights],
    sequences: list[Sequence],
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda name, done, total: None,
) -> dict[str, Tokens]:
    """Run several quantized models beside one reference: each batch goes through the reference once.

    Parameters
    ----------
    reference : LanguageModel
    others : mapping
        By name, each a model with the reference's tokenizer, or dense weights that stand in for the reference's own
        (see `empirics.language_model.replaced`). All of them stay in memory; sets of weights may share tensors.
    sequences : list of Sequence
        See `encode`.
    batch_tokens : int
        Tokens forwarded at a time, padding among them; a longer sequence is a batch of its own.
    progress : callable
        See `empirics.engine.Progress`; what it counts are tokens.

    Returns
    -------
    dict of str to Tokens

    Raises
    ------
    ValueError
        If the models differ in their vocabularies, a sequence is longer than a model's context or has ids outside
        its vocabulary, weights do not fit the reference, or logits are not finite.
    MemoryError
        If a batch does not fit.

    Notes
    -----
    Beside the models, memory holds the logits of one batch from the reference and from one other model, and
    eight numbers for each position and model. The divergence is summed as :math:`p\\,(e^{-d} - 1 + d)` with
    :math:`d = \\ln p - \\ln q`, equal to :math:`\\sum p\\,d` because both sum to 1: no term is negative, so that
    float32 keeps small divergences. Sequences are padded on the right and batched by length; what stands on padding
    is left out. The same sequences in batches of the same size give the same numbers on the same device; in other
    batches they differ by rounding.
    """
    for lm in (reference, *(other for other in others.values() if isinstance(other, LanguageModel))):
        _refuse_misfits(lm, reference, sequences)
    others = {name: _moved(other, reference) for name, other in others.items()}
    lengths = [len(sequence.ids) for sequence in sequences]
    rows = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    found = {name: np.empty((5, sum(lengths))) for name in others}
    done = 0
    remedy = f"give batch_tokens below {batch_tokens}, shorter sequences, or a larger device"
    with torch.no_grad(), out_of_memory("a batch of logits", remedy):
        for batch in _batches(lengths, batch_tokens):
            progress("functional distortion", done, sum(lengths))
            ids, mask = _padded([sequences[i].ids for i in batch], reference.device)
            target = ids.roll(-1, 1).flatten()
            expected = _logits(reference, ids, mask)
            for name, other in others.items():
                if isinstance(other, LanguageModel):
                    actual = _logits(other, ids.to(other.device), mask.to(other.device)).to(reference.device)
                else:
                    with replaced(reference, other):
                        actual = _logits(reference, ids, mask)
                values = _reduce(expected, actual, target).view(5, *ids.shape).double().cpu().numpy()
                del actual  # its room is the next model's
                for row, i in enumerate(batch):
                    found[name][:, rows[i]] = values[:, row, : lengths[i]]
            del expected
            done += sum(lengths[i] for i in batch)
    progress("functional distortion", done, sum(lengths))
    return {name: _tokens(name, values, sequences, rows) for name, values in found.items()}


def _refuse_misfits(lm: LanguageModel, reference: LanguageModel, sequences: list[Sequence]) -> None:
    name = lm.checkpoint.name
    if lm is not reference:
        ours, theirs = reference.vocabulary, lm.vocabulary
        if ours != theirs or reference.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
            which = f"{ours} and {theirs} tokens" if ours != theirs else "the same number of other tokens"
            raise ValueError(
                f"{reference.checkpoint.name} and {name} have different vocabularies ({which}): their logits cannot "
                "be compared; give the model that was quantized and its own base"
            )
    if not sequences:
        raise ValueError("there are no sequences to compare on")
    longest = max(len(sequence.ids) for sequence in sequences)
    if lm.context is not None and longest > lm.context:
        raise ValueError(f"a sequence has {longest} tokens and {name} takes {lm.context}: encode with that context")
    highest = max(int(sequence.ids.max()) for sequence in sequences)
    if highest >= lm.vocabulary:
        raise ValueError(
            f"token id {highest} is outside the {lm.vocabulary} tokens of {name}: encode with its own tokenizer"
        )


def _moved(other: LanguageModel | Weights, reference: LanguageModel) -> LanguageModel | Weights:
    """Weights where the reference is, once and not for each batch."""
    if isinstance(other, LanguageModel):
        return other
    return {name: weight.to(reference.parameter(name)) for name, weight in other.items()}


def _batches(lengths: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of sequences of about the same length, the longest first: if memory runs out, it does so at once."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _padded(ids: list[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and the mask of what is none of the padding, shape (sequences, tokens of the longest)."""
    out = torch.zeros(2, len(ids), max(map(len, ids)), dtype=torch.int64)
    for row, sequence in enumerate(ids):
        out[0, row, : len(sequence)] = torch.from_numpy(sequence)
        out[1, row, : len(sequence)] = 1
    out = out.to(device)
    return out[0], out[1]


def _logits(lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    logits = lm.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits.view(-1, logits.shape[-1])


def _reduce(expected: torch.Tensor, actual: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Both negative log-likelihoods, the divergence in nats, the mean square and the agreement; a column a row."""
    count, vocabulary = expected.shape
    out = torch.empty(5, count, dtype=torch.float32, device=expected.device)
    step = max(1, _CHUNK[expected.is_cuda] // vocabulary)
    for start in range(0, count, step):
        part = slice(start, start + step)
        a, b = (x[part].to(torch.promote_types(x.dtype, torch.float32)) for x in (expected, actual))
        p, top_a, mass_a = _softmax(a)
        q, top_b, mass_b = _softmax(b)
        out[4, part] = torch.logical_and(a == top_a, b == top_b).any(1)
        out[0, part] = (mass_a - a.gather(1, target[part, None]))[:, 0]
        out[1, part] = (mass_b - b.gather(1, target[part, None]))[:, 0]
        d = torch.sub(b, a, out=q)
        out[3, part] = torch.linalg.vecdot(d, d) / vocabulary
        d += mass_a - mass_b
        out[2, part] = torch.linalg.vecdot(p, torch.expm1(d).sub_(d))
    for row in (~out[2].isfinite()).nonzero()[:, 0]:  # q/p beyond float32's range: then no term is small
        p, q = (log_softmax(x[row].double(), 0) for x in (expected, actual))
        out[2, row] = torch.dot(p.exp(), p - q)
    return out


def _softmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each row the softmax, the largest logit and ln sum exp: cheaper than the logarithm of each."""
    p, top = torch.softmax(logits, 1), logits.amax(1, keepdim=True)
    return p, top, top - p.amax(1, keepdim=True).log_()


def _tokens(name: str, values: np.ndarray, sequences: list[Sequence], rows: list[np.ndarray]) -> Tokens:
    values[:2, [row[-1] for row in rows]] = np.nan
    finite = np.isfinite(values[2:4]).all(0)
    if not finite.all():
        first = next(s for s, row in zip(sequences, rows, strict=True) if not finite[row].all())
        raise ValueError(
            f"logits are not finite at {int((~finite).sum())} positions ({name}), first in text {first.text}: "
            "load the models in float32, and see whether the weights are finite"
        )
    lengths = [len(row) for row in rows]
    return Tokens(
        text=np.repeat([s.text for s in sequences], lengths),
        language=np.repeat([s.language for s in sequences], lengths),
        position=np.concatenate([np.arange(length) for length in lengths]),
        nll=values[0],
        nll_quantized=values[1],
        kl=np.asarray(from_nats(values[2])),
        logits_square=values[3],
        agree=values[4].astype(bool),
    )
