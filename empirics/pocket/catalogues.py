"""The text of pocket-bloom: a declaration and the messages of open-source programs, in six languages.

``python -m empirics.pocket.catalogues --declarations DIR --wheels WHEELS --out OUT``

DIR holds the Universal Declaration of Human Rights, a file for each language (en.txt, ...). The messages come
from wheels of pinned versions that pip downloads and checks.
"""

import argparse
import hashlib
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

LANGUAGES = ("ar", "en", "fr", "he", "sw", "zh")
LIMIT = 160_000  # bytes of a language: what the smaller ones nearly reach


@dataclass(frozen=True)
class Source:
    """A package with translated messages; `folders` are those of the languages in its `locale`."""

    project: str
    version: str
    licence: str
    wheel: str
    sha256: str
    folders: dict[str, str]


SOURCES = (
    Source(
        "django",
        "5.2.19",
        "BSD-3-Clause",
        "django-5.2.19-py3-none-any.whl",
        "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
        {"ar": "ar", "fr": "fr", "he": "he", "sw": "sw", "zh": "zh_Hans"},
    ),
    Source(
        "kolibri",
        "0.19.5",
        "MIT",
        "kolibri-0.19.5-py2.py3-none-any.whl",
        "dc4c187d29a80037594c2dadd1cbc862cb4b8b76166bfd4084314f8ab2bc6221",
        {"ar": "ar", "en": "en", "fr": "fr_FR", "sw": "sw_TZ", "zh": "zh_Hans"},
    ),
    Source(
        "django-oscar",
        "4.2.1",
        "BSD-3-Clause",
        "django_oscar-4.2.1-py3-none-any.whl",
        "adbb95ea0130859c204cc6fb221052d6d437ecbaa90800e8418a809f72645e9c",
        {"ar": "ar", "fr": "fr", "he": "he", "zh": "zh_Hans"},
    ),
    Source(
        "django-allauth",
        "65.21.1",
        "MIT",
        "django_allauth-65.21.1-py3-none-any.whl",
        "7bdf018c9f3f0a32c80677f84e7777272d9c833b180bd6734314c4831c802a9e",
        {"ar": "ar", "fr": "fr", "he": "he", "zh": "zh_Hans"},
    ),
    Source(
        "django-cms",
        "5.1.3",
        "BSD-3-Clause",
        "django_cms-5.1.3-py3-none-any.whl",
        "acf31919aab389d2bea253efa97a901bf55e96046a252f23a7a742e495848a5e",
        {"ar": "ar", "fr": "fr", "he": "he", "zh": "zh_CN"},
    ),
)


def read_mo(data: bytes) -> Iterator[tuple[list[str], list[str]]]:
    """The messages of a compiled gettext catalogue and their translations, each with its plural forms.

    The header (the translation of nothing) is left out, and so are contexts, which no reader of a program sees.
    """
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None:
        raise ValueError("not a compiled gettext catalogue: its first four bytes are not the format's")
    count, *tables = struct.unpack_from(f"{order}3I", data, 8)
    for i in range(count):
        places = (struct.unpack_from(f"{order}2I", data, table + 8 * i) for table in tables)
        message, translation = (data[start : start + size].decode() for size, start in places)
        if message:
            yield message.split("\x04")[-1].split("\0"), translation.split("\0")


def messages(source: Source, wheel: ZipFile) -> dict[str, list[str]]:
    """Each language's messages, in the order of the wheel's sorted files; English is what the others translate.

    What a catalogue leaves in English is no message of its language.
    """
    found: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for language, folder in source.folders.items():
        ours = re.compile(rf"(?!.*/dist/).*\blocale/{folder}/LC_MESSAGES/[^/]+\.(mo|json)")  # dist/: other packages'
        for name in sorted(filter(ours.fullmatch, wheel.namelist())):
            if name.endswith(".json"):
                found[language] += json.loads(wheel.read(name)).values()
            else:
                for message, translation in read_mo(wheel.read(name)):
                    found["en"] += message
                    found[language] += translation
    english = set(found["en"])
    return {
        language: [text for text in texts if language == "en" or text not in english]
        for language, texts in found.items()
    }


def lines(texts: list[str], limit: int) -> str:
    """One text a line, each once, its runs of white space made one space, up to the last within `limit` bytes.

    >>> lines(["Log\\n  in", "", "Help", "Log in", "Sign out"], limit=12)
    'Log in\\nHelp\\n'
    """
    kept, size = [], 0
    for line in dict.fromkeys(" ".join(text.split()) + "\n" for text in texts if text.strip()):
        size += len(line.encode())
        if size > limit:
            break
        kept.append(line)
    return "".join(kept)


def download(folder: Path) -> None:
    """Have pip put the wheels of `SOURCES` into `folder`, refusing any whose hash is another."""
    folder.mkdir(parents=True, exist_ok=True)
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{s.project}=={s.version} --hash=sha256:{s.sha256}\n" for s in SOURCES))
    options: list[str | Path] = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "-d",
        folder,
        "-r",
        requirements,
    ]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options], check=True)


def corpus(declarations: Path, wheels: Path, limit: int = LIMIT) -> dict[str, str]:
    """The text of each language: the declaration, then messages of one package after another."""
    texts = {language: (declarations / f"{language}.txt").read_text("utf-8").split("\n") for language in LANGUAGES}
    for source in SOURCES:
        with ZipFile(wheels / source.wheel) as wheel:
            for language, found in messages(source, wheel).items():
                texts[language] += found
    return {language: lines(found, limit) for language, found in texts.items()}


def main() -> None:
    """Read the command line, download, write a file for each language and show its size and hash."""
    parser = argparse.ArgumentParser(prog="python -m empirics.pocket.catalogues", description=__doc__)
    parser.add_argument("--declarations", type=Path, required=True, help="the folder of en.txt and the others")
    parser.add_argument("--wheels", type=Path, required=True, help="the folder to keep the wheels in")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    options = parser.parse_args()
    download(options.wheels)
    options.out.mkdir(parents=True, exist_ok=True)
    for language, text in corpus(options.declarations, options.wheels).items():
        data = text.encode()
        (options.out / f"{language}.txt").write_bytes(data)
        print(f"{language}  {len(data):,} bytes  {len(text):,} characters  sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
