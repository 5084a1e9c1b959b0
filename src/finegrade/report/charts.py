"""The report's charts, as SVG. They hold numbers and our own words, never text from a model or a file."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK, _BEFORE, _AFTER, _OURS = "#333333", "#c9c9d6", "#5b7fb5", "#c2543d"
_SETTINGS: Any = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def scores_chart(scores: dict[str, Any], ours: str) -> str:
    """Every row's value with its interval, one panel a metric."""
    metrics = scores["metrics"]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(2.6 * len(metrics) + 2, 0.34 * len(scores["rows"]) + 0.9), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
        for metric, panel in zip(metrics, panels, strict=True):
            for y, row in enumerate(reversed(scores["rows"])):
                if metric in row["scores"]:
                    found = row["scores"][metric]
                    colour = _OURS if row["name"] == ours else _AFTER
                    panel.plot([found["low"], found["high"]], [y, y], color=colour, linewidth=2)
                    panel.plot([found["value"]], [y], "o", color=colour, markersize=5)
            panel.set_title(metric, fontsize=9)
            panel.grid(axis="x", alpha=0.3)
        panels[0].set_yticks(range(len(scores["rows"])), [row["name"] for row in reversed(scores["rows"])])
        return _svg(figure)


def levels_chart(before: Mapping[int, Sequence[float]], after: Mapping[int, Sequence[float]], highest: int) -> str:
    """Relevance to the query by level, before and after verification: level -> distances. Empty without levels."""
    levels = sorted(set(before) | set(after))
    if not levels:
        return ""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        panel = figure.subplots()
        _boxes(panel, [before.get(level, []) for level in levels], -0.18, _BEFORE, "before")
        _boxes(panel, [after.get(level, []) for level in levels], 0.18, _AFTER, "after")
        panel.set_xticks(range(len(levels)), [level_name(level, highest) for level in levels])
        panel.set_ylabel("score minus the positive's")
        panel.axhline(0, color=_INK, linewidth=0.8)
        panel.legend(loc="lower right", frameon=False)
        return _svg(figure)


def level_name(level: int, levels: int) -> str:
    """The level with the paper's name for it, where there are so many: level 4 (N1)."""
    return f"level {level} (N{levels - level + 1})"


def loss_chart(steps: Sequence[dict[str, Any]]) -> str:
    """Loss and level over the steps."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        panel = figure.subplots()
        numbers = [entry["step"] for entry in steps]
        panel.plot(numbers, [entry["loss"] for entry in steps], color=_AFTER)
        panel.set_xlabel("step")
        panel.set_ylabel("loss", color=_AFTER)
        twin = panel.twinx()
        twin.step(numbers, [entry["level"] for entry in steps], where="mid", color=_OURS, linewidth=1)
        twin.set_ylabel("level", color=_OURS)
        twin.set_yticks(sorted({entry["level"] for entry in steps}))
        return _svg(figure)


def _boxes(panel: Axes, groups: Sequence[Sequence[float]], shift: float, colour: str, label: str) -> None:
    positions = [i + shift for i, group in enumerate(groups) if group]
    filled = [group for group in groups if group]
    if filled:
        boxes = panel.boxplot(
            filled, positions=positions, widths=0.3, patch_artist=True, showfliers=False, medianprops={"color": _INK}
        )
        for box in boxes["boxes"]:
            box.set_facecolor(colour)
        boxes["boxes"][0].set_label(label)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
