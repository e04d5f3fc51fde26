"""The data of a run: every file of every task that the flags ask for, read, limited and encoded."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from base_bert import BertConfig
from datasets import Examples, data_folder, fingerprint, read, subset, told_of_broken
from minbert.files import UserError
from minbert.text.own_files import read_own
from minbert.text.stored_rows import StoredExamples, stored_copies, stored_text
from minbert.text.token_cache import TokenCache
from minbert.text.tokenization import SentencePairs, Sequences, Tokenizer
from minbert.text.unlabelled import read_copies, read_unlabelled, split_labels
from minbert.training.screen import bytes_with_bar, data_table


@dataclass
class Split:
    """One file of one task, read and encoded."""

    examples: Examples | StoredExamples
    sequences: Sequences | SentencePairs

    @property
    def sha(self):
        """16 hex digits of what was read."""
        return self.examples.sha if isinstance(self.examples, StoredExamples) else fingerprint(self.examples)


def read_data(options, tokenizer, training=True):
    """Read and encode every file the run needs: {task: {split: Split}}, and sentences on where and what they are.
    Without `training` the training sets are left out."""
    flags, fused = options.data, options.heads.pairs == "fused"
    data, reasons, notes = {}, {}, []
    cache = token_cache(flags.token_cache, tokenizer, options.model.max_length)
    for name, task in options.scored.items():
        data[name] = {}
        for split in task.files:
            path, why = _path_of(task, split, flags)
            if split == "train" and not (training and name in options.tasks):
                continue
            if split not in ("train", "dev") and why and not path.exists():
                continue  # some public sets come without a test set, or without MNLI's second dev set
            reasons[why] = None
            examples = (read_own if task.own else read)(task, path, split)
            repeated = {id for id, count in Counter(examples.ids).items() if count > 1}
            limits = {"train": flags.limit, "dev": flags.dev_limit, "dev_mismatched": flags.dev_limit}
            limit = limits.get(split, {}).get(name)
            if limit is not None:
                examples = subset(examples, limit)
            parts = {split: examples}
            if split == "train":
                parts, more = _parts_of_training(options, examples, repeated, cache)
                notes += more
            for part, examples in parts.items():
                if isinstance(examples, StoredExamples):
                    sequences = examples.sequences
                else:
                    sequences = tokenizer.encode(examples.texts, options.model.max_length, fused=fused)
                data[name][part] = Split(examples, sequences)
                notes.append(_describe(name, part, data[name][part]))
    return data, [why for why in reasons if why] + notes


def token_cache(folder, tokenizer, max_length):
    """The TokenCache of --token_cache, or None."""
    return folder and TokenCache(folder, tokenizer, max_length, bytes_with_bar)


def _parts_of_training(options, train, repeated, cache):
    """({split: Examples} of what the training set and the files of --unlabeled, --train_on_augmented and changed
    copies come to, notes). repeated: ids that come more than once in the whole file. cache: a TokenCache or None."""
    flags, unlabelled = options.data, options.unlabelled
    task, rest, notes = train.task, replace(train, labels=None), []
    name = task.name
    if flags.labels_per_class:
        train, rest = split_labels(train, flags.labels_per_class, options.schedule.seed)
    if name in flags.train_on_augmented:
        path = Path(flags.train_on_augmented[name])
        _, train, said = read_copies(task, path, train, repeated, "train_on_augmented", "labelled")
        notes.append(f"{name}, trained on the copies alone: {said}")
    parts = {"train": train}
    if cache and name in unlabelled.unlabeled:
        more, said = _stored_parts(cache, task, unlabelled, options.heads.pairs == "fused")
        return parts | more, notes + said
    if name in unlabelled.unlabeled:
        rest, skipped = read_unlabelled(task, Path(unlabelled.unlabeled[name]))
        if skipped:
            notes.append(f"{name} unlabelled: {len(skipped)} rows of {rest.path} left out, the first: {skipped[0]}")
    if name in unlabelled.copies:
        flag, path = unlabelled.copies[name]
        unsure = () if name in unlabelled.unlabeled else repeated
        rest, copies, said = read_copies(task, Path(path), rest, unsure, flag)
        notes.append(f"{name}: {said}")
        parts |= {"unlabelled": rest, "augmented": copies}
    elif unlabelled.reads_text and (name in unlabelled.unlabeled or flags.labels_per_class):
        parts["unlabelled"] = rest
    return parts, notes


def _stored_parts(cache, task, unlabelled, fused):
    """({split: StoredExamples} of a task's file of --unlabeled and of changed copies of it, notes)"""
    rest, notes = stored_text(cache, task, Path(unlabelled.unlabeled[task.name]), fused)
    if task.name not in unlabelled.copies:
        return {"unlabelled": rest}, notes
    flag, path = unlabelled.copies[task.name]
    rest, copies, said = stored_copies(cache, task, Path(path), rest, flag)
    return {"unlabelled": rest, "augmented": copies}, notes + said


def _path_of(task, split, flags):
    """(the file of one split, a sentence on why it is taken from there, or "" where a flag names the file)"""
    if task.own:
        return Path(task.files[split]), ""
    if explicit := flags.inputs.get(f"{task.file_name}_{split}"):
        return Path(explicit), ""
    folders = {
        "csv": (flags.data_dir, "cs224n", "sample"),
        "tsv": (flags.glue_dir, "glue", "sample/glue"),
        "jsonl": (flags.imdb_dir, "imdb", None),
    }
    folder, why = data_folder(*folders[task.format])
    return folder / task.files[split], why


def told(data, notes):
    """What read_data came to, for the screen: a table, and of its notes what the table does not say."""
    plain = {
        _counted(name, split, part): f"{name} {split}"
        for name, splits in data.items()
        for split, part in splits.items()
    }
    lines = []
    for note in notes:
        counted, _, more = note.partition("; ")
        if counted not in plain:
            lines.append(note)
        elif more:
            lines.append(f"{plain[counted]}: {more}")
    return "\n".join([*lines, data_table(data)])


def _counted(name, split, part):
    return f"{name} {split}: {len(part.examples):,} examples, {part.sequences.lengths.mean():.0f} tokens on average"


def _describe(name, split, part):
    skipped, cut = part.examples.skipped, part.sequences.truncated
    text = _counted(name, split, part)
    if skipped:
        text += f"; {len(skipped)} row{'s' * (len(skipped) > 1)} skipped (line {skipped[0][0]}: {skipped[0][1]})"
    text += told_of_broken(part.examples.broken)
    if cut:
        text += f"; {cut} cut to --max_length"
    return text


def fit_to_checkpoint(found, max_length, given, pairs, truncate="head"):
    """(the checkpoint's tokenizer, the longest sequence), once it is clear that they go together with the flags.

    max_length: --max_length; where it was not `given`, it gives way to the model's positions. pairs: whether some task
    reads pairs. Raises UserError.
    """
    config = BertConfig.from_file(found.folder / "config.json")
    positions = config.max_position_embeddings
    if not given:
        max_length = min(max_length, positions)
    if max_length > positions:
        raise UserError(f"--max_length {max_length}: {found.name} has positions for {positions} tokens")
    tokenizer = Tokenizer.from_folder(found.folder, config.vocab_size, truncate)
    if config.type_vocab_size < 2 and pairs:
        raise UserError(f"{found.name} has one token type, but pairs need two: choose other --tasks or --model")
    return tokenizer, max_length
