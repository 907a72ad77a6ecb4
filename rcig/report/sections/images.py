"""The distilled images themselves."""

from rcig.report.blocks import Block, Figure, Grid, Paragraph, Picture, Section
from rcig.report.results import Report

ORDER = 40


def section(report: Report) -> Section:
    blocks: list[Block] = []
    if report.pictures:
        shown = [
            Figure(experiment, [Picture(png, f"The images of {experiment}, each under its class")])
            for experiment, png in report.pictures.items()
        ]
        text = "The images of the first seed of each set, each under the class that its label ranks first."
        blocks = [Paragraph(text), Grid(shown)]
    return Section("images", "Images", blocks, {}, {})
