"""The script of an export, in plain PyTorch: the same numbers as ours, from the same weights."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL
import pytest
from PIL import Image
from test_api import spots
from torches import python
from workspaces import ROOT

import rcig
from rcig import nets, recipes, train, whiten
from rcig.judging.protocols import PROTOCOLS
from rcig.methods.base import Distilled, support
from rcig.sets import DistilledSet
from rcig.train import TrainState

SIDE, DEPTH, CLASSES = 10, 3, 3  # an odd number of pixels before a pooling
RATE = 0.01

NUMBERS = """
import sys
import unicodedata
from pathlib import Path
import numpy as np
import torch
import pytorch

folder = Path(sys.argv[1])
recipe, images, labels = pytorch.load(folder)
images, labels = images.double(), labels.double()
net, given = pytorch.network(recipe, width=4).double(), np.load(folder.parent / "given.npz")
for name, parameter in net.named_parameters():
    assert parameter.shape == given[name].shape
    parameter.data = torch.from_numpy(given[name])
found = {"start": net(images).detach().numpy()}
recipe["training"].update(steps=3, warmup_steps=1, learning_rate=0.01)
pytorch.train(net, recipe, images, labels)
found |= {name: parameter.detach().numpy() for name, parameter in net.named_parameters()}
found["end"] = net(images).detach().numpy()
found["whitened"] = pytorch.Whitening(folder / recipe["whitening"]["file"])(given["pixels"]).numpy()
np.savez(folder.parent / "found.npz", **found)
"""


def in_torch(*arguments: str | Path, fails: bool = False, path: Path | None = None, cwd: Path | None = None) -> str:
    """What a Python with PyTorch prints that is called with these arguments, or says where it must fail with status 1.

    Nothing of this project can be imported there; `path`: a folder whose modules can.
    """
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = rest | {"OMP_NUM_THREADS": "1"} | ({} if path is None else {"PYTHONPATH": str(path)})
    command = [python(), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def noise(channels: int, kind: whiten.Kind) -> DistilledSet:
    """Noise to be trained on, whitened like noise, and labels that are noise as well."""
    rng = np.random.default_rng(channels)
    raw = rng.integers(0, 256, (40 * channels * SIDE**2 // 100 + 40, SIDE, SIDE, channels)).astype(np.uint8)
    meta = {"dataset": "noise", "method": "none", "images_per_class": 2, "seeds": [0], "class_names": ["a", "b", "c"]}
    whitening = whiten.fit(raw, kind)
    images = np.asarray(whiten.apply(whitening, raw[:6]))
    labels = rng.normal(size=(6, CLASSES)).astype(np.float32)
    return DistilledSet(images, labels, raw[:6], meta | {"mirror": channels == 3, "depth": DEPTH}, whitening)


def named(params: Any) -> dict[str, np.ndarray]:
    """Parameters under the names and in the shapes of the script's network."""
    found = {}
    for i in range(DEPTH):
        layer = params["body"][f"Conv_{i}"]
        found |= {f"{3 * i}.weight": layer["kernel"].transpose(0, 3, 1, 2), f"{3 * i}.bias": layer["bias"]}
    head = f"{3 * DEPTH + 1}"
    found |= {f"{head}.weight": params["head"]["kernel"].T, f"{head}.bias": params["head"]["bias"]}
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("channels", "kind"), [(1, "standard"), (3, "zca")])
def test_network_training_and_whitening_are_ours(tmp_path: Path, channels: int, kind: whiten.Kind) -> None:
    distilled, folder = noise(channels, kind), tmp_path / "out"
    rcig.export(distilled, folder)
    net = nets.build("conv", distilled.images.shape[1:], CLASSES, width=4, depth=DEPTH)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), net.init(jax.random.key(0)))
    one = Distilled(
        jnp.asarray(distilled.images, jnp.float64), jnp.asarray(distilled.labels, jnp.float64), jnp.zeros(())
    )
    x, y = support(one, distilled.meta["mirror"])
    optimizer = train.adam(1 / 3)(3, RATE)
    state = TrainState(variables, optimizer.init(variables["params"]))
    for _ in range(3):
        state = train.update(net, optimizer, state, x, y)
    pixels = np.random.default_rng(5).integers(0, 256, (4, SIDE, SIDE, channels)).astype(np.uint8)
    np.savez(tmp_path / "given.npz", **named(variables["params"]), pixels=pixels)

    in_torch("-c", NUMBERS, folder, path=folder)

    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["start"], net.apply(variables, x), atol=1e-10)
    np.testing.assert_allclose(found["end"], net.apply(state.variables, x), atol=1e-7)
    assert np.abs(found["end"] - found["start"]).max() > 1e-3, "it has learned"
    for name, value in named(state.variables["params"]).items():
        np.testing.assert_allclose(found[name], value, atol=1e-8, err_msg=name)
    expected = np.asarray(whiten.apply(distilled.whitening, pixels)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found["whitened"], expected, atol=1e-4)


