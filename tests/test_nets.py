import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rcig.nets
from rcig.nets import ARCHITECTURES, WITH_DEPTH, Variables, build
from rcig.nets.layers import GroupNorm, avg_pool, conv_lax, conv_patches, depthwise_shifts, max_pool, softplus
from rcig.nets.modern import EfficientNetB0Body, InvertedResidual, patch_side, scaled


def random_variables(init: Callable[..., Any], *arguments: jax.Array) -> Variables:
    """Random values for all variables, so that no bias is 0 and no scale 1; quicker than to compile `init`."""
    rng = np.random.default_rng(0)

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        noise, name = rng.normal(size=leaf.shape), path[-1].key
        if name == "kernel":
            noise *= math.sqrt(leaf.shape[0 if leaf.ndim == 4 else -1] / leaf.size)
        elif name in ("scale", "var"):
            noise = rng.uniform(0.5, 1.5, leaf.shape)
        return jnp.asarray(noise, float)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(init, jax.random.key(0), *arguments))


def assert_same_convolution(form: Callable[..., jax.Array], kernel_shape: tuple[int, ...], *geometry: int) -> None:
    """`form` gives what the convolution of XLA gives, forwards and backwards."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (3, 9, 8, 4), jnp.float64)
    kernel = jax.random.normal(keys[1], kernel_shape, jnp.float64)
    cotangent = jax.random.normal(keys[2], jax.eval_shape(lambda: form(x, kernel, *geometry)).shape, jnp.float64)

    @partial(jax.jit, static_argnums=0)
    def value_and_cotangents(form: Callable[..., jax.Array]) -> tuple[jax.Array, Any]:
        value, pullback = jax.vjp(lambda x, kernel: form(x, kernel, *geometry), x, kernel)
        return value, pullback(cotangent)

    for a, b in zip(*map(jax.tree.leaves, map(value_and_cotangents, (form, conv_lax))), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (3, 1, 3), (3, 2, 1), (1, 2, 0), (5, 1, 2)])
@pytest.mark.usefixtures("float64")
def test_patches_and_lax_convolution_agree(size: int, stride: int, padding: int) -> None:
    assert_same_convolution(conv_patches, (5, size, size, 3), stride, padding)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.usefixtures("float64")
def test_shifts_and_lax_depthwise_convolution_agree(size: int, stride: int) -> None:
    assert_same_convolution(depthwise_shifts, (3, size, size, 1), stride, size // 2)


def test_convolution_against_nested_loops() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 1)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(1, 3, 3, 2)).astype(np.float32)
    expected = np.zeros((1, 5, 4, 1))
    for row in range(5):
        for column in range(4):
            for i in range(3):
                for j in range(3):
                    r, c = row + i - 1, column + j - 1
                    if 0 <= r < 5 and 0 <= c < 4:
                        expected[0, row, column, 0] += x[:, r, c, 0] @ kernel[0, i, j]
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


def vgg11_narrow(classes: int) -> int:
    return conv3x3(3, 128) + 7 * conv3x3(128, 128) + 8 * 2 * 128 + 128 * classes + classes


def resnet18_stem_bn(classes: int) -> int:
    """Without the batch norms of the blocks and their shortcuts; 4×4 pixels reach the final layer."""
    blocks = 2 * (4 * 64 + 5 * (128 + 256 + 512))
    return resnet18(classes) - blocks + 15 * 512 * classes


def efficientnet_b0(classes: int) -> int:
    """Counted by hand from Tan & Le (2019), table 1: expansion, size, filters, blocks."""
    stages = [
        (1, 3, 16, 1),
        (6, 3, 24, 2),
        (6, 5, 40, 2),
        (6, 3, 80, 3),
        (6, 5, 112, 3),
        (6, 5, 192, 4),
        (6, 3, 320, 1),
    ]
    total, inputs = 9 * 3 * 32 + 2 * 32, 32
    for expansion, size, filters, blocks in stages:
        for _ in range(blocks):
            hidden, squeezed = expansion * inputs, inputs // 4
            total += inputs * hidden + 2 * hidden if expansion > 1 else 0
            total += size**2 * hidden + 2 * hidden
            total += hidden * squeezed + squeezed + squeezed * hidden + hidden
            total += hidden * filters + 2 * filters
            inputs = filters
    return total + 320 * 1280 + 2 * 1280 + 1280 * classes + classes


def vit_tiny(classes: int, side: int, patch: int) -> int:
    width, tokens = 192, (side // patch) ** 2 + 1
    block = 4 * (width**2 + width) + 2 * 4 * width**2 + 5 * width + 2 * 2 * width
    return patch**2 * 3 * width + width + (1 + tokens) * width + 12 * block + 2 * width + width * classes + classes


CONV = conv3x3(3, 128) + conv3x3(128, 256) + conv3x3(256, 512) + 512 * 16 * 10 + 10
PARAMETERS = {
    "conv": CONV,
    "conv_bn": CONV + 2 * 896,
    "conv_in": CONV + 2 * 896,
    "conv_ln": CONV + 2 * 896,
    "conv_gn": CONV + 2 * 896,
    "narrow_in": conv3x3(3, 128) + 2 * conv3x3(128, 128) + 6 * 128 + 128 * 16 * 10 + 10,
    "resnet18_bn": resnet18(10),
    "resnet18_stem_bn": resnet18_stem_bn(10),
    "vgg11_bn": vgg11(10),
    "vgg11_narrow": vgg11_narrow(10),
    "alexnet": (25 * 3 * 128 + 128)
    + (25 * 128 * 192 + 192)
    + conv3x3(192, 256)
    + conv3x3(256, 192)
    + conv3x3(192, 192)
    + 192 * 16 * 10
    + 10,
    "efficientnet_b0": efficientnet_b0(10),
    "vit_tiny": vit_tiny(10, side=32, patch=4),
}


def parameters(architecture: str, side: int, classes: int) -> int:
    variables = jax.eval_shape(build(architecture, (side, side, 3), classes).init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameter_counts(architecture: str) -> None:
    assert parameters(architecture, 32, 10) == PARAMETERS[architecture]
    row = f"| {architecture:16} | {ARCHITECTURES[architecture].width:5} | {PARAMETERS[architecture]:10,} |"
    assert row in str(rcig.nets.__doc__)


@pytest.mark.parametrize(
    ("architecture", "published", "counted"),
    [
        ("efficientnet_b0", 5_288_548, efficientnet_b0(1000)),
        ("vit_tiny", 5_717_416, vit_tiny(1000, side=224, patch=16)),
    ],
)
def test_parameter_counts_at_imagenets_size_are_the_published_ones(
    architecture: str, published: int, counted: int
) -> None:
    assert parameters(architecture, 224, 1000) == counted == published


def test_an_unknown_architecture_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"Unknown architecture 'resnet50'; known: conv, .*vit_tiny"):
        build("resnet50", (32, 32, 3), 10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_larger_images_give_logits(architecture: str) -> None:
    net = build(architecture, (64, 64, 3), 7, width=4)
    variables = jax.eval_shape(net.init, jax.random.key(0))
    assert jax.eval_shape(net.apply, variables, jnp.zeros((3, 64, 64, 3))).shape == (3, 7)


def quick(*slow: str) -> list[Any]:
    """All architectures, those that take long to compile marked."""
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in ARCHITECTURES]


@pytest.mark.parametrize("architecture", quick("efficientnet_b0", "vit_tiny", "resnet18_bn"))
def test_logits_do_not_depend_on_the_other_images_of_a_test_batch(architecture: str) -> None:
    net = build(architecture, (28, 28, 1), 7, width=4)
    x = jax.random.normal(jax.random.key(1), (6, 28, 28, 1))

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def gradients(variables: Variables, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = net.apply(variables, x)
        return logits[2:].sum(), logits

    variables = random_variables(net.init)
    (of_variables, of_images), logits = gradients(variables, x)
    assert logits.shape == (6, 7)
    np.testing.assert_allclose(gradients(variables, x.at[:2].set(0))[1][2:], logits[2:], atol=1e-4)
    assert not of_images[:2].any()
    assert of_images[2:].any((1, 2, 3)).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((of_variables, of_images)))
    # Running statistics are in force.
    assert all(leaf.any() for leaf in jax.tree.leaves(of_variables.get("batch_stats", {})))


@pytest.mark.parametrize(
    "architecture", [one for one in quick("efficientnet_b0") if ARCHITECTURES[one.values[0]].batch_norm]
)
def test_batch_norm_trains_on_batch_statistics_and_keeps_running_ones(architecture: str) -> None:
    depth = {"depth": 2} if architecture in WITH_DEPTH else {}
    net = build(architecture, (16, 16, 3), 2, width=4, **depth)
    variables = random_variables(net.init)
    x = 5 + 3 * jax.random.normal(jax.random.key(1), (16, 16, 16, 3))
    train = jax.jit(net.train)
    logits, new = train(variables, x)
    again, _ = train(variables | {"batch_stats": new["batch_stats"]}, x)
    others, _ = train(variables, x.at[8:].multiply(2))
    np.testing.assert_array_equal(again, logits)
    assert not np.allclose(others[:8], logits[:8], atol=1e-2)
    changed = jax.tree.map(lambda before, after: (before != after).all(), variables["batch_stats"], new["batch_stats"])
    assert all(jax.tree.leaves(changed))


def test_running_statistics_have_momentum_0_9() -> None:
    net = build("conv_bn", (8, 8, 3), 2, width=4, depth=1)
    variables = random_variables(net.init)
    x = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    conv = variables["params"]["body"]["Conv_0"]
    y = nhwc_conv(x, conv["kernel"]) + conv["bias"]
    _, new = jax.jit(net.train)(variables, x)
    before, after = (v["batch_stats"]["body"]["BatchNorm_0"]["BatchNorm_0"] for v in (variables, new))
    np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * y.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(after["var"], 0.9 * before["var"] + 0.1 * y.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 4, None])
def test_norms_against_numpy(groups: int | None) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(8, 5, 6, 3)).astype(np.float32)
    scale, shift = rng.normal(size=(2, 8)).astype(np.float32)
    expected = np.empty_like(x)
    size = 8 // (groups or 8)
    for image in range(3):
        for first in range(0, 8, size):
            part = x[first : first + size, :, :, image]
            expected[first : first + size, :, :, image] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    expected = expected * scale[:, None, None, None] + shift[:, None, None, None]
    found = GroupNorm(groups).apply({"params": {"scale": scale, "bias": shift}}, x, False)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_group_norm_needs_a_width_that_divides() -> None:
    net = build("conv_gn", (8, 8, 3), 2, width=6, depth=1)
    with pytest.raises(ValueError, match="divide by 4, got 6"):
        jax.eval_shape(net.init, jax.random.key(0))


def test_instance_norm_removes_contrast_per_image() -> None:
    net = build("conv_in", (8, 8, 1), 2, width=4, depth=1)
    variables, apply = random_variables(net.init), jax.jit(net.apply)
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    contrast = jnp.array([1.0, 4.0, 9.0])[:, None, None, None]
    np.testing.assert_allclose(apply(variables, x * contrast), apply(variables, x), atol=1e-3)


def nhwc_conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 1) -> jax.Array:
    """The library's convolution in the layout (images, height, width, channels)."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "OHWI", "NHWC")
    )


