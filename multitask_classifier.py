"""The multitask classifier: one BERT trunk, one head a task, and the script that trains and scores them.

    python multitask_classifier.py --option finetune --use_gpu

`MultitaskBERT` is the model; `main` goes from the command line to a folder of results. The loop is in training.py.
"""

import os
import sys

import options as command_line
from files import UserError, complain

if __name__ == "__main__":
    # Before torch is imported: --help and a mistyped flag answer at once, and OpenMP is told to spin only briefly.
    # Threads that spin while they wait make a step ten times as slow on a machine that does other work too.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        OPTIONS = command_line.parse()
        if not OPTIONS.resume:  # the flags of a run to resume are those it began with
            command_line.check(OPTIONS)
    except UserError as error:
        sys.exit(complain(error))

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

import evaluation
from base_bert import BertConfig
from bert import BertModel
from course import CoursePredictions
from datasets import TASKS, Sequences, Tokenizer, data_folder, fingerprint, read, subset
from files import UNFINISHED, remove_unfinished, sha256, write_json, written_whole
from heads import make_head
from hub import resolve
from memory import keep_freed_memory
from packing import pack
from training import Split, Stopped, Trainer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


class MultitaskBERT(CoursePredictions, nn.Module):
    """A BERT trunk shared by the heads of all `tasks` {name: Task}.

    Shapes: B sequences of one task, H hidden size, C outputs of its head.
    """

    def __init__(self, bert, tasks, head_dropout=0.3):
        super().__init__()
        self.bert = bert
        self.tasks = dict(tasks)
        hidden_size = bert.config.hidden_size
        self.heads = nn.ModuleDict({name: make_head(task, hidden_size, head_dropout) for name, task in tasks.items()})

    @property
    def device(self):
        return self.bert.word_embedding.weight.device

    def forward(self, sequences):
        """{task: Sequences} -> {task: logits [B, C]}."""
        return self.classify(self.join(sequences))

    def join(self, sequences):
        """{task: Sequences} -> {task: joint vectors [B, H]}: one pass of the trunk over all tasks' sequences."""
        tokens = pack(Sequences.concatenate(list(sequences.values())), self.device)
        hidden = self.bert.encode_packed(tokens)  # [N, H]
        pooled = self.bert.pool(hidden[tokens.packing.first])  # [B of all tasks, H]
        parts = pooled.split([len(s) for s in sequences.values()])
        return dict(zip(sequences, parts, strict=True))

    def classify(self, joint):
        """{task: joint vectors [B, H]} -> {task: logits [B, C]}."""
        return {name: self.heads[name](vectors) for name, vectors in joint.items()}


# ------------------------------------------------------------------------------------------- from flags to a run


def tasks_of(options):
    """{name: Task} of every task with a head."""
    names = command_line.scored_tasks(options)
    if unknown := [name for name in names if name not in TASKS]:
        raise UserError(f"{', '.join(unknown)}: no such task; there are {', '.join(TASKS)}")
    return {name: TASKS[name] for name in names}


def read_data(options, tokenizer):
    """Read and encode every file the run needs: {task: {split: Split}}, and sentences on where and what they are."""
    data, reasons, notes = {}, {}, []
    for name, task in tasks_of(options).items():
        data[name] = {}
        for split in ("train", "dev", "test"):
            path, why = _path_of(task, split, options)
            if split == "train" and name not in options.tasks:
                continue
            if split == "test" and why and not path.exists():
                continue  # some public sets come without one
            reasons[why] = None
            examples = read(task, path, split)
            limit = {"train": options.limit, "dev": options.dev_limit}.get(split, {}).get(name)
            if limit is not None:
                examples = subset(examples, limit)
            data[name][split] = Split(examples, tokenizer.encode(examples.texts, options.max_length))
            notes.append(_describe(name, split, data[name][split]))
    return data, [why for why in reasons if why] + notes


def _path_of(task, split, options):
    """(the file of one split, a sentence on why it is taken from there, or "" where a flag names the file)"""
    prefix = evaluation.FILE_NAMES.get(task.name, task.name)
    if explicit := getattr(options, f"{prefix}_{split}", None):
        return Path(explicit), ""
    is_glue = task.format == "tsv"
    folder, why = data_folder(options.glue_dir, "glue", "sample/glue") if is_glue else data_folder(options.data_dir)
    return folder / task.files[split], why


