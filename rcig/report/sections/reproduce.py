"""How to make all of this again."""

from markupsafe import Markup

from rcig.report.blocks import Code, Paragraph, Section
from rcig.report.results import Report

ORDER = 110

_BEFORE = (
    "Every number, picture and table here is the output of a DVC stage. In a clone of the repository, this fetches what"
    " has been computed and computes what has not:"
)
_AFTER = Markup(
    "Settings stand in <code>params.yaml</code>; a change there re-runs only the experiments that it concerns. All"
    " numbers behind the tables are in <code>results.csv</code>, one measurement a line; the tables are in"
    " <code>tables/</code> as Markdown and LaTeX, the figures in <code>figures/</code> as SVG and PNG."
)


def section(report: Report) -> Section:
    return Section("reproduce", "Reproduce", [Paragraph(_BEFORE), Code("make repro"), Paragraph(_AFTER)], {})
