"""README.md of an exported head: what it does, how to ask it, on what data it learned, its scores, and its limits."""

from pathlib import Path

from minbert.flags import checks, types
from minbert.flags.parser import DEFAULTS
from minbert.layers.heads import ClassesHead, LinearHead, RegressionHead

NOT_TOLD = ("tasks", "model", "init", "epochs", *checks.ELSEWHERE)  # told otherwise, or about folders of one machine


def model_card(task, names, head, record, scores, options):
    """The card as Markdown. names: what its outputs are called; record, scores: the run's config.json, scores.json."""
    base = Path(record["model"]["name"]).name
    parts = (
        _about(task, names, head, base, options),
        _use(task, head),
        _data(task, record),
        _training(base, record, scores, options),
        _scores(task, scores),
        _limits(task, options),
    )
    front = f"---\nlibrary_name: transformers\npipeline_tag: text-classification\nbase_model: {base}\n---\n"
    return front + "\n" + "\n\n".join(parts) + "\n"


def _about(task, names, head, base, options):
    reads = "a pair of texts, [CLS] a [SEP] b [SEP]," if task.is_pair else "a text"
    beside = [name for name in options.tasks if name != task.name]
    others = f", trained together with {', '.join(beside)}" if beside else ""
    untrained = "" if task.name in options.tasks else " **This head was not trained.**"
    gives = f"gives a score from {task.score_range[0]:g} to {task.score_range[1]:g}"
    if task.kind != "regression" or isinstance(head, ClassesHead):
        gives = f"tells {len(names)} classes apart: {', '.join(names)}"
    return f"# {task.name}\n\nReads {reads} and {gives}. {base}, fine-tuned with minBERT{others}.{untrained}"


def _use(task, head):
    asked = '{"text": "One text.", "text_pair": "And another."}' if task.is_pair else '"A text."'
    lines = [
        "## Use",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        'ask = pipeline("text-classification", model="THIS FOLDER", truncation=True)',
        f"answer = ask({asked})",
        "```",
    ]
    if isinstance(head, ClassesHead):
        lines += ["", "The label is the score."]
    elif isinstance(head, LinearHead):
        lines += ["", "The pipeline's `score` is the score itself; nothing keeps it inside its range."]
    elif isinstance(head, RegressionHead):
        low, high = task.score_range
        lines += [
            "",
            "The pipeline's `score` is a share of the range, sigmoid(logit). The score itself is "
            f'`{low:g} + {high - low:g} * answer["score"]`.',
        ]
    return "\n".join(lines)


def _data(task, record):
    rows = [
        f"| {split} | {Path(part['file']).name} | {part.get('rows', '')} | {part['sha']} |"
        for split, part in record["data"].get(task.name, {}).items()
    ]
    head = ["## Data", "", "| split | file | rows | fingerprint |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _training(base, record, scores, options):
    flags = {n: v for n, v in sorted(options.flat().items()) if n not in NOT_TOLD and v != DEFAULTS.get(n)}
    told = "\n".join(f"- `--{name} {types.as_typed(_without_folders(value))}`" for name, value in flags.items())
    return (
        f"## Training\n\nFrom {base} (sha256 of its weights {record['model']['sha256']}), {scores['updates']:,} "
        f"updates; of its epochs, {scores['epochs']}, number {scores['best_epoch']} was the best on dev. Flags that "
        f"were not at their defaults:\n\n{told}"
    )


def _without_folders(value):
    """A flag's value; of files by task ({"sst": path}) their names alone, for folders are those of one machine."""
    files = isinstance(value, dict) and all(isinstance(path, str) for path in value.values())
    return {task: Path(path).name for task, path in value.items()} if files else value


def _scores(task, scores):
    dev = {name: value for name, value in scores["dev"][task.name].items() if isinstance(value, float)}
    rows = [f"| {name} | {value:.4f} |" for name, value in dev.items()]
    rows += [f"| {task.metric} of a constant answer | {scores['baseline'][task.name]:.4f} |"]
    return "\n".join(["## Scores on dev", "", "| | |", "|---|---|", *rows])


def _limits(task, options):
    return "\n".join(
        [
            "## Limits",
            "",
            "- The dev scores chose the best epoch, so on new text expect a little less.",
            f"- Texts are cut to {options.model.max_length} tokens.",
            "- It knows text like that of its training data; nothing was done about what such text is biased to.",
            *(["- Probabilities are the model's own, and were not calibrated."] if task.kind != "regression" else []),
        ]
    )
