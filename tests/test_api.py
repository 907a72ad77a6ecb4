"""The library's verbs on arrays: what comes back, that it is what the pipeline would make, and what is refused."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rcig
from rcig import api, store, whiten
from rcig.data import real
from rcig.errors import DataError, Foreseen, ParamsError, StoreError
from rcig.judging.attacks import ATTACKS
from rcig.methods import registry
from rcig.run import distil as runs
from rcig.run.settings import Loop, Run
from rcig.run.task import source_of, typed
from rcig.sets import DistilledSet

CLASSES = 3


def spots(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 8, 8, 1) whose class is the place of a bright spot, and their class numbers."""
    labels = np.arange(count) % CLASSES
    images = np.random.default_rng(seed).integers(0, 60, (count, 8, 8, 1))
    images[np.arange(count), 2 * labels + 1, 3] += 150
    return images.astype(np.uint8), labels


SETTINGS = {"steps": 4, "width": 4, "experiment": {"loop": {"batch_size": 16, "validate_every": 2}}}


@pytest.fixture(scope="module")
def distilled() -> DistilledSet:
    return rcig.distil(*spots(60, 0), images_per_class=2, class_names=["a", "b", "c"], **SETTINGS)


def test_a_set_is_what_load_would_return(distilled: DistilledSet) -> None:
    assert isinstance(distilled, DistilledSet)
    assert (distilled.images.shape, distilled.labels.shape) == ((6, 8, 8, 1), (6, CLASSES))
    assert (distilled.images.dtype, distilled.pixels.dtype) == (np.float32, np.uint8)
    assert distilled.whitening is not None
    np.testing.assert_array_equal(distilled.pixels, whiten.to_pixels(distilled.whitening, distilled.images))
    assert distilled.meta["class_names"] == ["a", "b", "c"]
    assert (distilled.meta["method"], distilled.meta["seeds"]) == ("rcig", [0])


def test_it_is_the_set_of_the_same_run_in_the_pipeline(distilled: DistilledSet, tmp_path: Path) -> None:
    images, labels = spots(60, 0)
    dataset = api.described(images, labels)
    run = typed(
        Run(
            dataset="x",
            images_per_class=2,
            method="rcig",
            module="implicit",
            size="x",
            width=4,
            mirror=False,
            needs="inputs/none",
            seeds=(0,),
            chunk=None,
            initialisation="real",
            basis=None,
            boost=None,
            hardness=None,
            loop=Loop(4, 16, 2),
            settings=dict(registry.load("implicit").MEMBERS["rcig"].fixed),
        )
    )
    loaded = real.from_arrays(images, labels.astype(np.int32), ["a", "b", "c"], dataset)
    made = runs.distil(source_of(run, dataset, loaded), run, tmp_path, "test")
    np.testing.assert_array_equal(made.sets[0].images, distilled.images)
    np.testing.assert_array_equal(made.sets[0].labels, distilled.labels)


def test_networks_that_see_only_the_set_find_the_spots(distilled: DistilledSet) -> None:
    found = rcig.judge(distilled, spots(90, 1), "inner_adam", width=8, networks=3)
    assert found.networks.shape == (3,)
    assert found.mean == pytest.approx(found.networks.mean())
    assert found.deviation == pytest.approx(found.networks.std(ddof=1))
    assert found.mean > 0.6
    shuffled = distilled._replace(labels=distilled.labels[[2, 3, 4, 5, 0, 1]])
    assert rcig.judge(shuffled, spots(90, 1), "inner_adam", width=8).mean < 0.3, "the labels are those of other spots"


