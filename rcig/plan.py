"""From params.yaml to a plan: for every stage and each of its members the settings in force and what its code means.

A setting of an experiment is that of the first of these that gives it: its own entry, what makes its method that
method, its size (for this method, for all methods of one file), its method's presets, and the defaults in the code.
"""

import dataclasses
import itertools
import os
import pkgutil
import shlex
import types
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rcig import fingerprint, planned, strict
from rcig.data import catalogue
from rcig.data.settings import NOTHING, Dataset, Listed
from rcig.errors import ParamsError
from rcig.fields import POSITIVE, check_name, known, shown
from rcig.judging.cross_architecture import CrossArch
from rcig.judging.evaluate import Evaluate
from rcig.judging.full_dataset import FullDataset
from rcig.judging.membership import Attack
from rcig.judging.subject import Judged
from rcig.machines import Resources
from rcig.methods import basis as bases
from rcig.methods import registry
from rcig.methods.experts import Experts
from rcig.run.settings import Loop, Run, Study

MIRRORED = 1000
"""distilled images of the largest set that is mirrored (Loo et al. 2023, appendix C)"""
STEPS = {
    **{name: {1: 15000, 10: 10000, 50: 5000} for name in ("mnist_sample", "mnist", "fashion_mnist", "cifar10")},
    "cifar100": {1: 10000, 10: 5000, 50: 4000},
    "caltech_birds2011": {1: 10000, 10: 2000},
    "tiny_imagenet": {1: 5000, 10: 2000},
    "imagenet_resized": {1: 2000, 2: 2000},
    "imagenette": {1: 6000, 10: 3000},
    "imagewoof": {1: 6000, 10: 3000},
}
"""outer steps of the paper by dataset and images per class (Loo et al. 2023, table 7): `steps: published`"""
MADE = ("artifacts", "results", "reports", "plan", "plan.json", "dvc.lock", "rcig", "stages")
"""what stages write, or depend on as a whole"""
DEFAULTS: dict[str, Any] = {
    "seeds": [0],
    "chunk": None,
    "initialisation": "real",
    "basis": None,
    "boost": None,
    "hardness": None,
    "settings": {},
}
"""of an experiment; all other values are given by its entry or its size"""
JUDGING = {"evaluate": Evaluate, "cross_arch": CrossArch, "attack": Attack}
"""the settings of an experiment that never change its set"""
FIGURES: dict[str, tuple[str, ...]] = {
    "steps": ("solver", "inner_steps", "inverse_steps"),
    "backward_images": ("backward_images",),
}
"""What a study can be drawn as, and the settings that one of its grids must vary for that."""


@dataclass(frozen=True)
class Params:
    """The sections of params.yaml. Of `shared`, which holds anchors only, nothing is read but where they are used."""

    datasets: dict[str, Listed]
    sizes: dict[str, dict[str, Any]]
    """what experiments of one size have in common"""
    full_dataset: dict[str, FullDataset]
    """by dataset"""
    experiments: dict[str, Any]
    cross_arch: dict[str, Any]
    """the experiments that are judged by other architectures, with their entries"""
    attack: dict[str, Any]
    """those that are attacked"""
    score: dict[str, Any]
    """those that score the hardness of training images"""
    experts: dict[str, Experts]
    """networks whose training on real images is to be matched"""
    studies: dict[str, Any]
    resources: dict[str, Resources] = dataclasses.field(default_factory=dict)
    """what a stage takes of the machine that it runs on, by its name in dvc.yaml"""


class Experiment(NamedTuple):
    run: Run
    judging: dict[str, Any]
    """the settings of each stage of JUDGING that it has some for"""


def read(path: Path) -> tuple[Params, bytes]:
    """The sections of a params.yaml, and its content. Raises ParamsError naming the file and the key."""
    try:
        content = path.read_bytes()
        raw = YAML(typ="rt").load(content.decode())
        sections = [section.name for section in dataclasses.fields(Params)]
        if not isinstance(raw, Mapping):
            raise ParamsError(f"expected the sections {', '.join(sections)}, got {shown(_plain(raw))}")
        for section in sections:
            _check_names(section, raw.get(section))
        return strict.parse(Params, _plain({name: part for name, part in raw.items() if name != "shared"}), ""), content
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}; run from the folder that holds it") from None
    except UnicodeDecodeError:
        raise ParamsError(f"{path}: it is no text in UTF-8; save it as such") from None
    except RecursionError:
        raise ParamsError(f"{path}: holds itself, or has too many levels; write it out flat") from None
    except ParamsError as error:
        raise ParamsError(f"{path}: {_line(error)}") from None
    except (YAMLError, ValueError) as error:
        raise ParamsError(f"{path}: not readable as YAML: {_line(error)}") from None


