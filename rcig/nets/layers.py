"""Convolution and pooling in the layout (channels, height, width, images).

Images come last because that is the fast layout on a CPU: every shifted view that a convolution needs is then a copy
of long contiguous runs. On a GPU the logical order costs nothing, XLA chooses the physical one.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rcig import backend
from rcig.errors import ParamsError

LAYOUT = ("CHWN", "OHWI", "CHWN")
"""of images, kernels (filters, height, width, channels) and results"""


def conv_lax(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """The convolution of XLA: fast on GPUs, but some forty times slower inside loops on CPUs.

    A kernel for fewer channels than x has is that of a grouped convolution: (C, h, w, 1) of a depthwise one.
    """
    groups = x.shape[0] // kernel.shape[3]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=LAYOUT, feature_group_count=groups
    )


def conv_patches(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """The same sums as one matrix product over concatenated shifted views: fast on CPUs, inside loops too."""
    views = patches(x, kernel.shape[1:3], stride, padding)
    return (kernel.reshape(len(kernel), -1) @ views.reshape(len(views), -1)).reshape(-1, *views.shape[1:])


def patches(x: jax.Array, size: tuple[int, ...], stride: int, padding: int) -> jax.Array:
    """What a kernel of `size` (h, w) meets, in the order of its weights: (C, H, W, N) -> (h·w·C, H', W', N).

    Shifts along columns first, then along rows: faster than all shifts at once, forwards and backwards.
    """
    x, down, across = prepare(x, size, stride, padding)
    x = jnp.concatenate([x[:, :, view] for view in across])
    return jnp.concatenate([x[:, view] for view in down])


def depthwise_shifts(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """A depthwise convolution as a sum of shifted products: fast on CPUs, inside loops too.

    Shifts along columns first, then those of the sums along rows: fewer views, half the time to compile.
    """
    x, down, across = prepare(x, kernel.shape[1:3], stride, padding)
    columns = [x[:, :, view] for view in across]
    rows = kernel[..., 0].transpose(1, 2, 0)[..., None, None, None]
    sums = [reduce(jnp.add, map(jnp.multiply, weights, columns)) for weights in rows]
    return reduce(jnp.add, (of_row[:, view] for of_row, view in zip(sums, down, strict=True)))


def prepare(
    x: jax.Array, size: tuple[int, ...], stride: int, padding: int
) -> tuple[jax.Array, list[slice], list[slice]]:
    """x with zeros around it, and which of its rows and columns every row and every column of a kernel meets."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    down, across = (
        [slice(i, length - weights + i + 1, stride) for i in range(weights)]
        for length, weights in zip(x.shape[1:3], size, strict=True)
    )
    return x, down, across


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """2-D convolution of x (C, H, W, N) with kernel (filters, h, w, C) -> (filters, H', W', N).

    `padding` pixels of zeros are added on all four sides. The form is chosen by the backend; both compute the same.
    """
    form = backend.suited(cpu=conv_patches, accelerator=conv_lax)
    return form(x, kernel, stride, padding)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """2-D convolution of every channel of x (C, H, W, N) with its own kernel (C, h, w, 1) -> (C, H', W', N).

    `padding` and the choice of the form are those of `conv`.
    """
    form = backend.suited(cpu=depthwise_shifts, accelerator=conv_lax)
    return form(x, kernel, stride, padding)


