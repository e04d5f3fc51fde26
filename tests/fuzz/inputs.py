"""What the program reads that somebody else may have written: for each, a good one, and who reads it.

`all_of(folder)` makes the good ones in a folder, once, and returns the `Input`s. A reader gets a copy of its folder in
which one file is spoiled; it is the project's own code, called as the commands call it, in this process. It may answer
or raise a UserError.
"""

import contextlib
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import tiny
import tokenizers
import torch
from fuzz import answers
from safetensors.numpy import save

import datasets
import multitask_classifier
from base_bert import BertConfig
from bert import BertForMaskedLM, BertModel
from minbert import hub
from minbert.augment import copies, prompting
from minbert.files import UserError
from minbert.flags import checks
from minbert.tables import places, report, store
from minbert.tables.catalogue import find_table
from minbert.text.rows import Rows, read_augmented, read_rows
from minbert.text.tokenization import Tokenizer
from minbert.training import inference, pseudo_labels, run_folder, saved
from minbert.training.checkpoint import load_state, load_weights, save_state

TEXTS = {f"r{i}": (f"the film was good {word}",) for i, word in enumerate(("warm", "dull", "slow", "funny"))}
LINES = "the film was good\n\nhow can we learn\twhy can we learn\nthe dog\nthe cat \t the old cat\nbad\n"


class Input(NamedTuple):
    """One kind of file. `folder` holds a good one, `file` is its path there and `form` one of mutate.FORMS; `read` gets
    the path of a spoiled copy, which lies in a copy of the folder."""

    name: str
    folder: Path
    file: str
    form: str
    read: Callable


def all_of(folder):
    """Every Input, the good files made below `folder`."""
    made = [*_data(folder), *_text(folder), *_checkpoints(folder), *_runs(folder), *_results(folder), *_copies(folder)]
    made += [_plain_predictions(folder), *(Input(*one) for one in answers.files(folder / "answers"))]
    return {one.name: one for one in made}


# ----------------------------------------------------------------------------------------------------------- data


def _data(folder):
    course, glue = tiny.make_data(folder / "course"), tiny.make_glue_data(folder / "glue")
    imdb = folder / "imdb"
    imdb.mkdir()
    lines = "".join(json.dumps({"id": i, "text": f"a <br />good film {i}", "label": i % 2}) + "\n" for i in range(9))
    (imdb / "dev.jsonl").write_text(lines, encoding="utf-8")
    with gzip.GzipFile(imdb / "dev.jsonl.gz", "wb", mtime=0) as f:
        f.write(lines.encode())
    for name in ("sst", "sts", "quora"):
        yield _table(f"{name}.csv", course, name, "train", datasets.TASKS[name].files["train"], "text")
    yield _table("sts-test.csv", course, "sts", "test", datasets.TASKS["sts"].files["test"], "text")
    for name in ("rte", "mnli"):
        yield _table(f"{name}.tsv", glue, name, "dev", datasets.TASKS[name].files["dev"], "text")
    yield _table("imdb.jsonl", imdb, "imdb", "dev", "dev.jsonl", "jsonl")
    yield _table("imdb.jsonl.gz", imdb, "imdb", "dev", "dev.jsonl.gz", "jsonl.gz")


def _table(name, folder, task, split, file, form):
    """The Input of a task's file. Its rows are fingerprinted too, as every run does."""
    alone = folder.parent / f"{name}-alone"
    (alone / file).parent.mkdir(parents=True)
    shutil.copyfile(folder / file, alone / file)

    def read(path):
        examples = datasets.read(datasets.TASKS[task], path, split)
        datasets.fingerprint(examples)
        _check_examples(examples)
        content = path.read_bytes()
        if form == "text" and not {*b'"\r'} & {*content}:  # then a line is a row, and each must be accounted for
            rows = sum(bool(line) for line in content.split(b"\n")) - 1
            assert len(examples) + len(examples.skipped) == rows, (len(examples), examples.skipped, rows)

    return Input(name, alone, file, form, read)


def _check_examples(examples):
    """What every reader of a task's file promises."""
    assert examples.ids
    assert len(examples.ids) == len(examples.texts)
    assert not any(mark in id for id in examples.ids for mark in "\n\r\t")
    assert all(text.strip() for texts in examples.texts for text in texts)
    json.dumps([examples.ids, examples.texts], ensure_ascii=False).encode()
    if examples.labels is not None:
        assert len(examples.labels) == len(examples.ids)
        assert np.isfinite(examples.labels).all()


