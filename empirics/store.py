"""Measurements that stay: one SQLite file, one transaction a measurement.

A process killed at any moment loses at most the measurement in flight; the next one finds what is there with
`Store.get` and goes on. The journal is SQLite's default one, not write-ahead: the results are then one file,
complete whenever nobody writes, that can be copied, or read where nothing may be written.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from empirics.models import Checkpoint

Key = Mapping[str, str | int | float]

APPLICATION = 0x71676170  # "qgap": tells our files from other programs' SQLite files
SCHEMA = 1
PATIENCE = 30.0  # seconds to wait for another writer

PACKAGES = ("quantgap", "torch", "transformers", "bitsandbytes", "numpy", "scipy")

# One statement, so that another process cannot make the tables in between.
STATE = """SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
    FROM pragma_application_id, pragma_user_version"""
CREATE = """CREATE TABLE IF NOT EXISTS measurements
    (id TEXT PRIMARY KEY, key TEXT NOT NULL, record TEXT NOT NULL, provenance TEXT NOT NULL)"""
PUT = """INSERT INTO measurements VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET record = excluded.record, provenance = excluded.provenance
    WHERE record != excluded.record"""
RECORDS = "SELECT key, record, provenance FROM measurements ORDER BY key"

ERRORS: dict[int, tuple[type[Exception], str]] = {
    sqlite3.SQLITE_NOTADB: (ValueError, "is not a SQLite file; give another path"),
    sqlite3.SQLITE_CORRUPT: (ValueError, "is damaged; restore a copy, or delete it and measure again"),
    sqlite3.SQLITE_BUSY: (TimeoutError, "is locked by another process; wait until that has finished"),
    sqlite3.SQLITE_READONLY: (PermissionError, "cannot be written; change its permissions or copy it"),
    sqlite3.SQLITE_CANTOPEN: (OSError, "cannot be opened or made; its folder must exist and be writable"),
    sqlite3.SQLITE_IOERR: (OSError, "cannot be read or written; check the disk"),
    sqlite3.SQLITE_FULL: (OSError, "cannot grow: the disk is full; free some space and run again"),
}


class Store:
    """Measurements by key, in one SQLite file, made if it is not there.

    Parameters
    ----------
    path : str or Path
        The file. Its folder must exist.

    Raises
    ------
    ValueError
        If the file is not SQLite, belongs to another program, or to another version of quantgap.
    OSError
        If it cannot be opened, read or written. PermissionError and TimeoutError are such.

    Notes
    -----
    A key maps names to str, int or float; keys that are equal in Python (``4 == 4.0``, any order) are the
    same. Records and provenance are what JSON can say; floats come back bit for bit, tuples as lists.

    Examples
    --------
    >>> with Store(":memory:") as store:
    ...     store.put({"tensor": "w", "bits": 4}, {"mse": 0.1}, {"seed": 0})
    ...     store.get({"bits": 4.0, "tensor": "w"})
    {'mse': 0.1}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._errors():
            self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        ask = self._connection.execute
        application, schema, tables = ask(STATE).fetchone()
        if (application, schema) == (APPLICATION, SCHEMA):
            return
        if application == APPLICATION:
            raise ValueError(
                f"{self.path} has schema {schema}, and this version of quantgap reads {SCHEMA}: use the "
                "version that wrote it, or give another path"
            )
        if application or schema or tables:
            raise ValueError(f"{self.path} is a SQLite file of another program; give another path")
        with self._connection:  # all or nothing; a second process that starts now waits here, and repeats it
            ask("BEGIN IMMEDIATE")
            ask(CREATE)
            ask(f"PRAGMA application_id = {APPLICATION}")
            ask(f"PRAGMA user_version = {SCHEMA}")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte: the error without its variety
            if code not in ERRORS:
                raise
            kind, remedy = ERRORS[code]
            raise kind(f"{self.path} {remedy} (SQLite: {error})") from error

    def get(self, key: Key) -> dict[str, Any] | None:
        """The record of that key, or None if it has not been measured."""
        with self._errors():
            row = self._connection.execute(
                "SELECT record FROM measurements WHERE id = ?", (_identify(key)[0],)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, key: Key, record: dict[str, Any], provenance: dict[str, Any]) -> None:
        """Keep a measurement, in one transaction: when this returns, it is on the disk.

        A record that the key already has is replaced, together with its provenance; if it is the same record,
        nothing changes, and the provenance remains that of the first time.
        """
        row = (*_identify(key), _dump("record", record), _dump("provenance", provenance))
        with self._errors():
            self._connection.execute(PUT, row)

    def remember(
        self, key: Key, compute: Callable[[], dict[str, Any]], provenance: dict[str, Any]
    ) -> dict[str, Any]:
        """The record of that key: what is kept, or else what `compute` returns, kept before it is returned.

        >>> with Store(":memory:") as store:
        ...     [store.remember({"tensor": "w"}, lambda mse=mse: {"mse": mse}, {})["mse"] for mse in (0.1, 0.2)]
        [0.1, 0.1]
        """
        record = self.get(key)
        if record is None:
            self.put(key, compute(), provenance)
            record = self.get(key)
            assert record is not None
        return record

    def records(self, **filter: str | int | float) -> list[dict[str, Any]]:
        """Every measurement whose key has these fields: ``{"key": ..., "record": ..., "provenance": ...}``.

        Sorted by key, so that the order does not depend on which was measured first.
        """
        with self._errors():
            rows = self._connection.execute(RECORDS).fetchall()
        keys = [json.loads(key) for key, _, _ in rows]
        return [
            {"key": key, "record": json.loads(record), "provenance": json.loads(provenance)}
            for key, (_, record, provenance) in zip(keys, rows, strict=True)
            if filter.items() <= key.items()
        ]


def provenance(checkpoint: Checkpoint, seed: int | None = None) -> dict[str, Any]:
    """What a measurement depends on besides its key: model and revision, versions, platform, seed.

    A package that is not installed has version None.
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "versions": versions,
        "platform": platform.platform(),
        "seed": seed,
    }


def _identify(key: Key) -> tuple[str, str]:
    """The SHA-256 of the key's canonical JSON, and that JSON; an integral float is written as the integer."""
    fields = {}
    for name, value in key.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(f"key field {name} = {value!r} must be a str, int or float")
        fields[name] = int(value) if isinstance(value, float) and value.is_integer() else value
    text = _dump("key", fields)
    return hashlib.sha256(text.encode()).hexdigest(), text


def _dump(name: str, value: dict[str, Any]) -> str:
    _check(name, value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _check(name: str, value: Any) -> None:
    """Raise, naming the field, unless JSON can say `value` and give it back."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} = {value} cannot be stored: leave the field out, or use None")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{name} has the field {key!r}: the name of a field must be a str")
            _check(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check(f"{name}[{i}]", item)
    elif not (value is None or isinstance(value, str | int | float)):
        raise TypeError(
            f"{name} is a {type(value).__name__}, which cannot be stored; use a number, str, list or dict"
        )
