"""merge: after a `git merge` with conflicts, the entries of dvc.lock of both sides, and the results that go with them.

What people write, such as params.yaml, is resolved and added before. Not a stage.

Example: python -m stages.merge
"""

import io
from pathlib import Path

from rcig import elsewhere, lock, planned, store
from rcig.errors import Foreseen
from stages.commands import conflicts, dvc, git
from stages.common import run

MADE = (str(lock.LOCK), str(planned.PLAN), f"{lock.PARTS}/", "results/", "reports/")
"""what the pipeline makes: conflicts there are resolved here, all others by hand"""


def main() -> None:
    found = conflicts()
    if str(lock.LOCK) not in found:
        raise Foreseen(f"{lock.LOCK}: git knows of no conflict in it; run this after a `git merge` that left one")
    if by_hand := " ".join(path for path in found if not path.startswith(MADE)):
        raise Foreseen(f"{by_hand}: in conflict; edit what git has marked, `git add {by_hand}`, and run this again")
    base, ours, theirs = (lock.read(content) if content else {} for content in found[str(lock.LOCK)])
    store.atomic_write(lock.LOCK, lock.written({}))
    dvc("repro", "--quiet", "plan", fix="mend it and run this again")
    plan = lock.read(lock.LOCK.read_bytes())
    here = lock.Here(sources(ours | theirs, theirs | ours), planned.load())
    merged, notes = lock.merge(base | plan, ours | plan, theirs | plan, here)
    store.atomic_write(lock.LOCK, lock.written(merged))
    made, anew = lock.made(merged), [str(lock.LOCK), *lock.made(plan)]
    for path in found.keys() - set(anew):
        resolve(path, found[path].ours, found[path].theirs, made.get(path))
    git("add", *anew)
    print("\n".join([*notes, f"{lock.LOCK}: {len(merged)} entries; now `dvc pull --allow-missing` and `dvc repro`"]))


def sources(*sides: lock.Entries) -> dict[str, str]:
    """Path -> md5, of the files that stages need and none makes; of one that is pinned what the pin says."""
    needed = {dep["path"] for side in sides for entry in side.values() for dep in entry.get("deps", [])}
    pins = lock.pins(Path(f"{path}.dvc") for path in needed)
    files = {path: digest(Path(path).read_bytes()) for path in needed if Path(path).is_file()}
    return files | {str(path): md5 for path, md5 in pins.items()}


def resolve(path: str, ours: bytes | None, theirs: bytes | None, md5: str | None) -> None:
    """Take the side of which the entry is. What is made again is ours, or gone where a side has removed it."""
    sides = [side for side in (ours, theirs) if side is not None]
    of_entry = [side for side in sides if digest(side) == md5]
    if of_entry or len(sides) == 2:
        store.atomic_write(Path(path), (of_entry or sides)[0])
        git("add", "--", path)
    else:
        git("rm", "--quiet", "--force", "--", path)


def digest(content: bytes) -> str:
    return elsewhere.md5_of(io.BytesIO(content))


if __name__ == "__main__":
    run(main)
