"""The verbs for arrays: distil a set of your own images, and judge any set. The pipeline's stages do not use them."""

import dataclasses
import hashlib
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np

from rcig import passes, plan, store, strict, whiten
from rcig.data import own, real, sources, splits
from rcig.data.looking import decide, depth, usual
from rcig.data.settings import Dataset, Own
from rcig.errors import DataError, ParamsError
from rcig.external import spaces
from rcig.fields import NAME, NOT_NEGATIVE, build, shown
from rcig.judging.evaluate import Evaluate, by_protocol
from rcig.judging.subject import Judged, Subject
from rcig.methods import saved
from rcig.run import distil as runs
from rcig.run.task import prepared, source_of
from rcig.sets import DistilledSet

YOURS = "yours"
"""the name of arrays where a name is asked for"""


class Yours(NamedTuple):
    """Labelled images of a caller, and what is known of them."""

    split: splits.Split
    class_names: list[str]
    dataset: Dataset
    origin: dict[str, Any]
    """where they lie, as rcig.data.settings.Own has it, and which are trained on; empty of arrays"""


def distil(
    images: np.ndarray | str | Path,
    labels: np.ndarray | None = None,
    method: str = "rcig",
    images_per_class: int = 1,
    *,
    steps: int = 1000,
    width: int = 32,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    dataset: Mapping[str, Any] | None = None,
    experiment: Mapping[str, Any] | None = None,
    **settings: Any,
) -> DistilledSet:
    """A distilled set of uint8 images (n, h, w, c) or (n, h, w), square, and their class numbers (n,) from 0 on.

    In place of arrays `images` may be a path, without labels: a folder of folders of classes, an .npz file, a local
    Hugging Face dataset or a prepared one of tensorflow-datasets, see docs/your-images.md. Its test part is not
    trained on. What is left out there, and test images that are training images too, are warned of.

    `steps` outer steps by networks of that `width`. `settings` are the method's, see its file in rcig/methods;
    `experiment` has more of an experiment's, as in params.yaml: {"loop": {"batch_size": 64}, "basis": 9}; `dataset`
    what is known of the images, see rcig.data.settings.Dataset, where it is not to be what `described` finds, and of a
    path what rcig.data.settings.Own has.

    A tenth of the images is held out; the accuracy on it is reported on the way to standard error. Raises DataError and
    ParamsError, which are ValueErrors, for arrays and settings that cannot be used.

    >>> distilled = rcig.distil(images, labels, images_per_class=1, steps=200, width=16)
    >>> distilled.images.shape, distilled.pixels.dtype
    ((10, 28, 28, 1), dtype('uint8'))
    """
    given = _mapping("dataset", {} if dataset is None else dataset)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(images, str | Path):
            yours = _on_disk(images, labels, given, Path(folder))
        else:
            yours = _in_memory(images, labels, given)
        if class_names is not None:
            yours = yours._replace(class_names=_names(class_names, yours.dataset.classes))
        raw = {"dataset": YOURS, "images_per_class": images_per_class, "method": method, "size": YOURS, "seeds": [seed]}
        more = _mapping("experiment", {} if experiment is None else experiment)
        for key in raw.keys() & more.keys():
            raise ParamsError(f"distil.experiment.{key}: is another argument's, or that of your images; leave it out")
        entry = strict.merged({"width": width, "loop": {"steps": steps}, "settings": settings}, more, raw)
        run = plan.resolve("distil", entry, {YOURS: yours.dataset}, {YOURS: {}}).run
        loaded = prepared(run, real.from_arrays(*yours.split, yours.class_names, yours.dataset))
        with jax.set_mesh(passes.all_devices()):
            made = runs.distil(source_of(run, yours.dataset, loaded), run, Path(folder), method, show=_told)
    meta = runs.meta(made, loaded, {"code": None, "data": None}) | {"depth": yours.dataset.depth} | yours.origin
    arrays = runs.arrays(made, loaded, meta)
    return DistilledSet(arrays["images"][0], arrays["labels"][0], arrays["pixels"][0], meta, loaded.whitening)


def _in_memory(images: Any, labels: Any, given: Mapping[str, Any]) -> Yours:
    images, labels = _checked(images, labels)
    if labels.max() >= len(labels):
        raise DataError(f"labels: expected class numbers below {len(labels)}, one image of each, got {labels.max()}")
    dataset = described(images, labels, given)
    return Yours(splits.Split(images, labels), _names(None, dataset.classes), dataset, {})


