"""The sheet that every page is written on: one file that loads nothing and runs nothing."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from edgekit.profiling.report.html import Markup, tag


def sheet(title: str, body: Markup) -> str:
    """``body`` as a whole document, with the one style and a policy that allows nothing else."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Markup(_policy(style))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="edgekit"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _policy(style: str) -> str:
    """Nothing may be loaded or run; of styles only the page's own."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
