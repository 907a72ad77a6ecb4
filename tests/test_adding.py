"""The verb `add`: what it writes into params.yaml, what it says, what it refuses."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import SAMPLE, resolved
from workspaces import ROOT, sections, yaml

import rcig
from rcig import adding, plan, planned, strict
from rcig.data import looking, own
from rcig.data.settings import Listed, Own
from rcig.data.splits import Split, whole
from rcig.errors import DataError, ParamsError
from rcig.methods.feeds import batch_index
from rcig.run.task import weights_of


def spots(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 8, 8) whose class is the place of a bright spot, and their class numbers."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(seed).integers(0, 60, (count, 8, 8))
    images[np.arange(count), 2 * labels + 1, 3] += 150
    return images.astype(np.uint8), labels


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's params.yaml, and an .npz file of images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "none").touch()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    images, labels = spots(60)
    np.savez("inputs/spots.npz", images=images, labels=labels, class_names=np.array(["top", "middle", "foot"]))
    return tmp_path


def test_one_line_is_added_and_all_others_stay_as_they_are(workspace: Path) -> None:
    before = Path("params.yaml").read_text().splitlines()
    rcig.add("spots", "inputs/spots.npz")
    after = Path("params.yaml").read_text().splitlines()
    (line,) = [i for i, text in enumerate(after) if text.startswith("  spots: {source: npz, path: inputs/spots.npz, ")]
    assert [*after[:line], *after[line + 1 :]] == before
    params, _ = plan.read(planned.PARAMS)
    assert list(params.datasets)[-1] == "spots"
    listed = params.datasets["spots"]
    assert (listed.resolution, listed.classes, listed.test_fraction) == (8, 3, 0.2)


@pytest.mark.parametrize(
    "text",
    [
        "datasets:\n    a: {X}\n",
        "datasets: # of mine\n  a: {X}\n  # nothing more\n\nsizes: {}\n",
        "sizes: {}\ndatasets:\n  a: {X}",
        "datasets:\n  a:\n    {Y}\n\n# the sizes\nsizes: {}\n",
        "datasets: &all # of mine\n  a: {X}\nsizes: {}\n",
        "sizes: {}\ndatasets:\n  <<: {b: {X}}\n  a: {X}\n# the end\n...\n",
    ],
)
def test_wherever_the_datasets_stand(text: str, workspace: Path) -> None:
    known = sections()["datasets"]["mnist_sample"]
    flow = ", ".join(f"{key}: {str(value).lower()}" for key, value in known.items())
    block = "\n    ".join(f"{key}: {str(value).lower()}" for key, value in known.items())
    others = "".join(
        f"{name}: {{}}\n"
        for name in ("full_dataset", "experiments", "cross_arch", "attack", "score", "experts", "studies")
    )
    text = others + text.replace("X", flow).replace("{Y}", block) + ("" if "sizes" in text else "sizes: {}\n")
    Path("params.yaml").write_text(text)
    rcig.add("spots", "inputs/spots.npz", resolution=4, depth=1)
    content = Path("params.yaml").read_text()
    found = yaml.load(content)
    added = found["datasets"].pop("spots")
    assert found == yaml.load(text)
    assert strict.parse(Listed, added, "x").resolution == 4
    assert (
        content.replace(next(line for line in content.splitlines(True) if "spots:" in line), "").strip() == text.strip()
    )


def test_what_it_says(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = spots(60)
    keep = np.flatnonzero((labels != 2) | (np.arange(60) < 15))
    train = {"train_images": images[keep], "train_labels": labels[keep] + 1}
    np.savez("inputs/spots.npz", **train, test_images=images[:9], test_labels=labels[:9] + 1)
    rcig.add("spots", "inputs/spots.npz", resolution=4, depth=1)
    said = capsys.readouterr().out
    assert "inputs/spots.npz: npz, 45 training and 9 test images" in said
    rows = [line.split() for line in said.splitlines()[2:5]]
    assert rows == [["0", "1", "20", "3"], ["1", "2", "20", "3"], ["2", "3", "5", "3"]]
    for line in (
        "sizes, height × width: 8 × 8 (54)",
        "stored as: 1 channels (54); without colour",
        "tested on: the test part of the source",
        "reduced to 4 × 4: the central square, averaged",
        "classes differ in size: an experiment with loop: {drawn: class}",
        "warning: 9 test images are training images too, pixel by pixel",
    ):
        assert line in said
    (entry,) = [line.strip() for line in said.splitlines() if line.startswith("  spots-ipc1-rcig: ")]
    params, _ = plan.read(planned.PARAMS)
    name, raw = next(iter(yaml.load(entry).items()))
    run = plan.resolve(name, raw, params.datasets, params.sizes).run
    assert (run.dataset, run.method) == ("spots", "rcig")
    np.savez("inputs/spots.npz", **train, val_images=images[:9], val_labels=labels[:9] + 1)
    rcig.add("dots", "inputs/spots.npz")
    assert "tested on: the validation part of the source" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "path", "error", "message"),
    [
        ("a b", "inputs/spots.npz", ParamsError, "expected names of at most 80 letters"),
        (
            "mnist",
            "inputs/spots.npz",
            ParamsError,
            "mnist is the name of a known dataset; give images of your own another",
        ),
        ("x", "../spots.npz", DataError, "expected a path inside of this folder.* make a link by `ln -s /"),
        ("x", ".", DataError, "expected a path inside of this folder"),
        ("x", "/", DataError, "expected a path inside of this folder"),
        ("x", "inputs/gone", DataError, "inputs/gone: expected a folder of images, .* got nothing"),
        ("x", 3, DataError, r"add\.path: expected the path of a file or a folder, got 3"),
        (3, "inputs/spots.npz", ParamsError, r"add\.name: expected text, got 3"),
    ],
)
def test_what_cannot_be_added(name: Any, path: Any, error: type[Exception], message: str, workspace: Path) -> None:
    before = Path("params.yaml").read_bytes()
    with pytest.raises(error, match=message):
        rcig.add(name, path)
    assert Path("params.yaml").read_bytes() == before


def test_a_dataset_is_added_once_and_to_a_block_alone(workspace: Path) -> None:
    rcig.add("spots", "inputs/spots.npz")
    with pytest.raises(ParamsError, match=r"datasets\.spots is there already; remove it, or give another name"):
        rcig.add("spots", "inputs/spots.npz")
    with pytest.raises(ParamsError, match=r"add\.resolutoin: unknown key 'resolutoin'"):
        rcig.add("more", "inputs/spots.npz", resolutoin=3)
    empty = "".join(f"{name}: {{}}\n" for name in sections())
    some = str(sections()["datasets"]["mnist_sample"]).replace("'", "").replace("False", "false")
    shared = f"shared:\n  mine: &mine\n    mnist_sample: {some}\n"
    for text in (
        empty,
        shared + empty.replace("datasets: {}", "datasets: *mine"),
        shared + empty.replace("datasets: {}", "datasets:\n  <<: *mine"),
        empty.replace("datasets: {}", f"datasets: {{mnist_sample: {some}}}"),
        empty.replace("datasets: {}\n", "") + f"<<: {{datasets: {{mnist_sample: {some}}}}}\n",
        empty.replace("datasets: {}", f"datasets: &all\n  mnist_sample: {some}") + "shared: *all\n",
    ):
        Path("params.yaml").write_text(text)
        with pytest.raises(ParamsError, match=r"datasets is no block; write .* and this one: spots: \{source: npz"):
            rcig.add("spots", "inputs/spots.npz")
        assert Path("params.yaml").read_text() == text


def test_what_is_edited_meanwhile_stays(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edited(path: str, given: Any, where: str) -> looking.Decided:
        Path("params.yaml").write_text(Path("params.yaml").read_text() + "# an edit\n")
        return looking.decide(path, given, where)

    monkeypatch.setattr(adding, "decide", edited)
    rcig.add("spots", "inputs/spots.npz")
    assert Path("params.yaml").read_text().endswith("# an edit\n")
    assert "spots" in plan.read(planned.PARAMS)[0].datasets

    def taken(path: str, given: Any, where: str) -> looking.Decided:
        Path("params.yaml").write_text(Path("params.yaml").read_text().replace("  spots: {", "  dots: {"))
        return looking.decide(path, given, where)

    monkeypatch.setattr(adding, "decide", taken)
    with pytest.raises(ParamsError, match=r"datasets\.dots is there already"):
        rcig.add("dots", "inputs/spots.npz")


def test_what_is_saved_while_the_line_is_put_in_stays(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in = adding.with_line

    def saved(content: str, line: str) -> str:
        if "# saved" not in content:
            Path("params.yaml").write_text(content + "# saved\n")
        return put_in(content, line)

    monkeypatch.setattr(adding, "with_line", saved)
    rcig.add("spots", "inputs/spots.npz")
    assert Path("params.yaml").read_text().endswith("# saved\n")
    assert "spots" in plan.read(planned.PARAMS)[0].datasets


def test_who_adds_at_once_adds_one_after_the_other(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in, together = adding.with_line, threading.Barrier(2)

    def waiting(content: str, line: str) -> str:
        with suppress(threading.BrokenBarrierError):
            together.wait(1)  # for another one that has read the same content
        return put_in(content, line)

    monkeypatch.setattr(adding, "with_line", waiting)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda name: rcig.add(name, "inputs/spots.npz"), ["spots", "dots"]))
    assert together.broken
    assert {"spots", "dots"} <= plan.read(planned.PARAMS)[0].datasets.keys()


def test_what_the_pipeline_would_refuse_is_not_listed(workspace: Path) -> None:
    before = Path("params.yaml").read_bytes()
    Path("results").mkdir()
    Path("inputs/spots.npz").rename("results/spots.npz")
    with pytest.raises(ParamsError, match=r"path: results/spots\.npz lies where the pipeline writes"):
        rcig.add("spots", "results/spots.npz")
    Path("results/spots.npz").rename("inputs/spots.npz")
    with pytest.raises(ParamsError, match=r"datasets\.spots\.depth: 9 stages that halve 12 pixels leave none"):
        rcig.add("spots", "inputs/spots.npz", depth=9)
    with pytest.raises(ParamsError, match=r"inputs/spots\.npz has 3 classes, not 7; leave classes out"):
        rcig.add("spots", "inputs/spots.npz", classes=7)
    images, labels = spots(6)
    np.savez("inputs/few.npz", images=images, labels=labels)
    with pytest.raises(ParamsError, match=r"held_out: 0\.2 of every class holds out 0 of 3 training images"):
        rcig.add("few", "inputs/few.npz")
    assert Path("params.yaml").read_bytes() == before


def test_a_folder_behind_a_link_is_refused_where_dvc_sees_no_change(workspace: Path, tmp_path: Path) -> None:
    images, labels = spots(60)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = Path("elsewhere" if label == 2 else f"inputs/leaves/{label}")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    Path("inputs/leaves/2").symlink_to(Path("elsewhere").resolve())
    with pytest.raises(ParamsError, match=r"path: the folder inputs/leaves/2 is a link, behind which DVC sees no"):
        rcig.add("leaves", "inputs/leaves")
    Path("inputs/leaves").rename("whole")
    Path("inputs/leaves").mkdir()
    Path("inputs/leaves/train").symlink_to(Path("whole").resolve())
    Path("whole/2").unlink()
    with pytest.raises(ParamsError, match=r"path: the folder inputs/leaves/train is a link"):
        rcig.add("leaves", "inputs/leaves")
    Path("inputs/leaves/train").unlink()
    Path("inputs/leaves").rmdir()
    Path("inputs/leaves").symlink_to(Path("whole").resolve())
    rcig.add("leaves", "inputs/leaves")
    assert plan.read(planned.PARAMS)[0].datasets["leaves"].classes == 2


@pytest.mark.parametrize("name", ["101", "leaves"])
def test_the_lines_to_add_are_of_the_dataset(name: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rcig.add(name, "inputs/spots.npz")
    for line in capsys.readouterr().out.splitlines()[-2:]:
        ((_, raw),) = yaml.load(line).items()
        assert raw["dataset"] == name
    assert name in plan.read(planned.PARAMS)[0].datasets


OWN: dict[str, Any] = {"source": "npz", "path": "inputs/spots.npz", "test_fraction": 0.2}
LISTED = {"resolution": 8, "channels": 1, "classes": 3, "depth": 1, "whitening": "standard", "mirror": False}
LISTED |= {"l2_rate": 5e-4, "held_out": 0.2}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("spots", {"path": "inputs/gone"}, r"datasets\.spots\.path: no file or folder inputs/gone; correct it"),
        ("spots", {"path": "/inputs"}, r"datasets\.spots\.path: expected a plain path inside of this folder"),
        ("spots", {"path": "../spots.npz"}, r"datasets\.spots\.path: expected a plain path inside of this folder"),
        (
            "spots",
            {"path": "artifacts/x"},
            r"path: artifacts/x lies where the pipeline writes; put the images below inputs/",
        ),
        ("mnist", {}, r"datasets\.mnist: is the name of a known dataset; give images of your own another"),
        (
            "spots",
            {"source": "zip"},
            r"datasets\.spots\.source: expected one of folder, npz, huggingface, tfds, got 'zip'",
        ),
        ("spots", {"path": "inputs/none"}, "source is a setting of images of your own; give their path too"),
        ("spots", {"channels": 2}, r"datasets\.spots: channels: expected 1 for grey images or 3 for colour, got 2"),
        ("spots", {"leave_out": "a.png"}, r"datasets\.spots\.leave_out: expected a list, got 'a\.png'"),
    ],
)
def test_settings_of_a_source_that_cannot_be_used(
    name: str, changes: dict[str, Any], message: str, workspace: Path
) -> None:
    raw = sections(datasets={name: OWN | LISTED | changes})
    with pytest.raises(ParamsError, match=message):
        plan.make(strict.parse(plan.Params, raw, ""), workspace)


def test_a_known_dataset_needs_no_source_and_an_unknown_one_a_path(workspace: Path) -> None:
    known = sections()["datasets"]["mnist_sample"]
    del known["path"]
    assert strict.parse(Listed, known, "x").own.known
    with pytest.raises(ParamsError, match=r"datasets\.leaves: unknown dataset; known: caltech.*python -m rcig add"):
        plan.make(strict.parse(plan.Params, sections(datasets={"leaves": known}), ""), workspace)


def test_a_path_is_distilled_as_its_arrays_are(workspace: Path) -> None:
    images, labels = spots(60)
    others, numbers = spots(9, 1)
    np.savez("s.npz", train_images=images, train_labels=labels, test_images=others, test_labels=numbers)
    more: dict[str, Any] = {"steps": 2, "width": 4, "experiment": {"loop": {"batch_size": 16}}}
    found = rcig.distil("s.npz", dataset={"held_out": 0.1}, **more)
    expected = rcig.distil(images, labels, **more)
    np.testing.assert_array_equal(found.images, expected.images)
    accuracies = [rcig.judge(found, on, "inner_adam", width=4).networks for on in (Path("s.npz"), (others, numbers))]
    np.testing.assert_array_equal(*accuracies)
    same = rcig.distil("./s.npz", dataset={"held_out": 0.1}, **more)
    assert rcig.judge(same, Path("s.npz"), "inner_adam", width=4).mean == np.mean(accuracies[0])
    with pytest.raises(DataError, match=r"judge: the set was not distilled from inputs/spots\.npz, but s\.npz; give"):
        rcig.judge(found, Path("inputs/spots.npz"), "inner_adam", width=4)
    with pytest.raises(DataError, match=r"labels: those of s\.npz are read there; leave them out"):
        rcig.distil("s.npz", labels)
    arrays = dict(np.load("s.npz"))
    for changed in ({"class_names": np.array(["c", "b", "a"])}, {"test_images": others[::-1]}):
        np.savez("s.npz", **arrays | changed)
        with pytest.raises(DataError, match=r"judge: s\.npz has other images or classes than when the set was dist"):
            rcig.judge(found, Path("s.npz"), "inner_adam", width=4)


def test_distilling_a_path_warns_of_what_adding_it_prints(workspace: Path) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        for i, (image, label) in enumerate(zip(*spots(30, seed), strict=True)):
            path = Path("inputs/photos") / part / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    Path("inputs/photos/test/0/0.png").write_bytes(Path("inputs/photos/train/0/0.png").read_bytes())
    Path("inputs/photos/train/0/notes.txt").touch()
    with pytest.warns(UserWarning, match=r"^inputs/photos: ") as warned:
        rcig.distil("inputs/photos", method="random_real")
    assert [str(one.message).removeprefix("inputs/photos: ") for one in warned] == [
        "left out: 1 .txt",
        "1 test images are training images too, pixel by pixel",
    ]


def test_images_that_were_trained_on_are_known_where_the_test_part_is_drawn_anew(workspace: Path) -> None:
    said = Own("npz", "inputs/spots.npz", test_fraction=0.2)
    before = own.settle(said, own.find(said))
    arrays = dict(np.load(said.path))
    np.savez(said.path, **arrays)
    assert own.digest(said, own.settle(said, own.find(said))) == own.digest(said, before)
    more = {name: np.concatenate([arrays[name], arrays[name][:9]]) for name in ("images", "labels")}
    np.savez(said.path, **arrays | more)
    after = own.settle(said, own.find(said))
    assert (after.test.mask[:60] & before.train.mask).any()
    assert own.digest(said, after) != own.digest(said, before)


def test_batches_are_drawn_by_class_where_that_is_said() -> None:
    labels = np.repeat([0, 1], [900, 100]).astype(np.int32)
    seen = whole(Split(np.zeros((1000, 1, 1, 1), np.uint8), labels))
    for drawn, share in (("image", 0.1), ("class", 0.5)):
        run = resolved(SAMPLE, loop={"drawn": drawn}).run
        weights = weights_of(run, seen)
        shares = [labels[batch_index(1000, 20, 0, step, weights)].mean() for step in range(300)]
        assert np.mean(shares) == pytest.approx(share, abs=0.03)
