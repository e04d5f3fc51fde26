# ruff: noqa: E402  (torch is imported after the command line is read, so that --help and mistakes are answered at once)
"""In-domain pretraining: a BERT goes on guessing hidden words, now in the text that it is to be used on.

    python pretraining.py --model minilm --run_dir runs/in-domain
    python multitask_classifier.py --option finetune --model runs/in-domain/bert

Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning", section 4.3; the task is that of Devlin et al.
2019, section 3.1, task 1, "masked LM". The text is the training sentences of the tasks, or files; dev text only where
it is named. 2 % of it is held out, and its perplexity is told before training and after every epoch.

A run's folder holds config.json, metrics.jsonl (a line an epoch, the first before training), state.pt (all that is
needed to go on), bert/ (the result: a checkpoint with its head and tokenizer) and, once it is finished, scores.json.

Settled here, where the source is silent, or would spoil the trunk that it begins with:
- The learning rate is 5e-5 (Kalicki: 1e-3), linear with a warm-up over a tenth of the updates.
- Each sentence, of pairs too, is a sequence of its own; one that comes twice (by its tokens) counts once, so that no
  held-out text is among those trained on. The result is the last epoch, where the learning rate has come down.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from minbert.files import UserError, complain
from minbert.flags import parser as flags
from minbert.flags import types

MAY_CHANGE = ("resume", "run_dir", "checkpoint_minutes")  # these do not decide what a run computes
# Flags that are those of multitask_classifier.py, word for word
SHARED = (*MAY_CHANGE, "model", "data_dir", "limit", "max_length", "seed", "use_gpu", "precision", "compile")
# Not flags: Devlin et al. 2019, appendix A.2, and the clipping of BERT's release; `pcgrad` is for Trainer
SETTLED = {"lr_schedule": "linear", "weight_decay": 0.01, "clip": 1.0, "pcgrad": False}


def build_parser():
    parser = flags.Parser(prog="pretraining.py", description="Masked-LM training on the text a BERT is to be used on.")
    for action in flags.build_parser()._actions:
        if action.dest in SHARED:
            parser._add_action(action)
    add, positive = parser.add_argument, types.positive
    forms = "the text: one a line, or .csv, .tsv with a header, .jsonl, .jsonl.gz (default: training sets of tasks)"
    add("--text", type=lambda text: text.split(","), metavar="FILE,...", help=forms)
    add("--tasks", type=types.names, metavar="T,...", help="whose training sentences (default: sst,quora,sts)")
    add("--epochs", type=positive(int), default=4, metavar="N", help="epochs (default: %(default)s)")
    add("--batch_size", type=positive(int), default=32, metavar="N", help="sentences a batch (default: %(default)s)")
    add("--lr", type=positive(float), default=5e-5, metavar="X", help="highest learning rate (default: %(default)s)")
    warmup = "share of the updates in which the rate rises; then it falls to 0 (default: %(default)s)"
    add("--warmup", type=types.share, default=0.1, metavar="SHARE", help=warmup)
    return parser


def parse(argv=None):
    """The command line, and `given`: the names that were on it. A run to be resumed brings the rest (`resumed`)."""
    options, silent = build_parser().parse_args(argv), build_parser()
    for action in silent._actions:
        action.default = argparse.SUPPRESS
    options.given = sorted(vars(silent.parse_args(argv)))
    if options.resume is True and options.run_dir is None:
        raise UserError("--resume: which run? Give its folder, as --resume DIR or with --run_dir DIR")
    return options if options.resume else check(options)


def check(options):
    """Fill in what depends on other flags, and refuse combinations that make no sense. Raises UserError."""
    if options.text and (useless := [name for name in ("data_dir", "tasks", "limit") if name in options.given]):
        raise UserError(f"--{useless[0]} is of no use with --text: the files named are all the text there is")
    if options.tasks is None:
        options.tasks = [] if options.text else ["sst", "quora", "sts"]
    if unknown := [name for name in options.limit if name not in options.tasks]:
        raise UserError(f"--limit names {unknown[0]}: no use with --tasks {','.join(options.tasks)}")
    options.precision = options.precision or ("bf16" if options.use_gpu else "fp32")
    if options.precision == "bf16" and not options.use_gpu:
        raise UserError("--precision bf16 needs --use_gpu: on most CPUs bf16 is many times slower than fp32")
    options.run_dir = options.run_dir or str(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    return argparse.Namespace(**{**vars(options), **SETTLED})


def resumed(options, saved):
    """The flags of the run being continued; a flag given now must agree with them. Raises UserError."""
    if "text" not in saved:
        raise UserError("--resume: that is no run of pretraining.py; continue it with multitask_classifier.py")
    for name in set(options.given) - set(MAY_CHANGE):
        if (now := getattr(options, name)) != saved[name]:
            raise UserError(f"--{name} {now}: the run to resume has {saved[name]}; leave the flag out")
    return argparse.Namespace(**{**saved, **{name: getattr(options, name) for name in (*MAY_CHANGE, "given")}})


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is imported; see multitask_classifier.py
    try:
        OPTIONS = parse()
    except UserError as error:
        sys.exit(complain(error))

import json
import math
from itertools import chain, pairwise

import numpy as np
import torch
from tqdm import tqdm

from bert import BertForMaskedLM
from datasets import SUBSET_SEED, TASKS, Examples, data_folder, read, subset
from minbert.files import write_json, write_text
from minbert.hub import resolve
from minbert.masked_lm.masking import exam_of, masked_batch, perplexity
from minbert.memory import keep_freed_memory
from minbert.methods.objective import Loss
from minbert.methods.schedules import Batches
from minbert.text.rows import read_rows
from minbert.text.tokenization import copy_tokenizer
from minbert.training.data import Split, changed_data, describe_run, fit_to_checkpoint, open_folder
from minbert.training.inference import read_lines
from minbert.training.loop import Progress, Stopped, Trainer, carry_out
from minbert.training.loss_record import LossRecord
from optimizer import AdamW, parameter_groups

HELD_OUT = 0.02  # share of the texts; which ones is drawn by SUBSET_SEED, whatever the run's own seed
TEXT = "text"  # what the one "task" is called


def read_text(options):
    """({task or file: {"train": Split of its Examples}}, notes): what the flags name, and nothing else."""
    if options.text:
        found, notes = {name: _read_file(Path(name)) for name in options.text}, []
    else:
        folder, why = data_folder(options.data_dir)
        found, notes = {name: _read_task(name, folder, options.limit.get(name)) for name in options.tasks}, [why]
    for name, examples in found.items():
        skipped = f"; {len(examples.skipped)} skipped" if examples.skipped else ""
        notes.append(f"{name}: {len(examples):,} rows of {examples.path}{skipped}")
    return {name: {"train": Split(examples, None)} for name, examples in found.items()}, notes


def _read_task(name, folder, limit):
    task = TASKS.get(name)
    if task is None or task.format != "csv":
        raise UserError(f"--tasks {name}: no task with files in --data_dir; name a file of text with --text")
    examples = read(task, folder / task.files["train"], "train")
    return subset(examples, limit) if limit else examples


def _read_file(path):
    if path.name.endswith((".csv", ".tsv", ".jsonl", ".jsonl.gz")):
        texts, skipped = read_rows(path)
    else:
        texts, skipped = {str(i): (line,) for i, line in enumerate(read_lines(path), start=1) if line.strip()}, []
    if not texts:
        raise UserError(f"{path}: no text in it; expected one text a line")
    return Examples(None, "train", path, [*texts], [*texts.values()], None, skipped)


def encode(data, tokenizer, max_length):
    """Every sentence of `data` once, as Sequences [CLS] a [SEP], cut to `max_length`. A sentence that equals an earlier
    one to the tokenizer, or has no token to predict, is left out."""
    texts = (chain.from_iterable(splits["train"].examples.texts) for splits in data.values())
    sequences = tokenizer.encode([(text,) for text in dict.fromkeys(chain.from_iterable(texts))], max_length)
    rows = {}  # the token ids of a sentence -> its row
    for row, (start, stop) in enumerate(pairwise(sequences.offsets)):
        if stop - start > 2:
            rows.setdefault(sequences.ids[start:stop].tobytes(), row)
    if len(rows) < 2:
        raise UserError(f"{', '.join(data)}: fewer than two different texts, but one is to be held out")
    return sequences.take([*rows.values()])


def hold_out(sequences):
    """(sequences to train on, held-out ones): the same in every run on the same text."""
    order = np.random.RandomState(SUBSET_SEED).permutation(len(sequences))
    held_out = max(1, round(HELD_OUT * len(sequences)))
    return sequences.take(np.sort(order[held_out:])), sequences.take(np.sort(order[:held_out]))


class Pretraining(Trainer):
    """A run whose updates, checkpoints and stopping are Trainer's, and whose loss is the masked LM's: `model`
    (BertForMaskedLM) learns from `sequences`, less what is held out; the files are kept in `folder`."""

    def __init__(self, model, tokenizer, sequences, options, folder):
        self.model, self.tokenizer, self.options, self.folder = model, tokenizer, options, folder
        self.device = model.decoder_bias.device
        self.text, held_out = hold_out(sequences)
        self.exam = exam_of(held_out, tokenizer, self.device)
        if not any(len(labels) for _, _, labels in self.exam):
            raise UserError(
                f"the held-out text ({len(held_out)} of all) is too short to hide a token in: give more text"
            )
        self.batches = {TEXT: Batches(TEXT, len(self.text), options.batch_size, options.seed)}
        self.unlabelled, self.teacher, self.objective = {}, None, self._masked_lm
        self.updates = len(self.steps_of(0)) * options.epochs
        groups = parameter_groups(model, options.weight_decay, decay_everything=False)
        self.optimizer = AdamW(groups, lr=options.lr, compiled=options.compile)
        self.progress, self.record, self.stop_requested = Progress(), LossRecord(self.device), False

    def steps_of(self, epoch):
        """As Trainer's: lists of (name, index of its batch), here one batch each."""
        return [[(TEXT, index)] for index in range(self.batches[TEXT].count)]

    def _losses(self, tokens, chosen, labels):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.options.precision == "bf16"):
            return self.model.losses(tokens, chosen, labels)

    def _masked_lm(self, batches, _):
        """The Loss of a step: the mean over the chosen tokens, of which a short batch may by chance have none."""
        (batch,) = batches
        random = np.random.default_rng([self.options.seed, self.progress.update])  # a resumed run needs no memory of it
        masked = masked_batch(self.text, batch.rows, self.tokenizer, random, self.device)
        losses = self._losses(*masked)
        return Loss({TEXT: losses.sum() / max(len(losses), 1)}, {}, len(masked[0].ids))

    def perplexity(self):
        """That of the held-out text."""
        self.model.eval()
        return perplexity(self._losses, self.exam)

    def fit(self):
        """Train to the end, from wherever `progress` stands. Raises Stopped after SIGINT or SIGTERM."""
        with self._stop_on_signals():
            if not self.progress.history:
                self._finish_epoch()  # number 0, before training
            super().fit()

    def _train_epoch(self):
        """As Trainer's, with the perplexity on the bar."""
        progress, steps, last_saved = self.progress, self.steps_of(self.progress.epoch), time.monotonic()
        began = last_saved - progress.train_seconds
        name = f"epoch {progress.epoch + 1}/{self.options.epochs}"
        known = f"held-out perplexity {progress.history[-1]['perplexity']:.2f}"
        self.model.train()
        with tqdm(steps[progress.step :], name, len(steps), initial=progress.step, dynamic_ncols=True) as bar:
            for step in bar:
                self._train_step(step)
                progress.train_seconds = time.monotonic() - began
                bar.set_postfix_str(f"loss {self.record.last:.3f}, {known}", refresh=False)
                if self.stop_requested:
                    self._stop()
                if time.monotonic() - last_saved > 60 * self.options.checkpoint_minutes:
                    self.save_state()
                    last_saved = time.monotonic()

    def _finish_epoch(self):
        progress, started, trained = self.progress, time.monotonic(), bool(self.progress.history)
        self._look()
        self._check_weights()
        perplexity = self.perplexity()
        if not math.isfinite(perplexity):
            self._diverged(f"the held-out perplexity is {perplexity}")
        progress.epoch, progress.step = progress.epoch + trained, 0
        progress.eval_seconds += time.monotonic() - started
        line = {"epoch": progress.epoch, "update": progress.update}
        line |= {"loss": self.record.means([TEXT])[0].get(TEXT), "perplexity": perplexity, "tokens": progress.tokens}
        progress.history.append({**line, "seconds": round(progress.train_seconds + progress.eval_seconds, 2)})
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in progress.history))
        self.save_state()
        said = f"loss {line['loss']:.3f}, " if trained else ""
        tqdm.write(f"epoch {progress.epoch}: {said}held-out perplexity {perplexity:.2f}")
        if self.stop_requested and progress.epoch < self.options.epochs:
            self._stop()

    def finish(self, found):
        """Write the result: the checkpoint folder, and last the scores, which say that the run is finished."""
        progress, result = self.progress, self.folder / "bert"
        self.model.save_pretrained(result)
        copy_tokenizer(found.folder, result)
        perplexities = [line["perplexity"] for line in progress.history]
        scores = {"perplexity_before": perplexities[0], "perplexity": perplexities[-1], "texts": len(self.text)}
        scores |= {"epochs": progress.epoch, "updates": progress.update, "tokens": progress.tokens}
        scores |= {name: round(getattr(progress, name), 2) for name in ("train_seconds", "eval_seconds")}
        write_json(self.folder / "scores.json", scores)
        print(f"held-out perplexity {perplexities[0]:.2f} before, {perplexities[-1]:.2f} after; --model {result}")


