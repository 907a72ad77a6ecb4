"""What `preprocess` has left of a dataset, for the stages after it."""

from rcig import store, whiten
from rcig.data.splits import Split
from stages.common import DATA


def load_split(dataset: str, part: str) -> tuple[Split, list[str]]:
    """Raw images and labels of a dataset's `train` or `test` part, and its class names."""
    arrays = store.load(DATA / dataset / f"{part}.npz", store.SPLIT)
    return Split(arrays["images"], arrays["labels"]), arrays["class_names"].tolist()


def load_whitening(dataset: str) -> whiten.Whitening:
    return whiten.Whitening(**store.load(DATA / dataset / "whitening.npz", store.WHITENING))