def _on_disk(path: str | Path, labels: Any, given: Mapping[str, Any], folder: Path) -> Yours:
    """The training images at a path, which stay in a file of the folder and are read when they are looked at."""
    if labels is not None:
        raise DataError(f"labels: those of {path} are read there; leave them out")
    opened, looked, listed, _ = decide(str(Path(path)), given, "dataset")
    if looked.broken:
        raise DataError(own.unreadable(str(path), looked.broken))
    again = [f"{looked.duplicates} test images are training images too, pixel by pixel"] if looked.duplicates else []
    for note in [*opened.notes, *again]:
        warnings.warn(f"{path}: {note}", stacklevel=3)
    train, test, _ = own.reading(opened, listed.resolution, listed.channels)
    sources.write(folder / "train.npz", train, opened.class_names)
    arrays = store.load(folder / "train.npz", store.SPLIT)
    split = splits.Split(arrays["images"], arrays["labels"])
    origin = {
        "own": dataclasses.asdict(listed.own),
        "own_parts": own.digest(listed.own, opened),
        "own_test": _content(test.chunks()),
    }
    return Yours(split, opened.class_names, listed.dataset, origin)


def described(images: np.ndarray, labels: np.ndarray, given: Mapping[str, Any] = {}) -> Dataset:
    """What is known of uint8 images (n, h, w, c) and class numbers (n,), with what is given over what is found.

    Colour images are whitened by ZCA, by blocks where 64 divides a side above 64, and used with their mirror images,
    grey ones by mean and deviation alone.
    """
    _, side, _, channels = images.shape
    found = usual(side, channels, int(labels.max()) + 1)
    known_data = strict.parse(Dataset, strict.merged(found, _mapping("dataset", given)), "dataset")
    if known_data.shape != images.shape[1:]:
        raise DataError(f"dataset: says images {known_data.shape}, these are {images.shape[1:]}; leave it out")
    return known_data


class Accuracy(NamedTuple):
    """Test accuracy of networks trained on one set, as fractions."""

    mean: float
    deviation: float
    """sample standard deviation; NaN of one network"""
    networks: np.ndarray
    """(k,)"""
    protocol: str
    width: int

    @classmethod
    def of(cls, networks: np.ndarray, protocol: str, width: int) -> "Accuracy":
        """Of the accuracies of k networks."""
        deviation = float(networks.std(ddof=1)) if len(networks) > 1 else math.nan
        return cls(float(networks.mean()), deviation, networks, protocol, width)


