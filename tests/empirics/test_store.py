import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from empirics import store as store_module
from empirics.models import open_checkpoint
from empirics.store import Store, provenance

KEY = {"model": "pocket-llama", "tensor": "model.layers.0.q_proj.weight", "quantizer": "nf4", "block_size": 64}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "results.db") as opened:
        yield opened


# What goes in comes out.


def test_what_was_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as first:
        assert first.get(KEY) is None
        first.put(KEY, {"mse": 0.1, "steps": [{"name": "shaping", "bits": 0.25}], "note": None}, {"seed": 3})
    with Store(str(tmp_path / "results.db")) as second:
        assert second.get(KEY) == {"mse": 0.1, "steps": [{"name": "shaping", "bits": 0.25}], "note": None}
        assert [row["provenance"] for row in second.records()] == [{"seed": 3}]


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters()))
def test_floats_and_text_come_back_exactly(value: float, text: str) -> None:
    with Store(":memory:") as opened:
        opened.put({"x": 0}, {"float": value, "float64": np.float64(value), "text": text}, {})
        record = opened.get({"x": 0})
    assert record is not None
    assert record["text"] == text
    assert [record["float"].hex(), record["float64"].hex()] == [value.hex()] * 2


def test_keys_that_python_calls_equal_are_the_same(store: Store) -> None:
    store.put({"a": 4, "b": "x"}, {"n": 1}, {})
    assert store.get({"b": "x", "a": 4.0}) == {"n": 1}
    store.put({"b": "x", "a": 4.0}, {"n": 2}, {})
    assert len(store.records()) == 1


@pytest.mark.parametrize("other", [{"a": "4"}, {"a": 4.5}, {"a": 4, "b": 0}, {"b": 4}, {}, {"A": 4}])
def test_other_keys_are_others(other: dict[str, Any], store: Store) -> None:
    store.put({"a": 4}, {"n": 1}, {})
    assert store.get(other) is None


