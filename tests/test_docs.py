"""What the pages say to type, to read and to look at exists; and the build of the pages finds what does not."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest
import tiny
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser
from workspaces import ENVIRONMENT, ROOT, yaml

import rcig
from rcig.methods import registry

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PLACEHOLDERS = {"VERB", "NAME", "DATASET", "FOLDER", "FILE", "CLONE", "SET", "RESULTS", "STAGE", "PATH"}
"""words that a reader replaces"""
PLAIN = {"cat", "ray", "touch", "source", "uv", "srun", "pip", "nvidia-cuda-mps-control"}
"""commands of other tools, in words that do not depend on this project"""
TREES = "rcig|stages|tests|tools|docs|benchmarks|released|results"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)


def inline(page: Path) -> list[str]:
    """What stands between single backticks outside of blocks."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> list[str]:
    """Lines of shell blocks, and commands in running text."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    said = [words for words in inline(page) if re.match(r"(dvc|make|git|python -m|source) [a-z.]", words)]
    return [line for line in (*lines, *said) if shlex.split(line, comments=True)]


def check(command: str) -> None:
    """Raise AssertionError for a command that this project, DVC or git does not have; none is run."""
    words = shlex.split(command, comments=True)
    while "=" in words[0] or words[0] == "srun":
        words = words[1:]
    name, *rest = words
    if Path(name).name == "python":
        check_python(rest)
    elif name == "make":
        targets = re.findall(r"^([\w$().-]+): ", (ROOT / "Makefile").read_text(), re.MULTILINE)
        known = {target.replace("$(READY)", ".venv/.ready").replace("$(DVC)", ".venv/.dvc") for target in targets}
        assert {word for word in rest if "=" not in word} <= known, command
    elif name == "dvc":
        check_dvc(rest)
    elif name == "git":
        assert rest[0] in subprocess.check_output(["git", "--list-cmds=main"], text=True).split(), command
    else:
        assert name in PLAIN, f"{command}: say how to look whether it is there"
    for word in rest:
        check_path(word)


def check_python(words: list[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "documented", "exec")
        return
    if words[0].endswith("/pytorch.py"):  # which an export has
        assert (ROOT / "rcig" / "pytorch.py").exists()
        return
    assert words[0] == "-m", words
    module, *rest = words[1:]
    assert importlib.util.find_spec(module), f"python -m {module}"
    source = Path(importlib.util.find_spec(module).origin).read_text()
    if module.startswith("stages.") and "argparse" not in source:
        docstring = importlib.import_module(module).__doc__
        wanted = docstring.strip().partition(":")[0].split()[1:]
        assert rest == ["--help"] or len(rest) == len(wanted), f"{module} wants {wanted}, the page gives {rest}"
    elif module.startswith(("benchmarks.", "stages.")):
        assert all(word in source for word in rest if word.startswith("--")), f"{module} {rest}"
    elif module == "rcig":
        verb = [word for word in rest[:1] if word not in PLACEHOLDERS]
        command = [sys.executable, "-m", module, *verb, "--help"]
        helped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert helped.returncode == 0, helped.stderr
        assert all(word in helped.stdout for word in rest if word.startswith("--")), f"{rest}: {helped.stdout}"


def check_dvc(words: list[str]) -> None:
    """DVC's own parser takes it, and the stages that it names are those of dvc.yaml."""
    given = get_main_parser().parse_args([word for word in words if word != "…"])
    for target in getattr(given, "targets", None) or []:
        stage, _, member = target.partition("@")
        if stage in PLACEHOLDERS or "/" in stage:
            continue
        described = yaml.load((ROOT / "dvc.yaml").read_text())["stages"]
        assert stage in described, target
        entries = written() if member else {}
        assert not member or member in PLACEHOLDERS or member in entries, f"{target}: nothing has this name"


def written() -> set[str]:
    """Names of all entries of params.yaml, and of those that the pages tell to write."""
    texts = [(ROOT / "params.yaml").read_text(), *(block for page in PAGES for block in blocks(page, "yaml"))]
    return {name for text in texts for name in re.findall(r"^ +([\w-]+):", text, re.MULTILINE)}


def check_path(word: str) -> None:
    """A path inside of the project's folders exists, unless a part of it is the reader's."""
    own = re.fullmatch(rf"(?:{TREES})/[\w./-]+", word)
    if own and not set(re.split(r"[/.-]", word)) & PLACEHOLDERS:
        made = (ROOT / word).exists() or (ROOT / f"{word}.dvc").exists()
        assert made or word in TOLD, f"{word} does not exist"


