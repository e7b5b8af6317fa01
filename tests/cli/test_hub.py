"""Checkpoints on the hub, against a local server that stands in for it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint.header import INDEX_FILE, read_header
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.cli import hub as hub_module
from mpvideo.cli.hub import hub_name, is_on_hub, located
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError, MPVideoError, UsageError
from mpvideo.hub import HubReference
from mpvideo.record import Weights
from mpvideo.training.recipe import PRESETS, codec_config
from tests.checkpoint.files import CONFIG, random_tensors
from tests.checkpoints import save_tiny, tiny_config
from tests.cli.test_train import SMALL, clips
from tests.evaluation.networks import Means, save_network
from tests.test_readme import README

PLACE = "{repo_id}/resolve/{revision}/{filename}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed"
)


class Hub:
    """What a hub has, and what it was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                owner, repo, resolve, revision, *path = self.path.strip("/").split("/")
                name = "/".join(path)
                if (owner, repo, resolve) == ("me", "gated", "resolve"):
                    return self.refuse("GatedRepo", 403)
                if (owner, repo, resolve) != ("me", "dog", "resolve"):
                    return self.refuse("RepoNotFound")
                if revision not in ("main", "v1", COMMIT):
                    return self.refuse("RevisionNotFound")
                if name not in hub.files:
                    return self.refuse("EntryNotFound")
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{abs(hash(name)):x}"')
                self.send_header("Content-Length", str(len(hub.files[name])))
                self.end_headers()
                if body:
                    self.wfile.write(hub.files[name])
                return None

            def refuse(self, code: str, status: int = 404) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_checkpoint(path, random_tensors(), CONFIG)
    return {"model.safetensors": path.read_bytes(), "sub/other.safetensors": path.read_bytes()}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub(dict(files))
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


def run(home: Path, hub: Hub, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a program with a cache of its own; the library reads its environment when it is imported."""
    variables = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "no_proxy": "127.0.0.1",
        **environment,
    }
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf:me/dog", HubReference("me/dog", None, None)),
        ("hf:me/dog@v1", HubReference("me/dog", None, "v1")),
        ("hf:me/dog/model.safetensors", HubReference("me/dog", "model.safetensors", None)),
        ("hf:me/dog/a/b.safetensors@refs/pr/1", HubReference("me/dog", "a/b.safetensors", "refs/pr/1")),
        ("hf:me/dog/my model+1..2.safetensors@v1 b", HubReference("me/dog", "my model+1..2.safetensors", "v1 b")),
    ],
)
def test_references(text: str, reference: HubReference, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is fetched by a name can be recorded by it."""
    monkeypatch.setattr(hub_module, "_fetch", lambda found: found)
    assert located(Path(text)) == reference and str(reference) == text
    assert Weights(name=text, sha256="0" * 64).name == text


@pytest.mark.parametrize(
    "text",
    [
        "hf:", "hf:dog", "hf:me/dog@", "hf:me/\x1b[2J", "hf:me/dog @v1", "hf:me/dog/../../x", "hf:me/dog@../x",
        f"hf:me/dog/{'x' * 1000}",
    ],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError, match=r"must be hf:owner/repo\[/file\]\[@revision\]") as caught:
        located(Path(text))
    assert caught.value.message.isprintable()


def test_what_records_call_them_is_the_same_on_all_systems() -> None:
    assert hub_name(PureWindowsPath("hf:me/dog/sub/x.safetensors@v1")) == "hf:me/dog/sub/x.safetensors@v1"
    assert hub_name(Path("hf:me/dog")) == "hf:me/dog"
    assert hub_name(Path("./hf:me/dog").absolute()) is hub_name(Path("dog.safetensors")) is hub_name(None) is None


def test_other_paths_stay(tmp_path: Path) -> None:
    for path in (tmp_path, Path("./x/hf:me/dog"), Path("model.safetensors")):
        assert located(path) == path and not is_on_hub(path)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="hf:me/dog must be fetched with the package huggingface_hub") as caught:
        located(Path("hf:me/dog"))
    assert caught.value.hint == "Run `pip install 'mpvideo[hub]'`."