def pretrain(options):
    """A new run, or one to resume, from its first line to its last file."""
    folder, saved = open_folder(options)
    options = check(resumed(options, saved["flags"]) if saved else options)
    if saved:
        options.model = saved["model"]["name"]
    if options.use_gpu and not torch.cuda.is_available():
        raise UserError("--use_gpu: this machine has no CUDA device that torch can use")
    # 1. the checkpoint and the text
    found = resolve(options.model)
    print(f"model: {found.name}, {found.source}")
    tokenizer = fit_to_checkpoint(options, found)
    data, notes = read_text(options)
    print("\n".join(notes))
    config = describe_run(options, found, data, notes)
    if saved:
        other = found.weights if saved["model"]["sha256"] != config["model"]["sha256"] else None
        if other := other or changed_data(saved["data"], config["data"]):
            raise UserError(f"{folder}: {other} is not what this run began with; start a new run")
    # 2. the model, the head of which may be new
    torch.manual_seed(options.seed)
    model = BertForMaskedLM.from_pretrained(found.folder).to("cuda" if options.use_gpu else "cpu")
    run = Pretraining(model, tokenizer, encode(data, tokenizer, options.max_length), options, folder)
    # 3. the run
    folder.mkdir(parents=True, exist_ok=True)
    if not saved:
        write_json(folder / "config.json", config)
    if (folder / "state.pt").is_file():
        run.load_state()
        print(f"resuming after {run.progress.epoch} epochs and {run.progress.step} steps")
    head = "a new head" if model.head_is_new else "the checkpoint's own head"
    print(f"run: {folder}\nplan: {len(run.text):,} different texts, {head}, {run.updates:,} updates")
    try:
        run.fit()
    except Stopped as stop:
        raise Stopped(f"{stop}; continue with --resume {os.path.relpath(folder)}", folder) from None
    run.finish(found)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(carry_out(pretrain, OPTIONS))
