"""Benchmarks are run by hand, so what they import may go without a type checker's notice: rcig finds its verbs late."""

import importlib
from pathlib import Path

import pytest
from workspaces import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")
