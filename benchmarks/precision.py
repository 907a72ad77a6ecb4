"""The error of a whole meta-gradient against float64, where passes of networks multiply at reduced precision.

    python -m benchmarks.precision --dataset mnist --images-per-class 1 --width 32 --batch 256

Prints one line of JSON for each body weight and precision. What an accelerator would multiply at reduced precision is
multiplied here in float32 after its factors are rounded to the bits of that precision, forwards and backwards; so a CPU
finds the errors too. Images are noise, the network is freshly initialised.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

from benchmarks.machine import run
from benchmarks.outer_step import initial, noise, solver_settings
from rcig import nets, plan, planned
from rcig.data.settings import Dataset
from rcig.inner import Rates
from rcig.methods.base import Batch, Distilled, support
from rcig.methods.implicit import Settings, meta_gradient
from rcig.methods.rates import Rate

BITS = {"float32": 23, "tensorfloat32": 10, "bfloat16": 7}
"""of the mantissa of a product's factors"""
FULL = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
PRODUCTS = ("dot_general", "conv_general_dilated")
CALLS = ("pjit", "jit", "closed_call", "custom_jvp_call")
"""of functions that are evaluated where they are called"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", help="one that params.yaml lists (default: mnist)")
    parser.add_argument("--images-per-class", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--solver", choices=["dense", "cg"], default="dense")
    parser.add_argument("--iterations", type=int, help="of cg (default: the method's)")
    options = parser.parse_args()
    dataset = plan.read(planned.PARAMS)[0].datasets[options.dataset]
    given = options.width, options.batch, options.images_per_class * dataset.classes, dataset
    for body_weight in (1.0, 0.1):
        settings = dataclasses.replace(solver_settings(options.solver, options.iterations), body_weight=body_weight)
        exact = gradient(settings, "float64", *given)
        for precision in BITS:
            found = gradient(settings, precision, *given)
            errors = {
                f"{part}_error": float(f"{error(getattr(found, part), getattr(exact, part)):.2g}")
                for part in ("images", "labels")
            }
            print(json.dumps(vars(options) | {"body_weight": body_weight, "precision": precision} | errors), flush=True)


def error(found: jax.Array, exact: jax.Array) -> float:
    """Length of the difference over that of the exact one."""
    with jax.enable_x64(True):
        exact = jnp.asarray(exact)
        return float(optax.tree.norm(exact - found) / optax.tree.norm(exact))


def gradient(settings: Settings, precision: str, width: int, batch: int, images: int, dataset: Dataset) -> Distilled:
    """The meta-gradient of a set of noise; with `precision` float64 all of it is of that."""
    exact = precision == "float64"
    net = nets.build("conv", dataset.shape, dataset.classes, width=width, depth=dataset.depth, temperature=60.0)
    real = noise(batch, dataset)
    of_real = Batch(jnp.asarray(real.images) / 64.0 - 2, jax.nn.one_hot(real.labels, dataset.classes))
    given = net.init(jax.random.key(0)), initial(images, dataset), of_real
    rate = Rate.start(0.1)
    part = partial(meta_gradient, nets.at_precision(net, "float32" if exact else precision), settings, dataset.l2_rate)

    def whole(network: Any, distilled: Distilled, batch: Batch) -> Distilled:
        with jax.default_matmul_precision("float32"):
            mirrored = partial(support, mirror=dataset.mirror)
            return part(mirrored, network, Rates(rate, rate), jax.random.key(0), distilled, batch)[0]

    with jax.enable_x64(exact):
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if exact else jnp.float32), given)
        return jax.device_get(jax.jit(whole if exact else rounded(whole, BITS[precision]))(*given))


def rounded(function: Callable[..., Any], bits: int) -> Callable[..., Any]:
    """The function, whose products that ask for less than full float32 get factors of so many bits."""

    def call(*arguments: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _evaluate(bits, program, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return call


def _evaluate(bits: int, program: ClosedJaxpr, *arguments: Any) -> list[Any]:
    """The results of a program, evaluated so."""
    known = dict(zip((*program.jaxpr.constvars, *program.jaxpr.invars), (*program.consts, *arguments), strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in program.jaxpr.eqns:
        values, parameters = [read(variable) for variable in equation.invars], dict(equation.params)
        inside = parameters.get("call_jaxpr", parameters.get("jaxpr"))
        if equation.primitive.name in CALLS and isinstance(inside, ClosedJaxpr):
            results = _evaluate(bits, inside, *values)
        else:
            if equation.primitive.name in PRODUCTS and parameters["precision"] != FULL:
                values = [lax.reduce_precision(value, exponent_bits=8, mantissa_bits=bits) for value in values]
                parameters["precision"] = FULL
            results = equation.primitive.bind(
                *values, **jax.tree.map(partial(_inside, bits), parameters, is_leaf=_leaf)
            )
        results = results if equation.primitive.multiple_results else [results]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in program.jaxpr.outvars]


def _leaf(value: Any) -> bool:
    return not isinstance(value, tuple) or not any(isinstance(one, ClosedJaxpr) for one in value)


def _inside(bits: int, value: Any) -> Any:
    """A parameter of a loop or a branch: where it is a program, one that rounds."""
    if not isinstance(value, ClosedJaxpr):
        return value
    shapes = [jax.ShapeDtypeStruct(shape.shape, shape.dtype) for shape in value.in_avals]
    return jax.make_jaxpr(partial(_evaluate, bits, value))(*shapes)


if __name__ == "__main__":
    run(main)
