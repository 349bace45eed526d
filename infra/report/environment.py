"""How templates are read: the same for report pages and for the console's fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jinja2


def environment_of(package: str, filters: Iterable[Callable[..., str]]) -> jinja2.Environment:
    """A package's templates: escaping, strict, with functions as filters under their own names."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in filters:
        environment.filters[function.__name__] = function
    return environment
