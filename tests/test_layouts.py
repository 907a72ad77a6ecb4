"""Sets in the files of others: each layout as its authors' code writes it, in their space, judged as they judge it."""

import io
import json
import os
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import flax.serialization
import msgpack
import numpy as np
import pytest
import torches
from PIL import Image
from test_torch_files import tensor_pickle, zipped
from workspaces import ROOT, read_settings, save_settings, sections

import rcig
import stages.distill
import stages.plan
from rcig import planned, resources, store, whiten
from rcig.data import real, splits
from rcig.errors import Foreseen, ParamsError, TooLargeError
from rcig.external import spaces
from rcig.external.decoding import decoded
from rcig.judging import subject
from rcig.judging.evaluate import Entry
from rcig.sets import DistilledSet

rng = np.random.default_rng(0)
SIDE, NAMES = 8, ["ant", "bee", "cow"]


def photographs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 8, 8, 3) whose brightness changes slowly, and whose class is their colour; class numbers."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE, 1 / SIDE), np.fft.fftfreq(SIDE, 1 / SIDE)))
    noise = np.fft.fft2(
        rng.normal(size=(count, SIDE, SIDE, 1)) + 0.2 * rng.normal(size=(count, SIDE, SIDE, 3)), axes=(1, 2)
    )
    smooth = np.fft.ifft2(noise / (0.5 + frequency[..., None]) ** 2, axes=(1, 2)).real
    labels = np.arange(count) % 3
    smooth += 1.0 * smooth.std() * np.eye(3)[labels][:, None, None]
    return np.clip(110 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8), labels.astype(np.int32)


TRAIN, TEST = photographs(600), photographs(90)
PIXELS, CLASSES = TRAIN[0][:6], TRAIN[1][:6].astype(np.int64)
HARD = np.eye(3)[CLASSES] - 1 / 3
BRIGHT = (PIXELS / np.float32(255)).transpose(0, 3, 1, 2)
MEAN, STD = spaces.CONSTANTS["cifar10"]
MEAN_STD = (BRIGHT - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pipeline has prepared a dataset of such images under the name of CIFAR-10."""
    place = tmp_path / "work" / real.DATA / "cifar10"
    for part, (images, labels) in {"train": TRAIN, "test": TEST}.items():
        store.save(place / f"{part}.npz", store.SPLIT, images=images, labels=labels, class_names=NAMES)
    store.save(place / "whitening.npz", store.WHITENING, **whiten.fit(TRAIN[0], "zca")._asdict())
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def kornia(images: np.ndarray) -> np.ndarray:
    """Brightness (n, c, h, w) whitened as the library does it, by the training images, in NumPy's words."""
    train = (TRAIN[0] / 255).transpose(0, 3, 1, 2).reshape(len(TRAIN[0]), -1)
    values, vectors = np.linalg.eigh(np.cov(train.T))
    matrix = vectors @ np.diag((values + 0.1) ** -0.5) @ vectors.T
    return ((images.reshape(len(images), -1) - train.mean(0)) @ matrix).reshape(images.shape)


def white(expected: np.ndarray) -> np.ndarray:
    return expected.transpose(0, 2, 3, 1)


def check(found: DistilledSet, expected: np.ndarray, centred: np.ndarray = HARD, **settings: Any) -> None:
    """That it has these images (n, h, w, c) and centred labels, and the settings in force."""
    np.testing.assert_allclose(found.images, expected, atol=2e-4)
    np.testing.assert_allclose(found.labels, centred, atol=1e-6)
    assert {name: found.meta["settings"][name] for name in settings} == settings
    # Real images in its space are pictures again when it is undone, whatever the space.
    assert np.abs(found.pixels.astype(int) - PIXELS).max() <= 1


def test_dc_dsa_and_dm(folder: Path) -> None:
    code = """
accuracies = {"ConvNet": [np.float64(0.3), np.float32(0.4)]}
torch.save({"data": [[x + 1, y], [x, y]], "accs_all_exps": accuracies}, "res_DSA_CIFAR10_ConvNet_2ipc.pt")
"""
    torches.write(folder, code, x=MEAN_STD, y=CLASSES)
    for path in (folder, folder / "res_DSA_CIFAR10_ConvNet_2ipc.pt"):
        check(rcig.read(path, "cifar10", seed=1), white(MEAN_STD), space="mean_std", input="mean_std")
    with pytest.raises(ParamsError, match="it has 2 sets, counted from 0, got seed 2; give one of them"):
        rcig.read(folder, "cifar10", seed=2)


@pytest.mark.parametrize("rate", ["lr_best.pt", "lr.pt", None])
def test_mtt_in_both_of_its_spaces(rate: str | None, folder: Path) -> None:
    code = """
for name in ("best", "5000"):
    torch.save(x if name == "best" else x + 1, f"images_{name}.pt"), torch.save(y, f"labels_{name}.pt")
torch.save(x, "images_zca_5000.pt")
"""
    code += f"torch.save(torch.tensor(0.02), {rate!r})\n" if rate else ""
    for space, images in {"mean_std": MEAN_STD, "kornia_zca": kornia(BRIGHT).astype(np.float32)}.items():
        torches.write(folder, code, x=images, y=CLASSES)
        found = rcig.read(folder, "cifar10", space=space)
        learned = pytest.approx(0.02) if rate else None
        check(found, white(images), space=space, input=space, labels="classes", learned_rate=learned)
        with pytest.raises(
            ParamsError, match=r"expected brightness from 0 to 1, .*name the space, one of mean_std, korn"
        ):
            rcig.read(folder, "cifar10")


@pytest.mark.parametrize("rate", ["-0.02", "0.0", "float('nan')", "float('inf')", "[0.1, 0.2]"])
def test_a_rate_that_cannot_be_is_refused(rate: str, folder: Path) -> None:
    code = "torch.save(x, 'images_best.pt'), torch.save(y, 'labels_best.pt')"
    torches.write(folder, f"{code}, torch.save(torch.tensor({rate}), 'lr.pt')", x=MEAN_STD, y=CLASSES)
    with pytest.raises(ParamsError, match=r"lr\.pt: expected a positive learning rate, got"):
        rcig.read(folder, "cifar10", space="mean_std")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 9}, "expected factor up to the side of 8 pixels, got 9"),
        ({"input": "mean_std", "mean": [125.0] * 3, "std": [0.2] * 3}, "expected mean of brightness, from 0 to 1"),
        ({"input": "mean_std", "mean": [0.5] * 3, "std": [np.inf] * 3}, "expected std of brightness, above 0 and up"),
        ({"mean": [0.5] * 3, "std": [0.2] * 3}, "mean and std are for input mean_std, got ours"),
    ],
)
def test_settings_that_do_not_fit_the_set(settings: dict[str, Any], message: str, folder: Path) -> None:
    np.savez(folder / "set.npz", images=BRIGHT, labels=CLASSES)
    with pytest.raises(ParamsError, match=message):
        rcig.read(folder / "set.npz", "cifar10", **settings)