@pytest.mark.parametrize("value", [True, None, [1], np.int64(1), np.float32(1)])
def test_key_of_another_type(value: Any, store: Store) -> None:
    with pytest.raises(TypeError, match=r"key field bits = .* must be a str, int or float"):
        store.get({"bits": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_not_finite(value: float, store: Store) -> None:
    with pytest.raises(ValueError, match=rf"record\.steps\[1\]\.bits = {value} cannot be stored"):
        store.put(KEY, {"mse": 1.0, "steps": [{"bits": 1.0}, {"bits": value}]}, {})
    with pytest.raises(ValueError, match=r"provenance\.time = .* cannot be stored"):
        store.put(KEY, {}, {"time": value})
    with pytest.raises(ValueError, match=r"key\.bits = .* cannot be stored"):
        store.put({"bits": value}, {}, {})
    assert store.records() == []


@pytest.mark.parametrize(("value", "kind"), [(np.ones(2), "ndarray"), (np.float32(1), "float32"), ({1}, "set")])
def test_what_json_cannot_say(value: Any, kind: str, store: Store) -> None:
    with pytest.raises(TypeError, match=rf"record\.mse is a {kind}, which cannot be stored"):
        store.put(KEY, {"mse": value}, {})


def test_field_names_are_strings(store: Store) -> None:
    with pytest.raises(TypeError, match=r"record\.counts has the field 1: .* must be a str"):
        store.put(KEY, {"counts": {1: 2}}, {})


def test_put_replaces_unless_the_record_is_the_same(store: Store) -> None:
    store.put(KEY, {"mse": 0.1, "bits": 4}, {"seed": 0})
    store.put(KEY, {"bits": 4, "mse": 0.1}, {"seed": 1})
    assert [row["provenance"] for row in store.records()] == [{"seed": 0}]
    store.put(KEY, {"mse": 0.2, "bits": 4}, {"seed": 2})
    assert store.records() == [{"key": KEY, "record": {"mse": 0.2, "bits": 4}, "provenance": {"seed": 2}}]


def test_records_are_filtered_and_in_an_order_of_their_own(store: Store) -> None:
    keys = [{"model": m, "bits": b} for m in ("b", "a") for b in (4, 3, 3.5)]
    for key in keys:
        store.put(key, {"n": 1}, {})
    forward = store.records()
    assert [row["key"] for row in store.records(model="a")] == [
        {"model": "a", "bits": 3},
        {"model": "a", "bits": 3.5},
        {"model": "a", "bits": 4},
    ]
    assert len(store.records(bits=3.0)) == 2
    assert len(store.records(bits=3, model="b")) == 1
    assert store.records(bits="3") == store.records(quantizer="nf4") == []
    with Store(":memory:") as other:
        for key in reversed(keys):
            other.put(key, {"n": 1}, {})
        assert other.records() == forward


# Files that are not ours, or cannot be used.


def test_not_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.write_text("model,mse\n" * 200)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"results\.db is not a SQLite file; give another path"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("setup", ["CREATE TABLE t (x)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"])
def test_sqlite_of_another_program(setup: str, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    other = sqlite3.connect(path)
    other.execute(setup)
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"results\.db is a SQLite file of another program"):
        Store(path)
    assert path.read_bytes() == before


def test_another_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path / "results.db").close()
    monkeypatch.setattr(store_module, "SCHEMA", 2)
    with pytest.raises(ValueError, match=r"results\.db has schema 1, .* reads 2: use the version that wrote it"):
        Store(tmp_path / "results.db")


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with Store(path) as opened:
        for i in range(20):
            opened.put({"i": i}, {"text": "x" * 3000}, {})
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with Store(path) as opened, pytest.raises(ValueError, match=r"results\.db is damaged; restore a copy"):
        opened.records()


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no/results\.db cannot be opened or made; its folder must exist"):
        Store(tmp_path / "no" / "results.db")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot be opened or made"):
        Store(tmp_path)


def test_read_only_file_can_be_read(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as opened:
        opened.put(KEY, {"mse": 0.1}, {})
    with Store(tmp_path / "results.db") as opened:
        opened._connection.execute("PRAGMA query_only = ON")  # SQLite's own answer, even to root
        assert opened.get(KEY) == {"mse": 0.1}
        with pytest.raises(PermissionError, match=r"results\.db cannot be written; change its permissions"):
            opened.put(KEY, {"mse": 0.2}, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_location(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as opened:
        opened.put(KEY, {"mse": 0.1}, {})
    tmp_path.chmod(0o500)
    try:
        with Store(tmp_path / "results.db") as opened:
            assert opened.get(KEY) == {"mse": 0.1}
            with pytest.raises(OSError, match=r"results\.db cannot be"):
                opened.put(KEY, {"mse": 0.2}, {})
        with pytest.raises(OSError, match=r"new\.db cannot be"):
            Store(tmp_path / "new.db")
    finally:
        tmp_path.chmod(0o700)


def test_varieties_of_an_error_are_told_alike(store: Store) -> None:
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DIRECTORY
    with pytest.raises(PermissionError, match=r"results\.db cannot be written"), store._errors():
        raise error


def test_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE", 0.05)
    with Store(tmp_path / "results.db") as one, Store(tmp_path / "results.db") as other:
        one._connection.execute("BEGIN EXCLUSIVE")
        for call in (lambda: other.put(KEY, {}, {}), lambda: other.get(KEY), other.records):
            with pytest.raises(TimeoutError, match=r"results\.db is locked by another process; wait"):
                call()
        with pytest.raises(TimeoutError, match="is locked"):
            Store(tmp_path / "results.db")
        one._connection.execute("ROLLBACK")
        other.put(KEY, {}, {})


def test_reader_beside_a_writer(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as writer, Store(tmp_path / "results.db") as reader:
        writer.put({"i": 0}, {"n": 0}, {})
        writer._connection.execute("BEGIN IMMEDIATE")
        writer.put({"i": 1}, {"n": 1}, {})
        assert [row["key"] for row in reader.records()] == [{"i": 0}]
        writer._connection.execute("COMMIT")
        assert [row["key"] for row in reader.records()] == [{"i": 0}, {"i": 1}]


# A process that is killed.

RUN = """
import hashlib, sys
from itertools import count
from empirics.store import Store
path, end, log = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "a", buffering=1)
with Store(path) as store:
    for i in count() if end < 0 else range(end):
        key = {"model": "fake", "tensor": f"layers.{i}", "bits": 4}
        if store.get(key) is None:
            digest = hashlib.sha256(str(i).encode()).digest()
            record = {"mse": int.from_bytes(digest[:7], "big") / 3e16, "levels": list(digest) * 100}
            store.put(key, record, {"seed": i})
            print(i, file=log)
"""


def start(path: Path, end: int, log: Path) -> subprocess.Popen[bytes]:
    """Measure as many, or without end if `end` is negative; `log` gets a line after each."""
    return subprocess.Popen([sys.executable, "-c", RUN, str(path), str(end), str(log)])


def rows(path: Path) -> list[tuple[Any, ...]]:
    """The stored bytes themselves, in the order of the keys."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT * FROM measurements ORDER BY key").fetchall()
    connection.close()
    return found


def test_killed_runs_resume_and_end_alike(tmp_path: Path) -> None:
    whole, killed, log = tmp_path / "whole.db", tmp_path / "killed.db", tmp_path / "killed.log"
    log.touch()
    for kill_after in (1, 20, 30):
        child = start(killed, -1, log)
        while log.read_text().count("\n") < kill_after:
            assert child.poll() is None, "the child ended by itself"
            with Store(killed) as reader:  # a reader beside the writer sees whole measurements, or none
                assert all(len(row["record"]["levels"]) == 3200 for row in reader.records())
            time.sleep(0.001)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        logged = log.read_text().splitlines()
        kept = len(rows(killed))
        assert kill_after <= len(logged) <= kept <= len(logged) + 1  # what put returned from is there
        log.write_text("".join(f"{i}\n" for i in range(kept)))  # the kill may have fallen between put and print
    for path in (killed, whole):
        assert start(path, kept + 5, log).wait() == 0
    assert len(rows(whole)) == kept + 5
    assert rows(killed) == rows(whole)
    measured = [int(line) for line in log.read_text().splitlines()]
    assert measured == [*range(kept + 5), *range(kept + 5)]  # once each: nothing was measured again


def test_killed_inside_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with Store(path) as opened:
        opened.put({"i": 0}, {"n": 0}, {})
    halfway = (
        "import os, sys; from empirics.store import Store; s = Store(sys.argv[1]);"
        "s._connection.execute('PRAGMA cache_spill = 1'); s._connection.execute('BEGIN');"
        "[s.put({'i': i}, {'text': 'x' * 5000}, {}) for i in range(2000)];"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", halfway, str(path)]).returncode == -signal.SIGKILL
    assert path.with_name("results.db-journal").exists()  # the file holds half a transaction
    with Store(path) as opened:
        assert opened.records() == [{"key": {"i": 0}, "record": {"n": 0}, "provenance": {}}]


def test_creation_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(store_module, "SCHEMA", "(")
        with pytest.raises(sqlite3.OperationalError, match="syntax"):
            Store(tmp_path / "results.db")
    with Store(tmp_path / "results.db") as opened:
        assert opened.records() == []


def test_many_may_create_it_at_once(tmp_path: Path) -> None:
    def work(i: int) -> None:
        with Store(tmp_path / "results.db") as opened:
            opened.put({"i": i}, {"n": i}, {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with Store(tmp_path / "results.db") as opened:
        assert [row["record"]["n"] for row in opened.records()] == list(range(8))


def test_the_results_are_one_file(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as opened:
        opened.put(KEY, {"mse": 0.1}, {})
        assert [file.name for file in tmp_path.iterdir()] == ["results.db"]
        shutil.copy(tmp_path / "results.db", tmp_path / "copy.db")
    with Store(tmp_path / "copy.db") as copy:
        assert copy.get(KEY) == {"mse": 0.1}


# Provenance.


def test_provenance(llama: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(llama)
    found = provenance(checkpoint, seed=7)
    assert (found["model"], found["revision"], found["seed"]) == ("tiny-llama", checkpoint.revision, 7)
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"quantgap", "torch", "transformers", "bitsandbytes", "scipy"} < set(found["versions"])
    assert str(llama.parent) not in json.dumps(found)  # no path of this machine
    store.put(KEY, {}, found)
    assert store.records()[0]["provenance"] == found
    monkeypatch.setattr(store_module, "PACKAGES", ("no-such-package",))
    assert provenance(checkpoint)["versions"]["no-such-package"] is None
    assert provenance(checkpoint)["seed"] is None
