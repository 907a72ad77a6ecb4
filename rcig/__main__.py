"""The command `rcig`, which is also `python -m rcig`: the verbs of the library."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import rcig
from rcig import store
from rcig.entry import guarded
from rcig.errors import DataError

SET = "name of a distilled set, or path of its .npz file or of an export"
REAL = "an .npz file with images, bytes (n, h, w, c) or (n, h, w), and labels, class numbers (n,)"


def main() -> None:
    """What the command line asks for. Wrong arguments end it with status 2, a foreseen error with one line and 1."""
    given = _parser().parse_args()
    guarded(given.verb, given)


def distil(given: argparse.Namespace) -> None:
    from rcig import exporting

    exporting.check(Path(given.folder))
    images, labels = _real(given.data)
    numbers = {"images_per_class": given.images_per_class, "steps": given.steps, "width": given.width}
    distilled = rcig.distil(images, labels, given.method, **numbers, seed=given.seed)
    rcig.export(distilled, given.folder)
    print(f"{given.folder}: {len(distilled.images)} images; python -m rcig judge {given.folder} --dataset TEST.npz")


def judge(given: argparse.Namespace) -> None:
    distilled = rcig.load(given.set, seed=given.seed)
    on = distilled.meta["dataset"] if given.dataset is None else given.dataset
    settings = {"width": given.width, "networks": given.networks}
    found = rcig.judge(distilled, _real(on) if Path(on).suffix else on, given.protocol, **settings)
    print(f"{given.set}: test accuracy {_percent(found)}")


def show(given: argparse.Namespace) -> None:
    from rcig import exporting
    from rcig.sets import card

    distilled = rcig.load(given.set)
    summary = Path("results/distill") / given.set / "summary.json"
    print(card(distilled, store.load_json(summary) if summary.exists() else None))
    accuracy = exporting.recorded(given.set, distilled.meta["seeds"][0])
    if accuracy is not None:
        print(f"Test accuracy {_percent(accuracy)}")


def export(given: argparse.Namespace) -> None:
    rcig.export(given.set, given.folder, seed=given.seed)
    print(f"{given.folder}: exported; its README.md says how to use it")


def _percent(accuracy: Any) -> str:
    deviation = f" ± {100 * accuracy.deviation:.1f}" if len(accuracy.networks) > 1 else ""
    networks = f"{len(accuracy.networks)} networks of width {accuracy.width}"
    return f"{100 * accuracy.mean:.1f}{deviation} % ({networks}, {accuracy.protocol})"


def _real(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of an .npz file. Raises DataError for another, TooLargeError where memory is too small."""
    from rcig import resources

    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            size = sum(archive.getinfo(f"{name}.npy").file_size for name in ("images", "labels"))
            resources.refuse(path, "the number of images in it", size, resources.on_host())
            return store.read_array(archive, "images"), store.read_array(archive, "labels")
    except FileNotFoundError:
        raise
    except store.UNREADABLE as error:
        raise DataError(f"{path}: expected {REAL} ({' '.join(str(error).split())}); save it by numpy.savez") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rcig", description="Distil a dataset into a handful of images.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(run: Any, help: str, example: str) -> Any:
        added = verbs.add_parser(
            run.__name__,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"example: python -m rcig {example}",
        )
        added.set_defaults(verb=run)
        return added.add_argument

    option = verb(distil, "a distilled set of your own images", "distil mine.npz mine --images-per-class 10")
    option("data", metavar="DATA", help=REAL)
    option("folder", metavar="FOLDER", help="where the set is written to, as by export")
    option("--method", default="rcig", help="see docs/methods.md (default: %(default)s)")
    option("--images-per-class", type=int, default=1, metavar="N")
    option("--steps", type=int, default=1000, metavar="N", help="outer steps (default: %(default)s)")
    option("--width", type=int, default=32, metavar="N", help="of the networks (default: %(default)s)")
    option("--seed", type=int, default=0, metavar="N")

    option = verb(judge, "test accuracy of networks trained on a set alone", "judge mnist-ipc1-rcig-gpu --width 32")
    option("set", metavar="SET", help=SET)
    option("--dataset", metavar="NAME", help=f"a dataset prepared in this folder (default: the set's), or {REAL}")
    option("--protocol", default="loo2023", help="see docs/judging.md (default: %(default)s)")
    option("--width", type=int, default=128, metavar="N", help="of the networks (default: %(default)s)")
    option("--networks", type=int, default=2, metavar="N", help="how many are trained (default: %(default)s)")
    option("--seed", type=int, metavar="N", help="which of the seeds that the set has (default: its first)")

    option = verb(show, "what a set is and how it came about", "show mnist-ipc1-rcig-gpu")
    option("set", metavar="SET", help=SET)

    option = verb(export, "a set as a folder for PyTorch and everything else", "export mnist-ipc1-rcig-gpu mnist")
    option("set", metavar="SET", help=SET)
    option("folder", metavar="FOLDER", help="where it is written to; an earlier export there is replaced")
    option("--seed", type=int, metavar="N", help="which of the seeds that the set has (default: its first)")
    return parser


if __name__ == "__main__":
    main()
