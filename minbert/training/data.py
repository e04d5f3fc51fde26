"""From flags to a run: its tasks, its data, its folder, config.json (the record of all that), and its weights."""

import json
import os
import platform
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

import evaluation
from base_bert import BertConfig
from datasets import TASKS, Examples, data_folder, fingerprint, read, subset
from minbert.files import UNFINISHED, UserError, remove_unfinished, sha256, written_whole
from minbert.flags import checks as command_line
from minbert.flags.parser import OUTPUTS
from minbert.text.tokenization import SentencePairs, Sequences, Tokenizer
from minbert.text.unlabelled import read_copies, read_unlabelled, split_labels


@dataclass
class Split:
    """One file of one task, read and encoded."""

    examples: Examples
    sequences: Sequences | SentencePairs


def tasks_of(options):
    """{name: Task} of every task with a head."""
    names = command_line.scored_tasks(options)
    if unknown := [name for name in names if name not in TASKS]:
        raise UserError(f"{', '.join(unknown)}: no such task; there are {', '.join(TASKS)}")
    return {name: TASKS[name] for name in names}


def read_data(options, tokenizer, training=True):
    """Read and encode every file the run needs: {task: {split: Split}}, and sentences on where and what they are.
    Without `training` the training sets are left out."""
    _check_kinds(options)
    data, reasons, notes = {}, {}, []
    for name, task in tasks_of(options).items():
        data[name] = {}
        for split in task.files:
            path, why = _path_of(task, split, options)
            if split == "train" and not (training and name in options.tasks):
                continue
            if split not in ("train", "dev") and why and not path.exists():
                continue  # some public sets come without a test set, or without MNLI's second dev set
            reasons[why] = None
            examples = read(task, path, split)
            repeated = {id for id, count in Counter(examples.ids).items() if count > 1}
            limits = {"train": options.limit, "dev": options.dev_limit, "dev_mismatched": options.dev_limit}
            limit = limits.get(split, {}).get(name)
            if limit is not None:
                examples = subset(examples, limit)
            parts = {split: examples}
            if split == "train":
                parts, more = _parts_of_training(options, task, examples, repeated)
                notes += more
            for part, examples in parts.items():
                sequences = tokenizer.encode(examples.texts, options.max_length, fused=options.pairs == "fused")
                data[name][part] = Split(examples, sequences)
                notes.append(_describe(name, part, data[name][part]))
    return data, [why for why in reasons if why] + notes


def _check_kinds(options):
    """What flags need of the tasks: --pairs a task on pairs, TSA and UDA the probabilities of classes."""
    if "pairs" in options.given and not any(task.is_pair for task in tasks_of(options).values()):
        raise UserError(f"--pairs is of no use in a run with --tasks {','.join(options.tasks)}: no task reads pairs")
    for name, task in tasks_of(options).items():
        flag = "tsa" if options.tsa and name in options.tasks else "uda" if name in options.uda else None
        if flag and task.kind == "regression" and options.sts_head not in ("classification", "ordinal6"):
            raise UserError(f"--{flag} needs classes, but {name} has a regression head: add --sts_head classification")


def _parts_of_training(options, task, train, repeated):
    """({split: Examples} of what the training set and the files of --unlabeled, --uda and --train_on_augmented come
    to, notes). repeated: ids that come more than once in the whole file."""
    rest, notes, name = replace(train, labels=None), [], task.name
    if options.labels_per_class:
        train, rest = split_labels(train, options.labels_per_class, options.seed)
    if name in options.train_on_augmented:
        path = Path(options.train_on_augmented[name])
        _, train, said = read_copies(task, path, train, repeated, "train_on_augmented", "labelled")
        notes.append(f"{name}, trained on the copies alone: {said}")
    parts = {"train": train}
    if name in options.unlabeled:
        rest, skipped = read_unlabelled(task, Path(options.unlabeled[name]))
        if skipped:
            notes.append(f"{name} unlabelled: {len(skipped)} rows of {rest.path} left out, the first: {skipped[0]}")
    if name in options.uda:
        unsure = () if name in options.unlabeled else repeated
        rest, copies, said = read_copies(task, Path(options.uda[name]), rest, unsure)
        notes.append(f"{name}: {said}")
        parts |= {"unlabelled": rest, "augmented": copies}
    elif options.mean_teacher and (name in options.unlabeled or options.labels_per_class):
        parts["unlabelled"] = rest
    return parts, notes