OUTCOMES = """
import json, sys
from pathlib import Path
from mpvideo.checkpoint import read_header
from mpvideo.cli.hub import located
from mpvideo.errors import MPVideoError
for name in sys.argv[1:]:
    try:
        header = read_header(located(Path(name)))
        print(json.dumps([0, str(header.path), header.sidecar is not None, [file.name for file in header.files]]))
    except MPVideoError as error:
        print(json.dumps([int(error.exit_code), error.message, error.hint]))
"""


def outcomes(home: Path, hub: Hub, *names: str, **environment: str) -> list[list[Any]]:
    """What becomes of each name, in one process."""
    done = run(home, hub, [sys.executable, "-c", OUTCOMES, *names], environment)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_library
def test_fetched_once_then_from_the_cache(tmp_path: Path, hub: Hub) -> None:
    done = run(tmp_path, hub, [sys.executable, "-m", "mpvideo", "inspect", "hf:me/dog", "--json"], {})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    assert report["name"] == "model.safetensors" and report["loads"] and report["path"] == "hf:me/dog"
    assert report["cached"].startswith(str(tmp_path))
    assert "GET /me/dog/resolve/main/model.safetensors" in hub.asked
    hub.asked.clear()
    ((code, path, *_),) = outcomes(tmp_path, hub, "hf:me/dog")
    assert code == 0 and path == report["cached"] and not any(line.startswith("GET") for line in hub.asked)
    hub.asked.clear()
    there, elsewhere = outcomes(tmp_path, hub, "hf:me/dog", "hf:me/cat", HF_HUB_OFFLINE="1")
    assert there[1] == report["cached"] and not hub.asked
    assert elsewhere[:2] == [1, "hf:me/cat is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"]


@needs_library
def test_what_the_hub_has_and_what_it_has_not(tmp_path: Path, hub: Hub) -> None:
    hub.files["config.json"] = b'{"format": 1, "title": "from the hub"}'
    whole, revision, file, none, gated, no_revision, no_file, no_name = outcomes(
        tmp_path, hub, "hf:me/dog", "hf:me/dog@v1", "hf:me/dog/sub/other.safetensors@v1", "hf:me/none", "hf:me/gated",
        "hf:me/dog@v9", "hf:me/dog/none.safetensors", "hf:me/..dog--x",
    )  # fmt: skip
    assert whole[0] == revision[0] == 0 and whole[2] and revision[2], "with its config.json"
    assert file[0] == 0 and file[1].endswith("/sub/other.safetensors")
    assert none[:2] == [3, "hf:me/none does not exist on the hub, or is private"]
    assert gated[:2] == [3, "hf:me/gated is given out only to those whom its owner lets in"]
    assert no_revision[:2] == [3, "hf:me/dog@v9: the repository has no revision 'v9'"]
    assert no_file[:2] == [3, "hf:me/dog/none.safetensors: the repository has no such file"]
    assert no_name[0] == 2 and "is no name on the hub" in no_name[1]


@needs_library
def test_shards_come_with_their_index(tmp_path: Path, hub: Hub) -> None:
    weights = hub.files.pop("model.safetensors")
    names = dict.fromkeys(checkpoint_shapes(CONFIG), "one.safetensors")
    hub.files |= {"one.safetensors": weights, INDEX_FILE: json.dumps({"weight_map": names}).encode()}
    hub.files |= {f"bad/{INDEX_FILE}": json.dumps({"weight_map": {"a": "../../etc/passwd"}}).encode()}
    good, bad = outcomes(tmp_path, hub, "hf:me/dog", f"hf:me/dog/bad/{INDEX_FILE}")
    assert good[0] == 0 and good[3] == ["one.safetensors"]
    assert bad[0] == 3 and "files in the same folder" in bad[1]
    assert not any("passwd" in line for line in hub.asked)


