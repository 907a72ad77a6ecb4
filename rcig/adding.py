"""The verb `add`: looks at images of your own, decides what the pipeline has to know, and lists them in params.yaml."""

import dataclasses
import fcntl
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from rcig import plan, planned, store, strict
from rcig.data.catalogue import SOURCES
from rcig.data.looking import Decided, decide
from rcig.data.settings import Dataset, Listed, Own
from rcig.data.splits import held_out_mask
from rcig.errors import DataError, ParamsError
from rcig.fields import check_name, shown

SHOWN = 10
"""sizes and names that are printed, at most"""
UNBALANCED = 2.0
"""times that the largest class has the images of the smallest, above which it is worth a word"""


def add(name: str, path: str | Path, **settings: Any) -> None:
    """List images as the dataset `name` in params.yaml of the current folder, and print what they are.

    `path`: a folder of folders of classes, an .npz file, a local Hugging Face dataset or a prepared one of
    tensorflow-datasets, inside of the current folder. `settings`: what is not to be as found, see
    rcig.data.settings.Listed. Every image is read once.

    Raises DataError for a source that cannot be used, ParamsError for a name that is taken, settings that do not fit
    and a params.yaml in which there is no place for a line.

    >>> rcig.add("leaves", "inputs/leaves", resolution=64)
    """
    check_name("add", strict.convert(str, name, "add.name"))
    if name in SOURCES:
        raise ParamsError(f"add: {name} is the name of a known dataset; give images of your own another")
    place = inside(path)
    _read_without(name)
    decided = decide(place, settings, "add")
    opened, listed = decided.opened, decided.listed
    if listed.classes != len(opened.class_names):
        raise ParamsError(
            f"add: {place} has {len(opened.class_names)} classes, not {listed.classes}; leave classes out"
        )
    plan.check_dataset(name, listed)
    held_out_mask(opened.train.labels[opened.train.mask], listed.held_out)
    line = entry(name, listed)
    print(*found(decided), sep="\n")
    params = _list(name, line)
    print(f"listed in {planned.PARAMS}:", f"  {line}", *following(name, params.sizes), sep="\n")


def _list(name: str, line: str) -> plan.Params:
    """Write the line into params.yaml as it is now, and not as it was before the images were looked at."""
    with _alone():
        while True:
            params, content = _read_without(name)
            text = with_line(content.decode(), line)
            if planned.PARAMS.read_bytes() == content:  # else an editor has saved it meanwhile
                store.atomic_write(planned.PARAMS, text)
                return params


