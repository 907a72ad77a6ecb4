"""Networks trained on all real training images: what distilled sets are compared with. Nothing is distilled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import optax

from rcig.augment import augment
from rcig.data.settings import Dataset
from rcig.fields import POSITIVE
from rcig.methods.base import Batch, Info, Method
from rcig.methods.feeds import Examples
from rcig.nets import Net, Variables
from rcig.passes import sum_images
from rcig.train import TrainState, adam, start


@dataclass(frozen=True)
class FullDataset:
    """Networks trained on all training images but the held-out ones, tested on the whole test split."""

    steps: Annotated[int, POSITIVE]
    """of training"""
    width: Annotated[int, POSITIVE] = 32
    """of the networks (paper: 128)"""
    networks: Annotated[int, POSITIVE] = 2
    """that are trained, all on the same batches"""
    batch_size: Annotated[int, POSITIVE] = 256
    """images per training step"""
    learning_rate: Annotated[float, POSITIVE] = 1e-3
    """of Adam, after a warm-up over a tenth of the steps; falls to a hundredth as a cosine"""
    augment: bool = True
    """one random transform per image"""
    validate_every: Annotated[int, POSITIVE] = 500
    """steps between measurements of the held-out accuracy"""
    seed: int = 0
    """of the weights and the batches"""


@dataclass(frozen=True)
class Entry:
    """What the stage reads of plan.json."""

    dataset: Dataset
    full_dataset: FullDataset


def full_dataset(
    net: Net, settings: FullDataset, classes: int, feed: Callable[[int], Examples]
) -> Method[TrainState, Examples, Variables]:
    """Adam with warm-up and cosine decay on the mean squared error to one-hot labels less 1/C, as in evaluation.

    State and result are those of `networks` networks without batch norm, side by side along the first axis, which see
    the same batches.
    """
    optimizer = adam(0.1)(settings.steps, settings.learning_rate)

    def init(key: jax.Array, _: None) -> TrainState:
        return jax.vmap(lambda key: start(net, optimizer, key))(jax.random.split(key, settings.networks))

    def step(key: jax.Array, state: TrainState, examples: Examples) -> tuple[TrainState, Info]:
        batch = examples.batch(classes)
        if settings.augment:
            batch = batch._replace(images=augment(key, batch.images))

        def loss(params: Any, part: Batch) -> jax.Array:
            logits = net.apply({"params": params}, part.images)
            return optax.l2_loss(logits, part.labels - 1 / part.labels.shape[1]).sum() / batch.labels.size

        def slopes(part: Batch) -> Any:
            return jax.vmap(jax.value_and_grad(loss), (0, None))(state.variables["params"], part)

        losses, gradient = sum_images(slopes, batch)
        change, moments = jax.vmap(optimizer.update)(gradient, state.optimizer)
        params = optax.apply_updates(state.variables["params"], change)
        return TrainState(state.variables | {"params": params}, moments), {"loss": losses.mean()}

    return Method(init, step, lambda state: state.variables, feed)
