import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig.nets import ARCHITECTURES, build
from rcig.nets.layers import avg_pool, conv_lax, conv_patches, max_pool, softplus


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (3, 1, 3), (3, 2, 1), (1, 2, 0), (5, 1, 2)])
@pytest.mark.usefixtures("float64")
def test_patches_and_lax_convolution_agree(size: int, stride: int, padding: int) -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (3, 9, 8, 4), jnp.float64)
    kernel = jax.random.normal(keys[1], (size, size, 3, 5), jnp.float64)
    found, pullback = jax.vjp(lambda x, kernel: conv_patches(x, kernel, stride, padding), x, kernel)
    expected, lax_pullback = jax.vjp(lambda x, kernel: conv_lax(x, kernel, stride, padding), x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    cotangent = jax.random.normal(jax.random.key(1), expected.shape, jnp.float64)
    for a, b in zip(pullback(cotangent), lax_pullback(cotangent), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_convolution_against_nested_loops() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 1)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, 3, 2, 1)).astype(np.float32)
    expected = np.zeros((1, 5, 4, 1))
    for row in range(5):
        for column in range(4):
            for i in range(3):
                for j in range(3):
                    r, c = row + i - 1, column + j - 1
                    if 0 <= r < 5 and 0 <= c < 4:
                        expected[0, row, column, 0] += x[:, r, c, 0] @ kernel[i, j, :, 0]
    np.testing.assert_allclose(conv_patches(jnp.asarray(x), jnp.asarray(kernel), 1, 1), expected, atol=1e-5)


def test_pooling_against_windows() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    windows = x[:, :4].reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_allclose(avg_pool(jnp.asarray(x)), windows.mean((2, 4)), rtol=1e-6)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), windows.max((2, 4)))


def test_softplus_approaches_relu_and_is_smooth_at_zero() -> None:
    x = jnp.linspace(-1, 1, 21)
    assert float(jnp.abs(softplus(60.0)(x) - jax.nn.relu(x)).max()) == pytest.approx(np.log(2) / 60, rel=1e-5)
    assert float(jax.grad(softplus(60.0))(0.0)) == pytest.approx(0.5)
    np.testing.assert_array_equal(softplus(0)(x), jax.nn.relu(x))


def conv3x3(inputs: int, filters: int) -> int:
    return 9 * inputs * filters + filters


def resnet18(classes: int) -> int:
    """Counted by hand from He et al. (2016): weights without bias, scale and shift per batch norm."""
    total, inputs = 9 * 3 * 64 + 2 * 64, 64
    for filters in (64, 128, 256, 512):
        total += 9 * inputs * filters + 3 * 9 * filters**2 + 4 * 2 * filters
        total += inputs * filters + 2 * filters if inputs != filters else 0
        inputs = filters
    return total + 512 * classes + classes


def vgg11(classes: int) -> int:
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    stages = itertools.pairwise(widths)
    return sum(conv3x3(a, b) + 2 * b for a, b in stages) + 512 * classes + classes


PARAMETERS = {
    "conv": conv3x3(3, 128) + conv3x3(128, 256) + conv3x3(256, 512) + 512 * 16 * 10 + 10,
    "conv_bn": conv3x3(3, 128) + conv3x3(128, 256) + conv3x3(256, 512) + 2 * 896 + 512 * 16 * 10 + 10,
    "conv_in": conv3x3(3, 128) + conv3x3(128, 256) + conv3x3(256, 512) + 2 * 896 + 512 * 16 * 10 + 10,
    "narrow_in": conv3x3(3, 128) + 2 * conv3x3(128, 128) + 6 * 128 + 128 * 16 * 10 + 10,
    "resnet18_bn": resnet18(10),
    "vgg11_bn": vgg11(10),
    "alexnet": (25 * 3 * 128 + 128)
    + (25 * 128 * 192 + 192)
    + conv3x3(192, 256)
    + conv3x3(256, 192)
    + conv3x3(192, 192)
    + 192 * 16 * 10
    + 10,
}
WIDTHS = {
    "conv": 128,
    "conv_bn": 128,
    "conv_in": 128,
    "narrow_in": 128,
    "resnet18_bn": 64,
    "vgg11_bn": 64,
    "alexnet": 128,
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameter_counts(architecture: str) -> None:
    net = build(architecture, (32, 32, 3), 10, width=WIDTHS[architecture])
    variables = jax.eval_shape(net.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[architecture]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_outputs_do_not_depend_on_the_other_images_of_a_test_batch(
    architecture: str, shape: tuple[int, int, int]
) -> None:
    net = build(architecture, shape, 7, width=4)
    variables = jax.jit(net.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, *shape))
    logits = jax.jit(net.apply)(variables, x)
    assert logits.shape == (6, 7)
    np.testing.assert_allclose(jax.jit(net.apply)(variables, x.at[:2].set(0))[2:], logits[2:], atol=1e-4)


def test_batch_norm_trains_on_batch_statistics_and_keeps_running_ones() -> None:
    net = build("conv_bn", (8, 8, 3), 2, width=4, depth=2)
    variables = net.init(jax.random.key(0))
    x = 5 + 3 * jax.random.normal(jax.random.key(1), (16, 8, 8, 3))
    trained, new = net.train(variables, x)
    shifted, _ = net.train(variables, x * 2)
    # Scale-free up to the bias of the convolution, which is 0 at initialisation: batch statistics are in force.
    np.testing.assert_allclose(trained, shifted, atol=1e-2)
    assert not np.allclose(net.apply(variables, x), net.apply(variables, x * 2), atol=1e-1)
    for before, after in zip(
        jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(new["batch_stats"]), strict=True
    ):
        assert not np.allclose(before, after)


def test_instance_norm_removes_contrast_per_image() -> None:
    net = build("conv_in", (8, 8, 1), 2, width=4, depth=1)
    variables = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    contrast = jnp.array([1.0, 4.0, 9.0])[:, None, None, None]
    np.testing.assert_allclose(net.apply(variables, x * contrast), net.apply(variables, x), atol=1e-3)
