"""An embedded name, a local folder or a Hub id becomes a checkpoint: files to read and the revision they are.

Only safetensors are read: a pickle can run code when it is loaded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

POCKET = Path(__file__).parent / "pocket"
EMBEDDED = {"pocket-llama": POCKET / "llama", "pocket-bloom": POCKET / "bloom"}

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

# Ten seconds of hashing, about: what opening a model may cost before anything is measured.
HASHED_IN_FULL = 2**34


@dataclass(frozen=True)
class Checkpoint:
    """A model's files, found and complete but not yet read.

    Attributes
    ----------
    name : str
        As the user knows it: the embedded name, the Hub id, or the last part of the local path.
    folder : Path
        Where the files are.
    revision : str
        Which weights these are. Hub: the commit, 40 hexadecimal digits. Otherwise ``sha256:`` and a digest of
        the contents, the one that ``sha256sum config.json *.safetensors | sha256sum`` prints. Past 16 GiB,
        where that would take minutes, ``sha256-headers:`` and a digest of headers, sizes and modification
        times: it takes a copy for another model, and edited weights for the same if their time was put back.
    files : tuple of Path
        The safetensors files, sorted by name.
    config : dict
        The contents of config.json; empty if there is none.
    index : dict
        Tensor name to file name, as the index of a sharded model says; empty if there is no index.
    """

    name: str
    folder: Path
    revision: str
    files: tuple[Path, ...]
    config: dict[str, Any] = field(compare=False, repr=False)
    index: dict[str, str] = field(compare=False, repr=False)

    @property
    def model_type(self) -> str | None:
        """The architecture's name in transformers ("llama", "bloom"), if config.json says."""
        return self.config.get("model_type")

    @property
    def quantized(self) -> bool:
        """Whether config.json says that the weights are quantized: `empirics.checkpoints` reads such models."""
        return "quantization_config" in self.config


def open_checkpoint(model: str | Path, revision: str | None = None) -> Checkpoint:
    """Find the model's files, downloading them if it is on the Hub.

    Parameters
    ----------
    model : str or Path
        In this order: an embedded name ("pocket-llama"); a local folder, or one .safetensors file; a Hub id
        ("org/name"). A Path is always local.
    revision : str, optional
        Hub: branch, tag or commit; "main" if not given. Otherwise the `Checkpoint.revision` that is expected.

    Raises
    ------
    FileNotFoundError
        If there is no such model, or it has no safetensors, or a shard is missing.
    ValueError
        If a file is not what its name says, there are only pickles, or the revision is another.
    PermissionError, ConnectionError
        If the Hub refuses, or cannot be reached and the model is not in its cache.

    Notes
    -----
    From the Hub come the safetensors and JSON files of the top folder, but not ``consolidated*``, the same
    weights under other names. The only token sent is that of the environment variable HF_TOKEN.
    """
    if isinstance(model, str) and model in EMBEDDED:
        if not EMBEDDED[model].is_dir():
            raise FileNotFoundError(
                f"{model} is missing from this installation ({EMBEDDED[model]}); reinstall quantgap"
            )
        return _local(model, EMBEDDED[model], revision)
    path = Path(model).expanduser()
    if path.exists():
        return _local(path.resolve().name, path, revision)
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        folder = _download(model, revision)
        files, index = _weights(folder)
        return Checkpoint(model, folder, folder.name, files, _config(folder), index)
    raise FileNotFoundError(
        f"no model {str(model)!r}: it is no local file or folder, no Hub id (org/name), and no embedded model"
        f"{_near(str(model))}"
    )


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, EMBEDDED, n=2, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f" ({', '.join(EMBEDDED)})"


def _local(name: str, path: Path, expected: str | None) -> Checkpoint:
    files, index = _weights(path)
    folder = path if path.is_dir() else path.parent
    config = folder / CONFIG
    revision = digest([config, *files] if config.exists() else list(files))
    if expected not in (None, revision):
        raise ValueError(
            f"{name} has revision {revision}, not {expected}: use the files that you pinned, or pin these"
        )
    return Checkpoint(name, folder, revision, files, _config(folder), index)


def _weights(path: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    """The safetensors files that make the model, and the index; transformers looks in the same order."""
    if path.is_file() and path.suffix == ".safetensors":
        return (path,), {}
    if (path / SINGLE).exists():
        return (path / SINGLE,), {}
    if (path / INDEX).exists():
        index = _object(path / INDEX).get("weight_map")
        if not (isinstance(index, dict) and index and all(isinstance(v, str) for v in index.values())):
            raise ValueError(f"{path / INDEX} has no weight_map of tensors to files; download it again")
        files = tuple(path / name for name in sorted(set(index.values())))
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"{file} is missing, and {INDEX} names it; download it again")
        return files, index
    found = [path] if path.is_file() else sorted(path.glob("*"))  # none in a missing folder
    files = tuple(file for file in found if file.suffix == ".safetensors")
    if files:
        return files, {}
    pickles = [file.name for file in found if file.suffix in PICKLES]
    if pickles:
        raise ValueError(
            f"{path} has only pickles ({', '.join(pickles[:3])}), which can run code when loaded; only "
            "safetensors are read. If you trust them, convert with transformers: "
            'AutoModelForCausalLM.from_pretrained("old").save_pretrained("new")'
        )
    if any(file.suffix == ".gguf" for file in found):
        raise ValueError(
            f"{path} is a GGUF model: `quantgap ledger {path} --base BASE` measures it against the model that it was"
            " made from"
        )
    raise FileNotFoundError(
        f"{path} has no safetensors: give a folder with {SINGLE}, with {INDEX} and its shards, or with any "
        "*.safetensors; a model that comes as pickles must be converted"
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, not an object; download it again")
    return content


def _config(folder: Path) -> dict[str, Any]:
    return _object(folder / CONFIG) if (folder / CONFIG).exists() else {}


def digest(files: list[Path]) -> str:
    """The digest of a listing of digests, in the format of sha256sum."""
    in_full = sum(file.stat().st_size for file in files) <= HASHED_IN_FULL
    listing = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            if in_full:
                digest = hashlib.file_digest(file, "sha256")
            else:
                size = int.from_bytes(file.read(8), "little")
                digest = hashlib.sha256(file.read(min(size, 10**8)))
                digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        listing.update(f"{digest.hexdigest()}  {path.name}\n".encode())
    return ("sha256:" if in_full else "sha256-headers:") + listing.hexdigest()


def _download(model: str, revision: str | None) -> Path:
    """The folder of the model in the Hub's cache; it has the name of the commit."""
    page = f"https://huggingface.co/{model}"
    try:
        folder = snapshot_download(
            model,
            revision=revision,
            allow_patterns=["*.safetensors", "*.json"],
            ignore_patterns=["*/*", "consolidated*"],
            token=os.environ.get("HF_TOKEN") or False,
        )
    except GatedRepoError as error:
        raise PermissionError(
            f"{model} is gated: accept its terms at {page}, then set HF_TOKEN to a token of that account"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"no model {model!r}: no local folder has that name, and no model at {page} is open to you; "
            "check the spelling, or set HF_TOKEN if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{model} has no revision {revision!r}; {page}/commits lists them") from error
    except Exception as error:  # the transport's own errors share no base class from one release to the next
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConnectionError(
            f"{model} is no local folder and could not be downloaded from the Hub ({reason[0]}); "
            "check the network and HF_HUB_OFFLINE, or give a folder that holds the model"
        ) from error
    return Path(folder)
