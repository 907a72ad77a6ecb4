"""prepare DATASET: download a dataset and prepare it for reading. Not a stage; needs a network.

Example: python -m stages.prepare mnist
"""

from rcig.data import builders
from stages.common import run


def main(name: str) -> None:
    builders.prepare(name)


if __name__ == "__main__":
    run(main)
