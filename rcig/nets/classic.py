"""ResNet-18, VGG-11 and AlexNet in their usual forms for images of 28 to 64 pixels, on (C, H, W, N).

Differences from the ImageNet originals, the customary ones for small images:
1. ResNet-18 (He et al. 2016): the stem is one 3×3 convolution of stride 1 without max pooling; batch norm follows
   every convolution; global average pooling.
2. VGG-11 (Simonyan & Zisserman 2015, configuration A): batch norm after every convolution, one linear final layer in
   place of the three fully connected ones, no dropout. A max pooling that would leave no pixels is left out.
3. AlexNet (Krizhevsky et al. 2012): 5×5 stride 1 in place of 11×11 stride 4, 2×2 poolings, one linear final layer,
   no local response normalisation and no dropout.

`width` is the number of filters of the first stage: 64 for ResNet-18 and VGG-11, 128 for AlexNet as in the
dataset-distillation literature; the later stages keep the original proportions.
"""

import jax
from flax import linen as nn

from rcig.nets.layers import BatchNorm, Conv, max_pool


class ResidualBlock(nn.Module):
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv(self.filters, stride=self.stride, bias=False)(x)
        y = nn.relu(BatchNorm()(y, train))
        y = BatchNorm()(Conv(self.filters, bias=False)(y), train)
        if x.shape != y.shape:
            x = Conv(self.filters, size=1, stride=self.stride, padding=0, bias=False)(x)
            x = BatchNorm()(x, train)
        return nn.relu(x + y)


class ResNet18Body(nn.Module):
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(BatchNorm()(Conv(self.width, bias=False)(x), train))
        for stage in range(4):
            x = ResidualBlock(self.width * 2**stage, stride=1 if stage == 0 else 2)(x, train)
            x = ResidualBlock(self.width * 2**stage, stride=1)(x, train)
        return x.mean((1, 2))


class VGG11Body(nn.Module):
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for filters, pool in [(1, 1), (2, 1), (4, 0), (4, 1), (8, 0), (8, 1), (8, 0), (8, 1)]:
            x = nn.relu(BatchNorm()(Conv(self.width * filters)(x), train))
            if pool and x.shape[1] > 1:
                x = max_pool(x)
        return x


class AlexNetBody(nn.Module):
    width: int = 128

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        padding = 4 if x.shape[0] == 1 else 2
        x = max_pool(nn.relu(Conv(self.width, size=5, padding=padding)(x)))
        x = max_pool(nn.relu(Conv(self.width * 3 // 2, size=5, padding=2)(x)))
        x = nn.relu(Conv(self.width * 2)(x))
        x = nn.relu(Conv(self.width * 3 // 2)(x))
        return max_pool(nn.relu(Conv(self.width * 3 // 2)(x)))
