"""Preparing datasets with tensorflow-datasets, but without TensorFlow; and builders for those that it lacks.

Importing this module makes `tfds.builder` find `tiny_imagenet` and `imagewoof`.
"""

import glob
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock
from PIL import Image
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError
from tensorflow_datasets.core.features import image_feature
from tensorflow_datasets.image_classification import caltech_birds

from rcig.data.catalogue import SOURCES, data_dir
from rcig.errors import DataError

REACH_SECONDS = 3.0
"""time for a server to answer before a download is tried"""

FORMAT = "array_record"
"""the files that can be read without TensorFlow"""

Example = tuple[str, dict[str, Any]]


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """200 classes of ImageNet at 64 × 64 pixels; the official test split has no labels and is left out."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(shape=(64, 64, 3)), "label": tfds.features.ClassLabel(num_classes=200)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
        folder = Path(dl_manager.download_and_extract(self.URL)) / "tiny-imagenet-200"
        self.info.features["label"].names = (folder / "wnids.txt").read_text().split()
        train = [
            (path, name)
            for name in self.info.features["label"].names
            for path in sorted((folder / "train" / name / "images").glob("*.JPEG"))
        ]
        lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
        validation = [(folder / "val" / "images" / file, name) for file, name, *_ in (row.split("\t") for row in lines)]
        return {"train": self._generate_examples(train), "validation": self._generate_examples(validation)}

    def _generate_examples(self, labelled: list[tuple[Path, str]]) -> Iterator[Example]:
        for path, name in labelled:
            yield path.name, {"image": path, "label": name}


class Imagewoof(tfds.core.GeneratorBasedBuilder):
    """Ten breeds of dogs from ImageNet, in the second version's split; configs as those of `imagenette`."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=f"{size}-v2") for size in ("160px", "320px", "full-size"))
    URL = "https://s3.amazonaws.com/fast-ai-imageclas/"
    CLASSES = (
        "n02086240", "n02087394", "n02088364", "n02089973", "n02093754",
        "n02096294", "n02099601", "n02105641", "n02111889", "n02115641",
    )  # fmt: skip

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=self.CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
        size = self.builder_config.name.removesuffix("-v2").removesuffix("px")
        name = "imagewoof2" if size == "full-size" else f"imagewoof2-{size}"
        folder = Path(dl_manager.download_and_extract(f"{self.URL}{name}.tgz")) / name
        parts = {"train": folder / "train", "validation": folder / "val"}
        return {split: self._generate_examples(part) for split, part in parts.items()}

    def _generate_examples(self, folder: Path) -> Iterator[Example]:
        for name in self.CLASSES:
            for path in sorted((folder / name).glob("*.JPEG")):
                yield path.name, {"image": path, "label": name}


class CaltechBirds2011(caltech_birds.CaltechBirds2011, skip_registration=True):  # type: ignore[call-arg]
    """The official dataset, read from the official archives without OpenCV and with one mask in memory at a time."""

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
        urls = self._caltech_birds_info
        images, masks = map(Path, dl_manager.download_and_extract([urls.images_url, urls.segmentations_url]))
        folder = images / "CUB_200_2011"
        names, parts, boxes = (
            dict(line.split(maxsplit=1) for line in (folder / file).read_text().splitlines())
            for file in ("images.txt", "train_test_split.txt", "bounding_boxes.txt")
        )
        chosen = {
            split: [(names[key], boxes[key]) for key in names if parts[key] == part]
            for split, part in (("train", "1"), ("test", "0"))
        }
        return {
            split: self._generate_examples(folder / "images", masks / "segmentations", rows)
            for split, rows in chosen.items()
        }

    def _generate_examples(self, images: Path, masks: Path, rows: list[tuple[str, str]]) -> Iterator[Example]:
        for name, box in rows:
            species, file = name.split("/")
            number, label = species.split(".")
            with Image.open(images / name) as image:
                width, height = image.size
            left, top, wide, high = map(float, box.split())
            yield (
                name,
                {
                    "image": images / name,
                    "image/filename": name,
                    "label": int(number) - 1,
                    "label_name": label.lower(),
                    "bbox": tfds.features.BBox(
                        ymin=top / height,
                        xmin=left / width,
                        ymax=min((top + high) / height, 1.0),
                        xmax=min((left + wide) / width, 1.0),
                    ),
                    "segmentation_mask": (masks / species / file).with_suffix(".png"),
                },
            )