def _describe(name, split, part):
    skipped, cut = part.examples.skipped, part.sequences.truncated
    text = f"{name} {split}: {len(part.examples):,} examples, {part.sequences.lengths.mean():.0f} tokens on average"
    if skipped:
        text += f"; {len(skipped)} row{'s' * (len(skipped) > 1)} skipped (line {skipped[0][0]}: {skipped[0][1]})"
    if cut:
        text += f"; {cut} cut to --max_length"
    return text


def fit_to_checkpoint(options, found):
    """The checkpoint's tokenizer, once it is clear that model, tokenizer and flags go together."""
    config, tokenizer = BertConfig.from_file(found.folder / "config.json"), Tokenizer.from_folder(found.folder)
    positions = config.max_position_embeddings
    if "max_length" not in options.given:
        options.max_length = min(options.max_length, positions)
    if options.max_length > positions:
        raise UserError(f"--max_length {options.max_length}: {found.name} has positions for {positions} tokens")
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{found.folder}: its tokenizer knows {tokenizer.vocab_size} tokens, its model {config.vocab_size}; "
            "these are not of one checkpoint"
        )
    if config.type_vocab_size < 2 and any(task.is_pair for task in tasks_of(options).values()):
        raise UserError(f"{found.name} has one token type, but pairs need two: choose other --tasks or --model")
    return tokenizer


def build_model(found, options):
    """The trunk of a checkpoint with fresh heads, on the device that was asked for."""
    bert = BertModel.from_pretrained(found.folder, attention=options.attention)
    torch.manual_seed(options.seed)  # the heads' initial weights
    model = MultitaskBERT(bert, tasks_of(options), options.hidden_dropout_prob)
    return model.to("cuda" if options.use_gpu else "cpu")