def nhwc_norm(x: jax.Array, variables: Variables, *path: str) -> jax.Array:
    """Batch norm with the running statistics found at `path` of the body, in the same layout."""
    parameters, statistics = variables["params"]["body"], variables["batch_stats"]["body"]
    for name in path:
        parameters, statistics = parameters[name], statistics[name]
    statistics = statistics["BatchNorm_0"]
    x = (x - statistics["mean"]) / jnp.sqrt(statistics["var"] + 1e-5)
    return x * parameters["scale"] + parameters["bias"]


def head(variables: Variables, x: jax.Array) -> jax.Array:
    """Logits of features (n, height, width, channels)."""
    layer = variables["params"]["head"]
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1) @ layer["kernel"] + layer["bias"]


@pytest.mark.parametrize(("architecture", "in_blocks"), [("resnet18_bn", True), ("resnet18_stem_bn", False)])
@pytest.mark.usefixtures("float64")
def test_resnet18_against_the_other_layout(architecture: str, in_blocks: bool) -> None:
    net = build(architecture, (16, 16, 3), 5, width=4)
    variables = random_variables(net.init)
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))

    def forward(variables: Variables, x: jax.Array) -> jax.Array:
        body = variables["params"]["body"]
        x = jax.nn.relu(nhwc_norm(nhwc_conv(x, body["Conv_0"]["kernel"]), variables, "BatchNorm_0"))
        for index, stride in enumerate([1, 1, 2, 1, 2, 1, 2, 1]):
            block = f"ResidualBlock_{index}"
            kernels = [layer["kernel"] for name, layer in sorted(body[block].items()) if "Conv" in name]

            def norm(x: jax.Array, layer: int, block: str = block) -> jax.Array:
                return nhwc_norm(x, variables, block, f"BatchNorm_{layer}") if in_blocks else x

            y = jax.nn.relu(norm(nhwc_conv(x, kernels[0], stride), 0))
            y = norm(nhwc_conv(y, kernels[1]), 1)
            x = jax.nn.relu(y + (norm(nhwc_conv(x, kernels[2], stride, 0), 2) if index in (2, 4, 6) else x))
        return head(variables, x.mean((1, 2), keepdims=True) if in_blocks else x)

    expected = jax.jit(forward)(variables, images)
    np.testing.assert_allclose(jax.jit(net.apply)(variables, images), expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
@pytest.mark.usefixtures("float64")
def test_vgg11_narrow_against_the_other_layout(shape: tuple[int, int, int]) -> None:
    net = build("vgg11_narrow", shape, 5, width=4)
    variables = random_variables(net.init)
    images = jax.random.normal(jax.random.key(0), (2, *shape))

    def forward(variables: Variables, x: jax.Array) -> jax.Array:
        for index in range(8):
            layer = variables["params"]["body"][f"Conv_{index}"]
            x = nhwc_conv(x, layer["kernel"], padding=3 if index == 0 and shape[2] == 1 else 1) + layer["bias"]
            x = jax.nn.relu(nhwc_norm(x, variables, f"BatchNorm_{index}"))
            if index in (0, 1, 3, 5, 7):
                x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))
        return head(variables, x)

    expected = jax.jit(forward)(variables, images)
    np.testing.assert_allclose(jax.jit(net.apply)(variables, images), expected, atol=1e-9)