def judge(
    distilled: DistilledSet,
    on: str | Path | tuple[np.ndarray, np.ndarray],
    protocol: str = "loo2023",
    *,
    width: int = 128,
    networks: int = 2,
    seed: int = 0,
) -> Accuracy:
    """Test accuracy of networks that are trained on nothing but the set, by a protocol of rcig.judging.protocols.

    `on`: the name of a dataset that the pipeline has prepared in this folder; test images and class numbers as for
    `distil`; or, as a Path, the images on disk that the set was distilled from. The last two are whitened as it was.

    Raises DataError for images of another shape or more classes and for a source whose test images have changed since,
    ParamsError for an unknown protocol and where the whitening is not known, and StoreError where it is another one.

    >>> rcig.judge(distilled, (test_images, test_labels), width=32).mean
    0.87
    """
    settings = strict.parse(Evaluate, {"protocols": [protocol], "width": width, "networks": networks}, "judge")
    seed = strict.convert(Annotated[int, NOT_NEGATIVE], seed, "judge.seed")
    _check_usable(distilled)
    if not isinstance(on, str | Path | tuple) or (isinstance(on, tuple) and len(on) != 2):
        raise DataError(f"judge: expected on to be a dataset's name, a Path or (images, labels), got {shown(on)}")
    classes, shape, meta = distilled.labels.shape[1], distilled.images.shape[1:], distilled.meta
    train: Callable[[], splits.Split] | None = None
    if isinstance(on, str):
        if not NAME.fullmatch(on):
            raise ParamsError(
                f"judge: expected on to be the name of a dataset, got {shown(on)}; a path is given as Path({on!r})"
            )
        test, _ = real.load_split(on, "test")
        train = partial(_train, on)
        whitening = distilled.whitening
        if whitening is None or meta["method"] != "external":
            whitening = spaces.of_set(meta, real.load_whitening(on), lambda: train().images)
    else:
        test = _test_part(on, distilled.meta, shape) if isinstance(on, Path) else splits.Split(*_checked(*on))
        if distilled.whitening is None:
            raise ParamsError("judge: the whitening of this set is not known; give the name of its dataset as `on`")
        whitening = distilled.whitening
    if test.images.shape[1:] != shape or test.labels.max() >= classes:
        raise DataError(
            f"judge: the set has images {shape} of {classes} classes, the test images are {test.images.shape[1:]} of"
            f" {test.labels.max() + 1}; judge it on its own dataset"
        )
    parts = {"images": distilled.images[None], "pixels": distilled.pixels[None]}
    saved.check_whitening(f"judge on {on if isinstance(on, str) else 'arrays'}", parts, meta, whitening)
    given = {"mirror": meta.get("mirror", False), "depth": meta.get("depth", depth(shape[0]))}
    dataset = described(test.images, test.labels, given | {"classes": classes})
    per_class = -(-len(distilled.images) // classes)
    subject = Subject(
        Judged(meta["dataset"], per_class, (seed,), dataset.mirror),
        dataset,
        whiten.on_device(whitening),
        distilled.images[None],
        distilled.labels[None],
        splits.whole(test),
        meta["class_names"],
        meta,
        train=train,
    )
    found = by_protocol(subject, settings, *settings.protocols).rows
    return Accuracy.of(np.array([row["value"] for row in found]), protocol, found[0]["width"])


def _test_part(path: Path, meta: Mapping[str, Any], shape: tuple[int, ...]) -> splits.Split:
    """The test images at the path that a set was distilled from, reduced as those were."""
    said = meta.get("own", {})
    if "path" not in said or Path(said["path"]) != path:
        raise DataError(f"judge: the set was not distilled from {path}, but {said.get('path', 'arrays')}; give that")
    there = build(Own, said)
    opened = own.settle(there, own.find(there))
    chunks = list(own.reading(opened, shape[0], shape[2]).test.chunks())
    found = _content(chunks)
    # Sets that were distilled before it was noted do not say what the test part was.
    if own.digest(there, opened) != meta.get("own_parts") or found != meta.get("own_test", found):
        raise DataError(
            f"judge: {path} has other images or classes than when the set was distilled, which may be tested on what"
            " they were trained on; distil it again, or give test images as arrays"
        )
    return splits.Split(*(np.concatenate(arrays) for arrays in zip(*chunks, strict=True)))


def _content(chunks: Iterable[splits.Split]) -> str:
    """16 digits that name the images and labels of a part, read piece by piece."""
    content = hashlib.sha256()
    for chunk in chunks:
        for array in chunk:
            content.update(array.tobytes())
    return content.hexdigest()[:16]


def _train(dataset: str) -> splits.Split:
    return real.load_split(dataset, "train")[0]


def _check_usable(distilled: Any) -> None:
    """Raise DataError for what is no set that networks can be trained on."""
    if not isinstance(distilled, DistilledSet):
        raise DataError(f"judge: expected a set as rcig.load and rcig.distil return it, got {shown(distilled)}")
    images, labels, pixels, meta, whitening = distilled
    arrays = {"images": (images, "f", 4), "labels": (labels, "f", 2), "pixels": (pixels, "u", 4)}
    for name, (array, kind, dimensions) in arrays.items():
        if not (isinstance(array, np.ndarray) and array.dtype.kind == kind and array.ndim == dimensions and array.size):
            raise DataError(f"judge: {name} are no array of a distilled set; give it as rcig.load returns it")
    if len(images) != len(labels) or images.shape != pixels.shape:
        raise DataError(f"judge: a set of {len(images)} images, {len(labels)} labels and {len(pixels)} pixel images")
    if not (np.isfinite(images).all() and np.isfinite(labels).all()):
        raise DataError("judge: a set with NaN or infinite numbers; distil it again")
    names = meta.get("class_names") if isinstance(meta, Mapping) else None
    said = names is not None and "dataset" in meta and "method" in meta
    if not (said and isinstance(names, Sequence) and len(names) == labels.shape[1]):
        raise DataError("judge: its meta does not say dataset, method and the class_names of all its labels")
    if not isinstance(whitening, whiten.Whitening | None):
        raise DataError(f"judge: expected its whitening as rcig.distil makes it, or None, got {shown(whitening)}")


def _names(given: Sequence[str] | None, classes: int) -> list[str]:
    """The names of the classes, which are their numbers where none are given."""
    if given is None:
        return [str(i) for i in range(classes)]
    listed = isinstance(given, Iterable) and not isinstance(given, Mapping | str)
    names = [str(name) if isinstance(name, str) else name for name in given] if listed else []
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        raise DataError(f"class_names: expected {classes} names, got {shown(given)}")
    return names


def _mapping(where: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ParamsError(f"{where}: expected a mapping, got {shown(given)}")
    return dict(given)


def _told(step: int, distilled: Any, accuracy: float) -> None:
    if not sys.stderr.isatty():  # where the progress line is not shown
        print(f"step {step}: held-out accuracy {100 * accuracy:.1f} %", file=sys.stderr, flush=True)


def _checked(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images as (n, h, w, c) and labels as int32. Raises DataError where they are none."""
    try:
        images, labels = np.asarray(images), np.asarray(labels)
    except ValueError as error:
        raise DataError(f"images, labels: expected arrays ({error})") from None
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or not images[:1].size:
        raise DataError(
            f"images: expected uint8 (n, h, w, c) with h = w, got {images.dtype} {images.shape};"
            " turn brightness from 0 to 1 into bytes by (255 * images).round().astype('uint8')"
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels: expected whole numbers ({len(images)},), got {labels.dtype} {labels.shape}")
    if not len(labels) or labels.min() < 0:
        raise DataError(f"labels: expected class numbers from 0 on, got {labels.min() if len(labels) else 'none'}")
    return images, labels.astype(np.int32)
