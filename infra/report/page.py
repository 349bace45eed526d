"""Render a report page: one HTML file with its styles, scripts, plots and data inside."""

from __future__ import annotations

from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from infra.report import formats, palette


def render(template: str, **values: Any) -> str:
    """The page of `template` (in infra/report/templates), which extends base.html.j2.

    Every value is escaped. A name that the template uses and `values` lacks raises UndefinedError.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            plotly_js=get_plotlyjs(),
            light_css=palette.css(dark=False),
            dark_css=palette.css(dark=True),
            dark_of_light=palette.dark_of_light(),
            **values,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("infra.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        formats.cents,
        formats.count,
        formats.counted,
        formats.dollars,
        formats.duration,
        formats.memory,
        formats.moment,
        formats.percent,
    ):
        environment.filters[function.__name__] = function
    return environment
