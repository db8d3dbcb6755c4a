"""The text of a pocket model: its three parts, its tokenizer and the n-gram models beside it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SEPARATOR = "<|endoftext|>"

Chunks = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Parts:
    """The runs of text to train on, to select on and to report on."""

    train: list[str]
    validation: list[str]
    test: list[str]


def split(text: str, chunk: int, period: int) -> Parts:
    """Hold out two of every `period` chunks of text: one to select on, one to report on.

    A chunk ends with the line that brings it to `chunk` characters, so that no line lies in two parts;
    neighbouring chunks of the training part are joined again.

    >>> split("".join(f"{i}\\n" for i in range(8)), chunk=2, period=4)
    Parts(train=['0\\n', '2\\n', '4\\n', '6\\n'], validation=['1\\n', '5\\n'], test=['3\\n', '7\\n'])
    """
    chunks = [""]
    for line in text.splitlines(keepends=True):
        if len(chunks[-1]) >= chunk:
            chunks.append("")
        chunks[-1] += line
    roles = {period // 2 - 1: "validation", period - 1: "test"}
    parts = Parts([], [], [])
    for role, run in groupby(enumerate(chunks), lambda item: roles.get(item[0] % period, "train")):
        getattr(parts, role).append("".join(piece for _, piece in run))
    return parts


def train_tokenizer(runs: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE: every string has tokens and comes back from them unchanged; the separator has id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(runs, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, runs: list[str]) -> Chunks:
    """Token ids of each run after a separator, so that every token of a run has something before it."""
    start = tokenizer.token_to_id(SEPARATOR)
    return [np.array([start, *encoding.ids]) for encoding in tokenizer.encode_batch(runs)]


@dataclass(frozen=True)
class Score:
    """Cross-entropy on held-out chunks: the nats, tokens and bytes of each one."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]

    @property
    def nats_per_token(self) -> tuple[float, float]:
        """The mean and its standard error."""
        return _ratio(self.nats, self.tokens)

    @property
    def bits_per_byte(self) -> tuple[float, float]:
        """The mean and its standard error."""
        return _ratio(self.nats / np.log(2), self.bytes)


def _ratio(total: NDArray[np.float64], count: NDArray[np.int64]) -> tuple[float, float]:
    """``total`` over ``count`` in all, with the ratio estimator's standard error.

    The chunk is the unit of sampling: tokens of one address are alike, and would make it look too small.
    """
    mean = total.sum() / count.sum()
    spread = np.sum((total - mean * count) ** 2) * len(total) / max(len(total) - 1, 1)
    return float(mean), float(np.sqrt(spread) / count.sum())


def ngrams(train: Chunks, validation: Chunks, test: Chunks, vocabulary: int) -> dict[str, NDArray[np.float64]]:
    """Nats of each test chunk under n-gram models of the training part, keyed by the model's description.

    The unigram is smoothed by adding k; the bigram discounts every seen pair by d and gives what is freed to
    the unigram. Both k and d are those best on the validation part.
    """
    stream = np.concatenate(train)
    counts = np.bincount(stream, minlength=vocabulary).astype(float)
    pairs = np.zeros((vocabulary, vocabulary))
    np.add.at(pairs, (stream[:-1], stream[1:]), 1.0)

    seen, followers = pairs.sum(axis=1), (pairs > 0).sum(axis=1)

    def unigram(k: float, chunk: NDArray[np.int64]) -> NDArray[np.float64]:
        return (counts[chunk[1:]] + k) / (counts.sum() + k * vocabulary)

    def bigram(discount: float, chunk: NDArray[np.int64]) -> NDArray[np.float64]:
        before = chunk[:-1]
        freed = np.where(seen > 0, discount * followers, 1.0)[before]
        kept = np.maximum(pairs[before, chunk[1:]] - discount, 0.0)
        return (kept + freed * unigram(k, chunk)) / np.maximum(seen[before], 1.0)

    def nats(model: Callable[[NDArray[np.int64]], NDArray[np.float64]], chunks: Chunks) -> NDArray[np.float64]:
        return np.array([-np.log(model(chunk)).sum() for chunk in chunks])

    k = min((2.0**e for e in range(-8, 5)), key=lambda k: nats(partial(unigram, k), validation).sum())
    d = min(np.linspace(0.05, 0.95, 19), key=lambda d: nats(partial(bigram, d), validation).sum())
    return {
        f"unigram, add-k with k = {k:g}": nats(partial(unigram, k), test),
        f"bigram, absolute discount {d:.2f} interpolated with that unigram": nats(partial(bigram, d), test),
    }
