"""picture EXPERIMENT: the distilled images of the first seed, de-whitened and labelled."""

import json

from rcig import store
from rcig.report.figures import image_grid
from stages.common import DISTILLED, RESULTS, run


def main(name: str) -> None:
    distilled = store.load(DISTILLED / f"{name}.npz", store.DISTILLED)
    class_names = json.loads(str(distilled["meta"]))["class_names"]
    titles = [class_names[label] for label in distilled["labels"][0].argmax(1)]
    columns = 10 if len(titles) % 10 == 0 else 16
    store.atomic_write(RESULTS / "distill" / name / "images.png", image_grid(distilled["pixels"][0], titles, columns))


if __name__ == "__main__":
    run(main)
