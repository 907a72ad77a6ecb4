"""check_store: damaged objects of store/ and .dvc/cache are replaced by whole copies, or named. Not a stage.

The `dvc` of the environment that make installs runs this first, as DVC itself deletes a damaged object from store/, and
puts one of .dvc/cache in place. Ends with status 1 where a damaged object has no whole copy; one of the cache is then
renamed to NAME.damaged.

Example: python -m stages.check_store
"""

import sys
from pathlib import Path

from rcig.objects import care
from stages.common import run


def main() -> None:
    found = care(Path())
    for line in found.mended:
        print(line, file=sys.stderr)
    for line in found.lost:
        print(f"error: {line}", file=sys.stderr)
    if found.lost:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
