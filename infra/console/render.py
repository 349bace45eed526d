"""Renders the fragments of the pages: templates with every value escaped, as the reports have it."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from infra.console import words
from infra.report import formats
from infra.report.environment import environment_of


def render(template: str, **values: Any) -> str:
    """A fragment of HTML from infra/console/templates."""
    return _environment().get_template(f"{template}.html.j2").render(**values)


@cache
def _environment() -> jinja2.Environment:
    filters = (
        formats.cents, formats.count, formats.counted, formats.dollars, formats.duration, formats.percent,
        formats.threshold,
        words.amount, words.clock, words.millis, words.percent_of, words.rate, words.size, words.stamp,
    )  # fmt: skip
    return environment_of("infra.console", filters)
