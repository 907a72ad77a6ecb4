"""A head of jobs: a repository whose stages compute nothing, with its plan and raw arrays."""

import shutil
from pathlib import Path

from workspaces import ROOT, STUB, copy_pipeline, ran, read_settings, run, save_settings, sections, yaml

FIRST, SECOND = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real"
DISTILL = f"distill@{FIRST}"


def make(workspace: Path) -> None:
    """A repository with two experiments whose plan and raw arrays are made, and whose stages compute nothing."""
    copy_pipeline(workspace)
    for stage in yaml.load((workspace / "dvc.yaml").read_text())["stages"].keys() - {"plan"}:
        lines = (
            "import runpy, sys",
            "if __name__ == '__main__':",
            f"    sys.argv = ['python', '-m', 'stages.{stage}', *sys.argv[1:]]",
            f"    runpy.run_path({str(STUB / 'python')!r})",
        )
        (workspace / "stages" / f"{stage}.py").write_text("\n".join(lines))
    digits = read_settings()["shared"]["digits"]
    save_settings(workspace, sections(experiments={name: digits[name] for name in (FIRST, SECOND)}))
    run(workspace, "git", "init", "-q")
    run(workspace, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc" / "config", workspace / ".dvc" / "config")
    (workspace / "released").mkdir()
    ran(workspace, "plan", "preprocess")
    commit(workspace)


def commit(workspace: Path) -> None:
    (workspace / ".gitignore").open("a").write("/ran.txt\n")
    run(workspace, "git", "add", ".")
    run(workspace, "git", "commit", "-q", "-m", "as it stands")
