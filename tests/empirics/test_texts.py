"""The embedded passages are what they are said to be; the user's files are read as they are meant, or refused."""

import re
import unicodedata
from pathlib import Path

import pytest

from empirics import texts
from empirics.texts import LANGUAGES, Text, embedded, given

SCRIPTS = {"en": "LATIN", "fr": "LATIN", "zh": "CJK", "ar": "ARABIC", "he": "HEBREW", "sw": "LATIN"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_twelve_short_passages_in_its_script(language):
    found = embedded([language])
    assert [t.name for t in found] == [f"{language}.txt, paragraph {i}" for i in range(1, 13)]
    for t in found:
        assert t.language == language
        assert 2 <= len(re.findall(r"[.。]", t.text)) <= 4
        letters = [c for c in t.text if c.isalpha()]
        assert {unicodedata.name(c).split()[0] for c in letters} == {SCRIPTS[language]}
        assert unicodedata.is_normalized("NFC", t.text)


def test_the_set_has_no_passage_twice_and_its_languages_say_about_as_much():
    every = embedded()
    assert [t.language for t in every] == [language for language in LANGUAGES for _ in range(12)]
    assert len({t.text for t in every}) == 72
    for number in range(12):  # parallel in content: of one length in sentences, and in characters within a script
        passages = [t for t in every if t.name.endswith(f" {number + 1}")]
        assert len({len(re.findall(r"[.。]", t.text)) for t in passages}) == 1
        latin = [len(t.text) for t in passages if SCRIPTS[t.language] == "LATIN"]
        assert max(latin) < 1.5 * min(latin)


def test_a_choice_of_languages_keeps_its_order():
    assert [t.language for t in embedded(["sw", "en"])] == ["sw"] * 12 + ["en"] * 12
    assert embedded([]) == []
    with pytest.raises(ValueError, match="no language of the embedded texts is called 'de'"):
        embedded(["en", "de"])


def test_a_text_is_a_paragraph(tmp_path: Path):
    file = tmp_path / "report.txt"
    file.write_bytes("\ufeff\r\n First,\r\nand on.\r\n \t \r\nHabari ya asubuhi?\r\n".encode())
    first = Text("und", "report.txt, paragraph 1", "First,\nand on.")
    assert given([str(file)]) == [first, Text("und", "report.txt, paragraph 2", "Habari ya asubuhi?")]
    assert [t.language for t in given([f"sw={file}", f"zh-Hans={file}"])] == ["sw"] * 2 + ["zh-Hans"] * 2


def test_an_equals_sign_may_be_part_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run=1.txt", "a b=1.txt"):
        Path(name).write_text("Text.")
    assert given(["./run=1.txt"])[0].language == "und"
    assert given(["a b=1.txt"])[0].language == "und"  # no language has that tag
    with pytest.raises(FileNotFoundError, match=r"no file 1\.txt: give FILE or LANGUAGE=FILE"):
        given(["run=1.txt"])


@pytest.mark.parametrize("option", ["en=", "", "."])
def test_what_is_no_file_is_refused(option):
    with pytest.raises(FileNotFoundError, match="give FILE or LANGUAGE=FILE"):
        given([option])


def test_bad_files_are_named(tmp_path: Path):
    (tmp_path / "empty.txt").write_text(" \n\n\t\n")
    with pytest.raises(ValueError, match=r"empty\.txt is empty"):
        given([f"en={tmp_path / 'empty.txt'}"])
    (tmp_path / "latin.txt").write_bytes("Déjà".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 \(byte 1 is 0xe9\)"):
        given([str(tmp_path / "latin.txt")])


def test_the_passages_lie_within_the_package():
    assert texts._PASSAGES.parent == Path(texts.__file__).parent
    assert {f.stem for f in texts._PASSAGES.iterdir()} == set(LANGUAGES)
