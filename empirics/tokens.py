"""Two models at each position of the same tokens, and what follows from it: means with errors clustered by text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from empirics.inference import (
    Estimate,
    Exponential,
    clustered_mean,
    clustered_quantiles,
    exponential,
    sign_flip_test,
)
from theory.domain import unknown

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Two models at each position, in the order of the sequences.

    Each estimate is a mean over tokens, of all texts or of one language's, with its standard error clustered by text.

    Attributes
    ----------
    text : array of int
    language : array of str
    position : array of int
        Tokens before it in its sequence.
    nll, nll_quantized : array
        Negative log-likelihood of the next token in nats, under the reference and under the quantized model; NaN at
        a sequence's last position, which has no next token.
    kl : array
        Divergence of the quantized model's next-token distribution from the reference's, D(reference || quantized),
        in bits.
    logits_square : array
        Squared difference of the logits, averaged over the vocabulary.
    agree : array of bool
        Whether both have the same token at the top.
    """

    text: np.ndarray
    language: np.ndarray
    position: np.ndarray
    nll: np.ndarray
    nll_quantized: np.ndarray
    kl: np.ndarray
    logits_square: np.ndarray
    agree: np.ndarray

    @property
    def languages(self) -> list[str]:
        """In the order of the texts."""
        return list(dict.fromkeys(self.language.tolist()))

    def loss(self, language: str | None = None) -> Estimate:
        """Cross-entropy of the reference model, in nats per token."""
        return self._mean(self.nll, language)

    def loss_quantized(self, language: str | None = None) -> Estimate:
        """Cross-entropy of the quantized model, in nats per token."""
        return self._mean(self.nll_quantized, language)

    def loss_change(self, language: str | None = None) -> Estimate:
        """Cross-entropy of the quantized model less the reference's, paired, in nats per token; of either sign."""
        return self._mean(self.nll_quantized - self.nll, language)

    def loss_change_p(self, language: str | None = None, seed: int = 0) -> float:
        """Two-sided p-value of no change in the loss: signs flipped text by text."""
        return sign_flip_test(*self._known(self.nll_quantized - self.nll, language), seed=seed)

    def perplexity_ratio(self, language: str | None = None) -> Exponential:
        """Perplexity of the quantized model over the reference's, the exponential of `loss_change`."""
        return exponential(self.loss_change(language))

    def kl_divergence(self, language: str | None = None) -> Estimate:
        """Mean of D(reference || quantized), in bits per token."""
        return self._mean(self.kl, language)

    def kl_quantiles(
        self, probabilities: Iterable[float] = QUANTILES, language: str | None = None, seed: int = 0
    ) -> dict[float, Estimate]:
        """Quantiles over tokens of D(reference || quantized), in bits; errors by bootstrap over texts."""
        wanted = list(probabilities)
        found = clustered_quantiles(*self._known(self.kl, language), wanted, seed=seed)
        return dict(zip(wanted, found, strict=True))

    def logits_mse(self, language: str | None = None) -> Estimate:
        """Mean squared difference of the logits, over tokens and vocabulary."""
        return self._mean(self.logits_square, language)

    def agreement(self, language: str | None = None) -> Estimate:
        """Share of tokens where both models have the same token at the top."""
        return self._mean(self.agree, language)

    def estimates(self, language: str | None = None) -> dict[str, Estimate]:
        """Every estimate, by a name that ends in its unit."""
        quantiles = self.kl_quantiles(language=language).items()
        return {
            "loss_nats": self.loss(language),
            "loss_quantized_nats": self.loss_quantized(language),
            "loss_change_nats": self.loss_change(language),
            "perplexity_ratio": self.perplexity_ratio(language),
            "kl_bits": self.kl_divergence(language),
            **{f"kl_{100 * p:g}_percent_bits": estimate for p, estimate in quantiles},
            "logits_mse": self.logits_mse(language),
            "agreement": self.agreement(language),
        }

    def _mean(self, values: np.ndarray, language: str | None) -> Estimate:
        return clustered_mean(*self._known(values, language))

    def _known(self, values: np.ndarray, language: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Values of that language and their texts, without the positions that have none."""
        if language is not None and language not in self.languages:
            raise unknown("language among the texts", language, self.languages)
        chosen = ~np.isnan(values) if language is None else ~np.isnan(values) & (self.language == language)
        return values[chosen], self.text[chosen]