@pytest.mark.parametrize(("width", "filters"), [(32, 1280), (4, 160), (1, 40)])
def test_filters_of_efficientnet_scale_with_the_stem(width: int, filters: int) -> None:
    assert scaled(1280, width) == filters
    assert scaled(32, width) == max(8, width)


def test_rounding_never_takes_more_than_a_tenth_of_many_filters() -> None:
    assert [scaled(filters, 4) for filters in (16, 24, 40, 80, 112, 192, 320)] == [8, 8, 8, 16, 16, 24, 40]


def test_stages_of_efficientnet_have_the_published_resolutions() -> None:
    """Tan & Le (2019), table 1, for the 112 pixels that their stem leaves of 224."""
    run = partial(EfficientNetB0Body(32).init_with_output, train=False, capture_intermediates=True)
    _, variables = jax.eval_shape(run, jax.random.key(0), jnp.zeros((3, 112, 112, 1)))
    shapes = [
        variables["intermediates"][f"InvertedResidual_{last}"]["__call__"][0].shape for last in (0, 2, 4, 7, 10, 14, 15)
    ]
    sides = [112, 56, 28, 14, 14, 7, 7]
    filters = [16, 24, 40, 80, 112, 192, 320]
    assert shapes == [(channels, side, side, 1) for channels, side in zip(filters, sides, strict=True)]


