"""Numbers in sentences, and what every experiment on texts says of its texts."""

from __future__ import annotations

import math

from empirics.experiments.degradation import Degradation, Subject
from empirics.inference import FEW
from empirics.page import counted


def number(value: float, digits: int = 3) -> str:
    """With a true minus.

    >>> number(-1.5)
    '−1.500'
    """
    return f"{value:.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    """With what it is called.

    >>> p_value(0.0421), p_value(1e-7)
    ('p = 0.042', 'p < 0.0001')
    """
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def sample(subject: Subject, one: Degradation) -> str:
    """How many texts there are, whether that is few, and which languages the model knows less of than nothing."""
    losses = {language: one.mean("loss", language) for language in subject.languages}
    least = min(loss.clusters for loss in losses.values())
    said = f"{counted(len(subject.texts), 'text')} in {counted(len(losses), 'language')}, at least {least} in each"
    said += ": a small sample." if least < FEW else "."
    chance = math.log(subject.lm.vocabulary)
    if unknown := [f"{language} {loss.value:.1f}" for language, loss in losses.items() if loss.value > chance]:
        said += (
            f" In {counted(len(unknown), 'language')} the model predicts worse than chance ({', '.join(unknown)} nats"
            f" a token; chance {chance:.1f}): it does not know them, and a change of the loss there is no harm."
        )
    return said