def _path_of(task, split, options):
    """(the file of one split, a sentence on why it is taken from there, or "" where a flag names the file)"""
    prefix = evaluation.FILE_NAMES.get(task.name, task.name)
    if explicit := getattr(options, f"{prefix}_{split}", None):
        return Path(explicit), ""
    folders = {
        "csv": (options.data_dir, "cs224n", "sample"),
        "tsv": (options.glue_dir, "glue", "sample/glue"),
        "jsonl": (options.imdb_dir, "imdb", None),
    }
    folder, why = data_folder(*folders[task.format])
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
    config = BertConfig.from_file(found.folder / "config.json")
    positions = config.max_position_embeddings
    if "max_length" not in options.given:
        options.max_length = min(options.max_length, positions)
    if options.max_length > positions:
        raise UserError(f"--max_length {options.max_length}: {found.name} has positions for {positions} tokens")
    tokenizer = Tokenizer.from_folder(found.folder, config.vocab_size)
    if config.type_vocab_size < 2 and any(task.is_pair for task in tasks_of(options).values()):
        raise UserError(f"{found.name} has one token type, but pairs need two: choose other --tasks or --model")
    return tokenizer


def describe_run(options, found, data, notes):
    """What config.json records: flags, versions, machine, and exactly which model and data."""
    return {
        "flags": command_line.to_saved(options),
        "model": describe_model(found),
        "data": {
            name: {
                split: {
                    "file": str(part.examples.path),
                    **({"labels_file": str(path)} if (path := part.examples.labels_path) else {}),
                    "rows": len(part.examples),
                    "sha": fingerprint(part.examples),
                }
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


def describe_model(found):
    """Which checkpoint it is, wherever it lies."""
    return {"name": found.name, "source": found.source, "sha256": sha256(found.weights)}


def open_folder(options):
    """(folder, saved config or None): a new folder for a new run, or the one of the run to resume."""
    folder = Path(options.resume if isinstance(options.resume, str) else options.run_dir)
    config = folder / "config.json"
    if options.resume and config.is_file():
        saved = saved_config(config)
        remove_unfinished(folder)
        return folder, saved
    if isinstance(options.resume, str):
        raise UserError(f"--resume {folder}: no config.json there, so no run to continue")
    if folder.is_file() or (folder.is_dir() and any(path.suffix != UNFINISHED for path in folder.iterdir())):
        raise UserError(f"{folder} exists: choose another --run_dir, or continue that run with --resume")
    return folder, None


def saved_config(path):
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if {"flags", "data"} <= config.keys() and {"name", "sha256"} <= config["model"].keys():
            return config
    except (ValueError, AttributeError):
        pass
    raise UserError(f"{path}: not the config of a run, so none to continue; start a new one")


def changed_data(before, now):
    """The first file whose content differs between two records of data, wherever it lies; None when all are equal."""
    for name, splits in now.items():
        for split, part in splits.items():
            if before.get(name, {}).get(split, {}).get("sha") != part["sha"]:
                return f"{part['file']} ({name} {split})"
    return None


def check_outputs(options):
    """Refuse, before training, a prediction file that could not be written after it."""
    for flag in OUTPUTS:
        if path := getattr(options, flag):
            folder = Path(path).absolute().parent
            while not folder.exists():
                folder = folder.parent
            if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(path).is_dir():
                raise UserError(f"--{flag} {path}: cannot be written there; choose another file")


# -------------------------------------------------------------------------------------------------------- weights


def save_weights(model, path):
    """Trunk and heads as safetensors."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))


def load_weights(model, path, heads_may_differ=False):
    """Load what `save_weights` wrote. With `heads_may_differ` a head that the file does not have, or has with another
    shape, stays as it is. Returns the names of those heads. Raises UserError for a file of something else."""
    fresh = []
    try:
        saved = load_file(path)
        if heads_may_differ:
            for task, head in model.heads.items():
                own = {f"heads.{task}.{name}": value for name, value in head.state_dict().items()}
                theirs = {name: value for name, value in saved.items() if name.startswith(f"heads.{task}.")}
                if {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in theirs.items()}:
                    saved = {name: value for name, value in saved.items() if name not in theirs} | own
                    fresh.append(task)
            saved = {n: v for n, v in saved.items() if not n.startswith("heads.") or n.split(".")[1] in model.heads}
        model.load_state_dict(saved)
    except (SafetensorError, RuntimeError):
        raise UserError(f"{path}: damaged, or not of this run; start a new one") from None
    return fresh