def describe_run(options, found, data, notes):
    """What config.json records: flags, versions, machine, and exactly which model and data."""
    weights = [found.folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    return {
        "flags": command_line.to_saved(options),
        "model": {
            "name": found.name,
            "source": found.source,
            "sha256": next(sha256(path) for path in weights if path.is_file()),
        },
        "data": {
            name: {
                split: {"file": str(part.examples.path), "rows": len(part.examples), "sha": fingerprint(part.examples)}
                for split, part in splits.items()
            }
            for name, splits in data.items()
        },
        "data_notes": notes,  # where the data are from and why, rows skipped, texts cut
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": {
            "device": torch.cuda.get_device_name() if options.use_gpu else platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def open_folder(options):
    """(folder, saved config or None): a new folder for a new run, or the one of the run to resume."""
    folder = Path(options.resume if isinstance(options.resume, str) else options.run_dir)
    config = folder / "config.json"
    if options.resume and config.is_file():
        saved = _saved_config(config)
        remove_unfinished(folder)
        return folder, saved
    if isinstance(options.resume, str):
        raise UserError(f"--resume {folder}: no config.json there, so no run to continue")
    if folder.is_file() or (folder.is_dir() and any(path.suffix != UNFINISHED for path in folder.iterdir())):
        raise UserError(f"{folder} exists: choose another --run_dir, or continue that run with --resume")
    return folder, None


def _saved_config(path):
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if {"flags", "data"} <= config.keys() and {"name", "sha256"} <= config["model"].keys():
            return config
    except (ValueError, AttributeError):
        pass
    raise UserError(f"{path}: not the config of a run, so none to continue; start a new one")


def _changed_data(before, now):
    """The first file whose content differs between two records of data, wherever it lies; None when all are equal."""
    for name, splits in now.items():
        for split, part in splits.items():
            if before.get(name, {}).get(split, {}).get("sha") != part["sha"]:
                return f"{part['file']} ({name} {split})"
    return None


def _check_outputs(options):
    """Refuse, before training, a prediction file that could not be written after it."""
    for flag in command_line.OUTPUTS:
        if path := getattr(options, flag):
            folder = Path(path).absolute().parent
            while not folder.exists():
                folder = folder.parent
            if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(path).is_dir():
                raise UserError(f"--{flag} {path}: cannot be written there; choose another file")


def finish(trainer, found):
    """After training: keep the last weights, predict the test sets with the best, and write what the run came to."""
    folder, model, progress = trainer.folder, trainer.model, trainer.progress
    trainer.save_model("last.safetensors")
    trainer.load_model("model.safetensors")
    for name in model.tasks:
        if "test" in trainer.data[name]:
            with trainer.autocast:
                predictions = evaluation.predict(model, name, trainer.data[name]["test"].sequences)
            trainer.write_predictions("test", {name: predictions})
    model.bert.save_pretrained(folder / "bert")
    for name in TOKENIZER_FILES:
        if (found.folder / name).is_file():
            with written_whole(folder / "bert" / name) as temporary:
                shutil.copyfile(found.folder / name, temporary)

    best = progress.history[progress.best_epoch - 1]
    baselines = {
        name: evaluation.baseline(task, trainer.data[name]["dev"].examples.labels) for name, task in model.tasks.items()
    }
    scores = {
        **{key: best[key] for key in ("mean", "score") if key in best},
        "selection_score": best["selection_score"],
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "dev": best["dev"],
        "baseline": baselines,
        "updates": progress.update,
        "tokens": progress.tokens,
        "train_seconds": round(progress.train_seconds, 2),
        "eval_seconds": round(progress.eval_seconds, 2),
    }
    write_json(folder / "scores.json", scores)
    return scores


def table(model, data, scores):
    """The final table as text."""
    lines = [f"{'task':8}{'metric':10}{'dev':>8}{'baseline':>10}{'examples':>10}"]
    for name, task in model.tasks.items():
        value, base, count = scores["dev"][name][task.metric], scores["baseline"][name], len(data[name]["dev"].examples)
        lines.append(f"{name:8}{task.metric:10}{value:8.3f}{base:10.3f}{count:10,}")
    if "score" in scores:
        lines.append(f"mean of the three {scores['mean']:.3f}, score with (STS + 1) / 2 {scores['score']:.3f}")
    seconds = scores["train_seconds"]
    rate = f" ({scores['tokens'] / max(seconds, 0.01):,.0f} tokens/s)" if scores["tokens"] else ""
    lines.append(
        f"best epoch {scores['best_epoch']} of {scores['epochs']}; {scores['updates']:,} updates in {seconds:,.0f} s "
        f"of training{rate}, {scores['eval_seconds']:,.0f} s of dev scoring"
    )
    return "\n".join(lines)


def main(options):
    folder, saved = open_folder(options)
    if saved:
        options = command_line.resumed(options, saved["flags"])
        options.model = saved["model"]["name"]
    command_line.check(options)
    if options.use_gpu and not torch.cuda.is_available():
        what = "the run to resume used --use_gpu, but" if saved else "--use_gpu:"
        raise UserError(f"{what} this machine has no CUDA device that torch can use")
    writer_type = tensorboard_writer() if options.tensorboard else None
    _check_outputs(options)

    # 1. the model and the data
    found = resolve(options.model)
    print(f"model: {found.name}, {found.source}")
    data, notes = read_data(options, fit_to_checkpoint(options, found))
    print("\n".join(notes))
    model = build_model(found, options)
    config = describe_run(options, found, data, notes)
    if saved and saved["model"]["sha256"] != config["model"]["sha256"]:
        raise UserError(f"{folder}: the weights of {found.name} are not what this run began with; start a new run")
    if saved and (changed := _changed_data(saved["data"], config["data"])):
        raise UserError(f"{folder}: {changed} is not what this run began with; start a new run")

    # 2. the run's folder
    folder.mkdir(parents=True, exist_ok=True)
    if not saved:
        write_json(folder / "config.json", config)
    trainer = Trainer(model, data, options, folder, writer_type and writer_type(folder / "tensorboard"))
    if (folder / "state.pt").is_file():
        trainer.load_state()
        print(f"resuming after {trainer.progress.epoch} epochs and {trainer.progress.step} steps")
    print(f"run: {folder} ({trainer.describe_plan()})")

    # 3. training, then the results
    trainer.fit()
    print(table(model, data, finish(trainer, found)))
    print(f"results in {folder}")


def tensorboard_writer():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter


if __name__ == "__main__":
    keep_freed_memory()
    try:
        main(OPTIONS)
    except Stopped as stop:
        print(stop)
        sys.exit(130)
    except KeyboardInterrupt:
        print("interrupted: nothing was saved since the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except (UserError, OSError) as error:
        sys.exit(complain(error))
