"""Trains the network of a recipe on an exported set, with nothing but PyTorch and NumPy, and tests it on real images.

    python pytorch.py FOLDER TEST [--width W] [--networks K] [--seed S] [--device cuda]

FOLDER is what `rcig.export` writes: recipe.json, set.npz, whitening.npz. TEST has real images: an .npz with images,
bytes (n, h, w, c) or (n, h, w), and labels (n,), class numbers from 0 on, or with test_images and test_labels as
MedMNIST has them; or a folder that holds a folder of pictures for every class, under the names of the recipe, which
needs Pillow.
"""

import argparse
import json
import math
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 500
"""real images at a time"""
CUT = 0.87962566103423978
"""standard deviation of a normal distribution that is cut at two deviations"""


def load(folder: str | Path) -> tuple[dict[str, Any], Tensor, Tensor]:
    """The recipe, and what networks are trained on: images (n, c, h, w) in whitened space, labels (n, C).

    Where the recipe says mirror, every image is there with its mirror image.
    """
    recipe = json.loads((Path(folder) / "recipe.json").read_text("utf-8"))
    with np.load(Path(folder) / recipe["images"]["file"], allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(arrays["labels"])
    if recipe["images"]["mirror"]:
        images, labels = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
    return recipe, images, labels


def network(recipe: dict[str, Any], width: int | None = None) -> nn.Sequential:
    """A new network, of the recipe's width or of another."""
    said, (side, _, channels) = recipe["network"], recipe["images"]["shape"][1:]
    layers: list[nn.Module] = []
    for stage in said["stages"]:
        filters = stage["filters"] * (width or said["width"]) // said["width"]
        layers += [nn.Conv2d(channels, filters, stage["kernel"], padding=stage["padding"]), nn.ReLU(), nn.AvgPool2d(2)]
        side = (side + 2 * stage["padding"] - stage["kernel"] + 1) // 2
        channels = filters
    new = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, len(recipe["class_names"])))
    for layer in new:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            deviation = math.sqrt(1 / layer.weight[0].numel()) / CUT
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)
    return new