def make(params: Params, root: Path = Path()) -> dict[str, Any]:
    """Stage -> its entry, or member -> entry: {settings, modules, code}. Raises ParamsError naming file and key."""
    try:
        return _make(params, root)
    except ParamsError as error:
        raise ParamsError(f"{planned.PARAMS}: {_line(error)}") from None


def _make(params: Params, root: Path) -> dict[str, Any]:
    for name, dataset in params.datasets.items():
        check_dataset(name, dataset, root)
    for name, size in params.sizes.items():
        _check_size(f"sizes.{name}", size)
    experiments = {name: experiment_of(params, name) for name in params.experiments}
    studies = {name: study_of(params, name) for name in params.studies}
    for name, full in params.full_dataset.items():
        known(f"full_dataset.{name}", "dataset", name, params.datasets)
        if not 0 <= full.seed < 2**32:
            raise ParamsError(f"full_dataset.{name}.seed: expected seed from 0 to below 2**32, got {full.seed}")
    for name, trained in params.experts.items():
        known(f"experts.{name}.dataset", "dataset", trained.dataset, params.datasets)
        if trained.seed < 0:
            raise ParamsError(f"experts.{name}.seed: expected seed from 0 on, got {trained.seed}")
    asked = {stage: list(_asked_for(params, stage)) for stage in ("cross_arch", "attack", "score")}
    for name in experiments:
        _check_needs(f"experiments.{name}", name, experiments, asked["score"], params.experts, root)

    def entry(settings: dict[str, Any], *modules: str) -> dict[str, Any]:
        return {"settings": settings, "modules": modules, "code": fingerprint.of(modules, root)}

    def members(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: entry(some, f"stages.{stage}") for name, some in settings.items()}

    def judged(stage: str, settings: str, names: Iterable[str]) -> dict[str, Any]:
        return members(stage, {name: _judging(params, name, experiments[name], settings) for name in names})

    datasets = {name: dataclasses.asdict(one.dataset) for name, one in params.datasets.items()}
    own = {name: dataclasses.asdict(one.own) for name, one in params.datasets.items()}
    tested_on = {name: catalogue.source_of(name, one.own).test for name, one in params.datasets.items()}
    raw = ("resolution", "channels", "classes", "whitening")
    method = "rcig.methods.{}".format
    stages = {
        "preprocess": members(
            "preprocess", {d: {key: one[key] for key in raw} | {"own": own[d]} for d, one in datasets.items()}
        ),
        "describe": members("describe", {d: {"dataset": one, "own": own[d]} for d, one in datasets.items()}),
        "full_dataset": members(
            "full_dataset",
            {
                name: {"dataset": datasets[name], "full_dataset": dataclasses.asdict(full)}
                for name, full in params.full_dataset.items()
            },
        ),
        "experts": members(
            "experts",
            {
                name: {"dataset": datasets[trained.dataset], "experts": dataclasses.asdict(trained)}
                for name, trained in params.experts.items()
            },
        ),
        "distill": {
            name: entry(
                {"dataset": datasets[one.run.dataset], "run": dataclasses.asdict(one.run)},
                "stages.distill",
                method(one.run.module),
            )
            for name, one in experiments.items()
        },
        "picture": members(
            "picture", {name: {"tested_on": tested_on[one.run.dataset]} for name, one in experiments.items()}
        ),
        "evaluate": judged("evaluate", "evaluate", experiments),
        "cross_arch": judged("cross_arch", "cross_arch", asked["cross_arch"]),
        "attack": judged("attack", "attack", asked["attack"]),
        "score": judged("score", "evaluate", asked["score"]),
        "study": {
            name: entry(dataclasses.asdict(study), "stages.study", method(study.base.module))
            for name, study in studies.items()
        },
        "report": entry(
            _contents(params, experiments, studies), "stages.report", *_modules_in("rcig.report.sections", root)
        ),
    }
    for name in params.resources:
        known("resources", "stage", name, stages)
    return stages


