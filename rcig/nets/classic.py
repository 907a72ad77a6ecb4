"""ResNet-18, VGG-11 and AlexNet in their usual forms for images of 28 to 64 pixels, on (C, H, W, N).

Differences from the ImageNet originals, the customary ones for small images:
1. ResNet-18 (He et al. 2016): the stem is one 3×3 convolution of stride 1 without max pooling; batch norm follows
   every convolution; global average pooling.
2. VGG-11 (Simonyan & Zisserman 2015, configuration A): batch norm after every convolution, one linear final layer in
   place of the three fully connected ones, no dropout. A max pooling that would leave no pixels is left out.
3. AlexNet (Krizhevsky et al. 2012): 5×5 stride 1 in place of 11×11 stride 4, 2×2 poolings, one linear final layer,
   no local response normalisation and no dropout.

`loo2023` is the form of the public code of Loo et al. (2023), in which their cross-architecture table was made as far
as one can tell from that code. It differs from the usual one:
4. ResNet-18: batch norm after the stem only, none in the residual blocks and their shortcuts; no global average
   pooling, the final layer sees all pixels (4×4×512 of 32×32).
5. VGG-11: `width` filters in every stage (128 there); average pooling in place of max pooling; grey images get 2 more
   pixels of padding in the first convolution (28 → 32).

`width` is the number of filters of the first stage; in the usual forms the later ones keep the original proportions.
"""

import jax
from flax import linen as nn

from rcig.nets.layers import BatchNorm, Conv, avg_pool, max_pool


class ResidualBlock(nn.Module):
    filters: int
    stride: int
    batch_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv(self.filters, stride=self.stride, bias=False)(x)
        y = nn.relu(self.norm(y, train))
        y = self.norm(Conv(self.filters, bias=False)(y), train)
        if x.shape != y.shape:
            x = Conv(self.filters, size=1, stride=self.stride, padding=0, bias=False)(x)
            x = self.norm(x, train)
        return nn.relu(x + y)

    def norm(self, x: jax.Array, train: bool) -> jax.Array:
        return BatchNorm()(x, train) if self.batch_norm else x


class ResNet18Body(nn.Module):
    width: int
    loo2023: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(BatchNorm()(Conv(self.width, bias=False)(x), train))
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                x = ResidualBlock(self.width * 2**stage, stride, batch_norm=not self.loo2023)(x, train)
        return x if self.loo2023 else x.mean((1, 2))


class VGG11Body(nn.Module):
    width: int
    loo2023: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        padding = 3 if self.loo2023 and x.shape[0] == 1 else 1
        for multiple, pool in [(1, 1), (2, 1), (4, 0), (4, 1), (8, 0), (8, 1), (8, 0), (8, 1)]:
            x = Conv(self.width * (1 if self.loo2023 else multiple), padding=padding)(x)
            x = nn.relu(BatchNorm()(x, train))
            if pool and x.shape[1] > 1:
                x = avg_pool(x) if self.loo2023 else max_pool(x)
            padding = 1
        return x


class AlexNetBody(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        padding = 4 if x.shape[0] == 1 else 2
        x = max_pool(nn.relu(Conv(self.width, size=5, padding=padding)(x)))
        x = max_pool(nn.relu(Conv(self.width * 3 // 2, size=5, padding=2)(x)))
        x = nn.relu(Conv(self.width * 2)(x))
        x = nn.relu(Conv(self.width * 3 // 2)(x))
        return max_pool(nn.relu(Conv(self.width * 3 // 2)(x)))
