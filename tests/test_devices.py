"""Work shared by several devices, and by several processes: the same result as on one."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from rcig import passes, store

SCRIPT = """
import dataclasses, json, sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from rcig import passes
from rcig.data.splits import Split, whole
from rcig.distill import Distilled, implicit, loop, unrolled
from rcig.distill.outer import Setting
from rcig.nets import build
from rcig.whiten import fit
from test_inner import SETTINGS
from test_unrolled import SETTINGS as UNROLLED
from pathlib import Path

rng = np.random.default_rng(0)
train = Split(rng.integers(0, 255, (48, 8, 8, 1)).astype(np.uint8), (np.arange(48) % 3).astype(np.int32))
images = jnp.asarray(rng.normal(size=(4, 8, 8, 1)), jnp.float32)
start = Distilled(images, jnp.eye(3)[jnp.arange(4) % 3] - 1 / 3, jnp.zeros(()))
adam = {"solver": "adam", "inner_steps": 3, "inverse_steps": 3}
found = {}
cases = {
    "dense": ((1, 2, 4), {}),
    "cg": ((1, 4), {"solver": "cg"}),
    "adam": ((1, 2), adam),
    "rat_bptt": ((1, 4), None),
}
for name, (numbers, changes) in cases.items():
    net = build("conv", (8, 8, 1), 3, width=4, depth=2, temperature=3.0)
    sets = []
    for devices in numbers:
        mesh = Mesh(np.array(jax.devices()[:devices]), (passes.AXIS,), axis_types=(AxisType.Auto,))
        with jax.set_mesh(mesh):
            if changes is None:
                method = unrolled.unrolled_gradient(net, UNROLLED, False, Setting(4))
            else:
                settings = dataclasses.replace(SETTINGS, **changes)
                method = implicit.implicit_gradient(net, settings, 1e-3, False, Setting(4))
            task = loop.Task(method, start, whole(train), 3, fit(train.images, "standard"), 4, 16, 4, seed=0)
            distilled, _ = loop.distill(task, lambda s: 0.0, Path(sys.argv[1]) / f"{name}{devices}.npz", name)
            sets.append(np.asarray(distilled.images))
            if name == "dense" and devices == 4:
                spread = jax.jit(lambda state: state, out_shardings=passes.everywhere())
                state = spread(method.init(jax.random.key(0), start))
                step = loop.compiled_step(task, jax.random.key(0))
                text = step.lower(0, state, *loop.reader(task)(0)).compile().as_text()
                assert "all-reduce" in text, "the devices do not share the work"
    moved = np.abs(sets[0] - start.images).max()
    found[name] = [float(np.abs(images - sets[0]).max() / moved) for images in sets]
print(json.dumps(found))
"""


# Adam's first steps have the size of its rate whatever the gradient's, and so magnify rounding.
TOLERANCE = {"dense": 1e-3, "cg": 1e-3, "adam": 3e-2, "rat_bptt": 1e-3}


@pytest.mark.slow
def test_one_two_and_four_devices_agree(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, differences in json.loads(done.stdout.splitlines()[-1]).items():
        assert differences[0] == 0
        assert max(differences) < TOLERANCE[name], (name, differences)


@pytest.mark.parametrize("per_pass", [1, 2, 3, 5, 6, 12, 100])
def test_passes_are_the_function_on_all_images_at_once(per_pass: int) -> None:
    images = {"a": jnp.arange(24.0).reshape(12, 2), "b": jnp.arange(12)}
    mapped = passes.map_images(lambda part: {"out": part["a"] * part["b"][:, None]}, images, per_pass)
    np.testing.assert_array_equal(mapped["out"], images["a"] * images["b"][:, None])
    total = passes.sum_images(lambda part: (part["a"] * part["b"][:, None]).sum(0), images, per_pass)
    np.testing.assert_allclose(total, (images["a"] * images["b"][:, None]).sum(0))


def test_a_pass_has_no_more_images_than_asked() -> None:
    sizes = []

    def function(part: jax.Array) -> jax.Array:
        sizes.append(len(part))
        return part

    passes.map_images(function, jnp.zeros((30, 2)), 8)
    assert set(sizes) == {6}


@pytest.mark.slow
def test_two_processes_distil_what_one_does(tmp_path: Path) -> None:
    name = "mnist_sample-ipc1-rcig"
    yaml = YAML(typ="safe")
    settings = yaml.load((ROOT / "params.yaml").read_text())
    experiment = settings["experiments"][name] | {"width": 4}
    experiment["loop"] |= {"steps": 20, "batch_size": 32, "validate_every": 20}
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(
            {"datasets": settings["datasets"], "full_dataset": {}, "experiments": {name: experiment}, "studies": {}},
            file,
        )
    command = [sys.executable, "-m", "stages.distill", name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "stages.preprocess", "mnist_sample"], cwd=tmp_path, env=environment, check=True
    )
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    path = tmp_path / "artifacts" / "distilled" / f"{name}.npz"
    expected = store.load(path, store.DISTILLED)
    shutil.rmtree(path.parent)

    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = environment | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=together | {"JAX_PROCESS_ID": str(i)}, stderr=subprocess.PIPE)
        for i in range(2)
    ]
    ends = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], b"\n".join(ends).decode()
    found = store.load(path, store.DISTILLED)
    moved = np.abs(expected["images"]).max()
    np.testing.assert_allclose(found["images"], expected["images"], atol=0.02 * moved)
    assert not list(tmp_path.rglob("*.tmp*"))
