"""Every colour of a report, for light and dark; the page's CSS variables and the plots come from here."""

from __future__ import annotations

# name: (light, dark). The series follow Okabe and Ito, which hold apart under colour blindness.
COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f6f7f5", "#14181b"),
    "surface": ("#ffffff", "#1c2125"),
    "ink": ("#1b2227", "#e7eaec"),
    "muted": ("#5a666f", "#a0abb3"),
    "line": ("#e2e6e4", "#30373d"),
    "accent": ("#14697f", "#66bfd6"),
    "good": ("#1d7a4f", "#5cc894"),
    "bad": ("#b3261e", "#f28b82"),
    "heat-low": ("#2166ac", "#4b93dd"),
    "heat-mid": ("#f3f3ef", "#2a3035"),
    "heat-high": ("#c2570c", "#e6823c"),
    "heat-on": ("#fffffe", "#0f1316"),
    "series-1": ("#0072b2", "#4ba3dc"),
    "series-2": ("#d55e00", "#f58d4f"),
    "series-3": ("#00916a", "#35c79d"),
    "series-4": ("#c0628f", "#e8a3c6"),
    "series-5": ("#b07a00", "#efba45"),
    "series-6": ("#3993c4", "#8ecff3"),
    "series-7": ("#6a4c9f", "#ad98e0"),
    "series-8": ("#6b7175", "#b4babd"),
    "stage-1": ("#aab4ba", "#57616a"),
    "stage-2": ("#cfd6da", "#3d464d"),
}
SERIES = 8


def light(name: str) -> str:
    """The colour `name` on a light page. Raises KeyError for another name."""
    return COLOURS[name][0]


def series(number: int) -> str:
    """The colour of the n-th series (from 0), over again after the eighth."""
    return light(f"series-{number % SERIES + 1}")


def css(dark: bool) -> str:
    """The colours as CSS custom properties."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in COLOURS.items())


def dark_of_light() -> dict[str, str]:
    """Light colour -> dark colour: how the page repaints a plot."""
    return dict(COLOURS.values())
