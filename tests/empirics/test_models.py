import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from empirics import models
from empirics.models import open_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


# Local folders and files.


def test_folder(llama: Path) -> None:
    checkpoint = open_checkpoint(llama)
    assert checkpoint.name == "tiny-llama"
    assert checkpoint.folder == llama
    assert checkpoint.files == (llama / "model.safetensors",)
    assert checkpoint.model_type == "llama"
    assert checkpoint.config["hidden_size"] == 16
    assert checkpoint.index == {}
    assert open_checkpoint(str(llama)) == checkpoint


def test_shards_are_those_of_the_index(sharded: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    shutil.copy(next(folder.glob("*.safetensors")), folder / "a-stray-copy.safetensors")
    checkpoint = open_checkpoint(folder)
    assert len(checkpoint.files) > 2
    assert list(checkpoint.files) == sorted(folder.glob("model-*.safetensors"))
    assert set(checkpoint.index.values()) == {file.name for file in checkpoint.files}


def test_one_file_wins_over_the_index(sharded: Path, llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    shutil.copy(llama / "model.safetensors", folder)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.files == (folder / "model.safetensors",)
    assert checkpoint.index == {}


def test_any_safetensors_and_no_config(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save_file({name: np.zeros((2, 2), np.float32)}, tmp_path / f"{name}.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert [file.name for file in checkpoint.files] == ["a.safetensors", "b.safetensors"]
    assert checkpoint.config == {}
    assert checkpoint.model_type is None


def test_single_file(llama: Path) -> None:
    checkpoint = open_checkpoint(llama / "model.safetensors")
    assert checkpoint.name == "model.safetensors"
    assert checkpoint.files == (llama / "model.safetensors",)
    assert checkpoint.revision == open_checkpoint(llama).revision


def test_relative_folder_has_its_own_name(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(llama)
    assert open_checkpoint(".").name == "tiny-llama"


def test_missing_shard(sharded: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(shard))} is missing.*model\.safetensors\.index"):
        open_checkpoint(folder)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}'])
def test_index_without_weights(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"index\.json has no weight_map"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(("text", "complaint"), [("{", "is not JSON"), ("[]", "JSON list"), ("\udc80", "JSON")])
def test_broken_config(text: str, complaint: str, llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"config\.json.* {complaint}.*download it again"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "consolidated.00.pth"])
def test_pickles_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match=rf"only pickles \({re.escape(name)}\).*safetensors.*save_pretrained"):
            open_checkpoint(path)


def test_pickle_beside_safetensors_is_ignored(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "training_args.bin").write_bytes(b"\x80\x04")
    assert open_checkpoint(folder).files == (folder / "model.safetensors",)


def test_no_weights(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("")
    for path in (tmp_path, tmp_path / "README.md"):
        with pytest.raises(FileNotFoundError, match="has no safetensors: give a folder"):
            open_checkpoint(path)


# Names.


def test_embedded(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.EMBEDDED["pocket-llama"] == Path(models.__file__).parent / "pocket" / "llama"
    monkeypatch.setitem(models.EMBEDDED, "pocket-llama", llama)
    checkpoint = open_checkpoint("pocket-llama")
    assert checkpoint.name == "pocket-llama"
    assert checkpoint.folder == llama
    with pytest.raises(FileNotFoundError, match="no model 'pocket-llama'"):
        open_checkpoint(Path("pocket-llama"))


def test_embedded_but_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.EMBEDDED, "pocket-llama", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"pocket-llama is missing from this installation.*reinstall"):
        open_checkpoint("pocket-llama")


@pytest.mark.parametrize("name", ["pocket_llama", "poket-llama", "pocketllama"])
def test_near_miss(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"'{name}'.*no local.*no Hub id.*did you mean pocket-llama"):
        open_checkpoint(name)


@pytest.mark.parametrize("name", ["xyzzy", "./no/such", "/no/such", "a/b/c", "../no"])
def test_neither_name_nor_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "snapshot_download", None)  # the Hub is not asked
    with pytest.raises(FileNotFoundError, match=r"no model .*\(pocket-llama, pocket-bloom\)"):
        open_checkpoint(name)


# Revisions.


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_revision_is_what_sha256sum_says(sharded: Path) -> None:
    files = [sharded / "config.json", *sorted(sharded.glob("*.safetensors"))]
    listing = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    assert open_checkpoint(sharded).revision == "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


@pytest.mark.parametrize("limit", [models.HASHED_IN_FULL, 0])
@pytest.mark.parametrize("shard", [0, -1])
def test_revision_changes_with_the_weights(
    limit: int, shard: int, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "HASHED_IN_FULL", limit)
    folder = shutil.copytree(sharded, tmp_path / "model")
    before = open_checkpoint(folder).revision
    assert before == open_checkpoint(folder).revision
    assert before.startswith("sha256:" if limit else "sha256-headers:")
    flip_last_byte(open_checkpoint(folder).files[shard])
    assert open_checkpoint(folder).revision != before


@pytest.mark.parametrize("limit", [models.HASHED_IN_FULL, 0])
def test_revision_changes_with_the_configuration(
    limit: int, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "HASHED_IN_FULL", limit)
    folder = shutil.copytree(llama, tmp_path / "model")
    before = open_checkpoint(folder).revision
    config = json.loads((folder / "config.json").read_text()) | {"rms_norm_eps": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder).revision != before


def test_headers_tell_models_of_one_size_and_time_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "HASHED_IN_FULL", 0)
    monkeypatch.setattr(models.Path, "stat", lambda self, **_: type("S", (), {"st_size": 1, "st_mtime_ns": 1}))
    revisions = set()
    for name in ("a", "b"):
        save_file({name: np.zeros(2, np.float32)}, tmp_path / "same.safetensors")
        revisions.add(models.digest([tmp_path / "same.safetensors"]))
    assert len(revisions) == 2


def test_size_tells_when_the_time_was_put_back(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "HASHED_IN_FULL", 0)
    folder = shutil.copytree(llama, tmp_path / "model")
    before, file = open_checkpoint(folder).revision, folder / "model.safetensors"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, ns=times)
    assert open_checkpoint(folder).revision != before


