"""The real code that downloads and prepares every dataset, on small archives in the official layouts."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import archives
import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from conftest import ROOT
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import mnist

from rcig.data import builders, catalogue, sources
from rcig.errors import DataError

DOWNLOADED = {name: source for name, source in catalogue.SOURCES.items() if source.builder}
IMAGENETTE = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip
EXPECTED = {  # train, test, shape, classes, a class name
    "mnist": (40, 20, (28, 28, 1), 10, "3"),
    "fashion_mnist": (40, 20, (28, 28, 1), 10, "Dress"),
    "cifar10": (50, 10, (32, 32, 3), 10, "name3"),
    "cifar100": (100, 100, (32, 32, 3), 100, "name3"),
    "tiny_imagenet": (400, 200, (64, 64, 3), 200, "n00000000"),
    "caltech_birds2011": (200, 200, (32, 32, 3), 200, "3"),
    "imagenette": (20, 10, (32, 32, 3), 10, "chain saw"),
    "imagewoof": (20, 10, (32, 32, 3), 10, "English foxhound"),
    "imagenet_resized": (1000, 1000, (64, 64, 3), 1000, "Australian terrier"),
}


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local server that has every archive under its host's name; its address."""
    folder = tmp_path_factory.mktemp("web")
    everything = archives.official(IMAGENETTE)
    woof = everything["s3.amazonaws.com/fast-ai-imageclas/imagewoof2-160.tgz"]
    archives.write(folder, everything | {"cut/imagewoof2-160.tgz": woof[: len(woof) // 2]})
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def internet(web: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every URL leads to the local server, whose archives are not those of the official checksums; TFDS_DATA_DIR."""
    get = requests.Session.get

    def redirected(session: requests.Session, url: str, **options: object) -> requests.Response:
        return get(session, f"{web}/{url.split('://')[1]}", **options)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "get", redirected)
    monkeypatch.setattr(checksums, "get_all_url_infos", dict)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "url_infos", {})
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 40)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 20)
    monkeypatch.setattr(builders, "answers", lambda url: True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_dataset_is_downloaded_prepared_and_read_without_tensorflow(name: str, internet: Path) -> None:
    train, test, shape, classes, class_name = EXPECTED[name]
    builders.prepare(name)
    dataset = sources.open_dataset(name, 32)
    assert (dataset.train.examples, dataset.test.examples) == (train, test)
    assert dataset.train.shape == dataset.test.shape == shape
    assert len(dataset.class_names) == classes
    assert dataset.class_names[3] == class_name
    for part in (dataset.train, dataset.test):
        labels = np.concatenate([chunk.labels for chunk in part.chunks()])
        assert set(labels) == set(range(classes))
    assert "tensorflow" not in sys.modules
    before = sorted(internet.rglob("*"))
    builders.prepare(name)
    assert sorted(internet.rglob("*")) == before, "a second time changes nothing"


@pytest.mark.slow
def test_the_images_are_those_of_the_archive(internet: Path) -> None:
    builders.prepare("cifar100")
    chunks = list(sources.open_dataset("cifar100", 32).train.chunks())
    expected = archives.picture(0, (100, 3, 32, 32)).transpose(0, 2, 3, 1)
    found = {int(label): image for chunk in chunks for image, label in zip(*chunk, strict=True)}
    for label in range(100):
        np.testing.assert_array_equal(found[label], expected[label])


@pytest.mark.slow
def test_classes_of_tiny_imagenet_are_in_the_order_of_its_own_list(internet: Path) -> None:
    builders.prepare("tiny_imagenet")
    assert sources.open_dataset("tiny_imagenet", 64).class_names[:3] == ["Egyptian cat", "reel", "goldfish"]
    official = tfds.builder("tiny_imagenet", data_dir=internet, file_format="array_record")
    assert official.info.features["label"].names[:3] == list(archives.TINY)


@pytest.mark.slow
def test_the_official_builder_opens_what_ours_has_prepared(internet: Path) -> None:
    builders.prepare("caltech_birds2011")
    bird = tfds.builder("caltech_birds2011", data_dir=internet, file_format="array_record").as_data_source("test")[0]
    assert bird["segmentation_mask"].shape == (40, 60, 1)
    np.testing.assert_allclose(bird["bbox"], [0.1, 0.1, 0.6, 0.6], atol=1e-6)
    assert bird["image/filename"].decode().split("/")[0].lower().endswith(bird["label_name"].decode())


@pytest.mark.slow
def test_two_processes_that_prepare_the_same_dataset_do_it_once(web: str, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, pytest; sys.path.insert(0, sys.argv[1]); import test_builders as t;"
        "patch = pytest.MonkeyPatch(); t.internet.__wrapped__(sys.argv[2], patch, pathlib.Path(sys.argv[3]));"
        "t.builders.prepare('imagewoof'); print(t.sources.open_dataset('imagewoof', 32).train.examples)"
    )
    command = [sys.executable, "-c", code, str(ROOT / "tests"), web, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        out, error = process.communicate()
        assert process.returncode == 0, error
        assert out.split()[-1] == "20"
    assert [path.name for path in (tmp_path / "imagewoof" / "160px-v2").iterdir()] == ["1.0.0"]


@pytest.mark.slow
def test_a_download_that_is_cut_leaves_nothing_that_looks_prepared(
    internet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(builders.Imagewoof, "URL", "http://cut/")
        with pytest.raises(Exception, match="Error while extracting"):
            builders.prepare("imagewoof")
    with pytest.raises(DataError, match="imagewoof is not prepared"):
        sources.open_dataset("imagewoof", 32)
    assert not list((internet / "imagewoof").rglob("*.array_record*"))


def test_nothing_to_prepare() -> None:
    with pytest.raises(DataError, match="nothing to prepare for 'mnist_sample'; known: caltech_birds2011, cifar10"):
        builders.prepare("mnist_sample")


def test_without_a_network_preparing_ends_with_one_line(tmp_path: Path) -> None:
    # The connection would take an hour: that this ends at all shows that it is waited for no longer than is said.
    assert builders.REACH_SECONDS < 5
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: mnist is not in {tmp_path} (TFDS_DATA_DIR) and ")
    assert "does not answer; prepare it on a machine with a network" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".mnist.lock"]


UNREACHABLE = """
'unreachable: prepares a dataset of a server that never answers'

import socket, time
from rcig.data import builders
from stages.common import run

socket.create_connection = lambda *_: time.sleep(3600)
run(lambda: builders.prepare("mnist"))
"""


def test_a_server_that_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builders, "getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        assert builders.answers(url)
    assert not builders.answers(url)


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_where_a_proxy_leads_out_it_is_the_proxy_that_must_answer(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"{scheme}127.0.0.1:{proxy.getsockname()[1]}")
        assert builders.answers("https://images.invalid/x")
        monkeypatch.setenv("no_proxy", "images.invalid")
        assert not builders.answers("https://images.invalid/x")
    monkeypatch.delenv("no_proxy")
    assert not builders.answers("https://images.invalid/x")