@needs_library
def test_a_named_file_comes_with_the_config_beside_it(tmp_path: Path, hub: Hub) -> None:
    """Whether or not the cache has that for another reason; beside other names it means nothing."""
    hub.files |= {"sub/model.safetensors": hub.files["model.safetensors"], "sub/config.json": b'{"format": 1}'}
    paths = ("sub/model.safetensors", "model.safetensors", "sub/other.safetensors")
    beside, none, other = outcomes(tmp_path, hub, *(f"hf:me/dog/{path}" for path in paths))
    assert beside[0] == none[0] == other[0] == 0
    assert (beside[2], none[2], other[2]) == (True, False, False)


@needs_library
@pytest.mark.parametrize("shard", ["", ".", "..", "a\0b", "a/b", 5])
def test_shards_of_no_name_are_not_asked_for(waits: list[float], hub: Hub, shard: Any, monkeypatch: Any) -> None:
    hub.files[f"bad/{INDEX_FILE}"] = json.dumps({"weight_map": {"a": shard}}).encode()
    with in_reach(hub, monkeypatch):
        path = located(Path(f"hf:me/dog/bad/{INDEX_FILE}"))
    with pytest.raises(CheckpointError, match="shards must be names of files in the same folder"):
        read_header(path)


@needs_library
def test_a_repository_of_something_else(tmp_path: Path, hub: Hub) -> None:
    hub.files.clear()
    hub.files["page.safetensors"] = b"<!doctype html>"
    nothing, page = outcomes(tmp_path, hub, "hf:me/dog", "hf:me/dog/page.safetensors")
    assert nothing[0] == 3 and "must hold model.safetensors or model.safetensors.index.json" in nothing[1]
    assert page[0] == 3 and "HTML page" in page[1], "nothing of the hub is trusted"


