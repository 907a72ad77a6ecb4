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
from tiny import short_run
from workspaces import ROOT

from rcig import passes, store
from stages import distill

SCRIPT = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from rcig import passes
from rcig.methods import implicit, unrolled
from rcig.methods.base import Distilled
from rcig.run import loop
from tiny import setup
from pathlib import Path

images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
start = Distilled(images, jnp.eye(3)[jnp.arange(4) % 3] - 1 / 3, jnp.zeros(()))
family = {"body_weight": 1.0, "average_decay": 0.9, "softplus_temperature": 3.0, "pool_size": 2}
found = {}
cases = {
    "dense": ((1, 4), implicit, implicit.Settings(**family, solver="dense")),
    "cg": ((1, 4), implicit, implicit.Settings(**family, solver="cg", cg_iterations=12)),
    "adam": ((1, 2), implicit, implicit.Settings(
        **family, solver="adam", inner_steps=3, inverse_steps=3, inner_rate=1e-2, inverse_rate=0.1
    )),
    "rat_bptt": ((1, 4), unrolled, unrolled.Settings(
        learning_rate=0.02, average_decay=0.9, architecture="conv", inner_steps=5, window=3, inner_rate=1e-2,
        augment=False, augment_real=False,
    )),
}
for name, (numbers, module, settings) in cases.items():
    sets = []
    for devices in numbers:
        mesh = Mesh(np.array(jax.devices()[:devices]), (passes.AXIS,), axis_types=(AxisType.Auto,))
        with jax.set_mesh(mesh):
            whitened = lambda raw: jax.device_put(raw / np.float32(64) - 2, passes.everywhere())
            method = module.make(settings, setup(images=4, steps=4, whitened=whitened))
            task = loop.Task(method, start, 4, 4, seed=0)
            state, step = loop.initial(task), loop.compiled_step(task)
            state = jax.jit(lambda state: state, out_shardings=passes.everywhere())(state)
            step = step.lower(0, state, method.feed(0)).compile()
            shared = "all-reduce" in step.as_text()
            assert shared == (devices > 1), f"{name}: {devices} devices do not share the work"
            distilled, _ = loop.run(task, lambda s: 0.0, Path(sys.argv[1]) / f"{name}{devices}.npz", name, step)
            sets.append(np.asarray(distilled.images))
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
def test_two_processes_distil_what_one_does(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mnist_sample-ipc1-rcig"
    short_run(tmp_path, prepared, name, loop={"steps": 20, "batch_size": 32, "validate_every": 20})
    monkeypatch.chdir(tmp_path)
    distill.main(name)
    path = tmp_path / "artifacts" / "distilled" / f"{name}.npz"
    expected = store.load(path, store.DISTILLED)
    shutil.rmtree(path.parent)

    command = [sys.executable, "-m", "stages.distill", name]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = os.environ | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
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