def lecun_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Weights (…, filters) of variance 1 / fan-in, a normal distribution cut at two deviations: the numbers of Flax's.

    They are drawn in one row and then take their shape, which a CPU compiles in an eighth of the time.
    """
    flat = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
    cut = jnp.asarray(0.87962566103423978, dtype)  # deviation of what is left of a normal distribution so cut
    return flat.reshape(shape) * (jnp.sqrt(jnp.asarray(1 / math.prod(shape[:-1]), dtype)) / cut)


def conv_kernel(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """The numbers that Flax draws for a kernel (h, w, C, filters), as (filters, h, w, C)."""
    return jnp.moveaxis(lecun_normal(key, (*shape[1:], shape[0]), dtype), -1, 0)


OWN = "own"
"""Collection of displacements, all zero, of the parameters of every image alone (n, …): a derivative by them is the
Jacobian by the parameters, image by image, and of a convolution it is a product of patches and cotangents."""


def with_own_kernels(x: jax.Array, kernels: jax.Array, size: tuple[int, ...], stride: int, padding: int) -> jax.Array:
    """The convolution of each of the first n of N images with its own kernel (n, filters, …); zeros for the others."""
    count, filters = kernels.shape[:2]
    # As the kernels are zero, nothing of what follows depends on x.
    views = jax.lax.stop_gradient(patches(x[..., :count], size, stride, padding))
    y = jnp.einsum("nfk,kyxn->fyxn", kernels.reshape(count, filters, -1), views)
    return _filled(y, x)


def _filled(y: jax.Array, x: jax.Array) -> jax.Array:
    """y with zeros for the images that only x has."""
    return jnp.pad(y, (*((0, 0),) * (y.ndim - 1), (0, x.shape[-1] - y.shape[-1])))


def per_channel(module: nn.Module, name: str, init: Any, x: jax.Array) -> jax.Array:
    """A parameter (C,) of a layer, to go with x (C, H, W, N)."""
    value = module.param(name, init, (len(x),))[:, None, None, None]
    if module.has_variable(OWN, name):
        value += _filled(module.get_variable(OWN, name).T, x)[:, None, None]
    return value


class Conv(nn.Module):
    """A convolution layer on (C, H, W, N) with LeCun-normal weights."""

    filters: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.size, self.size)
        kernel = self.param("kernel", conv_kernel, (self.filters, *size, len(x)))
        y = conv(x, kernel, self.stride, self.padding)
        if self.has_variable(OWN, "kernel"):
            y += with_own_kernels(x, self.get_variable(OWN, "kernel"), size, self.stride, self.padding)
        return y + per_channel(self, "bias", nn.initializers.zeros_init(), y) if self.bias else y


class DepthwiseConv(nn.Module):
    """A depthwise convolution layer on (C, H, W, N) with LeCun-normal weights and as much padding as keeps the size."""

    size: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", conv_kernel, (len(x), self.size, self.size, 1))
        return depthwise(x, kernel, self.stride, self.size // 2)


def avg_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Mean over size×size windows of (C, H, W, N) that do not overlap; rows and columns left over are dropped."""
    return reduce(jnp.add, corners(x, size)) / size**2


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Maximum over size×size windows of (C, H, W, N) that do not overlap."""
    return reduce(jnp.maximum, corners(x, size))


def corners(x: jax.Array, size: int) -> list[jax.Array]:
    """Every window's first pixel, second pixel, …: strided views fuse with what is around them, reductions do not."""
    height, width = x.shape[1] // size * size, x.shape[2] // size * size
    return [x[:, i:height:size, j:width:size] for i in range(size) for j in range(size)]


def softplus(temperature: float) -> Callable[[jax.Array], jax.Array]:
    """A smooth ReLU, softplus(t·x)/t (Loo et al. 2023, section 4: t = 60); t = 0 is ReLU itself.

    The derivative is given as the sigmoid that it is: cheaper than what JAX derives from logaddexp.
    """
    if temperature == 0:
        return nn.relu

    @jax.custom_jvp
    def smooth(x: jax.Array) -> jax.Array:
        # Not log1p, which takes a CPU twice the time: what it keeps of small exponentials is lost beside 1 layer on.
        return jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-temperature * jnp.abs(x))) / temperature

    @smooth.defjvp
    def tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
        (x,), (dx,) = primals, tangents
        return smooth(x), jax.nn.sigmoid(temperature * x) * dx

    return smooth


class BatchNorm(nn.Module):
    """Batch normalisation over all but the channels; running statistics with momentum 0.9."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis=0, use_scale=False, use_bias=False)
        return scaled_and_shifted(self, norm(x))


def scaled_and_shifted(norm: nn.Module, y: jax.Array) -> jax.Array:
    """What has been normalised, with the scale and the shift that a norm learns per channel."""
    scale = per_channel(norm, "scale", nn.initializers.ones_init(), y)
    return y * scale + per_channel(norm, "bias", nn.initializers.zeros_init(), y)


class GroupNorm(nn.Module):
    """Normalisation over each group of channels of every image (Wu & He 2018), scale and shift learned per channel.

    One group of all channels is layer norm, a group for every channel (`groups` None) is instance norm.
    """

    groups: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[0]
        groups = self.groups or channels
        if channels % groups:
            raise ParamsError(f"Expected the width of a network with group norm to divide by {groups}, got {channels}")
        y = x.reshape(groups, -1, *x.shape[1:])
        y = (y - y.mean((1, 2, 3), keepdims=True)) * jax.lax.rsqrt(y.var((1, 2, 3), keepdims=True) + 1e-5)
        return scaled_and_shifted(self, y.reshape(x.shape))
