"""A profile for people: one page of HTML, a short table of Markdown, rows of CSV.

    page.py           the page, in order       overview.py details.py layers.py surroundings.py
    sheet.py parts.py html.py  what it is built of; everything from a result is escaped there
    charts.py layer_charts.py                  on plot.py scale.py sampling.py: our own SVG
    markdown.py csv_rows.py                    for a README or pull request, for a spreadsheet
    stages_page.py stages_charts.py stages_tables.py stages_words.py
                      the same of a vision-language model, by stage
    json_schema.py                             docs/result.schema.json, from the dataclasses

All are pure functions of ``ProfileResult``, or of ``StagesResult``.
"""

from edgekit.profiling.report.csv_rows import csv_report, csv_rows
from edgekit.profiling.report.markdown import markdown_report
from edgekit.profiling.report.page import html_report
from edgekit.profiling.report.stages_page import stages_html
from edgekit.profiling.report.stages_tables import stages_csv, stages_markdown

__all__ = [
    "csv_report",
    "csv_rows",
    "html_report",
    "markdown_report",
    "stages_csv",
    "stages_html",
    "stages_markdown",
]
