"""A profile for people: one page of HTML, a short table of Markdown, rows of CSV.

    page.py           the page, in order       overview.py details.py layers.py surroundings.py
    parts.py html.py  what it is built of      everything from a result is escaped there
    charts.py layer_charts.py                  on plot.py scale.py sampling.py: our own SVG
    markdown.py csv_rows.py                    for a README or pull request, for a spreadsheet
    json_schema.py                             docs/result.schema.json, from the dataclasses

All are pure functions of ``ProfileResult``.
"""

from edgekit.profiling.report.csv_rows import csv_report, csv_rows
from edgekit.profiling.report.markdown import markdown_report
from edgekit.profiling.report.page import html_report

__all__ = ["csv_report", "csv_rows", "html_report", "markdown_report"]