def _contents(params: Params, experiments: Mapping[str, Experiment], studies: Mapping[str, Study]) -> dict[str, Any]:
    """What is in the report, in its order."""
    used = {one.run.dataset for one in experiments.values()} | params.full_dataset.keys()
    return {
        "experiments": list(experiments),
        "datasets": [name for name in params.datasets if name in used],
        "full_dataset": list(params.full_dataset),
        "studies": {name: dataclasses.asdict(study) for name, study in studies.items()},
    }


def _modules_in(package: str, root: Path) -> list[str]:
    folder = root.joinpath(*package.split("."))
    return sorted(f"{package}.{module.name}" for module in pkgutil.iter_modules([str(folder)]))


def experiment_of(params: Params, name: str) -> Experiment:
    """The settings in force of the experiment of that name."""
    where, raw = f"experiments.{name}", params.experiments[name]
    if isinstance(raw, Mapping) and "needs" not in raw:
        raise ParamsError(f"{where}.needs: missing; add needs: {NOTHING}, or the file that it reads")
    if isinstance(raw, Mapping) and isinstance(raw["needs"], str):
        _check_path(f"{where}.needs", raw["needs"])
    return resolve(where, raw, params.datasets, params.sizes)


def resolve(
    where: str, raw: Any, datasets: Mapping[str, Dataset], sizes: Mapping[str, Mapping[str, Any]]
) -> Experiment:
    """The settings in force of an entry: its own over those of its size over the defaults."""
    if not isinstance(raw, Mapping):
        raise ParamsError(
            f"{where}: expected a mapping with dataset, images_per_class, method and size, got {shown(raw)}"
        )
    for key in ("dataset", "images_per_class", "method", "size"):
        if key not in raw:
            raise ParamsError(f"{where}.{key}: missing; add it, it has no default")
    fields = {one.name for one in dataclasses.fields(Run)} - {"module", "mirror"} | set(JUDGING)
    for key in raw:
        known(f"{where}.{key}", "key", str(key), fields)
    known(f"{where}.dataset", "dataset", raw["dataset"], datasets)
    known(f"{where}.size", "size", raw["size"], sizes)
    size, dataset = sizes[raw["size"]], datasets[raw["dataset"]]
    by_method = {"settings": {}} | dict(size)
    whole = strict.merged(DEFAULTS, {key: by_method[key] for key in by_method if key != "settings"}, raw)
    module = registry.module_of(f"{where}.method", raw["method"])
    settings = _settings(f"{where}.settings", raw["method"], module, by_method["settings"], whole["settings"])
    judging: dict[str, Any] = {
        stage: strict.parse(kind, whole.pop(stage), f"{where}.{stage}")
        for stage, kind in JUDGING.items()
        if stage in whole
    }
    count = strict.convert(Annotated[int, POSITIVE], raw["images_per_class"], f"{where}.images_per_class")
    loop = whole.get("loop", {})
    if not registry.load(module).MEMBERS[raw["method"]].learns:
        strict.given(Loop, _loop(where, loop, raw["dataset"], count), f"{where}.loop")
        loop = {"steps": 0} | {key: loop[key] for key in ("protocol", "precision") if key in loop}
    whole |= {
        "module": module,
        "mirror": dataset.mirror and count * dataset.classes <= MIRRORED,
        "loop": _loop(where, loop, raw["dataset"], count),
        "settings": settings,
    }
    run = strict.parse(Run, {"needs": NOTHING} | whole, where)
    _check(where, run, dataset)
    if "evaluate" in judging:
        _check_parts(where, run, judging["evaluate"])
    return Experiment(run, judging)


