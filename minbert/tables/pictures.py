"""A table's results as pictures: bars beside the paper's figures, and dev curves by epoch."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minbert.files import written_whole
from minbert.tables.report import label, mean_and_deviation
from minbert.tables.rows import split_and_task

OURS, PAPER, INK = "#2a6f97", "#c9ced6", "#333a45"
LINES = ("#2a6f97", "#e07a1f", "#3a9d5d", "#b5446e", "#7a5cc0", "#8a6d3b", "#17a2a2", "#555b66")
DASHES = ("-", "--", ":")


def draw(table, lines, folder):
    """Draw bars.png and curves.png into `folder`; returns the paths (none while there is nothing to draw)."""
    drawn = []
    if any(line.results for line in lines):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, figure in (("bars.png", _bars(table, lines)), ("curves.png", _curves(table, lines))):
            if figure is not None:
                with written_whole(Path(folder) / name) as temporary:
                    figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
                drawn.append(Path(folder) / name)
    return drawn


def _bars(table, lines):
    """One panel a column, one pair of bars a line: ours with its deviation, the paper's below it."""
    columns = [
        (heading, path)
        for heading, path in table.columns.items()
        if any(line.values(path) or heading in line.row.paper for line in lines)
    ]
    figure = Figure(figsize=(2.2 + 2.3 * len(columns), 1.3 + 0.52 * len(lines)))
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, (heading, path) in zip(panels, columns, strict=True):
        low = min(0.0, *(_pair(panel, y, line, heading, path, table.reference) for y, line in enumerate(lines)))
        panel.set_xlim(low * 1.1, 1.25)  # room for the numbers
        panel.set_xticks([0, 0.5, 1])
        panel.set_title(heading, fontsize=11, color=INK)
        _plain(panel, "x")
    panels[0].set_yticks(range(len(lines)), [_tick(line, lines) for line in lines], fontsize=9.5, color=INK)
    panels[0].set_ylim(len(lines) - 0.5, -0.5)  # the first row on top
    _title(figure, table, panels)
    return figure


def _pair(panel, y, line, heading, path, reference):
    """Two bars, as far as there are figures; returns where ours begins, its deviation included."""
    low = 0.0
    if values := line.values(path):
        mean, deviation = mean_and_deviation(values)
        panel.barh(y - 0.19, mean, 0.36, color=OURS, label="ours", zorder=2)
        if deviation is not None:
            panel.errorbar(mean, y - 0.19, xerr=deviation, color=INK, capsize=2.5, lw=1.2, zorder=3)
        _number(panel, mean, y - 0.19, deviation or 0, OURS)
        low = mean - (deviation or 0)
    if (paper := line.row.paper.get(heading)) is not None:
        panel.barh(y + 0.19, paper, 0.36, color=PAPER, label=reference, zorder=2)
        _number(panel, paper, y + 0.19, 0, "#7b8290")
    return low


def _curves(table, lines):
    """One panel a column, one curve a line: the dev figure by epoch, with a band of one deviation."""
    panels_data = {}
    for heading, path in table.columns.items():
        curves = [(i, line.history(path)) for i, line in enumerate(lines) if _trains(line, path)]
        if curves := [(i, history) for i, history in curves if len(history) > 1]:
            panels_data[heading] = curves
    if not panels_data:
        return None
    figure = Figure(figsize=(0.6 + 3.1 * len(panels_data), 3.1))
    panels = figure.subplots(1, len(panels_data), squeeze=False)[0]
    for panel, (heading, curves) in zip(panels, panels_data.items(), strict=True):
        for i, history in curves:
            _curve(
                panel,
                history,
                _tick(lines[i], lines, " "),
                LINES[i % len(LINES)],
                DASHES[i // len(LINES) % len(DASHES)],
            )
        panel.set_title(heading, fontsize=11, color=INK)
        panel.set_xlabel("epoch", fontsize=9, color=INK)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        _plain(panel, "y")
    _title(figure, table, panels)
    return figure


def _curve(panel, history, name, color, dashes):
    """Means by epoch, in a band of one deviation to each side."""
    epochs = sorted(history)
    points = [mean_and_deviation(history[epoch]) for epoch in epochs]
    low, high = ([mean + sign * (deviation or 0) for mean, deviation in points] for sign in (-1, 1))
    means = [mean for mean, _ in points]
    panel.plot(epochs, means, marker="o", ms=3.5, lw=1.6, label=name, color=color, ls=dashes)
    panel.fill_between(epochs, low, high, color=color, alpha=0.15, lw=0)


def _trains(line, path):
    """Whether the line trains what the figure at `path` measures: the curve of a head never trained says nothing."""
    if not line.results:
        return False
    tasks, (_, task) = line.results[0]["flags"]["tasks"], split_and_task(path)
    return len(tasks) > 1 if task is None else task in tasks


def _tick(line, lines, separator="\n"):
    share = f"{separator}({line.fraction:g} of the training rows)" if line.fraction < 1 else ""
    return label(line, lines) + ("" if line.results else f"{separator}(open)") + share


def _number(panel, x, y, deviation, color):
    panel.text(max(x, 0) + deviation + 0.02, y, f"{x:.3f}", va="center", fontsize=8, color=color)


def _plain(panel, axis):
    """A light grid along one axis and no box."""
    panel.grid(axis=axis, color="#e6e8ec", lw=0.8, zorder=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#b8bec8")
    panel.tick_params(colors=INK, labelsize=8.5, length=0)


def _title(figure, table, panels):
    """The table's title above, one legend for all panels below."""
    figure.tight_layout()
    entries = {}
    for panel in panels:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    columns = 2 if len(entries) > 3 else len(entries)
    figure.suptitle(f"{table.title} (dev)", y=1.03, fontsize=12.5, fontweight="bold", color=INK)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
