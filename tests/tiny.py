"""A tiny random BERT, tiny data in the course's form, and two ways to run them: the whole script, or a bare Trainer.

The script runs inside this process (`script`), exactly as `python multitask_classifier.py` would and a hundred times
faster, because torch is imported already. Kills, signals and imports need a process of their own (`start`).
"""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file

import multitask_classifier
from base_bert import BertConfig
from bert import BertForMaskedLM, BertModel
from datasets import TASKS
from minbert.flags import checks as command_line
from minbert.methods.schedules import Batches
from minbert.text.tokenization import copy_tokenizer
from minbert.training import run_folder
from minbert.training.data import read_data
from minbert.training.trainer import Trainer

ROOT = Path(multitask_classifier.__file__).parent
SCRIPT = str(ROOT / "multitask_classifier.py")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = """
the a this that one two film story actor scene music ending plot song voice light river stone garden window
good great warm funny lovely bad dull cold slow awful how what why where when does is was can will i you we they
make find learn cook travel write sing run dog cat horse bird child man woman fast far old new small big and but
"""
WORDS = TEXT.split()
PIECES = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list("abcdefghijklmnopqrstuvwxyz.,?!")
ROWS = {"sst": (20, 11, 5), "quora": (37, 13, 6), "sts": (13, 9, 4), "cfimdb": (18, 8, 4)}  # train, dev, test
GLUE_ROWS = {"rte": (14, 9, 4), "qqp": (21, 11, 5), "mnli": (25, 10, 6), "sst2": (18, 12, 7)}  # train, dev, test
PARSES = [f"sentence{i}{kind}" for kind in ("_binary_parse", "_parse") for i in (1, 2)]
GLUE_COLUMNS = {  # of the files with labels, and of the test files
    "rte": ("index sentence1 sentence2 label", "index sentence1 sentence2"),
    "qqp": ("id qid1 qid2 question1 question2 is_duplicate", "id question1 question2"),
    "mnli": (
        " ".join(["index promptID pairID genre", *PARSES, "sentence1 sentence2 label1 gold_label"]),
        " ".join(["index promptID pairID genre", *PARSES, "sentence1 sentence2"]),
    ),
    "sst2": ("sentence label", "index sentence"),
}


def make_checkpoint(folder, seed=0, hidden=16, layers=2, positions=512, **sizes):
    """A Hugging Face folder with a random BERT whose biases and LayerNorms are not trivial."""
    torch.manual_seed(seed)
    vocabulary = list(dict.fromkeys(SPECIAL + WORDS + PIECES))
    config = BertConfig(
        **{
            "vocab_size": len(vocabulary),
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "intermediate_size": 2 * hidden,
            "max_position_embeddings": positions,
            "initializer_range": 0.2,
            **sizes,
        }
    )
    model = BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return folder


def make_masked_lm(folder, checkpoint, seed=3):
    """A checkpoint with a random masked-LM head that prefers some words, on the trunk of another: `folder`."""
    torch.manual_seed(seed)
    model = BertForMaskedLM.from_pretrained(checkpoint)
    with torch.no_grad():
        model.decoder_bias.normal_(std=2.0)
    model.save_pretrained(folder)
    copy_tokenizer(checkpoint, folder)
    return folder


def make_data(folder, seed=0, rows=ROWS):
    """The course's files with sentences of 3 to 16 random words; the test files have no labels."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for name, counts in rows.items():
        task = TASKS[name]
        for split, count in zip(("train", "dev", "test"), counts, strict=True):
            columns = ["id", *task.text, *([] if split == "test" else [task.label])]
            lines = ["\t" + "\t".join(columns)]
            for row in range(count):
                cells = [f"{name}{split}{row:04d}"]
                cells += [" ".join(random.choice(WORDS, random.integers(3, 17))) for _ in task.text]
                if split != "test":
                    cells.append(_label(task, random))
                lines.append("\t".join([str(row), *cells]))
            (folder / task.files[split]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _label(task, random):
    if task.kind == "regression":
        return str(round(random.uniform(0, 5), 2))
    digits = sorted({spelling[0] for spelling in task.spellings})
    return str(float(random.choice(digits))) if task.name == "quora" else str(random.choice(digits))


def make_glue_data(folder, seed=0, rows=GLUE_ROWS):
    """GLUE's folders with the columns and labels of its files, and sentences of 3 to 16 random words; MNLI's second dev
    and test files have one row more than the first."""
    random = np.random.default_rng(seed)
    for name, counts in rows.items():
        task, sizes = TASKS[name], dict(zip(("train", "dev", "test"), counts, strict=True))
        labels = task.labels if name in ("rte", "mnli") else ("0", "1")
        for split, file in task.files.items():
            columns = GLUE_COLUMNS[name][split.startswith("test")].split()
            lines = ["\t".join(columns)]
            for row in range(sizes[split.split("_")[0]] + split.endswith("mismatched")):
                cells = dict.fromkeys(columns, "n/a") | {column: str(row) for column in ("index", "id")}
                cells |= {column: " ".join(random.choice(WORDS, random.integers(3, 17))) for column in task.text}
                cells[task.label] = random.choice(labels)
                lines.append("\t".join(cells[column] for column in columns))
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# ----------------------------------------------------------------------------------------------- the whole script


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def error(self):
        """The one line that a user's mistake is answered with; fails unless that is all there is."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.err
        return lines[0]


