"""The text of pocket-bloom is the same wherever it is put together, and only from what its sources say."""

import gettext
import io
import json
import re
import struct
import subprocess
from zipfile import ZipFile

import pytest

from empirics.pocket import catalogues
from empirics.pocket.catalogues import LANGUAGES, SOURCES, Source, corpus, download, lines, messages, read_mo


def mo(entries: dict[str, str], order: str = "<") -> bytes:
    """A catalogue as the gettext manual lays it out: header, two tables of (size, place), then the strings."""
    ids, texts = ([text.encode() for text in side] for side in zip(*sorted(entries.items()), strict=True))
    place = 28 + 16 * len(ids)
    table = b""
    for text in ids + texts:
        table += struct.pack(f"{order}2I", len(text), place)
        place += len(text) + 1
    header = struct.pack(f"{order}7I", 0x950412DE, 0, len(ids), 28, 28 + 8 * len(ids), 0, 28)
    return header + table + b"".join(text + b"\0" for text in ids + texts)


HEADER = {"": "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=n != 1;\n"}
ENTRIES = HEADER | {
    "Save": "שמירה",
    "month\x04May": "مايو",
    "%d file\0%d files": "%d个文件\0%d 个文件",
    "Log\nin": "Ingia",
}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_compiled_catalogue_reads_as_in_gettext(order):
    data = mo(ENTRIES, order)
    found = list(read_mo(data))
    assert (["May"], ["مايو"]) in found
    assert len(found) == len(ENTRIES) - 1
    library = gettext.GNUTranslations(io.BytesIO(data))
    for message, translation in found:
        if message == ["May"]:
            assert [library.pgettext("month", "May")] == translation
        elif len(message) == 2:
            assert [library.ngettext(*message, n) for n in (1, 2)] == translation
        else:
            assert [library.gettext(*message)] == translation


def test_another_file_is_no_catalogue():
    with pytest.raises(ValueError, match="not a compiled gettext catalogue"):
        list(read_mo(b"PK\x03\x04" + bytes(40)))


def wheel(files: dict[str, bytes]) -> io.BytesIO:
    data = io.BytesIO()
    with ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data


FILES = {
    "web/b/locale/fr/LC_MESSAGES/django.mo": mo(HEADER | {"Save": "Enregistrer", "Code": "Code"}),
    "web/a/locale/fr/LC_MESSAGES/django.mo": mo(HEADER | {"Add %s\0Add all %s": "Ajouter %s\0Tout ajouter %s"}),
    "web/locale/sw_TZ/LC_MESSAGES/app.json": json.dumps({"id": "Hifadhi", "other": "Save"}).encode(),
    "web/locale/fr_CA/LC_MESSAGES/django.mo": mo(HEADER | {"Save": "Sauvegarder"}),
    "web/locale/fr/LC_MESSAGES/django.po": b"no catalogue of ours",
    "web/dist/other/locale/fr/LC_MESSAGES/django.mo": mo(HEADER | {"Copy": "Copier"}),
}
SOURCE = Source("web", "1.0", "MIT", "web-1.0-py3-none-any.whl", "0" * 64, {"fr": "fr", "sw": "sw_TZ"})


def test_messages_are_those_of_the_package_in_its_languages():
    found = messages(SOURCE, ZipFile(wheel(FILES)))
    assert found == {
        "ar": [],
        "en": ["Add %s", "Add all %s", "Code", "Save"],
        "fr": ["Ajouter %s", "Tout ajouter %s", "Enregistrer"],  # files in order; what stays English is left out
        "he": [],
        "sw": ["Hifadhi"],
        "zh": [],
    }
    assert messages(SOURCE, ZipFile(wheel(dict(reversed(FILES.items()))))) == found


def test_the_corpus_is_declarations_then_messages_each_once(tmp_path, monkeypatch):
    for language in LANGUAGES:
        (tmp_path / f"{language}.txt").write_text(f"  Article 1 {language}\n\n \n\tAll  are free\n", encoding="utf-8")
    monkeypatch.setattr(catalogues, "SOURCES", (SOURCE, SOURCE))
    (tmp_path / SOURCE.wheel).write_bytes(wheel(FILES).getvalue())
    texts = corpus(tmp_path, tmp_path)
    assert list(texts) == list(LANGUAGES)
    assert texts["sw"] == "Article 1 sw\nAll are free\nHifadhi\n"
    assert texts["en"] == "Article 1 en\nAll are free\nAdd %s\nAdd all %s\nCode\nSave\n"


def test_a_language_stops_at_the_last_whole_message_within_the_limit():
    texts = ["שלום", "世界", "x" * 40]
    assert [lines(texts, limit) for limit in (8, 9, 15, 16)] == ["", "שלום\n", "שלום\n", "שלום\n世界\n"]


def test_pip_is_held_to_the_pinned_wheels(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append((command, check)))
    download(tmp_path / "wheels")
    ((command, check),) = calls
    assert check
    assert {"download", "--no-deps", "--require-hashes"} <= set(command)
    requirements = command[command.index("-r") + 1].read_text().splitlines()
    assert len(requirements) == len(SOURCES)
    for line, source in zip(requirements, SOURCES, strict=True):
        assert re.fullmatch(r"[a-z-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line)
        assert source.wheel.startswith(f"{source.project.replace('-', '_')}-{source.version}-py")
        assert set(source.folders) <= set(LANGUAGES)
    assert set().union(*(source.folders for source in SOURCES)) == set(LANGUAGES)