def test_datm_trains_by_the_softmax_of_its_labels(folder: Path) -> None:
    logits = rng.normal(0, 2, (6, 3)).astype(np.float32)
    code = (
        "torch.save(x, 'images_best.pt'), torch.save(y, 'labels_best.pt'), torch.save(torch.tensor(3e-3), 'lr_best.pt')"
    )
    torches.write(folder, code, x=kornia(BRIGHT).astype(np.float32), y=logits)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = rcig.read(folder, "cifar10", space="kornia_zca")
    check(found, white(kornia(BRIGHT)), softmax - 1 / 3, labels="logits", learned_rate=pytest.approx(3e-3))


@pytest.mark.parametrize("name", ["data.pt", "data_20000.pt"], ids=["IDC", "NCFM"])
def test_idc_and_ncfm_are_decoded(name: str, folder: Path) -> None:
    torches.write(folder, f"torch.save([x, y], {name!r})", x=BRIGHT, y=CLASSES)
    check(rcig.read(folder, "cifar10"), white(MEAN_STD), space="brightness", input="mean_std", factor=1)
    found = rcig.read(folder, "cifar10", factor=2)
    assert found.images.shape == (24, 8, 8, 3)
    assert found.meta["images_per_class"] == 8
    np.testing.assert_allclose(found.labels, np.tile(HARD, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(found.images[-6:, -1, -1], white(MEAN_STD)[:, -1, -1], atol=1e-5)
    named = folder.parent / "conv3in_cut_factor2_lr0.005_mix_ipc1"
    folder.rename(named)
    np.testing.assert_array_equal(rcig.read(named, "cifar10").images, found.images)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_images_are_decoded_as_pytorch_scales_them(factor: int, folder: Path) -> None:
    code = f"""
import torch.nn.functional as F
f = {factor}
rest = -x.shape[-1] % f
padded = F.pad(x, (0, rest, 0, rest), value=0.5)
side = padded.shape[-1] // f
parts = [padded[:, :, i * side:(i + 1) * side, j * side:(j + 1) * side] for i in range(f) for j in range(f)]
np.save("expected.npy", F.interpolate(torch.cat(parts), size=x.shape[-1], mode="bilinear").numpy())
"""
    torches.write(folder, code, x=BRIGHT)
    images, labels = decoded(white(BRIGHT), CLASSES, factor)
    np.testing.assert_allclose(images, white(np.load(folder / "expected.npy")), atol=1e-5)
    np.testing.assert_array_equal(labels, np.tile(CLASSES, factor**2))


LEARNED = (2 * HARD + 0.3 * rng.normal(size=(6, 3))).astype(np.float32)
OURS = np.asarray(whiten.apply(whiten.fit(TRAIN[0], "zca"), PIXELS))


def test_frepo_and_rcig_checkpoints(folder: Path) -> None:
    learned = {"x_proto": OURS, "y_proto": LEARNED}
    other = {"x_proto": OURS + 1, "y_proto": LEARNED}
    states = {
        "frepo": {"step": 7, "params": learned, "opt_state": {"0": {}}, "ema_average": None},
        "rcig": {
            "params": other | {"log_temp": np.float32(0)},
            "ema_average": learned | {"log_temp": np.float32(0)},
            "train_it": np.int32(7),
        },
    }
    for name, state in states.items():
        place = folder / name
        place.mkdir()
        (place / "checkpoint_100").write_bytes(flax.serialization.msgpack_serialize(state))
        (place / "checkpoint_20").write_bytes(b"not the last one")
        (place / "final").mkdir()
        (place / "final" / "checkpoint_final").write_bytes((place / "checkpoint_100").read_bytes())
        (place / "final" / "checkpoint_100").write_bytes(b"not the last one")
        for path in (place, place / "checkpoint_100", place / "final"):
            found = rcig.read(path, "cifar10")
            check(found, OURS, LEARNED, space="ours", labels="centred")
            assert found.meta["mirror"]


def test_frepo_arrays(folder: Path) -> None:
    np.savez(folder / "step000100.npz", image=OURS, label=LEARNED)
    check(rcig.read(folder / "step000100.npz", "cifar10"), OURS, LEARNED, space="ours", labels="centred")


def picture(i: int, mode: str = "RGB", ending: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[i]).convert(mode).save(stream, ending)
    return stream.getvalue()


@pytest.mark.parametrize(
    "names",
    [["cow", "ant", "bee"], ["new002", "new000", "new001"], ["00002", "00000", "00001"], ["n10", "n2", "n3"]],
    ids=["of classes", "SRe2L", "RDED", "in natural order"],
)
def test_a_folder_for_each_class(names: list[str], folder: Path) -> None:
    """The names of the last class, the first and the second."""
    for i, label in enumerate(CLASSES):
        place = folder / names[(label + 1) % 3]
        place.mkdir(exist_ok=True)
        (place / f"id{7 + i}.png").write_bytes(picture(i))
    (folder / "overview.png").write_bytes(picture(0))
    guessed = pytest.warns(UserWarning, match="folders n2 to n10 are taken as the classes ant to cow in natural order")
    with guessed if "n10" in names else nullcontext():
        found = rcig.read(folder, "cifar10")
    for label in range(3):
        np.testing.assert_array_equal(found.pixels[found.labels.argmax(1) == label], PIXELS[label == CLASSES])
    assert found.meta["settings"]["space"] == "bytes"


def test_folders_that_are_no_classes(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "0.png").write_bytes(picture(0))
    with pytest.raises(ParamsError, match="2 folders, one to two, are not the 3 classes; name them as the classes are"):
        rcig.read(folder, "cifar10")
    (folder / "two").rename(folder / "cow")
    (folder / "ants").mkdir()
    (folder / "ants" / "0.png").write_bytes(picture(0))
    with pytest.raises(
        ParamsError, match="3 folders, ants to one, are not the 3 classes; name them as the classes are"
    ):
        rcig.read(folder, "cifar10")


def test_a_class_without_a_folder_keeps_the_others_in_their_places(folder: Path) -> None:
    for i in (0, 2):
        (folder / f"new00{i}").mkdir()
        (folder / f"new00{i}" / "0.png").write_bytes(picture(i))
    with pytest.warns(UserWarning, match="1 of 3 classes have no image: 1"):
        assert rcig.read(folder, "cifar10").labels.argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize("soft", [False, True])
def test_pictures_with_a_table(soft: bool, folder: Path) -> None:
    rows = ["file_name,label,soft_label"]
    for i in reversed(range(6)):
        (folder / f"{i}.png").write_bytes(picture(i))
        rows.append(f"{i}.png,{CLASSES[i]},{' '.join(map(str, LEARNED[i] + 1 / 3)) if soft else ''}")
    (folder / "metadata.csv").write_text("\n".join(rows), encoding="utf-8-sig" if soft else "utf-8")
    found = rcig.read(folder, "cifar10")
    np.testing.assert_array_equal(found.pixels, PIXELS[::-1])
    np.testing.assert_allclose(found.labels, (LEARNED if soft else HARD)[::-1], atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_tables_of_hugging_face(soft: bool, folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    probable = np.abs(LEARNED) / np.abs(LEARNED).sum(1, keepdims=True)
    (folder / "data").mkdir()
    for shard in range(2):
        those = range(3 * shard, 3 * shard + 3)
        rows = {
            "image": [{"bytes": picture(i), "path": f"../{i}.png"} for i in those],
            "label": [probable[i].tolist() if soft else int(CLASSES[i]) for i in those],
        }
        parquet.write_table(pyarrow.table(rows), folder / "data" / f"train-0000{shard}-of-00002.parquet")
    found = rcig.read(folder, "cifar10")
    np.testing.assert_array_equal(found.pixels, PIXELS)
    np.testing.assert_allclose(found.labels, probable - 1 / 3 if soft else HARD, atol=1e-6)
    parquet.write_table(pyarrow.table(rows), folder / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(ParamsError, match="tables of test and train, of which the set is one; name its file"):
        rcig.read(folder, "cifar10")


def test_a_table_of_more_pictures_than_memory_holds_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    same = pyarrow.DictionaryArray.from_arrays([0] * 1000, pyarrow.array([picture(0)]))
    parquet.write_table(pyarrow.table({"image": same, "label": [0] * 1000}), folder / "set.parquet")
    monkeypatch.setattr(resources, "on_host", lambda: 500 * len(picture(0)))
    with pytest.raises(TooLargeError, match="reading these tables"):
        rcig.read(folder / "set.parquet", "cifar10")


def test_order_changes_nothing(folder: Path) -> None:
    order = rng.permutation(6)
    sets = []
    for chosen in (np.arange(6), order):
        np.savez(folder / "set.npz", images=PIXELS[chosen], labels=CLASSES[chosen])
        sets.append(rcig.read(folder / "set.npz", "cifar10"))
    np.testing.assert_array_equal(sets[0].images[order], sets[1].images)
    np.testing.assert_array_equal(sets[0].labels[order], sets[1].labels)


def broken(folder: Path, case: str) -> str:
    """Writes what cannot be read, and says what is said of it."""
    (folder / "ant").mkdir()
    place = folder / "ant" / "0.png"
    if case == "text":
        place.write_text("no picture")
        return r"ant/0\.png: no picture that can be read"
    if case == "cut":
        place.write_bytes(picture(0)[:60])
        return r"ant/0\.png: no picture that can be read"
    if case == "large":
        Image.new("RGB", (6000, 5000)).save(place)
        return r"ant/0\.png: 5000 × 6000 pixels, the dataset has 8 × 8; scale the pictures"
    if case == "transparent":
        place.write_bytes(picture(0, "RGBA"))
        return r"ant/0\.png: of mode RGBA, expected grey or RGB of 8 bits; convert it"
    if case == "16 bits":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(place)
        return r"ant/0\.png: of mode I;16, expected grey or RGB of 8 bits; convert it"
    if case == "outside":
        (folder / "metadata.csv").write_text("file_name,label\n../../secret.png,0\n")
        return r"metadata\.csv: '\.\./\.\./secret\.png' lies outside of its folder; move it there"
    if case == "absolute":
        (folder / "metadata.csv").write_text("file_name,label\n/etc/passwd,0\n")
        return r"metadata\.csv: '/etc/passwd' lies outside of its folder; move it there"
    if case == "no columns":
        (folder / "metadata.csv").write_text("name,class\n0.png,0\n")
        return r"metadata\.csv: expected the columns file_name and label; correct it"
    if case == "no labels":
        (folder / "images_best.pt").write_bytes(b"")
        return r"no labels_best\.pt beside images_best\.pt; add it"
    if case == "two sets":
        for name in ("a.pt", "b.npz"):
            (folder / name).write_bytes(b"")
        return r"2 files may be the set: a\.pt, b\.npz; name one, or leave one in the folder"
    if case == "checkpoint":
        (folder / "checkpoint_1").write_bytes(b"\xc1\x00")
        return r"expected an \.npz, .*; this is none"
    if case == "checkpoint of objects":
        array = msgpack.ExtType(1, msgpack.packb(([2], "object", bytes(16))))
        (folder / "checkpoint_1").write_bytes(msgpack.packb({"params": {"x_proto": array, "y_proto": array}}))
        return r"expected an \.npz, .*; this is none"
    if case == "damaged":
        np.savez(folder / "set.npz", images=PIXELS, labels=CLASSES)
        content = (folder / "set.npz").read_bytes()
        at = content.index(PIXELS.tobytes())
        (folder / "set.npz").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        return r"this is none \(Bad CRC-32 for file 'images\.npy'\)"
    if case == "lacking":
        images = tensor_pickle(size=1152, shape=(6, 8, 8, 3), strides=(192, 24, 3, 1))
        zipped(folder / "images_best.pt", images)
        zipped(folder / "labels_best.pt", tensor_pickle(size=6, shape=(6,)), **{"0": bytes(24)})
        return r"a damaged file \(.*archive/data/0.*\); fetch it again"
    if case == "pickle":
        (folder / "data.pt").write_bytes(pickle.dumps(os.getcwd.__call__, 0))
        return r"it would call \S+ when it is loaded, so nothing of it was"
    return r"expected metadata\.csv or labels\.csv with pictures, or a folder of pictures for each class"


CASES = [
    *("text", "cut", "large", "transparent", "16 bits", "outside", "absolute", "no columns", "no labels", "two sets"),
    *("checkpoint", "checkpoint of objects", "damaged", "lacking", "pickle", "empty"),
]


@pytest.mark.parametrize(
    "case", [*CASES, "checkpoint", "checkpoint of objects", "damaged", "lacking", "pickle", "empty"]
)
def test_what_cannot_be_read_is_named(case: str, folder: Path) -> None:
    message = broken(folder, case)
    with pytest.raises(ParamsError, match=rf"^external set .*/set: .*{message}") as error:
        rcig.read(folder, "cifar10")
    assert "\n" not in str(error.value)


def test_a_set_larger_than_memory_is_refused_before_it_is_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(folder / "set.npz", images=np.zeros((20000, 8, 8, 3), np.uint8), labels=np.zeros(20000, int))
    monkeypatch.setattr(resources, "on_host", lambda: 2**20)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    monkeypatch.setattr(real, "load_whitening", lambda name: whiten.fit(TRAIN[0], "standard"))
    monkeypatch.setattr(real, "load_split", lambda name, part: (splits.Split(*TRAIN), NAMES))
    with pytest.raises(TooLargeError, match=r"20000 images: needs about .* GiB more memory than it holds"):
        rcig.read(folder / "set.npz", "cifar10")


@pytest.mark.parametrize("given", [{"space": "zca"}, {"whitened": True}, {"mean": [0.5]}, {"factor": 0}, {"seed": -1}])
def test_settings_that_are_none(given: dict[str, Any], folder: Path) -> None:
    np.savez(folder / "set.npz", images=PIXELS, labels=CLASSES)
    with pytest.raises(Foreseen):
        rcig.read(folder / "set.npz", "cifar10", **given)


@pytest.mark.parametrize(
    ("path", "dataset", "message"),
    [
        (None, "cifar10", r"read\.path: expected the path of a file or a folder, got None"),
        ("set.npz", Path("cifar10"), r"read\.dataset: expected text, got PosixPath\('cifar10'\)"),
    ],
)
def test_arguments_of_another_kind_are_named(path: Any, dataset: Any, message: str, folder: Path) -> None:
    with pytest.raises(ParamsError, match=message):
        rcig.read(path, dataset)


def ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of the least squares, of the smallest norm."""
    design = np.hstack([x.reshape(len(x), -1), np.ones((len(x), 1))])
    solution = np.linalg.pinv(design) @ y
    return solution[:-1], solution[-1]


def test_a_linear_network_finds_the_closed_form_in_the_space_of_the_set(folder: Path) -> None:
    """By gradient descent from zero on the set as read, tested on real images as `judge` gives them to networks."""
    code = "torch.save(x, 'images_best.pt'), torch.save(y, 'labels_best.pt')"
    accuracies = {}
    for space, images in {"mean_std": MEAN_STD, "kornia_zca": kornia(BRIGHT).astype(np.float32)}.items():
        torches.write(folder, code, x=images, y=CLASSES)
        found = rcig.read(folder, "cifar10", space=space)
        assert found.whitening is not None
        tested = np.asarray(whiten.apply(found.whitening, TEST[0])).reshape(len(TEST[0]), -1)
        x = np.hstack([found.images.reshape(6, -1), np.ones((6, 1))]).astype(float)
        weights = np.zeros((x.shape[1], 3))
        for _ in range(20000):
            weights -= x.T @ (x @ weights - found.labels) / np.linalg.norm(x) ** 2
        trained = (tested @ weights[:-1] + weights[-1]).argmax(1)
        real_test = (TEST[0] / 255).transpose(0, 3, 1, 2)
        own = (
            kornia(real_test)
            if space == "kornia_zca"
            else (real_test - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        )
        closed, bias = ridge(images, np.eye(3)[CLASSES] - 1 / 3)
        expected = (own.reshape(len(own), -1) @ closed + bias).argmax(1)
        np.testing.assert_array_equal(trained, expected)
        accuracies[space] = float((trained == TEST[1]).mean())
    assert accuracies["mean_std"] > 0.5, "the set teaches something"


def test_meta_says_all_that_judging_needs(folder: Path) -> None:
    np.savez(folder / "set.npz", images=PIXELS, labels=CLASSES)
    found = rcig.read(folder / "set.npz", "cifar10", input="mean_std", mean=[0.4, 0.5, 0.6], std=[0.1, 0.2, 0.3])
    meta = json.loads(json.dumps(found.meta))
    again = spaces.of_set(meta, real.load_whitening("cifar10"), lambda: pytest.fail("it needs no training images"))
    assert found.whitening is not None
    for one, other in zip(again, found.whitening, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found.images, (PIXELS / 255 - [0.4, 0.5, 0.6]) / [0.1, 0.2, 0.3], atol=1e-5)


def test_through_the_pipeline_in_the_space_of_its_authors(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IDC's pair in a folder: what networks see of the set and of test images, and what storing it takes."""
    name, work = "idc", tmp_path / "pipeline"
    (work / "theirs_factor2").mkdir(parents=True)
    for part in ("rcig", "stages", "inputs"):
        (work / part).symlink_to(ROOT / part)
    shutil.copytree(prepared, work / "artifacts")
    bright = rng.random((10, 1, 28, 28)).astype(np.float32)
    torches.write(work / "theirs_factor2", "torch.save([x, y], 'data.pt')", x=bright, y=np.arange(10))
    entry = {"size": "demo", "needs": "theirs_factor2", "dataset": "mnist_sample", "method": "external"}
    entry |= {"images_per_class": 4, "width": 4, "settings": {"mean": [0.2], "std": [0.3]}}
    settings = read_settings()
    shared = {part: settings[part] for part in ("datasets", "sizes")}
    save_settings(work, sections(**shared, experiments={name: entry}))
    monkeypatch.chdir(work)
    stages.plan.main()
    stages.distill.main(name)
    made = planned.read("evaluate", name, Entry)[0]
    found = subject.load(Path(f"artifacts/distilled/{name}.npz"), made.judged, made.dataset)
    expected, _ = decoded(white(bright), np.arange(10), 2)
    np.testing.assert_allclose(found.images[0], (expected - 0.2) / 0.3, atol=1e-5)
    test = found.test.split.images[:20]
    np.testing.assert_allclose(found.whitened(test), (test / 255 - 0.2) / 0.3, atol=1e-5)
    summary = store.load_json(Path(f"results/distill/{name}/summary.json"))
    assert (summary["images_per_class"], summary["storage_images_per_class"]) == (4, 1)
    save_settings(work, sections(**shared, experiments={name: entry | {"images_per_class": 1}}))
    stages.plan.main()
    with pytest.raises(
        ParamsError, match="decoded by factor 2 its images are 4 times as many; correct images_per_class"
    ):
        stages.distill.main(name)
