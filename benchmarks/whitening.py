"""Time and memory of fitting ZCA on noise of a dataset's size, and the rate at which drawn batches are read.

    python -m benchmarks.whitening --images 50000 --side 32
    python -m benchmarks.whitening --images 9469 --side 128 --kind zca_checkerboard

The images lie in a file as those of a dataset do. Memory is what the process itself holds, without the file's pages.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine import run
from rcig import store, whiten
from rcig.data.splits import Split, whole

BATCH, BATCHES = 1024, 50
EVERY = 0.05
"""seconds between looks at the memory"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--kind", choices=["standard", "zca", "zca_checkerboard"], default="zca")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        path = Path(folder) / "train.npz"
        seconds = measure(lambda: write(path, options.images, options.side))
        print(f"write   {seconds:8.1f} s, {path.stat().st_size / 2**20:.0f} MiB, peak memory {memory.peak():.0f} MiB")
        arrays = store.load(path, store.SPLIT)
        seconds = measure(lambda: whiten.fit(arrays["images"], options.kind))
        print(f"fit     {seconds:8.1f} s, peak memory {memory.peak():.0f} MiB")
        view = whole(Split(arrays["images"], arrays["labels"]))
        rng = np.random.default_rng(0)
        chosen = [
            np.sort(rng.choice(options.images, min(BATCH, options.images), replace=False)) for _ in range(BATCHES)
        ]
        seconds = measure(lambda: [view.take(positions) for positions in chosen])
        print(f"batches {BATCHES / seconds:8.1f} of {BATCH} a second, peak memory {memory.peak():.0f} MiB")


def write(path: Path, images: int, side: int) -> None:
    rng = np.random.default_rng(0)

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, images, 1000):
            noise = rng.integers(0, 256, (min(1000, images - start), side, side, 3), np.uint8)
            yield (noise // 2 + noise[:, :1] // 2).astype(np.uint8)  # columns correlate, as pixels do

    stream = store.Chunks((images, side, side, 3), "uint8", pieces())
    store.save(path, store.SPLIT, images=stream, labels=np.zeros(images, np.int32), class_names=["noise"])


def measure(work) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Memory:
    """Watches the memory that belongs to this process alone, in MiB."""

    def __enter__(self) -> "Memory":
        self._peak, self._stop = 0.0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def peak(self) -> float:
        """The largest since the last call."""
        peak, self._peak = self._peak, 0.0
        return peak

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            lines = Path("/proc/self/status").read_text().splitlines()
            anonymous = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self._peak = max(self._peak, anonymous / 1024)


if __name__ == "__main__":
    run(main)
