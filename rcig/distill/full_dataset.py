"""Networks trained on all real training images: what distilled sets are compared with. Nothing is distilled."""

from typing import Any

import jax
import optax

from rcig.augment import augment
from rcig.distill.base import Batch, Distiller, Info
from rcig.nets import Net
from rcig.params import FullDatasetParams
from rcig.passes import sum_images
from rcig.train import TrainState, adam, start


def full_dataset(net: Net, settings: FullDatasetParams) -> Distiller:
    """Adam with warm-up and cosine decay on the mean squared error to one-hot labels less 1/C, as in evaluation.

    State and result are those of `networks` networks without batch norm, side by side along the first axis, which see
    the same batches.
    """
    optimizer = adam(settings.steps, settings.steps // 10)(settings.learning_rate)

    def init(key: jax.Array, _: None) -> TrainState:
        return jax.vmap(lambda key: start(net, optimizer, key))(jax.random.split(key, settings.networks))

    def step(key: jax.Array, state: TrainState, batch: Batch) -> tuple[TrainState, Info]:
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

    return Distiller(init, step, lambda state: state.variables)
