"""How the paper's network is trained on a set and tested, for other programs and in words."""

import math
from pathlib import Path
from typing import Any

import jax

from rcig import escape, exported, nets, whiten
from rcig.api import Accuracy
from rcig.data.looking import depth
from rcig.judging.evaluate import Evaluate
from rcig.judging.protocols import PROTOCOLS, WARMUP, Name
from rcig.sets import DistilledSet
from rcig.train import FINAL
from rcig.whiten import Whitening

PROTOCOL: Name = "loo2023"
"""by which a recipe trains"""
WORDS = Path(__file__).with_name("recipe.md")


def recipe(distilled: DistilledSet, whitening: Whitening | None, accuracy: Accuracy | None) -> dict[str, Any]:
    """What JSON can say of a set: classes, images, labels, whitening, network, training, and the accuracy to expect.

    The last is null where none is known, and so is the whitening.
    """
    meta, (count, height, side, channels) = distilled.meta, distilled.images.shape
    classes, width = list(meta["class_names"]), Evaluate.width if accuracy is None else accuracy.width
    schedule = PROTOCOLS[PROTOCOL].schedule(count)
    return {
        "dataset": meta["dataset"],
        "class_names": classes,
        "images": {
            "file": exported.SET,
            "shape": [count, height, side, channels],
            "axes": "image, row, column, channel",
            "space": "whitened",
            "mirror": bool(meta.get("mirror", False)),
        },
        "labels": {"file": exported.SET, "kind": "centred", "added_gives_probabilities": 1 / len(classes)},
        "whitening": None if whitening is None else _whitening(whitening),
        "network": {
            "name": "conv",
            "width": width,
            "stages": _stages((height, side, channels), len(classes), width, meta.get("depth", depth(side))),
            "stage": "convolution of stride 1, activation, pooling",
            "normalisation": None,
            "activation": "relu",
            "pooling": "mean of 2 x 2, stride 2",
            "final_layer": "linear with bias, on all features in the order channel, row, column",
            "initial_weights": "normal of variance 1/fan_in, cut at two standard deviations",
            "initial_biases": 0,
        },
        "training": {
            "protocol": PROTOCOL,
            "optimiser": "adam",
            "betas": [0.9, 0.999],
            "epsilon": 1e-8,
            "weight_decay": 0,
            "learning_rate": schedule.learning_rate,
            "schedule": "linear from 0 over warmup_steps, then a cosine to final_fraction of the rate",
            "warmup_steps": WARMUP,
            "final_fraction": FINAL,
            "steps": schedule.steps,
            "batch_size": schedule.batch_size,
            "batch": "drawn anew at every step, none twice; of a smaller set all; mirror images count",
            "augmentation": None,
            "loss": "half of the squared difference of outputs and labels, mean over images and classes",
        },
        "expected": None if accuracy is None else _expected(accuracy),
    }


def _whitening(whitening: Whitening) -> dict[str, Any]:
    matrix = len(whitening.forward) > 0
    return {
        "file": exported.WHITENING,
        "kind": whiten.kind_of(whitening),
        "of_bytes": f"(bytes / 255 - mean) / std{', less mean_image, times the matrix' if matrix else ''}",
        "matrix": "symmetric; forward is its lower triangle, row by row" if matrix else None,
    }


def _stages(shape: tuple[int, int, int], classes: int, width: int, stages: int) -> list[dict[str, int]]:
    net = nets.build("conv", shape, classes, width=width, depth=stages)
    body = jax.eval_shape(net.init, jax.random.key(0))["params"]["body"]
    kernels = [body[f"Conv_{i}"]["kernel"].shape for i in range(stages)]
    return [
        {"filters": filters, "kernel": size, "padding": nets.padding(i, shape[-1])}
        for i, (filters, size, _, _) in enumerate(kernels)
    ]


def _expected(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "accuracy": accuracy.mean,
        "deviation": None if math.isnan(accuracy.deviation) else accuracy.deviation,
        "networks": len(accuracy.networks),
        "width": accuracy.width,
        "protocol": accuracy.protocol,
    }


def words(recipe: dict[str, Any]) -> str:
    """The same in Markdown, with the commands that follow it."""
    dataset = escape.markdown(recipe["dataset"])
    images, network, whitening, expected = (recipe[part] for part in ("images", "network", "whitening", "expected"))
    stages = network["stages"]
    return WORDS.read_text("utf-8").format(
        **recipe["training"],
        width=network["width"],
        stages=len(stages),
        kernel=stages[0]["kernel"],
        filters=", ".join(str(stage["filters"]) for stage in stages),
        padding=", ".join(str(stage["padding"]) for stage in stages),
        classes=len(recipe["class_names"]),
        set=exported.SET,
        recipe=exported.RECIPE,
        script=exported.SCRIPT,
        mirror="Every image is used together with its mirror image."
        if images["mirror"]
        else "No mirror images are used.",
        whitening=(
            f"Real images become what the network reads by {whitening['of_bytes']}. These arrays are in"
            f" `{whitening['file']}`, which is the same file for all sets of {dataset}."
            if whitening
            else "The whitening of the dataset was not at hand, so no real image can be tested: run"
            f" `dvc repro preprocess@{dataset}` where this set is from, and export it again."
        ),
        expected=(
            f"Test accuracy to expect: {100 * expected['accuracy']:.1f}{_spread(expected)} % ({expected['networks']}"
            f" networks of width {expected['width']}, mean ± standard deviation, protocol {expected['protocol']})."
            if expected
            else "What accuracy to expect is not known."
        ),
    )


def _spread(expected: dict[str, Any]) -> str:
    return "" if expected["deviation"] is None else f" ± {100 * expected['deviation']:.1f}"