def test_a_set_is_not_judged_on_a_dataset_of_another_whitening(
    distilled: DistilledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = spots(90, 1)
    arrays = {"images": images, "labels": labels.astype(np.int32), "class_names": ["a", "b", "c"]}
    store.save(real.DATA / "d" / "test.npz", store.SPLIT, **arrays)
    own = distilled.whitening
    other = whiten.fit(images, "zca")._replace(mean=own.mean, std=own.std)
    for whitening, message in ((own._replace(mean=own.mean + 1), "mean"), (other, "its pixels are not its images")):
        store.save(real.DATA / "d" / "whitening.npz", store.WHITENING, **whitening._asdict())
        with pytest.raises(StoreError, match=f"judge on d: .*{message}"):
            rcig.judge(distilled, "d", "inner_adam", width=4)


def test_grey_images_may_lack_their_channel_and_colour_is_whitened_with_mirror_images() -> None:
    images, labels = spots(60, 0)
    assert api.described(images, labels).whitening == "standard"
    colour = api.described(images.repeat(3, 3), labels)
    assert (colour.whitening, colour.mirror, colour.channels) == ("zca", True, 3)
    flat = rcig.distil(images[..., 0], labels, "random_real")
    np.testing.assert_array_equal(flat.images, rcig.distil(images, labels, "random_real").images)
    assert {jnp.asarray(image).tobytes() for image in flat.pixels} <= {image.tobytes() for image in images}


def test_depth_leaves_three_or_four_pixels_as_in_the_paper() -> None:
    assert [api.depth(side) for side in (28, 32, 64, 128)] == [3, 3, 4, 5]


IMAGES, LABELS = spots(60, 0)
BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Foreseen], str]] = {
    "brightness": ((IMAGES / 255, LABELS), {}, DataError, r"expected uint8 \(n, h, w, c\) with h = w, got float64"),
    "no square": ((IMAGES[:, :4], LABELS), {}, DataError, r"got uint8 \(60, 4, 8, 1\)"),
    "one label too few": ((IMAGES, LABELS[1:]), {}, DataError, r"labels: expected whole numbers \(60,\), got int64"),
    "labels from -1": ((IMAGES, LABELS - 1), {}, DataError, "expected class numbers from 0 on, got -1"),
    "an unknown method": ((IMAGES, LABELS, "rcgi"), {}, ParamsError, "distil.method: unknown method 'rcgi'; known: "),
    "an unknown setting": ((IMAGES, LABELS), {"wdth": 3}, ParamsError, "distil.settings.wdth: unknown key 'wdth'"),
    "a setting out of range": ((IMAGES, LABELS), {"learning_rate": -1}, ParamsError, "learning_rate to be positive"),
    "no images": ((IMAGES, LABELS), {"images_per_class": 0}, ParamsError, "images_per_class to be positive, got 0"),
    "more than there are": ((IMAGES, LABELS), {"images_per_class": 19}, ParamsError, "19 images per class asked for"),
    "a name too few": ((IMAGES, LABELS), {"class_names": ["a"]}, DataError, r"expected 3 names, got \['a'\]"),
    "names that are numbers": ((IMAGES, LABELS), {"class_names": [1, 2, 3]}, DataError, "expected 3 names, got"),
    "no names": ((IMAGES, LABELS), {"class_names": 3}, DataError, "expected 3 names, got 3"),
    "no arrays": (([[1], [1, 2]], LABELS), {}, DataError, "images, labels: expected arrays"),
    "no pixels": ((IMAGES[:, :0, :0], LABELS), {}, DataError, r"got uint8 \(60, 0, 0, 1\)"),
    "a class too far": ((IMAGES, LABELS * 10**9), {}, DataError, "expected class numbers below 60, .* got 2000000000"),
    "too few held out": ((IMAGES, LABELS), {"dataset": {"held_out": 0.01}}, ParamsError, "held_out: 0.01 of every cl"),
    "other images": ((IMAGES, LABELS), {"dataset": {"channels": 3}}, DataError, r"says images \(8, 8, 3\), these are"),
    "no mapping of data": ((IMAGES, LABELS), {"dataset": 3}, ParamsError, "dataset: expected a mapping, got 3"),
    "no mapping": ((IMAGES, LABELS), {"experiment": 3}, ParamsError, "experiment: expected a mapping, got 3"),
    **{
        f"an experiment's {key}": (
            (IMAGES, LABELS),
            {"experiment": {key: value}},
            ParamsError,
            rf"distil\.experiment\.{key}: is another argument's",
        )
        for key, value in {"seeds": [1], "method": "vig", "dataset": "mnist", "images_per_class": 2}.items()
    },
    "no steps": ((IMAGES, LABELS), {"steps": 0}, ParamsError, r"loop\.steps: rcig learns nothing in 0 steps"),
    "a seed below 0": ((IMAGES, LABELS), {"seed": -1}, ParamsError, "expected seeds from 0 on, got .-1"),
    "endless steps": ((IMAGES, LABELS), {"steps": 2**31}, ParamsError, "expected steps to be below 2147483648, got"),
    "an infinite rate": ((IMAGES, LABELS), {"learning_rate": np.inf}, ParamsError, "to be below 2147483648, got inf"),
    "no rate": ((IMAGES, LABELS), {"learning_rate": np.nan}, ParamsError, "learning_rate to be positive, got nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_distilled(case: str) -> None:
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message) as found:
        rcig.distil(*arguments, **options)
    assert "\n" not in str(found.value)


def test_whole_numbers_and_names_of_numpy_are_taken() -> None:
    kind = api.strict.convert(int, np.int64(3), "seed")
    assert (kind, type(kind)) == (3, int)
    assert api._names(np.array(["a", "b"]), 2) == ["a", "b"]


def test_one_test_image_is_enough(distilled: DistilledSet) -> None:
    of_last = np.flatnonzero(LABELS == 2)
    found = rcig.judge(distilled, (IMAGES[of_last[:1]], LABELS[of_last[:1]]), width=4, networks=1)
    assert found.mean in (0, 1)


def test_what_cannot_be_judged(distilled: DistilledSet) -> None:
    with pytest.raises(ParamsError, match=r"expected one of loo2023, .* got 'loo2024'"):
        rcig.judge(distilled, spots(9, 1), "loo2024")
    with pytest.raises(DataError, match=r"images \(8, 8, 1\) of 3 classes, the test images are \(8, 8, 3\)"):
        rcig.judge(distilled, (IMAGES.repeat(3, 3), LABELS))
    for on in (3, (IMAGES,), (IMAGES, LABELS, LABELS)):
        with pytest.raises(DataError, match=r"expected on to be a dataset's name, a Path or \(images, labels\), got"):
            rcig.judge(distilled, on)
    for on in ("../x", "inputs/leaves", "leaves.npz"):
        with pytest.raises(ParamsError, match=rf"the name of a dataset, got '{on}'; a path is given as Path\('{on}'\)"):
            rcig.judge(distilled, on)
    with pytest.raises(ParamsError, match=r"judge\.seed: expected seed not to be negative, got -1"):
        rcig.judge(distilled, (IMAGES, LABELS), seed=-1)
    with pytest.raises(DataError, match=r"expected a set as rcig\.load and rcig\.distil return it, got 'x'"):
        rcig.judge("x", (IMAGES, LABELS))
    for message, change in {
        "its meta does not say dataset, method and the class_names": {"meta": {}},
        "of all its labels": {"meta": distilled.meta | {"class_names": 3}},
        "a set with NaN or infinite numbers": {"images": distilled.images * np.nan},
        "images are no array of a distilled set": {"images": distilled.pixels},
        "labels are no array": {"labels": list(distilled.labels)},
        "pixels are no array": {"pixels": None},
        "a set of 2 images, 6 labels": {"images": distilled.images[:2], "pixels": distilled.pixels[:2]},
        "expected its whitening as": {"whitening": 3},
    }.items():
        with pytest.raises(DataError, match=message):
            rcig.judge(distilled._replace(**change), (IMAGES, LABELS))
    with pytest.raises(StoreError, match="its pixels are not its images by the whitening"):
        rcig.judge(distilled._replace(images=distilled.images + 1), (IMAGES, LABELS))
    with pytest.raises(ParamsError, match="whitening of this set is not known"):
        rcig.judge(distilled._replace(whitening=None), spots(9, 1))


def test_verbs_stay_functions_whatever_is_imported() -> None:
    assert ATTACKS, "a module of the package that judges has been imported"
    assert callable(rcig.judge)
    assert callable(rcig.distil)
    assert callable(rcig.load)
    with pytest.raises(AttributeError, match="has no attribute 'distill'"):
        rcig.distill  # noqa: B018
