"""What a trained model comes to: its predictions, scores and their analysis, as files and as a table.

predictions/      dev and test predictions in the course's form, and GLUE's submission files
analysis.json     confusion matrices, fits, the worst errors of the dev sets;  analysis.png draws them
"""

import zipfile
from pathlib import Path

import evaluation
from minbert.files import write_json, written_whole
from minbert.training import analysis


def predict_all(model, data, split):
    """{task: Predictions} of every task that has the split."""
    return {
        name: evaluation.predict(model, name, data[name][split].sequences)
        for name in model.tasks
        if split in data[name]
    }


def scores_of(tasks, data, split, predictions):
    """{task: its scores} of predictions {task: Predictions}."""
    return {
        name: evaluation.task_scores(tasks[name], said.values, data[name][split].examples.labels)
        for name, said in predictions.items()
    }


def write_predictions(folder, tasks, data, split, predictions, options):
    """The prediction files of one split: in the run's `folder`, or where --sst_dev_out and its kin say."""
    folder = Path(folder) / "predictions"
    for name, said in predictions.items():
        task, ids = tasks[name], data[name][split].examples.ids
        explicit = getattr(options, f"{evaluation.FILE_NAMES.get(name, name)}_{split}_out", None)
        paths = evaluation.prediction_files(folder, task, split, options.option, alone=options.tasks == [name])
        for path in [explicit, *paths[1:]] if explicit else paths:
            evaluation.write_predictions(path, task, ids, said.values)
        if split in evaluation.SUBMISSIONS.get(name, {}):
            evaluation.write_submission(folder, task, ids, said.values, split)


def zip_submission(folder):
    """GLUE wants one zip of its files: predictions/submission.zip, of those that are there."""
    names = [name for splits in evaluation.SUBMISSIONS.values() for name in splits.values()]
    files = [path for name in names if (path := Path(folder) / "predictions" / name).is_file()]
    if files:
        with (
            written_whole(Path(folder) / "predictions" / "submission.zip") as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for path in files:
                entry = zipfile.ZipInfo(path.name)  # dated 1980: the same predictions are the same bytes
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def write_results(folder, model, data, dev, options, train=None):
    """From the dev predictions {task: Predictions} and the model itself, into the run's `folder`: analysis.json and
    analysis.png, and the test predictions. `train`: predictions for the training sets, or None. Returns the scores
    {"dev": ..., "baseline": ..., more splits}."""
    tasks, folder = model.tasks, Path(folder)
    analyses = {name: analysis.analyse(tasks[name], data[name]["dev"].examples, dev[name]) for name in tasks}
    write_json(folder / "analysis.json", analyses)
    analysis.draw(analyses, folder / "analysis.png")
    scores = scores_of(tasks, data, "dev", dev)
    found = {
        **evaluation.averages(scores),
        "dev": scores,
        "baseline": {name: evaluation.baseline(tasks[name], data[name]["dev"].examples.labels) for name in tasks},
    }
    for split in () if options.skip_test else ("test", "test_mismatched"):
        write_predictions(folder, tasks, data, split, predict_all(model, data, split), options)
    zip_submission(folder)
    for split, predictions in (("dev_mismatched", predict_all(model, data, "dev_mismatched")), ("train", train)):
        if predictions:
            found[split] = scores_of(tasks, data, split, predictions)
    found |= evaluation.glue_average(scores, found.get("dev_mismatched", {}))
    if options.label_scheme:
        found["dev_argmax"] = _by_argmax(model, data)
    return found


def _by_argmax(model, data):
    """{task: its dev scores} when labels are decoded by the highest single class, where that may differ."""
    predictions = {}
    for name in model.tasks:
        if model.head_of(name).may_differ:
            embedded = evaluation.embeddings(model, name, data[name]["dev"].sequences)
            predictions[name] = evaluation.read_out(model, name, embedded, model.head_of(name, "argmax"))
    return scores_of(model.tasks, data, "dev", predictions)


def table(tasks, data, scores):
    """The final table as text."""
    train = scores.get("train", {})
    lines = [f"{'task':8}{'metric':10}{'dev':>8}{'baseline':>10}{'examples':>10}" + ("   train" if train else "")]
    for name, task in tasks.items():
        value, base, count = scores["dev"][name][task.metric], scores["baseline"][name], len(data[name]["dev"].examples)
        seen = f"{train[name][task.metric]:8.3f}" if name in train else ""
        lines.append(f"{name:8}{task.metric:10}{value:8.3f}{base:10.3f}{count:10,}{seen}")
    if "score" in scores:
        lines.append(f"mean of the three {scores['mean']:.3f}, score with (STS + 1) / 2 {scores['score']:.3f}")
    if "train_seconds" in scores:
        seconds = scores["train_seconds"]
        rate = f" ({scores['tokens'] / max(seconds, 0.01):,.0f} tokens/s)" if scores["tokens"] else ""
        lines.append(
            f"best epoch {scores['best_epoch']} of {scores['epochs']}; {scores['updates']:,} updates in {seconds:,.0f} "
            f"s of training{rate}, {scores['eval_seconds']:,.0f} s of dev scoring"
        )
    return "\n".join(lines)
