"""Passes of many images through a network: some at a time, and spread over all devices.

Both are the same sums in another order. A function of images gets a PyTree whose leaves have the images along their
first axis, and knows nothing of how many it is given; weights reach it by closure.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rcig import backend

AXIS = "images"
"""name of the mesh axis over which images are spread"""
CPU_PASS = 32
"""Images per pass on a CPU: their patches then stay in its cache, which about halves the time of these passes."""


def join_processes() -> bool:
    """Start JAX's distributed runtime where JAX_COORDINATOR_ADDRESS asks for it -> whether this process writes files.

    JAX_NUM_PROCESSES and JAX_PROCESS_ID may be left out under a launcher that JAX knows, such as Slurm or Open MPI.
    """
    if "JAX_COORDINATOR_ADDRESS" in os.environ and not jax.distributed.is_initialized():
        number, me = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        jax.distributed.initialize(
            num_processes=None if number is None else int(number), process_id=None if me is None else int(me)
        )
    return jax.process_index() == 0


def all_devices() -> Mesh:
    """A mesh of all devices of all processes, for `with jax.set_mesh(all_devices()):`."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def everywhere() -> NamedSharding | None:
    """The sharding of arrays that lie whole on every device of the mesh that is set; None where none is."""
    mesh = jax.sharding.get_mesh()
    return None if mesh.empty else NamedSharding(mesh, PartitionSpec())


def shapes(function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes of what a function returns, as arrays that lie whole on every device: nothing is computed."""
    return jax.tree.map(lambda leaf: leaf.update(sharding=everywhere()), jax.eval_shape(function, *arguments))


def map_images(function: Callable[[Any], Any], images: Any, per_pass: int | None = None) -> Any:
    """function(images), at most `per_pass` images at a time (None: what suits the backend); results in order.

    Under a mesh (`jax.set_mesh`) with the axis AXIS, each device takes an equal part where the number of images allows.
    """
    return _spread(partial(_map_local, function, per_pass=per_pass), images, PartitionSpec(AXIS))


def sum_images(function: Callable[[Any], Any], images: Any, per_pass: int | None = None) -> Any:
    """The sum of function over parts of the images; function must itself return the sum over what it is given."""

    def total(part: Any) -> Any:
        return jax.lax.psum(_sum_local(function, part, per_pass), AXIS)

    return _spread(total, images, PartitionSpec(), partial(_sum_local, function, per_pass=per_pass))


def _spread(function: Any, images: Any, out_specs: PartitionSpec, alone: Any = None) -> Any:
    """function on every device's part of the images; `alone` (or function) on all where nothing is to spread."""
    mesh = jax.sharding.get_abstract_mesh()
    devices = mesh.shape.get(AXIS, 1)
    if devices == 1 or count(images) % devices:
        return (alone or function)(images)
    # check_vma would ask of scans inside that their zeros vary over devices; the specs are right by construction.
    return jax.shard_map(function, in_specs=PartitionSpec(AXIS), out_specs=out_specs, check_vma=False)(images)


def _map_local(function: Any, images: Any, per_pass: int | None) -> Any:
    parts = _parts(images, per_pass)
    if parts is None:
        return function(images)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.lax.map(function, parts))


def _sum_local(function: Any, images: Any, per_pass: int | None) -> Any:
    parts = _parts(images, per_pass)
    if parts is None:
        return function(images)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts)))
    return jax.lax.scan(add, zeros, parts)[0]


def _parts(images: Any, per_pass: int | None) -> Any:
    """The images cut into equal parts along a new first axis, or None where one pass takes all."""
    n = count(images)
    limit = per_pass or backend.suited(cpu=CPU_PASS, accelerator=n)
    size = max(divisor for divisor in range(1, min(n, limit) + 1) if n % divisor == 0)
    if size == n:
        return None
    return jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), images)


def count(images: Any) -> int:
    return len(jax.tree.leaves(images)[0])
