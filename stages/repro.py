"""repro: pull what is stored and make what is not, for all that params.yaml lists. Not a stage.

Example: python -m stages.repro
"""

from pathlib import Path

from rcig.alone import alone
from rcig.processes import stoppable
from stages.commands import dvc
from stages.common import run


def main() -> None:
    with stoppable("what is made stays, and the same command goes on from there"), alone(Path(), "make repro"):
        dvc("pull", "--allow-missing", fix="mend it and run `make repro` again")
        dvc("repro", "--allow-missing", fix="`make repro` goes on where it stopped")


if __name__ == "__main__":
    run(main)
