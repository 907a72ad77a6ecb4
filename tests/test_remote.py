"""DVC remotes over the S3 protocol, against a server on this machine: push, pull, run-cache, and what goes wrong."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from moto.server import ThreadedMotoServer
from test_sets import META, NAME
from test_sets import save as save_set
from workspaces import ENVIRONMENT

import rcig
from rcig import sets
from rcig.errors import StoreError

PIPELINE = """
stages:
  make:
    cmd: python -c "open('ran.txt', 'a').write('x'); open('set.npz', 'wb').write(b'distilled' * 1000)"
    params: [steps]
    outs: [set.npz]
"""
WITH_KEYS = ENVIRONMENT | {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "2",
    "NO_PROXY": "*",
}
CONTENT = b"distilled" * 1000
SILENCE = sets.SILENCE
CONFIG = """
[core]
    analytics = false
    remote = lab
['remote "lab"']
    url = s3://lab/sets
    endpointurl = {}
    verify = true
    connect_timeout = 2
    read_timeout = 2
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def client(address: str) -> "boto3.client":
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=address, **keys)


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """What the command prints; it must end as expected, and within two minutes."""
    done = subprocess.run(command, cwd=folder, env=WITH_KEYS, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def pushed(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that has run once, and what its remote, a bucket, has been pushed. Not to be changed."""
    client(address).create_bucket(Bucket="lab")
    folder = tmp_path_factory.mktemp("remote") / "repository"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("steps: 10\n")
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    (folder / ".dvc" / "config").write_text(CONFIG.format(address))
    run(folder, "dvc", "repro", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "results")
    run(folder, "dvc", "push")
    return folder


@pytest.fixture
def repository(pushed: Path, tmp_path: Path) -> Path:
    """A copy of it, with the same bucket."""
    return Path(shutil.copytree(pushed, tmp_path / "repository"))


def refused(other: Path) -> str:
    """What a clone says that cannot pull; nothing may be put in place."""
    said = run(other, "dvc", "pull", fails=True)
    assert not (other / "set.npz").exists()
    return said


def clone(repository: Path) -> Path:
    other = repository.parent / "clone"
    run(repository.parent, "git", "clone", "-q", str(repository), str(other))
    (other / "ran.txt").unlink(missing_ok=True)
    return other


def redirect(folder: Path, address: str) -> None:
    run(folder, "dvc", "remote", "modify", "lab", "endpointurl", address)


def test_what_is_pushed_a_clone_pulls_and_runs_nothing(repository: Path) -> None:
    other = clone(repository)
    run(other, "dvc", "pull")
    assert (other / "set.npz").read_bytes() == CONTENT
    assert "up to date" in run(other, "dvc", "repro")
    assert not (other / "ran.txt").exists()


def test_the_run_cache_knows_results_that_no_commit_holds(repository: Path) -> None:
    (repository / "params.yaml").write_text("steps: 20\n")
    run(repository, "dvc", "repro", "-q")
    run(repository, "dvc", "push", "--run-cache")
    run(repository, "git", "checkout", "-q", ".")
    other = clone(repository)
    (other / "params.yaml").write_text("steps: 20\n")
    run(other, "dvc", "pull", "--run-cache")
    run(other, "dvc", "repro")
    assert not (other / "ran.txt").exists(), "taken from the run-cache"
    assert (other / "set.npz").read_bytes() == CONTENT


@pytest.mark.slow
def test_a_dead_remote_is_named_and_loses_nothing(repository: Path) -> None:
    other = clone(repository)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    for folder in (repository, other):
        redirect(folder, dead)
    assert "127.0.0.1" in refused(other)
    run(repository, "dvc", "push", fails=True)
    assert (repository / "set.npz").read_bytes() == CONTENT


@pytest.mark.slow
def test_a_remote_that_does_not_answer_is_given_up(repository: Path) -> None:
    other = clone(repository)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        redirect(other, f"http://127.0.0.1:{silent.getsockname()[1]}")
        run(other, "dvc", "remote", "modify", "lab", "read_timeout", "1")
        assert "timeout" in refused(other).lower()


class Refusing(BaseHTTPRequestHandler):
    """Answers whatever is asked with 403."""

    def refuse(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET = do_PUT = refuse

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_remote_that_refuses(repository: Path, refusing: str) -> None:
    other = clone(repository)
    redirect(other, refusing)
    assert "Forbidden" in refused(other)


@pytest.mark.slow
def test_a_bucket_that_is_not_there(repository: Path) -> None:
    other = clone(repository)
    run(other, "dvc", "remote", "modify", "lab", "url", "s3://no-such-bucket/sets")
    assert "set.npz" in refused(other), "what could not be fetched is named"


def test_a_damaged_object_is_refused(repository: Path, address: str) -> None:
    store = client(address)
    store.create_bucket(Bucket="damaged")
    (key,) = [found["Key"] for found in store.list_objects_v2(Bucket="lab", Prefix="sets/files/md5/")["Contents"]]
    store.put_object(Bucket="damaged", Key=key, Body=CONTENT[:-1] + b"?")
    other = clone(repository)
    run(other, "dvc", "remote", "modify", "lab", "url", "s3://damaged/sets")
    refused(other)


@pytest.fixture(scope="module")
def of_a_set(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose remote, a bucket, has a set that its folder has not. Not to be changed."""
    client(address).create_bucket(Bucket="sets")
    folder = tmp_path_factory.mktemp("set") / "repository"
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    settings = CONFIG.format(address).replace("s3://lab/sets", "s3://sets/lab")
    (folder / ".dvc" / "config").write_text("\n".join(line for line in settings.split("\n") if "timeout" not in line))
    path = save_set(folder / sets.FOLDER / f"{NAME}.npz")
    run(folder, "dvc", "add", "-q", str(path))
    run(folder, "dvc", "push", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "a set")
    path.unlink()
    shutil.rmtree(folder / ".dvc" / "cache")
    return folder


@pytest.fixture
def source(of_a_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with the same bucket, and keys that open it."""
    for name in WITH_KEYS.keys() - ENVIRONMENT.keys() - {"AWS_MAX_ATTEMPTS"}:
        monkeypatch.setenv(name, WITH_KEYS[name])
    return Path(shutil.copytree(of_a_set, tmp_path / "source"))


def not_loaded(source: Path | str) -> str:
    """The one line that says why the set cannot be loaded."""
    with pytest.raises(StoreError) as caught:
        rcig.load(NAME, source)
    assert "\n" not in str(caught.value)
    assert f"distilled set {NAME!r} of {source} could not be fetched" in str(caught.value)
    return str(caught.value)


def test_a_set_is_loaded_from_a_bucket(source: Path) -> None:
    assert rcig.load(NAME, source).meta == META
    assert not (source / sets.FOLDER / f"{NAME}.npz").exists()


def test_a_bucket_that_refuses_or_is_not_there_is_one_line(source: Path, refusing: str, address: str) -> None:
    run(source, "dvc", "remote", "modify", "lab", "url", "s3://no-such-bucket/sets")
    assert "bucket" in not_loaded(source)
    redirect(source, refusing)
    assert "Forbidden" in not_loaded(source)


def test_a_bucket_without_keys_is_one_line(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(source / "nothing"))
    assert "credentials" in not_loaded(source).lower()


def test_a_damaged_object_of_a_bucket_is_named(source: Path, address: str) -> None:
    store = client(address)
    (key,) = [found["Key"] for found in store.list_objects_v2(Bucket="sets", Prefix="lab/")["Contents"]]
    store.create_bucket(Bucket="torn")
    store.put_object(Bucket="torn", Key=key, Body=b"half")
    run(source, "dvc", "remote", "modify", "lab", "url", "s3://torn/lab")
    with pytest.raises(StoreError, match=rf"^s3://torn/{key}: damaged.* remove it there, and `dvc push` in a clone"):
        rcig.load(NAME, source)


class Silent:
    """Takes connections, says nothing, and counts them."""

    def __init__(self) -> None:
        self.socket, self.asked = socket.create_server(("127.0.0.1", 0), backlog=64), []
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.asked.append(self.socket.accept()[0])

    def close(self) -> None:
        self.socket.close()
        for connection in self.asked:
            connection.close()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """A server for which a second is what `SILENCE` seconds are for others."""
    monkeypatch.setattr(sets, "SILENCE", 1)
    server = Silent()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "http", "git over http", "git over git", "git over ssh"])
def test_a_remote_that_is_silent_is_given_up_within_a_minute(source: Path, silent: Silent, kind: str) -> None:
    patience, asked_for = SILENCE, str(source)
    if kind.startswith("git"):
        patience, asked_for = 5 * SILENCE, f"{silent.address}/repository.git".replace("http", kind.split()[-1])
    elif kind == "s3":
        redirect(source, silent.address)
    else:
        run(source, "dvc", "remote", "add", "-d", "web", f"{silent.address}/sets")
    not_loaded(asked_for)
    assert len(silent.asked) >= 1
    assert len(silent.asked) * patience < 60


def test_who_says_how_long_a_remote_may_be_silent_is_heard() -> None:
    from dvc_s3 import S3FileSystem

    system = S3FileSystem(read_timeout=300)
    sets._give_up_early(system)
    assert system.fs_args["config_kwargs"]["read_timeout"] == 300
    assert system.fs_args["config_kwargs"]["connect_timeout"] == SILENCE