def _check_size(where: str, size: Mapping[str, Any]) -> None:
    """Raise ParamsError for what no experiment of a size could use, whether there is one or not."""
    own = {"dataset", "images_per_class", "method", "module", "mirror", "size", "needs"}
    for key in size:
        known(f"{where}.{key}", "key", str(key), {one.name for one in dataclasses.fields(Run)} - own | set(JUDGING))
    for part, kind in {"loop": Loop, **JUDGING}.items():
        given = size.get(part, {})
        if part == "loop" and isinstance(given, Mapping) and given.get("steps") == "published":
            given = {key: value for key, value in given.items() if key != "steps"}
        strict.given(kind, given, f"{where}.{part}")
    settings = size.get("settings", {})
    if not isinstance(settings, Mapping):
        raise ParamsError(f"{where}.settings: expected a mapping from methods to their settings, got {shown(settings)}")
    for key, given in settings.items():
        known(f"{where}.settings.{key}", "method", key, {*registry.METHODS, *registry.METHODS.values()})
        strict.given(registry.load(registry.METHODS.get(str(key), str(key))).Settings, given, f"{where}.settings.{key}")


def _settings(where: str, method: str, module: str, sizes: Mapping[str, Any], own: Any) -> Any:
    """The method's settings in force, as its Settings."""
    file = registry.load(module)
    member = file.MEMBERS[method]
    given = strict.given(file.Settings, own, where)
    for key, value in member.fixed.items():
        if given.get(key, value) != value:
            raise ParamsError(
                f"{where}.{key}: {method} has {_yaml(value)}, got {_yaml(given[key])};"
                " with another value it is another method"
            )
    layers = member.preset, sizes.get(module, {}), sizes.get(method, {}), member.fixed, own
    return strict.parse(file.Settings, strict.merged(*layers), where)


def _loop(where: str, loop: Any, dataset: str, images_per_class: int) -> Any:
    """The loop with the paper's number of steps in place of `published`."""
    if not isinstance(loop, Mapping) or loop.get("steps") != "published":
        return loop
    steps = STEPS.get(dataset, {})
    if images_per_class not in steps:
        raise ParamsError(
            f"{where}.loop.steps: the paper has no number of steps for {images_per_class} images per class of {dataset}"
            f" (it has {', '.join(map(str, steps)) or 'none'}); give a number"
        )
    return dict(loop) | {"steps": steps[images_per_class]}


def check_dataset(name: str, listed: Listed, root: Path = Path()) -> None:
    """Raise ParamsError for a dataset whose source or settings the pipeline could not use."""
    _check_source(f"datasets.{name}", name, listed, root)
    _check_depth(f"datasets.{name}", listed)


def _check_source(where: str, name: str, listed: Listed, root: Path) -> None:
    """Raise ParamsError for a dataset that the catalogue has no images of, or of which it has others."""
    if listed.known:
        if name not in catalogue.SOURCES:
            raise ParamsError(
                f"{where}: unknown dataset; known: {', '.join(sorted(catalogue.SOURCES))}; of images of your own, give"
                " source and path, as `python -m rcig add` does"
            )
        catalogue.check(name, listed)
        return
    if name in catalogue.SOURCES:
        raise ParamsError(f"{where}: is the name of a known dataset; give images of your own another")
    _check_path(f"{where}.path", listed.path)
    if listed.path.split("/")[0] in MADE:
        raise ParamsError(f"{where}.path: {listed.path} lies where the pipeline writes; put the images below inputs/")
    if not (root / listed.path).exists() and not (root / f"{listed.path}.dvc").is_file():
        raise ParamsError(f"{where}.path: no file or folder {listed.path}; correct it, or put the images there")
    if (link := _linked_folder(root / listed.path)) is not None:
        raise ParamsError(
            f"{where}.path: the folder {link.relative_to(root)} is a link, behind which DVC sees no change; copy its"
            f" images there, or make {listed.path} itself the link"
        )


def _linked_folder(place: Path) -> Path | None:
    """A folder of classes, or of a part or a class, that is a link; None where there is none."""
    if not place.is_dir():
        return None
    folders = [entry for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith(".")]
    inside = [entry for folder in folders for entry in os.scandir(folder.path) if entry.is_dir()]
    return next((Path(entry.path) for entry in (*folders, *inside) if entry.is_symlink()), None)


def _check_depth(where: str, dataset: Dataset) -> None:
    side = dataset.resolution + (4 if dataset.channels == 1 else 0)  # grey images are padded, see rcig.nets.conv
    if side >> dataset.depth == 0:
        raise ParamsError(f"{where}.depth: {dataset.depth} stages that halve {side} pixels leave none; lower it")


