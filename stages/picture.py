"""picture EXPERIMENT: the distilled images of the first seed, de-whitened and labelled, and the set's card.

Example: python -m stages.picture mnist_sample-ipc1-rcig
"""

from rcig import planned, sets, store
from rcig.report.drawing import image_grid
from stages.common import DISTILLED, RESULTS, run


def main(name: str) -> None:
    tested_on = planned.read("picture", name, dict).settings["tested_on"]
    distilled = sets.load(str(DISTILLED / f"{name}.npz"))
    class_names = distilled.meta["class_names"]
    titles = [class_names[label] for label in distilled.labels.argmax(1)]
    columns = 10 if len(titles) % 10 == 0 else 16
    folder = RESULTS / "distill" / name
    summary = store.load_json(folder / "summary.json")
    store.atomic_write(folder / "images.png", image_grid(distilled.pixels, titles, columns))
    store.atomic_write(folder / "card.md", sets.card(distilled, summary, "images.png", tested_on))


if __name__ == "__main__":
    run(main)
