"""prepare DATASET: download a dataset and prepare it for reading without TensorFlow. Not a stage; needs a network."""

import os
from pathlib import Path

import tensorflow_datasets as tfds

from rcig.data import SOURCES, DataError
from stages.common import run


def main(name: str) -> None:
    if name not in SOURCES or name == "mnist_sample":
        raise DataError(
            f"nothing to prepare for {name!r}; known: {', '.join(sorted(SOURCES.keys() - {'mnist_sample'}))}"
        )
    folder = Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))
    builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    # One download folder a dataset: mnist and fashion_mnist share file names.
    builder.download_and_prepare(download_dir=folder / "downloads" / name)


if __name__ == "__main__":
    run(main)