def _check(where: str, run: Run, dataset: Dataset) -> None:
    """Raise ParamsError for a run whose parts do not fit each other or its dataset; warn of what is odd."""
    _check_depth(f"datasets.{run.dataset}", dataset)
    file = registry.load(run.module)
    images, pixels = run.images_per_class * dataset.classes, dataset.resolution**2 * dataset.channels
    member = file.MEMBERS[run.method]
    if not member.learns:
        for name in ("basis", "boost", "hardness"):
            if getattr(run, name) is not None:
                raise ParamsError(f"{where}.{name}: nothing is distilled by {run.method}; set {name}: null")
        if run.initialisation != "real":
            raise ParamsError(f"{where}.initialisation: {run.method} starts from no noise; set initialisation: real")
    elif run.hardness is not None and getattr(file, "DRAWN_BY_CLASS", False):
        raise ParamsError(
            f"{where}.hardness: {run.method} draws as many real images of every class, hard or not; set hardness: null"
        )
    elif not run.loop.steps:
        raise ParamsError(f"{where}.loop.steps: {run.method} learns nothing in 0 steps; give at least 1")
    of_method = not member.starts or hasattr(file, "NEEDS")
    readers = {"initialisation: stored": run.initialisation == "stored", "hardness": run.hardness is not None}
    readers[f"method: {run.method}"] = of_method
    given = [name for name, reads in readers.items() if reads]
    if len(given) > 1:
        raise ParamsError(f"{where}.needs: one file for both {' and '.join(given)}; drop one of them")
    if given and run.needs == NOTHING:
        raise ParamsError(f"{where}.needs: missing; name the file with the set, scores or experts that it reads")
    if not given and run.needs != NOTHING:
        raise ParamsError(
            f"{where}.needs: nothing reads {run.needs}; set needs: {NOTHING}, or initialisation: stored, or hardness"
        )
    if run.chunk is not None and run.chunk < 2 * images:
        raise ParamsError(
            f"{where}.chunk: {run.chunk} random images are too few to have {run.images_per_class} of each of"
            f" {dataset.classes} classes; give at least {2 * images}"
        )
    if max(run.seeds) >= 2**32:
        raise ParamsError(f"{where}.seeds: expected seeds below 2**32, got {max(run.seeds)}")
    if run.initialisation == "stored" and run.boost is not None:
        raise ParamsError(f"{where}.boost: every block would start from the same stored images; set boost: null")
    if run.module == "external" and len(run.seeds) > 1:
        raise ParamsError(f"{where}.seeds: a set made elsewhere is one set, got {list(run.seeds)}; give one seed")
    if run.basis is not None and run.basis > pixels:
        raise ParamsError(
            f"{where}.basis: {run.basis} is more than the {pixels} pixels of an image; lower it, or set basis: null"
        )
    if hasattr(file, "check"):
        try:
            file.check(run.settings, images * (2 if run.mirror else 1), dataset.classes)
        except ParamsError as error:
            raise ParamsError(f"{where}.settings.{error}") from None
    stored, plain = (bases.stored_floats(images, dataset.classes, pixels, count) for count in (run.basis, None))
    if stored > plain:
        warnings.warn(
            f"{where}.basis: with their coefficients {run.basis} basis images take {stored:,} numbers, the {images}"
            f" images themselves {plain:,}; lower it, or set basis: null",
            stacklevel=2,
        )
    if run.mirror and dataset.channels == 1:
        warnings.warn(
            f"datasets.{run.dataset}.mirror: true on grey images; a mirrored digit or letter is often another one",
            stacklevel=2,
        )


def _check_parts(where: str, run: Run, evaluate: Evaluate) -> None:
    if len(set(evaluate.protocols)) < len(evaluate.protocols):
        raise ParamsError(f"{where}.evaluate.protocols: expected different ones, got {', '.join(evaluate.protocols)}")
    for count in evaluate.parts:
        if count >= run.images_per_class:
            raise ParamsError(
                f"{where}.evaluate.parts: {count} is no part of a set of {run.images_per_class} images per class"
            )
        if run.boost is not None and count % run.boost.block:
            raise ParamsError(
                f"{where}.evaluate.parts: {count} images per class are not whole blocks of {run.boost.block}"
            )
    if evaluate.parts and run.basis is not None:
        raise ParamsError(f"{where}.evaluate.parts: a part of a set of mixtures needs the whole basis; give none")
    if evaluate.parts and run.module == "external":
        raise ParamsError(f"{where}.evaluate.parts: a set made elsewhere is in no order by class; give none")


