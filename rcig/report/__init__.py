"""The last stage: tidy rows and published values -> tables, figures and one page.

What a section shows lies in one file of `sections`. Modules are imported when they are used, as stages that draw a grid
of images want `drawing` alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rcig.report.results import Report
    from rcig.run.settings import Study


def collect(
    results: Path,
    experiments: Sequence[str],
    studies: Mapping[str, "Study"],
    datasets: Sequence[str] = (),
    full_dataset: Sequence[str] = (),
) -> "Report":
    """What the other stages left in the folder `results`: see rcig.report.results.collect."""
    from rcig.report.results import collect as read

    return read(results, experiments, studies, datasets, full_dataset)


def write(report: "Report", out: Path) -> None:
    """Write results.csv, tables/*.md and *.tex, figures/*.svg and *.png, index.html and vega.js under `out`.

    The last is what the page of `dvc plots show` draws with, which holds no script of its own.
    """
    from rcig.store import atomic_write

    for name, content in render(report).items():
        atomic_write(out / name, content)


def render(report: "Report") -> dict[str, bytes | str]:
    """File name -> content. The same report gives the same bytes."""
    from rcig import escape
    from rcig.report import charts, page, sections
    from rcig.report.blocks import charts as charts_of
    from rcig.report.tables import to_latex, to_markdown
    from rcig.rows import COLUMNS

    made = sections.made_of(report)
    tables = [named for section in made for named in section.tables.items()]
    blocks = [shown for section in made for shown in (section.blocks, *section.sets.values())]
    figures = {
        escape.file_name(chart.name): charts.svg(chart.spec)
        for shown in blocks
        for chart in charts_of(shown)
        if chart.name
    }
    return {
        "results.csv": escape.csv(report.rows.sort_values(list(COLUMNS))),
        **{f"tables/{name}.md": to_markdown(table) for name, table in tables},
        **{f"tables/{name}.tex": to_latex(table) for name, table in tables},
        **{f"figures/{name}.svg": svg for name, svg in figures.items()},
        **{f"figures/{name}.png": charts.png(svg) for name, svg in figures.items()},
        "vega.js": page.libraries(),
        "index.html": page.render(made, report),
    }