def _text(folder):
    """Files of text by id, and of lines."""
    home = folder / "rows"
    home.mkdir()
    pairs = "".join(f"a{i}\tthe dog {i}\tthe cat {i}\n" for i in range(6))
    changed = "".join(f"{id}\t{text}\teda\n" for id, (text,) in TEXTS.items())
    files = {
        "rows.tsv": ("id\tsentence1\tsentence2\n" + pairs, "text", read_rows),
        "rows.csv": ('id\tsentence\na1\t"the ""old"" dog"\na2\tthe cat\n', "text", read_rows),
        "rows.jsonl": ("".join(f'{{"id": "a{i}", "text": "the dog {i}"}}\n' for i in range(6)), "jsonl", read_rows),
        "augmented.tsv": (
            "id\tsentence\tmethod\n" + changed,
            "text",
            read_augmented,
        ),
        "prompts.txt": (prompting.PROMPTS["random_mask"].read_text(encoding="utf-8"), "text", _read_prompts),
    }
    for name, (content, form, read) in files.items():
        (home / name).write_text(content, encoding="utf-8")
        yield Input(name, home, name, form, read)


def _read_prompts(path):
    for prompt in prompting.read_prompts(path, "random_mask"):
        prompting.fill(prompt, text="{text}", masked="a", words="1", answer="b")


# ---------------------------------------------------------------------------------------------------- checkpoints


def _checkpoints(folder):
    good = tiny.make_checkpoint(folder / "safetensors")
    pickled = shutil.copytree(good, folder / "bin")
    model = BertModel.from_pretrained(good)
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    whole = shutil.copytree(good, folder / "tokenizer")
    rust = tokenizers.BertWordPieceTokenizer(str(good / "vocab.txt"), lowercase=True)
    (whole / "tokenizer.json").write_text(rust.to_str(), encoding="utf-8")
    yield Input("vocab.txt", good, "vocab.txt", "text", _read_tokenizer)
    yield Input("tokenizer.json", whole, "tokenizer.json", "json", _read_tokenizer)
    yield Input("bert config.json", good, "config.json", "json", _read_config)
    yield Input("model.safetensors", good, "model.safetensors", "safetensors", _read_checkpoint)
    yield Input("pytorch_model.bin", pickled, "pytorch_model.bin", "zip", _read_checkpoint)


def _read_tokenizer(path):
    tokenizer = Tokenizer.from_folder(path.parent, most=1000)
    tokenizer.encode([("the film was good \U0001f600",), ("",)], 16)
    tokenizer.encode([("the dog", "a cat")], 8, fused=False)


def _read_config(path):
    BertConfig.from_file(path)
    _read_checkpoint(path)


def _read_checkpoint(path):
    BertModel.from_pretrained(path.parent)
    BertForMaskedLM.from_pretrained(path.parent)


# ----------------------------------------------------------------------------------------------------------- runs


def _runs(folder):
    """A finished run's folder, and what reads it: --predict, --resume, and the tables."""
    model, data = folder / "safetensors", folder / "course"
    run = folder / "run"
    with mock.patch("minbert.training.analysis.draw"):  # a picture takes a second
        done = tiny.script(
            *("--model", model, "--data_dir", data, "--run_dir", run, *tiny.FINETUNE),
            *("--epochs", 1, "--limit", "quora=4", "--skip_test"),
        )
    assert done.code == 0, done.err
    record = tiny.read_json(run / saved.RUN)
    grid = {"flags": {**record["flags"], "lr": [1e-3, 2e-3]}, "model": record["model"], "attempts": {"0.001": {}}}
    (run / saved.GRID).write_text(json.dumps(grid), encoding="utf-8")
    (run / "lines.txt").write_text(LINES, encoding="utf-8")
    opened, tokenizer, options = multitask_classifier.open_saved(run, checks.parse(["--predict", str(run)]))

    def read_lines(path):
        lines = inference.read_lines(path)
        for line in inference.answer_lines(opened, tokenizer, lines, options.model.max_length):
            for _, told in inference.FORMS.values():
                told(line, opened.tasks).encode()
            assert not {*"\n\r"} & {*inference.as_tsv(line, opened.tasks)}

    pretrained = {"perplexity_before": 9.5, "perplexity": 3.25, "epochs": 1, "texts": 12}
    (folder / "pretrained" / "bert").mkdir(parents=True)
    (folder / "pretrained" / "scores.json").write_text(json.dumps(pretrained), encoding="utf-8")
    yield Input("pretraining scores", folder / "pretrained", "scores.json", "json", _read_pretraining)
    yield Input("run config.json", run, saved.RUN, "json", _read_run)
    yield Input("grid.json", run, saved.GRID, "json", _read_grid)
    yield Input("scores.json", run, "scores.json", "json", lambda path: saved.saved_scores(path.parent))
    yield Input("metrics.jsonl", run, "metrics.jsonl", "jsonl", lambda path: saved.saved_history(path.parent))
    yield Input("run weights", run, "model.safetensors", "safetensors", lambda path: load_weights(opened, path))
    yield Input("lines.txt", run, "lines.txt", "text", read_lines)
    yield _state(folder, model, data)


