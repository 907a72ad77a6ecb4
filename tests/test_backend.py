"""What differs by backend: the forms of an accelerator compute on a CPU what those of a CPU do."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import tiny

from rcig import backend, inner, nets
from rcig.inner import Rates, Weights
from rcig.methods.base import Distilled, support
from rcig.methods.implicit import Settings, meta_gradient
from rcig.methods.rates import Rate


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls a function with the forms of an accelerator; what was compiled before is forgotten."""

    def call(function: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(backend.jax, "default_backend", lambda: "gpu")
            jax.clear_caches()
            found = function()
        jax.clear_caches()
        return found

    return call


def gradient(settings: Settings) -> Distilled:
    problem = tiny(images=5, channels=3)
    rate = Rate.start(0.1)
    gradient = partial(meta_gradient, problem.net, settings, 1e-3, partial(support, mirror=True))

    @jax.jit
    def found(distilled: Distilled) -> Distilled:
        return gradient(problem.network, Rates(rate, rate), jax.random.key(0), distilled, problem.batch)[0]

    return found(problem.distilled)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("settings", [Settings(solver="dense"), Settings(solver="cg", cg_iterations=4)], ids=str)
def test_the_gradient_is_the_same_in_both_forms(settings: Settings, accelerator: Any) -> None:
    here = gradient(settings)
    for a, b in zip(here, accelerator(lambda: gradient(settings)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("architecture", nets.WITH_DEPTH)
def test_rows_of_the_jacobian_are_the_same_in_both_forms(architecture: str) -> None:
    net = nets.build(architecture, (8, 8, 1), 3, width=4, depth=2, temperature=3.0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), net.init(jax.random.key(0)))
    statistics = variables.get("batch_stats", {})
    origin = Weights(variables["params"]["body"], variables["params"]["head"]["kernel"])
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 1), jnp.float64)
    features = partial(net.features, statistics=statistics)
    forms = inner.rows_by_image, inner.rows_by_layer
    one, other = (jax.jit(lambda x, form=form: form(features, origin)(x, None))(x) for form in forms)
    assert optax.tree.norm(one) > 1
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    # Along a direction they are what the linearised network changes by.
    shift = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(2), leaf.shape, leaf.dtype), origin.body)
    pairs = zip(*map(jax.tree.leaves, (other, shift)), strict=True)
    change = sum(np.tensordot(rows, direction, direction.ndim) for rows, direction in pairs)
    np.testing.assert_allclose(change, inner.linearised(features, origin)(shift, x).offset, rtol=1e-9)
