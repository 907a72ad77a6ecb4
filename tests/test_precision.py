"""Which products of a step are of reduced precision: those in passes of networks, and no other."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from tiny import Tiny, tiny

from rcig.inner import Rates
from rcig.methods.base import support
from rcig.methods.implicit import Settings, meta_gradient
from rcig.methods.rates import Rate
from rcig.nets import Net, at_precision, build

SETTINGS = {
    "dense": Settings(solver="dense"),
    "cg": Settings(solver="cg", cg_iterations=3),
    "adam": Settings(solver="adam", inner_steps=2, inverse_steps=2, inner_rate=0.1, inverse_rate=0.1),
    "final layer": Settings(body_weight=0.0),
}


def products(jaxpr: Any) -> Iterator[str]:
    """The precision of every product in a program and in what it calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            both = equation.params["precision"]
            yield "unsaid" if both is None else both[0].name
        for value in equation.params.values():
            for inside in value if isinstance(value, tuple | list) else [value]:
                if hasattr(inside, "eqns") or hasattr(inside, "jaxpr"):
                    yield from products(getattr(inside, "jaxpr", inside))


def of_a_step(net: Net, network: Any, settings: Settings, problem: Tiny) -> Counter[str]:
    gradient = partial(meta_gradient, net, settings, 1e-3, partial(support, mirror=False))
    rate = Rate.start(0.1)
    with jax.default_matmul_precision("float32"):
        step = jax.make_jaxpr(gradient)(network, Rates(rate, rate), jax.random.key(0), problem.distilled, problem.batch)
    return Counter(products(step.jaxpr))


def without_products(net: Net) -> Net:
    """A network of as many features that multiplies no matrices."""

    def features(body: Any, images: jax.Array, statistics: Any = None) -> jax.Array:
        size = net_size(net)
        return jnp.tanh(images.reshape(len(images), -1)[:, :size] * sum(jax.tree.leaves(body)))

    return net._replace(features=features)


def net_size(net: Net) -> int:
    return int(jax.eval_shape(net.init, jax.random.key(0))["params"]["head"]["kernel"].shape[0])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", SETTINGS)
def test_only_passes_of_networks_are_of_reduced_precision(case: str) -> None:
    problem = tiny()
    leaves = jax.tree.map(lambda leaf: jnp.ones(net_size(problem.net)), problem.origin.body)
    bare = {"params": problem.network["params"] | {"body": leaves}}
    others = of_a_step(at_precision(without_products(problem.net), "bfloat16"), bare, SETTINGS[case], problem)
    assert set(others) == {"HIGHEST"}
    found = of_a_step(at_precision(problem.net, "bfloat16"), problem.network, SETTINGS[case], problem)
    assert set(found) == {"HIGHEST", "DEFAULT"}
    assert found["HIGHEST"] == others["HIGHEST"]


def test_a_cpu_computes_in_float32() -> None:
    net = build("conv", (8, 8, 1), 3, width=2, depth=2)
    apply = at_precision(net, "auto").apply
    jaxpr = jax.make_jaxpr(apply)(net.init(jax.random.key(0)), jnp.ones((1, 8, 8, 1)))
    assert set(products(jaxpr.jaxpr)) == {"HIGHEST"}