@contextmanager
def _alone() -> Iterator[None]:
    """No other `add` writes the params.yaml of this folder until the block ends, where the file system has locks."""
    folder = os.open(planned.PARAMS.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _read_without(name: str) -> tuple[plan.Params, bytes]:
    """params.yaml and its content. Raises ParamsError where it has that dataset."""
    params, content = plan.read(planned.PARAMS)
    if name in params.datasets:
        raise ParamsError(f"{planned.PARAMS}: datasets.{name} is there already; remove it, or give another name")
    return params, content


def inside(path: str | Path) -> str:
    """The path as params.yaml has it. Raises DataError for one outside of the current folder."""
    if not isinstance(path, str | Path):
        raise DataError(f"add.path: expected the path of a file or a folder, got {shown(path)}")
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    if whole == here or not whole.is_relative_to(here):
        raise DataError(
            f"{path}: expected a path inside of this folder, as all that the pipeline depends on; make a link by"
            f" `ln -s {whole} inputs/` and give inputs/{whole.name}"
        )
    return whole.relative_to(here).as_posix()


def found(decided: Decided) -> Iterator[str]:
    """What was seen and what follows from it, line by line."""
    opened, looked, listed, tested = decided
    parts = [np.bincount(one.labels[one.mask], minlength=listed.classes) for one in (opened.train, opened.test)]
    width = max(len("class"), *map(len, opened.class_names))
    yield f"{listed.path}: {listed.source}, {sum(parts[0]):,} training and {sum(parts[1]):,} test images"
    yield f"{'number':>6}  {'class':{width}}  {'train':>7}  {'test':>7}"
    for i, (name, train, test) in enumerate(zip(opened.class_names, *parts, strict=True)):
        yield f"{i:6}  {name:{width}}  {train:7,}  {test:7,}"
    yield f"sizes, height × width: {_counts(Counter({f'{h} × {w}': n for (h, w), n in looked.sizes.items()}))}"
    yield f"stored as: {_counts(looked.modes)}; {'in colour' if looked.colour else 'without colour'}"
    yield from opened.notes
    yield f"tested on: {listed.tested_on if tested is None else f'the {tested} part of the source'}"
    if set(looked.sizes) != {(listed.resolution, listed.resolution)}:
        yield f"reduced to {listed.resolution} × {listed.resolution}: the central square, averaged"
    if parts[0].max() > UNBALANCED * parts[0].min():
        yield "classes differ in size: an experiment with loop: {drawn: class} sees each as often as the others"
    if looked.duplicates:
        yield f"warning: {looked.duplicates} test images are training images too, pixel by pixel"
    if looked.broken:
        broken = ", ".join(f"{name} ({why})" for name, why in looked.broken.items())
        yield f"warning: {len(looked.broken)} cannot be read and are left out: {broken}"


def _counts(what: Counter[str]) -> str:
    some = [f"{name} ({count:,})" for name, count in what.most_common(SHOWN)]
    return ", ".join(some) + (f" and {len(what) - SHOWN} more" if len(what) > SHOWN else "")


def entry(name: str, listed: Listed) -> str:
    """The line of params.yaml that lists the dataset."""
    own = {one.name: getattr(listed, one.name) for one in dataclasses.fields(Own)}
    given = {key: value for key, value in own.items() if key in ("source", "path") or value not in (None, ())}
    if listed.leave_out:
        given["leave_out"] = list(listed.leave_out)
    inner = CommentedMap(given | {one.name: getattr(listed, one.name) for one in dataclasses.fields(Dataset)})
    inner.fa.set_flow_style()
    yaml, text = YAML(), io.StringIO()
    yaml.width = 2**31
    yaml.dump({name: inner}, text)
    return text.getvalue().strip()


def with_line(content: str, line: str) -> str:
    """A params.yaml with one more line at the end of `datasets`; all else stays as it is, byte for byte.

    Raises ParamsError where it would then say anything else than before and that entry: where `datasets` is no block,
    one dataset below the other, or the block is another section's too.
    """
    yaml = YAML(typ="safe", pure=True)
    with suppress(YAMLError, KeyError):
        text = _inserted(content, line)
        before, added, after = (yaml.load(one) for one in (content, line, text))
        if after == before | {"datasets": before["datasets"] | added}:
            return text
    raise ParamsError(
        f"{planned.PARAMS}: datasets is no block; write one dataset a line below it, and this one: {line}"
    )


def _inserted(content: str, line: str) -> str:
    """The line below the last one of `datasets`, indented as the first dataset; the content alone where none is."""
    listed = YAML().load(content)
    block, lines = listed["datasets"], content.splitlines(keepends=True)
    if not block.lc.data:
        return content
    starts = [row for row, *_ in listed.lc.data.values()] + [len(lines)]
    end = min(start for start in starts if start > listed.lc.key("datasets")[0])
    while re.match(r"\s*(#|$)|\.\.\.", lines[end - 1]):
        end -= 1
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    _, column, *_ = next(iter(block.lc.data.values()))
    return "".join([*lines[:end], " " * column + f"{line}\n", *lines[end:]])


def following(name: str, sizes: Iterable[str]) -> Iterator[str]:
    """What to add for a first result, within some minutes of two CPU cores."""
    size = next(iter(sizes), "demo")
    judged = "evaluate: {protocols: [loo2023], measurements: 1}"
    said = name if YAML(typ="safe").load(name) == name else f'"{name}"'
    shared = f"dataset: {said}, images_per_class: 1, size: {size}, needs: inputs/none, {judged}"
    yield "to distil it, add these below experiments, then run `dvc repro --allow-missing`:"
    yield f"  {name}-ipc1-rcig: {{{shared}, method: rcig, loop: {{steps: 500}}}}"
    yield f"  {name}-ipc1-random_real: {{{shared}, method: random_real}}"