@pytest.mark.parametrize(("expansion", "size", "stride", "filters"), [(1, 3, 1, 8), (6, 5, 1, 5), (6, 5, 2, 8)])
def test_inverted_residual_against_numpy(expansion: int, size: int, stride: int, filters: int) -> None:
    inputs, hidden = 8, 8 * expansion
    block = InvertedResidual(filters, expansion, size, stride)
    x = np.random.default_rng(1).normal(size=(inputs, 7, 7, 2)).astype(np.float32)
    variables = jax.tree.map(np.asarray, random_variables(partial(block.init, train=False), x))
    params, statistics, count = variables["params"], variables["batch_stats"], itertools.count()

    def norm(y: np.ndarray) -> np.ndarray:
        name = f"BatchNorm_{next(count)}"
        layer = params[name] | statistics[name]["BatchNorm_0"]
        mean, var, scale, shift = (layer[key][:, None, None, None] for key in ("mean", "var", "scale", "bias"))
        return (y - mean) / np.sqrt(var + 1e-5) * scale + shift

    def pointwise(y: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
        y = np.einsum("chwn,dc->dhwn", y, layer["kernel"][:, 0, 0])
        return y + layer["bias"][:, None, None, None] if "bias" in layer else y

    def swish(y: np.ndarray) -> np.ndarray:
        return y / (1 + np.exp(-y))

    convolutions = [params[name] for name in sorted(params) if name.startswith("Conv_")]
    y = x if expansion == 1 else swish(norm(pointwise(x, convolutions[0])))
    padded = np.pad(y, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    kernel = params["DepthwiseConv_0"]["kernel"][..., 0]
    side = -(-7 // stride)
    y = np.zeros((hidden, side, side, 2))
    for row in range(side):
        for column in range(side):
            window = padded[:, row * stride : row * stride + size, column * stride : column * stride + size]
            y[:, row, column] = np.einsum("cijn,cij->cn", window, kernel)
    y = swish(norm(y))
    squeezed = swish(pointwise(y.mean((1, 2), keepdims=True), params["SqueezeExcitation_0"]["Conv_0"]))
    assert len(squeezed) == inputs // 4
    y = y / (1 + np.exp(-pointwise(squeezed, params["SqueezeExcitation_0"]["Conv_1"])))
    y = norm(pointwise(y, convolutions[-1]))
    expected = y + x if stride == 1 and filters == inputs else y
    found = jax.jit(partial(block.apply, train=False))(variables, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "patch"), [(28, 4), (32, 4), (64, 8), (128, 16), (224, 16)])
def test_sides_of_patches(side: int, patch: int) -> None:
    assert patch_side(side) == patch


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
def test_vision_transformer_against_numpy() -> None:
    net = build("vit_tiny", (14, 14, 3), 5, width=128)
    variables = random_variables(net.init)
    images = np.random.default_rng(1).normal(size=(2, 14, 14, 3))
    body = jax.tree.map(np.asarray, variables["params"]["body"])

    def norm(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * layer["scale"] + layer["bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def dense(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
        return x @ layer["kernel"] + layer["bias"]

    patches = images.reshape(2, 7, 2, 7, 2, 3)
    x = np.einsum("nhiwjc,dijc->nhwd", patches, body["Conv_0"]["kernel"]) + body["Conv_0"]["bias"]
    x = np.concatenate([np.tile(body["class_token"], (2, 1, 1)), x.reshape(2, 49, 128)], axis=1) + body["positions"]
    for index in range(12):
        block = body[f"EncoderBlock_{index}"]
        attention, y = block["MultiHeadDotProductAttention_0"], norm(x, block["LayerNorm_0"])
        heads = []
        for head in range(2):
            query, key, value = (
                y @ attention[name]["kernel"][:, head] + attention[name]["bias"][head]
                for name in ("query", "key", "value")
            )
            weights = np.exp(query @ key.transpose(0, 2, 1) / 8)
            heads.append(weights @ value / weights.sum(-1, keepdims=True) @ attention["out"]["kernel"][head])
        x = x + sum(heads) + attention["out"]["bias"]
        x = x + dense(gelu(dense(norm(x, block["LayerNorm_1"]), block["Dense_0"])), block["Dense_1"])
    expected = dense(norm(x[:, 0], body["LayerNorm_0"]), jax.tree.map(np.asarray, variables["params"]["head"]))
    np.testing.assert_allclose(jax.jit(net.apply)(variables, jnp.asarray(images)), expected, atol=1e-9)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="Expected width=200 to divide by its 3 heads"):
        jax.eval_shape(build("vit_tiny", (28, 28, 1), 10, width=200).init, jax.random.key(0))
