"""report.html of a masked-LM run: perplexity and loss, and how the run was made."""

from minbert.readers import NUMBER
from minbert.report import charts
from minbert.training.run_folder import RUN
from minbert.training.run_report import flattened, made_with, step_by_step, written
from minbert.training.saved import SCORES_OF_MASKED_LM, saved_history, saved_record, saved_scores

SCRIPT = "pretraining.py"


def write_report(folder, defaults):
    """Write report.html into the folder of a finished run. defaults: {flag: its default}. Returns a sentence on it."""

    def values():
        config, history = saved_record(folder / RUN), saved_history(folder)
        scores = saved_scores(folder, SCORES_OF_MASKED_LM)
        return {
            **_summary(config, scores),
            **_curves(history),
            **step_by_step(folder, config),
            **made_with(config, SCRIPT, defaults),
            "tasks": [],
            "behind": {},
            "scores": list(flattened(scores)),
        }

    return written(folder, values)


def _summary(config, scores):
    cards = [
        {"name": name, "path": path, "value": scores[path], "metric": told, "baseline": None}
        for path, name, told in (
            ("perplexity_before", "perplexity before", "of held-out text"),
            ("perplexity", "perplexity after", "of held-out text"),
            ("texts", "texts", "different ones"),
        )
    ]
    about = (
        f"Masked-LM training from {config['model']['name']}: {scores['epochs']} epochs, {scores['updates']:,} updates, "
        f"{scores['train_seconds']:,.0f} s of training."
    )
    return {"cards": cards, "about": about}


def _curves(history):
    perplexity = [(record["epoch"], record["perplexity"]) for record in history]
    loss = [(record["epoch"], record["loss"]) for record in history if type(record["loss"]) in NUMBER]
    drawn = [
        charts.lines("Held-out perplexity", {"perplexity": perplexity}, "epoch", "by epoch", dots=True),
        charts.lines("Loss", {"loss": loss}, "epoch", "mean over the epoch", dots=True),
    ]
    rows = [
        {"epoch": one["epoch"], "best": False, "values": [one["perplexity"], one["loss"]]} for one in history[-200:]
    ]
    epochs = {"names": ["perplexity", "loss"], "rows": rows, "caption": "Perplexity and loss by epoch"}
    return {"curves": [chart for chart in drawn if chart], "epochs": epochs}