TOLD = {
    "rcig/methods/class_means.py",
    "results/distill/mnist-ipc1-rcig-mine",
    "released/mnist-ipc1-rcig-mine.npz",
}
"""files that a page tells the reader to make"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_path_of_a_page_exists(page: Path) -> None:
    for command in commands(page):
        check(command)
    for word in inline(page):
        check_path(word)


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "dvc repro --no-such-option",
        "dvc repro nothing@mnist_sample",
        "dvc repro distill@no-such-experiment",
        "python -m stages.nothing",
        "python -m stages.prepare",
        "python -m benchmarks.outer_step --no-such-option 3",
        "git nothing",
        "nothing",
        "python -m stages.release a.npz results/nothing",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    with pytest.raises((AssertionError, DvcParserError)):
        check(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_a_page_is_code_and_calls_verbs_that_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        assert set(re.findall(r"\brcig\.(\w+)\(", block)) <= set(rcig.__all__)


def test_the_method_of_the_page_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = blocks(ROOT / "docs" / "add-a-method.md", "python")
    file: dict[str, Any] = {"__name__": "class_means"}
    exec(compile(source, "class_means", "exec"), file)
    assert set(file["MEMBERS"]).isdisjoint(registry.METHODS)
    images, _, labels = tiny.blobs(32)
    settings = file["Settings"](learning_rate=0.1, average_decay=0.0)
    method = file["make"](settings, tiny.setup())
    state, losses = method.init(jax.random.key(0), tiny.noise()), []
    for _ in range(10):
        state, info = jax.jit(method.step)(jax.random.key(1), state, tiny.Examples(images, labels))
        losses.append(float(info["loss"]))
    assert losses[-1] < 0.7 * losses[0]


def test_the_section_of_the_page_has_its_table() -> None:
    (source,) = blocks(ROOT / "docs" / "add-a-section.md", "python")
    file: dict[str, Any] = {}
    exec(compile(source, "section", "exec"), file)
    made = file["section"](SimpleNamespace(summaries={"a": {"method": "rcig"}, "b": {"method": "rcig"}}))
    assert made.tables["methods"].to_numpy().tolist() == [["rcig", 2]]


@pytest.mark.slow
def test_start_here_runs_to_its_end(tmp_path: Path) -> None:
    """All but the set of the demo, in fewer steps by narrower networks."""
    code = "\n".join(
        block for block in blocks(ROOT / "docs" / "start.md", "python") if "digits = rcig.load" not in block
    )
    small = re.sub(r"width=\d+", "width=4", re.sub(r"steps=\d+", "steps=2", f"import rcig\n{code}"))
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", small], cwd=tmp_path, env=ENVIRONMENT | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "digit-7" in done.stdout


BROKEN = """
# Page

[nowhere](nowhere.md) $\\nonsense$

```{settings} shown.Settings
```

```{eval-rst}
.. automodule:: shown
```
"""
SHOWN = '''
"""A module."""

import dataclasses


@dataclasses.dataclass
class Settings:
    """Has a number without a unit."""

    silent: bool = True
    oddity: int = 3
    """a number"""


class Undocumented:
    pass
'''


def test_the_build_finds_broken_links_and_what_has_no_docstring(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for part in ("_ext", "_static", "conf.py"):
        (docs / part).symlink_to(ROOT / "docs" / part)
    (docs / "index.md").write_text(BROKEN)
    (tmp_path / "shown.py").write_text(SHOWN)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(docs), str(tmp_path / "site")]
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, env=ENVIRONMENT | path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    expected = ("nowhere.md", "nonsense", "silent has no docstring", "oddity: no unit", "Undocumented has no docstring")
    assert [words for words in expected if words not in done.stderr] == []


@pytest.mark.slow
def test_the_pages_are_built_strictly_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.glob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").glob("*.md")))
    loaded = r'<(?:script|img|iframe|link(?! rel="(?:next|prev|index|search)"))[^>]*(?:src|href)="((?:https?:)?//[^"]*)'
    elsewhere = {found for page in pages for found in re.findall(loaded, page.read_text())}
    styles = [
        found for path in tmp_path.rglob("*.css") for found in re.findall(r"url\(.?https?:|@import", path.read_text())
    ]
    assert (elsewhere, styles) == (set(), [])


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8192
