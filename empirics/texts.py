"""The texts that models are compared on: a short set of the package's own, or files that the user gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from theory.domain import unknown

LANGUAGES = ("en", "fr", "zh", "ar", "he", "sw")
"""Those of the embedded set."""

UNDETERMINED = "und"
"""What BCP 47 calls a language that nobody said."""

_PASSAGES = Path(__file__).parent / "passages"
_OPTION = re.compile(r"(?:(?P<language>[A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)=)?(?P<file>.*)", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """A passage: the unit of sampling.

    Attributes
    ----------
    language : str
        Its BCP 47 tag, such as "sw" or "zh-Hans"; "und" if nobody said.
    name : str
        Where it is from: the file, and which of its paragraphs.
    text : str
    """

    language: str
    name: str
    text: str


def embedded(languages: Sequence[str] | None = None) -> list[Text]:
    """The package's own set: 12 passages on everyday and public matters, the same in each of six languages.

    They were written for this package. Few and short, they show whether a run works and how large an effect is
    roughly; for a finding, give texts of your own.

    Parameters
    ----------
    languages : sequence of str, optional
        From "en", "fr", "zh", "ar", "he", "sw", and in which order; all six if not given.

    Raises
    ------
    ValueError
        If there is no such language in the set.

    Examples
    --------
    >>> len(embedded()), embedded(["sw"])[11].name
    (72, 'sw.txt, paragraph 12')
    """
    chosen = LANGUAGES if languages is None else languages
    for language in chosen:
        if language not in LANGUAGES:
            raise unknown("language of the embedded texts", language, LANGUAGES)
    return [text for language in chosen for text in _read(language, _PASSAGES / f"{language}.txt")]


def given(options: Sequence[str]) -> list[Text]:
    """The texts of the user's files: one for each paragraph, which blank lines separate.

    The paragraphs are taken for independent draws in every standard error; those of one document, if they are
    alike, make the errors too small.

    Parameters
    ----------
    options : sequence of str
        Each ``FILE`` or ``LANGUAGE=FILE`` with a BCP 47 tag, the files in UTF-8.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is not UTF-8, or has nothing but white space.

    Examples
    --------
    >>> given(["xx=nowhere.txt"])
    Traceback (most recent call last):
    ...
    FileNotFoundError: no file nowhere.txt: give FILE or LANGUAGE=FILE, such as sw=report.txt
    """
    texts = []
    for option in options:
        parts = _OPTION.fullmatch(option)
        assert parts  # with any text for a file, it matches everything
        path = Path(parts["file"]).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}: give FILE or LANGUAGE=FILE, such as sw=report.txt")
        texts += _read(parts["language"] or UNDETERMINED, path)
    return texts


def _read(language: str, path: Path) -> list[Text]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}): save it as UTF-8"
        ) from error
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\n\s*\n", content)]
    texts = [
        Text(language, f"{path.name}, paragraph {number}", paragraph)
        for number, paragraph in enumerate(filter(None, paragraphs), 1)
    ]
    if not texts:
        raise ValueError(f"{path} is empty: give a file with at least one paragraph of text")
    return texts