def _check_needs(
    where: str,
    name: str,
    experiments: Mapping[str, Experiment],
    score: Iterable[str],
    experts: Mapping[str, Experts],
    root: Path,
) -> None:
    """Raise ParamsError where the file that an experiment needs is none, or is of another dataset, or of itself."""
    run = experiments[name].run
    file = registry.load(run.module)
    makers = {f"artifacts/distilled/{one}.npz": one for one in experiments}
    makers |= {f"artifacts/scores/{one}.npz": one for one in score}
    trained = {f"artifacts/experts/{one}.npz": of for one, of in experts.items()}
    folder = "artifacts/scores/" if run.hardness is not None else getattr(file, "NEEDS", "artifacts/distilled/")
    if run.needs in makers.keys() | trained.keys() and not run.needs.startswith(folder):
        raise ParamsError(f"{where}.needs: expected a file as those of {folder}, got {run.needs}; name one of these")
    if run.needs in trained:
        try:
            file.fits(run.settings, trained[run.needs], run.dataset, run.width)
        except ParamsError as error:
            raise ParamsError(f"{where}.needs: {run.needs}: {error}") from None
        return
    if run.needs not in makers:
        found = (root / run.needs).exists() if run.module == "external" else (root / run.needs).is_file()
        if not found and not (root / f"{run.needs}.dvc").is_file():
            raise ParamsError(
                f"{where}.needs: no file {run.needs}, and no stage makes one of that name; correct it, or pin the"
                f" file by `dvc add {shlex.quote(run.needs)}`"
            )
        return
    chain = [name]
    while run.needs in makers:
        maker = makers[run.needs]
        if experiments[maker].run.dataset != run.dataset:
            raise ParamsError(f"{where}.needs: {run.needs} is of {experiments[maker].run.dataset}, not {run.dataset}")
        chain.append(maker)
        if maker in chain[:-1]:
            raise ParamsError(f"{where}.needs: goes in a circle: {' needs '.join(chain)}")
        run = experiments[maker].run


def _check_path(where: str, path: str) -> None:
    """Raise ParamsError unless it is the path of a file below this folder, as DVC writes it and a disk may hold it."""
    plain = path == Path(path).as_posix() and path.isprintable() and len(path.encode()) < 250
    if not plain or not Path(path).name or Path(path).is_absolute() or ".." in path:
        raise ParamsError(f"{where}: expected a plain path inside of this folder, got {shown(path)}")


def _asked_for(params: Params, stage: str) -> Iterator[str]:
    """The experiments that a section names. Raises ParamsError where it has one that is no experiment, or another."""
    for name, entry in getattr(params, stage).items():
        known(f"{stage}.{name}", "experiment", name, params.experiments)
        if entry != params.experiments[name]:
            raise ParamsError(
                f"{stage}.{name}: is not the entry of that experiment; repeat it by its anchor, as in"
                f" `{stage}: {{{name}: *{name}}}`"
            )
        yield name


def _judging(params: Params, name: str, one: Experiment, settings: str) -> dict[str, Any]:
    if settings not in one.judging:
        raise ParamsError(f"experiments.{name}.{settings}: missing; give it there or in sizes.{one.run.size}")
    judged = Judged(one.run.dataset, one.run.images_per_class, one.run.seeds, one.run.mirror)
    return {
        "dataset": dataclasses.asdict(params.datasets[one.run.dataset].dataset),
        "judged": dataclasses.asdict(judged),
        settings: dataclasses.asdict(one.judging[settings]),
    }


@dataclass(frozen=True)
class StudyEntry:
    """A study in params.yaml."""

    base: Any
    """gives all that the grids do not, in the words of an experiment"""
    grids: tuple[dict[str, Any], ...]
    """each maps settings to lists of values and stands for all their combinations; the study is the union of them"""
    figure: Literal["steps", "backward_images"]
    """what the study is drawn as"""
    timing_steps: Annotated[int, POSITIVE]
    """outer steps that are timed one by one, after two that are not"""