def test_pinned_local_revision(llama: Path) -> None:
    revision = open_checkpoint(llama).revision
    assert open_checkpoint(llama, revision).revision == revision
    with pytest.raises(ValueError, match=rf"tiny-llama has revision {revision}, not main"):
        open_checkpoint(llama, "main")


# The Hub: huggingface_hub as it is, talking to a server in this process.


@dataclass
class Hub:
    """Files by model id and commit; refusals by model id: (status, error code)."""

    repositories: dict[str, dict[str, bytes]]
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.hub.requests.append((self.path, self.headers.get("Authorization")))
        model, kind, revision, name = re.fullmatch(
            r"(?:/api/models)?/(\w+/[\w-]+)(?:/(revision|tree|resolve)/([\w-]+)/?([^?]*))?.*", self.path
        ).groups()
        if model in self.hub.refusals:
            status, code = self.hub.refusals[model]
            return self.answer(status, b"{}", X_Error_Code=code, X_Error_Message="refused")
        if model not in self.hub.repositories:
            return self.answer(404, b"{}", X_Error_Code="RepoNotFound")
        if revision not in ("main", COMMIT):
            return self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
        files = self.hub.repositories[model]
        if kind == "revision":
            return self.answer(200, json.dumps({"id": model, "sha": COMMIT}).encode())
        if kind == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self.answer(200, json.dumps(entries).encode())
        etag = hashlib.sha1(files[name]).hexdigest()
        return self.answer(200, files[name], ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@pytest.fixture
def hub(sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {file.name: file.read_bytes() for file in sharded.iterdir()}
    extra = [
        "pytorch_model.bin",
        "onnx/model.safetensors",
        "original/params.json",
        "consolidated.safetensors",
    ]
    fake = Hub({"org/tiny": files | dict.fromkeys(extra, b"unwanted"), "org/pickles": {"model.bin": b"unwanted"}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": fake}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    huggingface_hub.close_session()  # a session remembers proxies
    yield fake
    server.shutdown()
    server.server_close()


def test_hub(hub: Hub, sharded: Path) -> None:
    checkpoint = open_checkpoint("org/tiny")
    assert checkpoint.name == "org/tiny"
    assert checkpoint.revision == COMMIT
    assert checkpoint.model_type == "llama"
    local = open_checkpoint(sharded)
    assert [file.read_bytes() for file in checkpoint.files] == [file.read_bytes() for file in local.files]
    fetched = {path.split(COMMIT)[1].lstrip("/") for path, _ in hub.requests if "/resolve/" in path}
    assert fetched == {file.name for file in sharded.iterdir()}  # no pickle, no subfolder, no consolidated
    assert {token for _, token in hub.requests} == {None}


def test_hub_revision_is_pinned(hub: Hub) -> None:
    assert open_checkpoint("org/tiny", COMMIT).revision == COMMIT
    assert not [path for path, _ in hub.requests if "/main" in path]


def test_hub_offline_from_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = open_checkpoint("org/tiny")
    asked = len(hub.requests)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert open_checkpoint("org/tiny") == online
    assert len(hub.requests) == asked


def test_hub_token_comes_from_the_environment_only(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("hf_stored")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    open_checkpoint("org/tiny")
    assert {token for _, token in hub.requests} == {None}
    hub.requests.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_given")
    open_checkpoint("org/tiny")
    assert {token for path, token in hub.requests if path.startswith("/api/models")} == {"Bearer hf_given"}


def test_local_folder_wins_over_the_hub(hub: Hub, llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "org" / "tiny")
    assert open_checkpoint("org/tiny").revision.startswith("sha256:")
    assert not hub.requests


def test_hub_unknown_model(hub: Hub) -> None:
    with pytest.raises(FileNotFoundError, match=r"'org/tinny': no local.*huggingface\.co/org/tinny.*HF_TOKEN"):
        open_checkpoint("org/tinny")


def test_hub_gated_model(hub: Hub) -> None:
    hub.refusals["org/tiny"] = (403, "GatedRepo")
    with pytest.raises(PermissionError, match=r"org/tiny is gated: accept.*huggingface\.co/org/tiny.*HF_TOKEN"):
        open_checkpoint("org/tiny")


def test_hub_unknown_revision(hub: Hub) -> None:
    with pytest.raises(ValueError, match=r"org/tiny has no revision 'v2'; .*/commits"):
        open_checkpoint("org/tiny", "v2")


def test_hub_only_pickles(hub: Hub) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no safetensors: .*pickles must be converted"):
        open_checkpoint("org/pickles")


def test_hub_offline_and_not_in_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"org/tiny is no local folder.*HF_HUB_OFFLINE, or give a folder"):
        open_checkpoint("org/tiny")


def test_hub_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"org/tiny .*could not be downloaded.*check the network"):
        open_checkpoint("org/tiny")


def test_hub_is_broken(hub: Hub) -> None:
    hub.refusals["org/tiny"] = (400, "Odd")
    with pytest.raises(ConnectionError, match=r"org/tiny .*could not be downloaded"):
        open_checkpoint("org/tiny")