def _read_pretraining(path):
    found = hub.pretraining_scores(path.parent / "bert")
    if found is None:
        raise UserError("no such scores")
    assert np.isfinite([*found.values()]).all()


def _read_run(path):
    multitask_classifier.open_saved(path.parent, checks.parse(["--predict", str(path.parent)]))
    (path.parent / saved.GRID).unlink()
    _resume(path.parent)


def _read_grid(path):
    saved.saved_record(path)
    _resume(path.parent)


def _resume(folder):
    """As far as --resume goes before it reads the data."""
    options = run_folder.flags_of(checks.parse(["--resume", str(folder)]))
    run_folder.check_outputs(options, folder)
    run_folder.fit(options, run_folder.find_model(options.model))


def _state(folder, model, data):
    """A state in the midst of the first of two epochs; who reads it trains to the end."""
    home = folder / "state"
    flags = ("--option", "finetune", "--tasks", "sst", "--epochs", 2, "--limit", "sst=8", "--dev_limit", "sst=4")
    flags += ("--batch_size", 4, "--mean_teacher", "kl")
    trainer = tiny.make_trainer(home, model, data, *flags)
    trainer.loop.step(trainer.loop.plan.steps_of(0)[0])
    save_state(trainer.loop, home / "state.pt")

    def read(path):
        again = tiny.make_trainer(path.parent / "run", model, data, *flags)
        load_state(again.loop, path)
        with contextlib.redirect_stderr(io.StringIO()):
            again.loop.run()
        assert again.loop.progress.epoch == 2
        assert all(np.isfinite(line["selection_score"]) for line in again.loop.progress.history)

    return Input("state.pt", home, "state.pt", "saved", read)


# -------------------------------------------------------------------------------------- results, and copies of texts


def _results(folder):
    """Lines of a table of experiments: the project's own, as many as a case should read."""
    source = max(places.RESULTS.glob("*.jsonl"), key=lambda path: path.stat().st_size)
    home = folder / "results"
    home.mkdir()
    lines = source.read_text(encoding="utf-8").splitlines()[:3]
    (home / source.name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    table = find_table(source.stem)

    def read(path):
        nowhere = path.parent / "nowhere"
        with (
            mock.patch.object(places, "RESULTS", path.parent),
            mock.patch.object(places, "user_results", return_value=nowhere),
        ):
            store.load_all()
            report.markdown(table, report.collect(table))

    yield Input("results", home, source.name, "jsonl", read)


def _copies(folder):
    """What augmentation.py keeps of a command that was stopped: its partial file, and its journal of paid answers."""
    home = folder / "copies"
    home.mkdir()
    with mock.patch.object(copies.os, "replace"):  # the last thing it does, which leaves the partial file
        copies.augment(Rows(TEXTS, []), home / "out.tsv", "eda")
    (partial,) = home.glob("*.partial")
    yield Input("partial copies", home, partial.name, "text", _continue_copies)
    journal = "".join(json.dumps([id, 0, 0, f"{text} indeed", "stop"]) + "\n" for id, (text,) in TEXTS.items())
    (home / "journal").write_text(journal, encoding="utf-8")
    yield Input("journal", home, "journal", "jsonl", _read_journal)


def _continue_copies(path):
    copies.augment(Rows(TEXTS, []), path.parent / "out.tsv", "eda")
    assert list(read_augmented(path.parent / "out.tsv").texts) == list(TEXTS)


def _plain_predictions(folder):
    """What a plain model said of another task's texts, kept for all label schemes."""
    home = folder / "plain"
    home.mkdir()
    good = np.tile(np.float32([0.25, 0.75]), (6, 1))
    of = {"of": "model 0, data 0"}
    (home / "on-rte.safetensors").write_bytes(save({"probabilities": good}, metadata=of))

    def read(path):
        found = pseudo_labels.read_predictions(path, of, good.shape)
        if found is None:
            raise UserError("made again")
        assert found.shape == good.shape
        assert np.abs(found.sum(1) - 1).max() < 0.01
        assert (found >= 0).all()

    return Input("plain predictions", home, "on-rte.safetensors", "safetensors", read)


def _read_journal(path):
    with prompting.Journal.opened(path, TEXTS) as journal:
        for answer in journal.answers.values():
            try:
                prompting.taken(answer, "Say it again: {text}", "the film was good")
            except prompting.LeftOut:
                continue