DRAWS = """
import json
import sys
import unicodedata
import numpy as np
import torch
import pytorch

recipe, images, labels = pytorch.load(sys.argv[1])
rates = [pytorch.rate(recipe["training"], step) for step in range(recipe["training"]["steps"])]
weights = pytorch.network(recipe)[3].weight.detach()
seen, net = [], pytorch.network(recipe, width=2)
net.register_forward_pre_hook(lambda _, given: seen.append(len(np.unique(given[0].numpy(), axis=0))))
recipe["training"].update(steps=5, batch_size=4)
pytorch.train(net, recipe, images, labels)
blocks = pytorch.Whitening(sys.argv[2])(np.load(sys.argv[3])).numpy().tolist()
print(json.dumps({"rates": rates, "std": float(weights.std()), "most": float(weights.abs().max()), "seen": seen,
                  "fan_in": weights[0].numel(), "blocks": blocks}))
"""


def test_rates_initial_weights_batches_and_whitening_by_blocks_are_ours(tmp_path: Path) -> None:
    distilled, folder = noise(1, "standard"), tmp_path / "out"
    rcig.export(distilled, folder)
    rng = np.random.default_rng(6)
    matrix = rng.normal(size=(SIDE**2 // 4, SIDE**2 // 4)).astype(np.float32)
    mean_image = rng.normal(size=(SIDE, SIDE, 1)).astype(np.float32)
    blocks = distilled.whitening._replace(mean_image=mean_image, forward=matrix + matrix.T)
    np.savez(tmp_path / "blocks.npz", **rcig.exported.halved(blocks))
    np.save(tmp_path / "pixels.npy", distilled.pixels)

    found = json.loads(in_torch("-c", DRAWS, folder, tmp_path / "blocks.npz", tmp_path / "pixels.npy", path=folder))

    schedule = PROTOCOLS["loo2023"].schedule(6)
    optimizer = schedule.optimizer(schedule.steps, schedule.learning_rate)

    def step(state: Any, _: Any) -> Any:
        change, state = optimizer.update(jnp.ones(()), state)  # a step of Adam, whose gradient never changes
        return state, -change

    rates = jax.lax.scan(step, optimizer.init(jnp.ones(())), None, schedule.steps)[1]
    np.testing.assert_allclose(found["rates"], rates, rtol=1e-3, atol=1e-10)
    assert found["std"] == pytest.approx(found["fan_in"] ** -0.5, rel=0.02)
    assert found["most"] < 2 / 0.8796 * found["fan_in"] ** -0.5
    assert found["seen"] == [4] * 5, "four images, none twice"
    expected = np.asarray(whiten.apply(blocks, distilled.pixels)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found["blocks"], expected, atol=1e-3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images, six of each class, exported."""
    folder = tmp_path_factory.mktemp("torch") / "spots"
    rcig.export(rcig.distil(*spots(60, 0), "random_real", 6, class_names=["a", "b", "ä"]), folder)
    return folder


def accuracies(said: str) -> list[float]:
    """Of the networks, of the line that has their mean, and of that which was expected."""
    return [float(line.removeprefix("expected ").split(": ")[-1].split()[0]) for line in said.splitlines()]


@pytest.mark.slow
def test_the_script_reaches_the_accuracy_of_our_networks(exported: Path, tmp_path: Path) -> None:
    images, labels = spots(90, 1)
    np.savez(tmp_path / "real.npz", test_images=images[..., 0], test_labels=labels[:, None])
    distilled = rcig.load(exported)
    ours = rcig.judge(distilled, (images, labels), width=16, networks=3)
    rcig.export(distilled, tmp_path / "out", ours)
    said = in_torch(tmp_path / "out" / "pytorch.py", tmp_path / "out", tmp_path / "real.npz", "--networks", "3")
    *networks, mean, expected = accuracies(said)
    assert len(networks) == 3
    assert mean == pytest.approx(np.mean(networks), abs=0.01)
    assert expected == pytest.approx(100 * ours.mean, abs=0.01)
    assert abs(mean - expected) < 6
    blocks = (ROOT / "docs/pytorch.md").read_text().split("```")[1::2]
    (block,) = [part for part in blocks if part.startswith("python\nimport pytorch\n")]
    np.savez(tmp_path / "out" / "test.npz", images=images, labels=labels)
    documented = in_torch("-c", block.removeprefix("python\n"), path=tmp_path / "out", cwd=tmp_path / "out")
    assert 0.9 < float(documented) <= 1
    assert expected > 90, "a network that has learned nothing is not as good by chance"


def test_the_script_reads_a_folder_of_pictures_as_it_reads_arrays(exported: Path, tmp_path: Path) -> None:
    if "{}.{}.".format(*sys.version_info) not in in_torch("-V"):
        pytest.skip("Pillow of this Python cannot be used by that which has PyTorch")
    images, labels = spots(30, 1)
    for i, (image, label) in enumerate(zip(images[..., 0], labels, strict=True)):
        # A letter with its dots as one character of two.
        folder = tmp_path / "real" / ["a", "b", unicodedata.normalize("NFD", "ä")][label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint16) * 256 if i % 2 else image).save(folder / f"{i:02}.png")
        (folder / ".hidden").touch()
    for package in Path(PIL.__file__).parent.parent.glob("[Pp][Ii][Ll]*"):
        if package.suffix != ".dist-info":
            (tmp_path / "lib" / package.name).parent.mkdir(exist_ok=True)
            (tmp_path / "lib" / package.name).symlink_to(package)
    shutil.copy(exported / "pytorch.py", tmp_path / "lib")
    read = (
        "import sys, json, numpy, pytorch;"
        "pixels, labels = pytorch.real_images(sys.argv[2], json.load(open(sys.argv[1])));"
        "numpy.savez(sys.argv[3], pixels=pixels, labels=labels)"
    )
    recipe, file = exported / "recipe.json", tmp_path / "read.npz"
    in_torch("-c", read, recipe, tmp_path / "real", file, path=tmp_path / "lib")
    order, found = np.argsort(labels, kind="stable"), np.load(file)
    np.testing.assert_array_equal(found["pixels"], images[order])
    np.testing.assert_array_equal(found["labels"], labels[order])


def test_what_the_script_refuses(exported: Path, tmp_path: Path) -> None:
    images, labels = spots(9, 1)
    np.savez(tmp_path / "large.npz", images=images.repeat(2, 1), labels=labels)
    np.savez(tmp_path / "classes.npz", images=images, labels=labels + 1)
    np.savez(tmp_path / "objects.npz", images=images.astype(object), labels=labels)
    np.savez(tmp_path / "other.npz", x=images)
    (tmp_path / "none").mkdir()
    for name, message in {
        "large.npz": "expected bytes (n, 8, 8, 1), got uint8 (9, 16, 8, 1)",
        "classes.npz": "expected 9 class numbers from 0 to 2",
        "objects.npz": "allow_pickle=False",
        "other.npz": "other.npz: cannot be read (",
        "nowhere": "nowhere: cannot be read (",
        "none": "has no pictures in folders of the names a, b, ä",
    }.items():
        (line,) = in_torch(exported / "pytorch.py", exported, tmp_path / name, fails=True).splitlines()
        assert message in line
    bare = rcig.load(exported)._replace(whitening=None)
    bare.meta.update(dataset="nowhere", mean=[0.5], std=[0.1])
    with pytest.warns(UserWarning, match="the whitening of nowhere is not here"):
        rcig.export(bare, tmp_path / "bare")
    assert recipes.recipe(bare, None, None)["whitening"] is None
    said = in_torch(exported / "pytorch.py", tmp_path / "bare", tmp_path / "large.npz", fails=True)
    assert "was exported without the whitening of its dataset; see its README.md" in said
