"""A table's results for reading: Markdown with the paper's figures beside ours.

Means are over seeds, deviations are sample standard deviations (n - 1). Results of different fractions, models or data
are never averaged together, and a result whose row has changed since is not shown.
"""

import statistics
from dataclasses import dataclass, field

from minbert.hub import MINILM, SHA256
from minbert.tables import store
from minbert.tables.jobs import Job
from minbert.tables.record import figure, value_at
from minbert.tables.rows import Row, split_and_task
from minbert.tables.standing import why_changed

MINILM_NOTE = (
    "minilm is the published all-MiniLM-L6-v2; its own training data held Quora duplicate pairs, natural-language "
    "inference pairs and many other sentence pairs, so its Quora, QQP, MNLI, RTE and STS figures are not those of a "
    "model that never saw such pairs."
)

NEARLY = 0.01  # a share of examples kept that is nearly none; 1 less this is nearly all


@dataclass
class Line:
    """Results that may be averaged: one row, fraction, model and data, over seeds. Without results the row is open."""

    row: Row
    results: list = field(default_factory=list)
    stale: int = 0  # results of this row that its flags, or the row it starts from, would not give today

    @property
    def fraction(self):
        return self.results[0]["fraction"] if self.results else 1.0

    def values(self, path):
        """The figure at `path`, one a seed."""
        found = [figure(result, path) for result in self.results]
        return [value for value in found if value is not None]

    def history(self, path):
        """{epoch: the figures at `path` of all seeds}"""
        values = {}
        for record in (record for result in self.results for record in result["history"]):
            if (value := value_at(record, path)) is not None:
                values.setdefault(record["epoch"], []).append(value)
        return values


def collect(table):
    """The table's lines: one a row and setting in the order of the rows, the whole data before its fractions."""
    results, lines = store.load(table), []
    for row in table.rows:
        groups, stale = {}, 0
        for result in [result for result in results if result["row"] == row.name]:
            if why_changed(Job(table, row, result["seed"], result["fraction"]), result):
                stale += 1
                continue
            data = tuple(split["sha256"] for splits in result["data"].values() for split in splits.values())
            groups.setdefault((result["fraction"], result["model"]["sha256"], data), []).append(result)
        lines += [Line(row, group, stale) for group in groups.values() or [[]]]
    return lines


def untreated(line):
    """In words, what of its method a row never got: TSA or a threshold that, in every epoch of every seed, kept nearly
    none of the examples, or nearly all. Empty where it was treated."""
    shares = {}
    for record in (record for result in line.results for record in result["history"]):
        for name, share in record.get("kept", {}).items():
            shares.setdefault(name, []).append(share)
    none = [f"{name} at most {NEARLY}" for name, kept in shares.items() if max(kept) <= NEARLY]
    return none + [f"{name} at least {1 - NEARLY}" for name, kept in shares.items() if min(kept) >= 1 - NEARLY]


def mean_and_deviation(values):
    """(mean, sample standard deviation) of a list; the deviation of fewer than two values is None."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


# ------------------------------------------------------------------------------------------------------- Markdown


def markdown(table, lines):
    """The table, its legend and what is open as Markdown."""
    head = ["", *table.columns, "fraction", "seeds", "epochs", "minutes"]
    body = [[label(line, lines), *cells_of(table, line), *circumstances(line)] for line in lines]
    parts = [f"## {table.title}", grid([head, *body]), legend(table, lines), *([table.note] if table.note else [])]
    if notes := [f"- {row.title}: {row.note}" for row in table.rows if row.note]:
        parts.append("\n".join(notes))
    if missed := [f"- {line.row.title}: {', '.join(what)}" for line in lines if (what := untreated(line))]:
        parts.append("† Not treated, so no comparison: kept in every epoch of every seed\n" + "\n".join(missed))
    if waiting := [line for line in lines if not line.results]:
        names = [line.row.name + (" (changed since it ran)" if line.stale else "") for line in waiting]
        parts.append(f"Open: {', '.join(names)}.")
    return "\n\n".join(parts) + "\n"


def cells_of(table, line):
    """Each column's cell: `mean ± deviation (paper's figure)`, * if measured on part of a dev set."""
    cells = []
    for heading, path in table.columns.items():
        values, paper = line.values(path), line.row.paper.get(heading)
        cell = "open" if paper is not None and not line.results else "–" if paper is not None else ""
        if values:
            cell = mean_text(values) + ("*" if is_on_part(line, path) else "") + _last(line, path, values)
        cells.append(cell + (f" ({paper:.3f})" if paper is not None else ""))
    return cells


def _last(line, path, best):
    """The last epoch's mean in brackets, where it is another than the best one's: the best is chosen on the dev set
    itself, which hides the harm of later epochs."""
    last = line.values(f"last_epoch.{path}")
    if last == best or len(last) < len(best):
        return ""
    return f" [last {statistics.fmean(last):.3f}]"


def mean_text(values):
    """The seeds' mean ± their deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")


def is_on_part(line, path):
    """Whether the figure at `path` was measured on part of a dev set."""
    limited, (split, task) = line.results[0]["flags"]["dev_limit"], split_and_task(path)
    return split.startswith("dev") and (bool(limited) if task is None else task in limited)


def circumstances(line):
    if not line.results:
        return ["", "0", "", ""]
    epochs = sorted({result["scores"]["epochs"] for result in line.results})
    seconds = [result["scores"]["train_seconds"] + result["scores"]["eval_seconds"] for result in line.results]
    span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}"
    return [f"{line.fraction:g}", str(len(line.results)), span, f"{statistics.fmean(seconds) / 60:.1f}"]


def label(line, lines):
    """The row's title, † where it was not treated; with model and data where the table mixes several."""
    mixed = len(_settings(lines)) > 1 and line.results
    return line.row.title + (" †" if untreated(line) else "") + (f" [{_setting(line)}]" if mixed else "")


def _setting(line):
    return f"{line.results[0]['model']['name']}, data {line.results[0]['data_from']}"


def _settings(lines):
    return list(dict.fromkeys(_setting(line) for line in lines if line.results))


def grid(rows):
    """Rows of cells as an aligned Markdown table."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


def legend(table, lines):
    text = [
        f"Dev set, the best epoch: mean ± standard deviation over seeds ({table.reference}'s figure). "
        f"Source: {table.source}."
    ]
    measured = [line for line in lines if line.results]
    if measured:
        devices = dict.fromkeys(result["machine"]["device"] for line in measured for result in line.results)
        text.append(f"Model and data: {'; '.join(_settings(lines))}. Machine: {', '.join(devices)}.")
    if any(line.results[0]["model"]["sha256"] == SHA256[MINILM] for line in measured):
        text.append(MINILM_NOTE)
    if any(is_on_part(line, path) and line.values(path) for line in measured for path in table.columns.values()):
        text.append("* on a fixed part of the dev set (--dev_limit).")
    told = [result["masked_lm"]["scores"] for line in measured for result in line.results if "masked_lm" in result]
    for scores in {scores["perplexity"]: scores for scores in told}.values():
        text.append(
            f"The masked-LM checkpoint: {scores['texts']:,.0f} texts, epochs: {scores['epochs']:g}; held-out "
            f"perplexity {scores['perplexity_before']:.1f} before, {scores['perplexity']:.1f} after."
        )
    if any(_last(line, path, line.values(path)) for line in measured for path in table.columns.values()):
        text.append("[last ...]: the mean after the last epoch, where the best one was another.")
    if any(line.fraction < 1 for line in measured):
        text.append("A fraction below 1: trained on that fixed share of each task's training rows.")
    return " ".join(text)
