"""Render a report page: one HTML file with its styles, scripts, plots and data inside."""

from __future__ import annotations

from typing import Any

from plotly.offline import get_plotlyjs

from infra.report import formats, palette
from infra.report.environment import environment_of

FILTERS = (
    formats.cents, formats.count, formats.counted, formats.dollars, formats.duration, formats.memory,
    formats.moment, formats.percent, formats.rate, formats.threshold,
)  # fmt: skip


def render(template: str, **values: Any) -> str:
    """The page of `template` (in infra/report/templates), which extends base.html.j2.

    Every value is escaped. A name that the template uses and `values` lacks raises UndefinedError.
    """
    return (
        environment_of("infra.report", FILTERS)
        .get_template(template)
        .render(
            plotly_js=get_plotlyjs(),
            light_css=palette.css(dark=False),
            dark_css=palette.css(dark=True),
            dark_of_light=palette.dark_of_light(),
            **values,
        )
    )