def prepare(name: str) -> None:
    """Download a dataset of SOURCES into TFDS_DATA_DIR and prepare it; one process at a time, the others wait.

    Raises DataError where there is nothing to prepare, within REACH_SECONDS where its server does not answer, and where
    what comes is cut or of another checksum.
    """
    downloadable = sorted(key for key, source in SOURCES.items() if source.builder)
    if name not in downloadable:
        raise DataError(f"nothing to prepare for {name!r}; known: {', '.join(downloadable)}")
    logging.getLogger("absl").setLevel(logging.ERROR)
    folder, source = data_dir(), SOURCES[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock").acquire()
    except OSError as error:
        raise DataError(
            f"{folder} (TFDS_DATA_DIR): {error.strerror}; let TFDS_DATA_DIR name a folder that can be written to"
        ) from None
    with lock:
        builder = builder_for(name, folder)
        if builder.is_prepared():
            return
        if not answers(source.url):
            raise DataError(
                f"{name} is not in {folder} (TFDS_DATA_DIR) and {urlsplit(source.url).hostname} does not answer;"
                f" prepare it on a machine with a network (python -m stages.prepare {name}) and copy"
                f" {builder.data_dir} from there"
            )
        with without_tensorflow():
            # One download folder a dataset: mnist and fashion_mnist share file names.
            downloads = folder / "downloads" / name
            try:
                builder.download_and_prepare(
                    download_dir=downloads, download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
            except (OSError, ExtractError, NonMatchingChecksumError) as error:  # OSError: of requests as well
                raise DataError(
                    f"{name} could not be downloaded and prepared ({' '.join(str(error).split())}); remove {downloads}"
                    f" and run it again: python -m stages.prepare {name}"
                ) from None


def builder_for(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    """The builder that prepares a dataset of SOURCES into `folder` as array_record files, or has done so.

    Raises DataError for what lies there damaged, unreadable or in another format: only array_record files can be read
    without TensorFlow.
    """
    own, official = {"caltech_birds2011": CaltechBirds2011}, SOURCES[name].builder
    build = own[name] if name in own else lambda **options: tfds.builder(official, **options)
    try:
        found = build(data_dir=folder)
        prepared = found.info.file_format.value if found.is_prepared() else FORMAT
        if prepared == FORMAT:
            return build(data_dir=folder, file_format=FORMAT)
    except Exception as error:  # whatever tensorflow-datasets, protobuf or the system raise for damaged files
        what = " ".join(str(error).split())
        raise DataError(
            f"{name} in {folder} (TFDS_DATA_DIR) cannot be opened ({what}); make it readable, or remove"
            f" {folder / official} and prepare it anew: python -m stages.prepare {name}"
        ) from None
    raise DataError(
        f"{name} in {found.data_dir} is prepared as {prepared}, which only TensorFlow reads; let TFDS_DATA_DIR name"
        f" another folder, or remove this one, and run `python -m stages.prepare {name}`"
    )


def anew(name: str, builder: tfds.core.DatasetBuilder) -> str:
    """What to do about a dataset whose files are no good."""
    return f"remove {builder.data_dir} and prepare the dataset anew: python -m stages.prepare {name}"


def answers(url: str) -> bool:
    """Whether the server of the URL takes a connection within REACH_SECONDS, or the proxy that leads to it."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(str(parts.hostname)) else getproxies().get(parts.scheme)
    if proxy is not None:
        parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    address = (parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80))
    found: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection(address, REACH_SECONDS).close()
            found.append(True)
        except OSError:
            pass

    # In a thread of its own: a name that cannot be looked up may block for much longer, and nothing can stop that.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return bool(found)


class Never:
    """No object is one."""


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """Lends tensorflow-datasets Python's file functions and Pillow where it would call TensorFlow to prepare data."""
    if find_spec("tensorflow"):
        yield
        return
    gfile = SimpleNamespace(
        GFile=open,
        glob=glob.glob,
        listdir=os.listdir,
    )
    stand_in = SimpleNamespace(
        __version__="2.1.0",
        RaggedTensor=Never,
        Tensor=Never,
        compat=SimpleNamespace(as_text=str),
        io=SimpleNamespace(gfile=gfile),
    )

    def encode(self: Any, pixels: np.ndarray) -> bytes:
        return self._encode_pil_image(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))

    sys.modules["tensorflow"] = stand_in  # type: ignore[assignment]
    try:
        with patch.object(image_feature._ImageEncoder, "_encode_image", encode):
            yield
    finally:
        del sys.modules["tensorflow"]