@needs_library
def test_sample_and_eval_take_them(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = save_tiny(tmp_path / "x.safetensors", tiny_config())
    hub.files["model.safetensors"] = weights.read_bytes()
    program = [sys.executable, "-m", "mpvideo"]
    brief = ["--steps", "1", "--dtype", "float32"]
    sampled = run(tmp_path, hub, [*program, "sample", "--ckpt", "hf:me/dog@v1", "--out", "a.gif", *brief], {})
    assert sampled.returncode == 0 and sampled.stdout == "a.gif\n", sampled.stderr
    assert "mpvideo sample --ckpt hf:me/dog@v1 " in sampled.stderr, "the command to make it again names the hub"
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "abcd":
        (clips / f"{name}.gif").write_bytes(Path("a.gif").read_bytes())
    save_network(tmp_path / "net.pt", Means())
    real = ["--data", "clips", "--features", "net.pt", "--feature-size", "8", "--num", "4"]
    judged = [*program, "eval", "--ckpt", "hf:me/dog@v1", "--guide", "hf:me/dog@v1", "--guidance", "2", *real, *brief]
    done = run(tmp_path, hub, [*judged, "--json"], {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [report[which]["name"] for which in ("checkpoint", "guide")] == ["hf:me/dog@v1"] * 2
    tune = ["tune", "hf:me/dog@v1", "--nfe", "1", "--videos", "1", "--out", "preset.json"]
    tuned = run(tmp_path, hub, [*program, *tune], {"HF_HUB_OFFLINE": "1"})
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(Path("preset.json").read_text())["tuned"]["checkpoint"]["name"] == "hf:me/dog@v1"
    unknown = run(tmp_path, hub, [*program, "eval", "--ckpt", "hf:me/none", *real, *brief], {})
    assert unknown.returncode == 3 and "hf:me/none does not exist on the hub, or is private" in unknown.stderr


@needs_library
def test_jobs_of_a_pipe_ask_the_hub_once(
    tmp_path: Path, waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from mpvideo.batch.jobfile import Entry
    from mpvideo.batch.request import Request
    from mpvideo.cli.app import app
    from mpvideo.cli.jobs import JobReader

    hub.files["model.safetensors"] = save_tiny(tmp_path / "x.safetensors", tiny_config()).read_bytes()
    reader = JobReader(typer.main.get_command(app).commands["sample"], None, anew=True)  # type: ignore[attr-defined]
    with in_reach(hub, monkeypatch):
        for seed in range(3):
            job = Entry("line", {"ckpt": "hf:me/dog@v1", "seed": seed, "out": "a.gif"})
            (request,) = reader.requests(job, seed)
            assert isinstance(request, Request) and request.sources.name == "hf:me/dog@v1"
            if not seed:
                assert hub.asked
                hub.asked.clear()
    assert hub.asked == []


@needs_library
def test_train_begins_with_them(tmp_path: Path, hub: Hub) -> None:
    """And goes on without them, as with those of any checkpoint."""
    video = codec_config("rgb", 10)
    model = PRESETS["tiny"].model(video, size=8, frames=4, num_classes=2, self_condition=False)
    weights = save_tiny(tmp_path / "x.safetensors", CheckpointConfig(model=model, video=video))
    hub.files["model.safetensors"] = weights.read_bytes()
    clips(tmp_path / "clips")
    program = [
        sys.executable,
        "-m",
        "mpvideo",
        "train",
        str(tmp_path / "clips"),
        "--out",
        str(tmp_path / "run"),
        *SMALL,
    ]
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    unknown = run(tmp_path, hub, [*program, "--steps", "1", "--init", "hf:me/none"], cache)
    assert (unknown.returncode, (tmp_path / "mpvideo").exists()) == (3, False), "not after hours of decoding"
    assert "error: --init hf:me/none does not exist on the hub, or is private\n" in unknown.stderr
    for home in (tmp_path, tmp_path / "empty"):
        done = run(home, hub, [*program, "--steps", "1", "--init", "hf:me/dog@v1"], cache)
        assert done.returncode == 0, done.stderr
        hub.files.clear()
    source = json.loads((tmp_path / "run" / "run.json").read_text())["source"]
    assert (source["init"], len(source["init_sha256"])) == ("hf:me/dog@v1", 64)


@needs_library
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("bad"), "network"])
def test_what_else_the_library_raises(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    if error == "network":
        error = errors.HTTPError("the connection broke")  # type: ignore[attr-defined]

    def fetch(*rest: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(hub_module, "_is_in_reach", lambda reference: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(MPVideoError, match=r"hf:me/dog/a cannot be fetched: (no space|bad|the connection)") as caught:
        located(Path("hf:me/dog/a"))
    assert caught.value.exit_code == 1


@needs_library
def test_defects_of_our_own_are_not_blamed_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(hub_module, "_is_in_reach", lambda reference: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *rest, **options: None)
    with pytest.raises(TypeError):
        located(Path("hf:me/dog/a"))


@needs_library
def test_lost_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own word for it, as it comes after its attempts, which take half a minute."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(*rest: Any, **options: Any) -> str:
        raise LocalEntryNotFoundError("cannot find the file")

    monkeypatch.setattr(hub_module, "_is_in_reach", lambda reference: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(MPVideoError, match="is not in the cache, and the hub cannot be reached") as caught:
        located(Path("hf:me/dog"))
    assert caught.value.exit_code == 1 and "HF_ENDPOINT (now " in (caught.value.hint or "")


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A cache of its own for the library in this process, which has no hub yet; the waits that are not waited."""
    from huggingface_hub import constants

    waits: list[float] = []
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"http://127.0.0.1:9/{PLACE}")
    clock = SimpleNamespace(sleep=waits.append, monotonic=lambda: sum(waits))
    monkeypatch.setattr(hub_module, "time", clock)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return waits


@contextmanager
def in_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a while the library in this process has a hub."""
    from huggingface_hub import constants

    with monkeypatch.context() as online:
        online.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.address}/{PLACE}")
        yield


@needs_library
@pytest.mark.parametrize("name", ["hf:me/dog", "hf:me/dog/a.safetensors@v1"])
def test_out_of_reach(waits: list[float], name: str) -> None:
    """It is tried again within ten seconds, and then said."""
    with pytest.raises(MPVideoError, match=f"{name} is not in the cache, and the hub cannot be reached") as caught:
        located(Path(name))
    assert waits == [1, 2, 4]
    (row,) = re.findall(rf"^\| {caught.value.exit_code:d} \|.*", README, flags=re.MULTILINE)
    assert "the hub is out of reach" in row


@needs_library
def test_no_safe_connection(waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers speaks no TLS."""
    from huggingface_hub import constants

    address = hub.address.replace("http:", "https:")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{PLACE}")
    words = r"^hf:me/dog cannot be fetched: no safe connection to the hub: .*SSL"
    with pytest.raises(MPVideoError, match=words) as caught:
        located(Path("hf:me/dog"))
    assert "HF_ENDPOINT" in (caught.value.hint or "") and waits == []


@needs_library
def test_the_cache_serves_where_the_hub_is_out_of_reach(
    waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of what has no config.json; without a wait."""
    with in_reach(hub, monkeypatch):
        path = located(Path("hf:me/dog"))
    assert located(Path("hf:me/dog")) == path and waits == []


@needs_library
@pytest.mark.parametrize(("folder", "name"), [("", "hf:me/dog"), ("sub/", f"hf:me/dog/sub/{INDEX_FILE}")])
def test_the_cache_serves_shards_where_the_hub_is_out_of_reach(
    waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    """Without a wait, although the file asked for first is one that the hub has not."""
    hub.files[f"{folder}one.safetensors"] = hub.files.pop("model.safetensors")
    names = dict.fromkeys(checkpoint_shapes(CONFIG), "one.safetensors")
    hub.files[folder + INDEX_FILE] = json.dumps({"weight_map": names}).encode()
    with in_reach(hub, monkeypatch):
        shards = located(Path(name))
    assert located(Path(name)) == shards and shards.with_name("one.safetensors").exists() and waits == []


@needs_library
def test_a_config_never_asked_for(waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights alone may make other videos: only who sets HF_HUB_OFFLINE gets them."""
    from huggingface_hub import constants

    hub.files["config.json"] = b'{"format": 1}'
    with in_reach(hub, monkeypatch):
        weights = hub_module._file(HubReference("me/dog", None, None), "model.safetensors", offline=False)
    with pytest.raises(MPVideoError, match=r"^hf:me/dog/config\.json is not in the cache, and the hub cannot"):
        located(Path("hf:me/dog"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert located(Path("hf:me/dog")) == weights and waits == []


@needs_library
@pytest.mark.parametrize("file", ["", "/model.safetensors", f"/{INDEX_FILE}"])
def test_a_commit_in_the_cache_is_not_asked_for(
    waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """It cannot change; only what was never asked for of it is."""
    names = dict.fromkeys(checkpoint_shapes(CONFIG), "model.safetensors")
    hub.files[INDEX_FILE] = json.dumps({"weight_map": names}).encode()
    with in_reach(hub, monkeypatch):
        path = located(Path(f"hf:me/dog{file}@{COMMIT}"))
        hub.asked.clear()
        assert located(Path(f"hf:me/dog{file}@{COMMIT}")) == path and hub.asked == []
        located(Path(f"hf:me/dog@{COMMIT}"))
    assert f"HEAD /me/dog/resolve/{COMMIT}/config.json" not in hub.asked
    assert located(Path(f"hf:me/dog{file}@{COMMIT}")) == path and waits == []


@needs_library
def test_a_commit_of_which_the_cache_has_the_second_choice(
    waits: list[float], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files |= {INDEX_FILE: b'{"weight_map": {"a": "sub/other.safetensors"}}', "config.json": b'{"format": 1}'}
    with in_reach(hub, monkeypatch):
        for file in (INDEX_FILE, "config.json"):
            located(Path(f"hf:me/dog/{file}@{COMMIT}"))
        assert located(Path(f"hf:me/dog@{COMMIT}")).name == "model.safetensors"


@needs_library
def test_offline_nothing_is_tried(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MPVideoError, match=r"^hf:me/dog is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"):
        located(Path("hf:me/dog"))
    assert waits == []