def script(*argv):
    """Run multitask_classifier.py with these arguments inside this process. Returns an Outcome."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", [SCRIPT, *map(str, argv)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(SCRIPT, run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
    return Outcome(code, out.getvalue(), err.getvalue())


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **more}


def start(*argv, script=None, **popen):
    """multitask_classifier.py, or another script, as a process of its own."""
    popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(), **popen}
    return subprocess.Popen([sys.executable, script or SCRIPT, *map(str, argv)], **popen)


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def metrics(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


TIMES = ("seconds", "train_seconds", "eval_seconds")


def results(folder):
    """Everything a run computed, times aside, as {name: bytes or tensors or values}."""
    folder = Path(folder)
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("predictions/*"))}
    found |= {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}  # the best, perhaps the last
    found["bert"] = load_file(folder / "bert" / "model.safetensors")
    found["metrics"] = [{k: v for k, v in line.items() if k not in TIMES} for line in metrics(folder)]
    found["scores"] = {k: v for k, v in read_json(folder / "scores.json").items() if k not in TIMES}
    return found


def assert_same_results(one, two):
    one, two = results(one), results(two)
    assert one.keys() == two.keys()
    for name in one:
        if isinstance(one[name], dict) and name != "scores":
            assert one[name].keys() == two[name].keys()
            different = [key for key in one[name] if not torch.equal(one[name][key], two[name][key])]
            assert not different, f"{name}: {different}"
        else:
            assert one[name] == two[name], name


# ------------------------------------------------------------------------------------------------- a bare Trainer


def options_of(*argv):
    """The checked flags in their groups (flags.parser.Options)."""
    return command_line.check(command_line.parse([str(word) for word in argv]))


def parse(*argv):
    """The checked flags side by side, as a namespace."""
    return options_of(*argv).namespace()


FINETUNE = ("--option", "finetune", "--lr", "1e-3", "--epochs", 2)


def runner(folder, checkpoint, data):
    """run(flags..., model=, data=) -> Outcome of a short fine-tuning run of the script in `folder`."""

    def run(*argv, model=checkpoint, data=data):
        return script("--model", model, "--data_dir", data, "--run_dir", folder, *FINETUNE, *argv)

    return run


def make_trainer(folder, checkpoint, data, *argv, trainer=Trainer):
    """What `main` sets up before it trains, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = options_of("--model", checkpoint, "--data_dir", data, "--run_dir", folder, *argv)
    found = run_folder.find_model(options.model)
    read, _ = read_data(options, run_folder.fit(options, found)[0])
    model = multitask_classifier.build_model(found, options)
    made = trainer(model, read, options, folder)
    made.options = options.namespace()  # for the tests alone
    return made


@dataclass
class Trace:
    """What happened at each step of a Trainer's run."""

    rows: list  # [{task: row numbers}]
    losses: list  # [{task: loss}]
    rates: list  # [learning rate]
    norms: list  # [norm of the gradient that the update used]
    trunk_passes: list  # [calls of the trunk with the whole model in training mode]

    @property
    def batches(self):
        """[{task: row numbers}] as plain lists, to compare."""
        return [{name: rows.tolist() for name, rows in step.items()} for step in self.rows]


def trace(trainer):
    """Fit, and write down each step: Trace. It hooks on to the trunk, the heads, the batches and the optimizer."""
    model, seen = trainer.model, Trace([], [], [], [], [])
    rows, losses, passes = {}, {}, []

    choose = Batches.__call__

    def watch_batches(batches, epoch, index):
        rows[batches.task] = choose(batches, epoch, index)
        return rows[batches.task]

    def watch_loss(name, loss):
        def computed(logits, labels):
            value = loss(logits, labels)
            losses[name] = value.item()
            return value

        return computed

    optimizer = trainer.loop.optimizer
    encode, step = model.bert.encode, optimizer.step

    def watch_trunk(embedded, packing):
        passes.append(all(module.training for module in model.modules()))
        return encode(embedded, packing)

    def watch_step(*args):
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        seen.rows.append(dict(rows))
        seen.losses.append(dict(losses))
        seen.rates.append({group["lr"] for group in optimizer.param_groups})
        seen.norms.append(float(torch.stack(gradients).norm()))
        seen.trunk_passes.append(sum(passes))
        rows.clear(), losses.clear(), passes.clear()
        return step(*args)

    for name, head in model.heads.items():
        head.loss = watch_loss(name, head.loss)
    with (
        mock.patch.object(Batches, "__call__", watch_batches),
        mock.patch.object(model.bert, "encode", watch_trunk),
        mock.patch.object(optimizer, "step", watch_step),
    ):
        trainer.fit()
    return seen