def rate(training: dict[str, Any], step: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up from 0, then a cosine."""
    warmup, last = training["warmup_steps"], training["final_fraction"]
    if step < warmup:
        return training["learning_rate"] * step / warmup
    done = min(1.0, (step - warmup) / (training["steps"] - warmup))
    return training["learning_rate"] * (last + (1 - last) * (1 + math.cos(math.pi * done)) / 2)


def train(net: nn.Module, recipe: dict[str, Any], images: Tensor, labels: Tensor) -> nn.Module:
    """The network after the recipe's training on images (n, c, h, w) and labels (n, C); it is changed."""
    training = recipe["training"]
    adam = torch.optim.Adam(net.parameters(), betas=tuple(training["betas"]), eps=training["epsilon"])
    net.train()
    for step in range(training["steps"]):
        for group in adam.param_groups:
            group["lr"] = rate(training, step)
        some = slice(None)
        if len(images) > training["batch_size"]:
            some = torch.randperm(len(images))[: training["batch_size"]].to(images.device)
        loss = ((net(images[some]) - labels[some]) ** 2).mean() / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
    return net.eval()


class Whitening:
    """Makes the network's input of real images, by the whitening of the dataset: bytes (n, h, w, c) -> (n, c, h, w)."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.mean, self.std, self.mean_image, half = (
                torch.from_numpy(arrays[name]).to(device) for name in ("mean", "std", "mean_image", "forward")
            )
        size = (math.isqrt(8 * len(half) + 1) - 1) // 2
        self.matrix = torch.zeros(size, size, device=device)
        rows = torch.tril_indices(size, size, device=device)
        self.matrix[rows[0], rows[1]] = self.matrix[rows[1], rows[0]] = half

    def __call__(self, pixels: np.ndarray) -> Tensor:
        x = (torch.from_numpy(pixels).to(self.mean.device) / 255 - self.mean) / self.std
        if len(self.matrix):
            n, height, width, channels = x.shape
            # One matrix for the whole image, or for blocks of every stride-th row and column.
            stride = math.isqrt(x[0].numel() // len(self.matrix))
            rows, columns = height // stride, width // stride
            x = (x - self.mean_image).reshape(n, rows, stride, columns, stride, channels).permute(0, 2, 4, 1, 3, 5)
            x = x.reshape(n, stride, stride, -1) @ self.matrix
            x = x.reshape(n, stride, stride, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
            x = x.reshape(n, height, width, channels)
        return x.permute(0, 3, 1, 2).contiguous()


def test(net: nn.Module, whitening: Whitening, pixels: np.ndarray, classes: np.ndarray) -> float:
    """The part of the real images, bytes (n, h, w, c), whose largest output is that of their class (n,)."""
    found = []
    with torch.no_grad():
        for start in range(0, len(pixels), CHUNK):
            found.append(net(whitening(pixels[start : start + CHUNK])).argmax(1).cpu().numpy())
    return float((np.concatenate(found) == classes).mean())


def real_images(path: str | Path, recipe: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes (n, h, w, c) and class numbers (n,) of an .npz or a folder of folders. Exits for those of other sizes."""
    path, shape, classes = Path(path), tuple(recipe["images"]["shape"][1:]), len(recipe["class_names"])
    if path.is_dir():
        pixels, labels = _pictures(path, recipe["class_names"], shape)
    else:
        with np.load(path, allow_pickle=False) as arrays:
            names = ("test_images", "test_labels") if "test_images" in arrays else ("images", "labels")
            pixels, labels = (arrays[name] for name in names)
        pixels, labels = pixels[..., None] if pixels.ndim == 3 else pixels, labels.reshape(-1)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
        sys.exit(f"error: {path}: expected bytes (n, {', '.join(map(str, shape))}), got {pixels.dtype} {pixels.shape}")
    if labels.shape != pixels.shape[:1] or not 0 <= labels.min() <= labels.max() < classes:
        sys.exit(f"error: {path}: expected {len(pixels)} class numbers from 0 to {classes - 1}")
    return pixels, labels


def _pictures(folder: Path, class_names: list[str], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    # Some systems store the letters of a name otherwise than it is written.
    places = {unicodedata.normalize("NFC", place.name): place for place in folder.iterdir()}
    inside = [sorted(places[name].glob("*")) if name in places else [] for name in class_names]
    found = [[path for path in paths if path.name[0] != "."] for paths in inside]
    without = [name for name, paths in zip(class_names, found, strict=True) if not paths]
    if without:
        sys.exit(f"error: {folder}: has no pictures in folders of the names {', '.join(without)}")
    pixels = []
    for path in (path for paths in found for path in paths):
        with _readable(path):
            picture = _picture(path, "L" if shape[-1] == 1 else "RGB")
        if picture.shape[:2] != shape[:2]:
            sys.exit(f"error: {path}: expected a picture of {shape[1]} × {shape[0]} pixels, bring it to that size")
        pixels.append(picture.reshape(shape))
    return np.stack(pixels), np.repeat(np.arange(len(found)), [len(paths) for paths in found])


def _picture(path: Path, mode: str) -> np.ndarray:
    """Bytes of a picture, upright as its camera says; of 16 bits the upper eight."""
    from PIL import Image, ImageOps  # which only folders need

    with Image.open(path) as image:
        picture = ImageOps.exif_transpose(image)
    if picture.mode in ("I", "F"):
        raise ValueError(f"mode {picture.mode}, expected 8 or 16 bits a channel")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.asarray(picture.convert(mode))


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Ends with one line where what is read there cannot be."""
    try:
        yield
    except (ImportError, OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {path}: cannot be read ({error})")


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("test", metavar="TEST")
    parser.add_argument("--width", type=_positive, help="filters of the first stage (default: the recipe's)")
    parser.add_argument("--networks", type=_positive, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    with _readable(given.folder):
        recipe, images, labels = load(given.folder)
    if recipe["whitening"] is None:
        sys.exit(f"error: {given.folder}: was exported without the whitening of its dataset; see its README.md")
    with _readable(given.folder):
        whitening = Whitening(Path(given.folder) / recipe["whitening"]["file"], given.device)
    with _readable(given.test):
        real = real_images(given.test, recipe)
    found = []
    for number in range(given.networks):
        torch.manual_seed(given.seed + number)
        net = network(recipe, given.width).to(given.device)
        train(net, recipe, images.to(given.device), labels.to(given.device))
        found.append(100 * test(net, whitening, *real))
        print(f"network {number}: {found[-1]:.2f} % of {len(real[0])} real images", flush=True)
    deviation = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
    print(
        f"{np.mean(found):.2f}{deviation} % ({len(found)} networks, width {given.width or recipe['network']['width']})"
    )
    expected = recipe["expected"]
    if expected is not None:
        spread = "" if expected["deviation"] is None else f" ± {100 * expected['deviation']:.2f}"
        print(
            f"expected {100 * expected['accuracy']:.2f}{spread} %"
            f" ({expected['networks']} networks, width {expected['width']})"
        )


if __name__ == "__main__":
    main()