def study_of(params: Params, name: str) -> Study:
    """A study with every value of its grids of its setting's type, and every combination one that can be used."""
    where = f"studies.{name}"
    entry = strict.parse(StudyEntry, params.studies[name], where)
    base = resolve(f"{where}.base", entry.base, params.datasets, params.sizes).run
    if base.needs != NOTHING:
        raise ParamsError(f"{where}.base.needs: a study reads no file beside its dataset; set needs: {NOTHING}")
    if base.boost is not None:
        raise ParamsError(f"{where}.base.boost: a study measures one run at a time; set boost: null")
    if not dataclasses.fields(base.settings):
        raise ParamsError(f"{where}.base.method: {base.method} has no settings to vary; name another method")
    needed = FIGURES[entry.figure]
    if not any(set(needed) <= set(grid) for grid in entry.grids):
        raise ParamsError(f"{where}.grids: figure {entry.figure} needs a grid that varies {', '.join(needed)}")
    points: dict[Any, dict[str, Any]] = {}  # of equal settings the first point alone
    for i, grid in enumerate(entry.grids):
        for settings, point in _points(f"{where}.grids[{i}]", base, grid, params.datasets[base.dataset].classes):
            points.setdefault(settings, point)
    varied = tuple(dict.fromkeys(name for grid in entry.grids for name in grid))
    dataset = params.datasets[base.dataset].dataset
    return Study(dataset, base, varied, tuple(points.values()), entry.figure, entry.timing_steps)


def _points(where: str, base: Run, grid: Mapping[str, Any], classes: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(settings, values) of all combinations of one grid."""
    hints = typing.get_type_hints(type(base.settings), include_extras=True)
    for name in grid:
        known(f"{where}.{name}", "setting", name, hints)
    lists = {name: types.GenericAlias(tuple, (hints[name], ...)) for name in grid}
    typed = {name: strict.convert(lists[name], values, f"{where}.{name}") for name, values in grid.items()}
    file = registry.load(base.module)
    fixed = file.MEMBERS[base.method].fixed
    for name, values in typed.items():
        if not values:
            raise ParamsError(f"{where}.{name}: expected at least one value, got none")
        for i, value in enumerate(values):
            if name in fixed and value != fixed[name]:
                raise ParamsError(
                    f"{where}.{name}[{i}]: {base.method} has {_yaml(fixed[name])}, got {_yaml(value)};"
                    " with another value it is another method"
                )
            of_base = getattr(base.settings, name)
            if value is None is not of_base and name != "backward_images":
                raise ParamsError(
                    f"{where}.{name}[{i}]: an empty cell of the study's table stands for the base's {_yaml(of_base)};"
                    f" leave {name} out of the base"
                )
    for indices in itertools.product(*(range(len(values)) for values in typed.values())):
        chosen = dict(zip(typed, indices, strict=True))
        point = {name: typed[name][i] for name, i in chosen.items()}
        try:
            settings = dataclasses.replace(base.settings, **point)
            if hasattr(file, "check"):
                file.check(settings, base.images_per_class * classes * (2 if base.mirror else 1), classes)
            yield settings, point
        except ParamsError as error:
            place = ", ".join(f"{name}[{i}]" for name, i in chosen.items())
            raise ParamsError(f"{where}.{place}: {error}") from None


def _check_names(section: str, entries: Any) -> None:
    """Raise ParamsError for a name that no command line should meet, and for one that two groups of entries have."""
    if not isinstance(entries, Mapping):
        return
    for name in entries:
        check_name(section, str(name))
    seen: set[str] = set()
    for name in _names(entries):
        if name in seen:
            raise ParamsError(f"{section}: two entries have the name {name!r}; rename one of them")
        seen.add(name)


def _names(entries: Any) -> Iterator[str]:
    """The keys of a mapping that ruamel has read, then those of the groups merged into it: a name as often as given."""
    if hasattr(entries, "non_merged_items"):
        yield from (name for name, _ in entries.non_merged_items())
        for group in entries.merge:
            yield from _names(group)
    else:
        yield from entries


def _plain(node: Any) -> Any:
    """What ruamel has read, as built-in types, with entries under merge keys in their place."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    return next((kind(node) for kind in (int, float, str) if isinstance(node, kind)), node)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
