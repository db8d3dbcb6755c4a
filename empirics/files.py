"""Files that other programs may read while they are written."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, data: bytes) -> Path:
    """Write beside `path`, then rename over it: a reader never sees half a file. Returns the path."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
