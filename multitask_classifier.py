"""The multitask classifier: one BERT trunk, one head a task, and the script that trains and scores them.

    python multitask_classifier.py --option finetune --use_gpu

`MultitaskBERT` is the model; `train` goes from the command line to a folder of results. The loop is in training.py.
"""

import os
import sys

from minbert.files import UserError, complain
from minbert.flags import checks as command_line

if __name__ == "__main__":
    # Before torch is imported: --help and a mistyped flag answer at once, and OpenMP is told to spin only briefly.
    # Threads that spin while they wait make a step ten times as slow on a machine that does other work too.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        OPTIONS = command_line.parse()
        if not (OPTIONS.resume or OPTIONS.evaluate or OPTIONS.predict):  # a saved run brings flags of its own
            command_line.check(OPTIONS)
    except UserError as error:
        sys.exit(complain(error))

import argparse
import shutil
from pathlib import Path

import torch
from torch import nn

import labeling
from bert import BertModel
from minbert.files import write_json, write_text
from minbert.flags import checks as command_line
from minbert.hub import Found, resolve
from minbert.layers.heads import make_head
from minbert.layers.packing import pack
from minbert.memory import keep_freed_memory
from minbert.methods.shared_head import SharedHead
from minbert.text.course import CoursePredictions
from minbert.text.tokenization import Sequences, copy_tokenizer
from minbert.training import grid, inference, plan, pseudo_labels, results
from minbert.training.data import (
    changed_data,
    check_outputs,
    describe_model,
    describe_run,
    fit_to_checkpoint,
    load_weights,
    open_folder,
    read_data,
    saved_config,
    tasks_of,
)
from minbert.training.loop import Stopped, Trainer, carry_out


class MultitaskBERT(CoursePredictions, nn.Module):
    """A BERT trunk shared by the heads of all `tasks` {name: Task}.

    `pairs`, `pooling`, `precision` and `label_scheme` are the flags' values; more `choices` go to heads.make_head.
    Under a label scheme all tasks share one head, and what a task sees of it is a view.

    Shapes: B examples of a task, P sequences of an example (1, or 2 for a separately encoded pair), S sequences of all
    tasks together, N their tokens, H hidden size, C outputs of a head.
    """

    def __init__(
        self,
        bert,
        tasks,
        head_dropout=0.3,
        pairs="fused",
        pooling="cls",
        precision="fp32",
        label_scheme=None,
        **choices,
    ):
        super().__init__()
        self.bert = bert
        self.tasks = dict(tasks)
        self.fused = pairs == "fused"
        self.pooling, self.precision = pooling, precision
        hidden_size = bert.config.hidden_size
        if label_scheme:
            merging = pseudo_labels.merging_of(label_scheme, tasks)
            heads = {pseudo_labels.UNION: SharedHead(hidden_size, label_scheme, merging, head_dropout)}
        else:
            heads = {name: make_head(task, hidden_size, head_dropout, pairs, **choices) for name, task in tasks.items()}
        self.heads = nn.ModuleDict(heads)

    @property
    def device(self):
        return self.bert.word_embedding.weight.device

    @property
    def autocast(self):
        """Trunk and heads run in bf16 where --precision says so; weights stay fp32."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16")

    def forward(self, sequences):
        """{task: Sequences or SentencePairs} -> {task: logits [B, C]}."""
        return self.classify(self.embed(sequences))

    def embed(self, sequences):
        """{task: Sequences or SentencePairs} -> {task: embeddings [B, P, H]}: one pass of the trunk over all of it."""
        tokens = self.pack(sequences)
        with self.autocast:
            return self.pool(self.bert.encode_packed(tokens), tokens, sequences)

    def pack(self, sequences):
        """All sequences of all tasks as packed tokens."""
        return pack(Sequences.concatenate([part for s in sequences.values() for part in s.parts]), self.device)

    def pool(self, hidden, tokens, sequences):
        """The trunk's hidden states [N, H] -> {task: embeddings [B, P, H]}."""
        if self.pooling == "mean":
            pooled = tokens.packing.mean(hidden)  # [S, H]
        else:
            pooled = self.bert.pool(hidden[tokens.packing.first])  # [S, H]
        blocks = pooled.split([len(s) * len(s.parts) for s in sequences.values()])
        return {
            name: block.view(len(s.parts), len(s), -1).transpose(0, 1)  # [P, B, H] -> [B, P, H]
            for (name, s), block in zip(sequences.items(), blocks, strict=True)
        }

    def classify(self, embeddings):
        """{task: embeddings [B, P, H]} -> {task: logits [B, C]}."""
        with self.autocast:
            return {name: self.head_of(name)(vectors) for name, vectors in embeddings.items()}

    def head_of(self, task, rule="settled"):
        """The head of a task; `rule` is how labels are decoded from one that is shared."""
        return self.heads[task] if task in self.heads else self.heads[pseudo_labels.UNION].view(self.tasks[task], rule)


# ----------------------------------------------------------------------------------------------------- building


def find_model(options):
    """The checkpoint to begin with: that of --init's run, or of --model."""
    if not options.init:
        return resolve(options.model)
    folder = Path(options.init)
    if not (folder / "bert" / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise UserError(f"--init {folder}: no finished run is there (bert/ and model.safetensors)")
    return Found(folder / "bert", str(folder / "bert"), f"the best epoch of {folder}")


def build_model(found, options):
    """The trunk of a checkpoint on the device that was asked for, with fresh heads, or those of --init's run."""
    bert = BertModel.from_pretrained(found.folder, attention=options.attention)
    torch.manual_seed(options.seed)  # the heads' initial weights
    model = MultitaskBERT(
        bert,
        tasks_of(options),
        options.hidden_dropout_prob,
        options.pairs,
        options.pooling,
        options.precision,
        options.label_scheme,
        sts_head=options.sts_head,
        sts_cosine=options.sts_cosine,
        sts_predict=options.sts_predict,
        sst_head=options.sst_head,
    )
    if options.init:
        fresh = load_weights(model, Path(options.init) / "model.safetensors", heads_may_differ=True)
        print(f"weights of {options.init}" + (f"; fresh heads for {', '.join(fresh)}" if fresh else ""))
    return model.to("cuda" if options.use_gpu else "cpu")


# --------------------------------------------------------------------------------------------------- the three jobs


def run(options):
    """Train: one run, or one for each of several learning rates. Raises Stopped, with a word on how to go on."""
    try:
        if grid.is_grid(options) and options.label_scheme != "plain":  # its plain models are tried at each rate anyway
            grid.search(options, train, lambda options: describe_model(find_model(options)))
        else:
            train(options)
    except Stopped as stop:  # perhaps in one of the runs that this one is made of
        folder = Path(options.resume if isinstance(options.resume, str) else options.run_dir)
        where = "" if stop.folder == folder else f" of {os.path.relpath(stop.folder)}"
        raise Stopped(f"{stop}{where}; continue with --resume {os.path.relpath(folder)}", stop.folder) from None


def train(options):
    """A new run, or one to resume, from its first line to its last file."""
    folder, saved = open_folder(options)
    if saved:
        options = command_line.resumed(options, saved["flags"])
        options.model = saved["model"]["name"]
    command_line.check(options)
    _check_device(options, "the run to resume used --use_gpu, but" if saved else "--use_gpu:")
    writer_type = tensorboard_writer() if options.tensorboard else None
    check_outputs(options)

    # 1. the checkpoint and the data
    found = find_model(options)
    print(f"model: {found.name}, {found.source}")
    data, notes = read_data(options, fit_to_checkpoint(options, found))
    print("\n".join(notes))
    config = describe_run(options, found, data, notes)
    if saved and saved["model"]["sha256"] != config["model"]["sha256"]:
        raise UserError(f"{folder}: the weights of {found.name} are not what this run began with; start a new run")
    if saved and (changed := changed_data(saved["data"], config["data"])):
        raise UserError(f"{folder}: {changed} is not what this run began with; start a new run")

    teachers = _teachers(options)
    model = None if options.label_scheme == "plain" else build_model(found, options)

    # 2. the run's folder
    folder.mkdir(parents=True, exist_ok=True)
    if not saved:
        write_json(folder / "config.json", config)
    if options.label_scheme:
        sha = config["model"]["sha256"]
        plain = {task: pseudo_labels.plain_model(options, task, data[task], sha, train) for task in teachers}
        if options.label_scheme == "plain":
            _finish_plain(folder, options, data, plain)
            return
        data = _with_targets(options, data, plain)
        model = build_model(found, options)  # anew, as the plain models' training drew random numbers

    # 3. training, then the results
    trainer = Trainer(model, data, options, folder, writer_type and writer_type(folder / "tensorboard"))
    if (folder / "state.pt").is_file():
        trainer.load_state()
        print(f"resuming after {trainer.progress.epoch} epochs and {trainer.progress.step} steps")
    print(f"run: {folder}\n{plan.describe(trainer)}")
    trainer.fit()
    scores = trainer.finish()
    model.bert.save_pretrained(folder / "bert")
    copy_tokenizer(found.folder, folder / "bert")
    write_json(folder / "scores.json", scores)  # last: a folder with scores is a finished run
    print(results.table(model.tasks, data, scores))
    print(f"results in {folder}")


def _teachers(options):
    """The tasks whose plain models a run needs."""
    tasks, scheme = tasks_of(options), options.label_scheme
    if scheme in (None, "plain"):
        return tuple(tasks) if scheme else ()
    return labeling.teachers_needed(scheme, pseudo_labels.merging_of(scheme, tasks))


def _finish_plain(folder, options, data, plain):
    """The plain models' figures and predictions as the results of this run."""
    scores = pseudo_labels.plain_scores(options, plain)
    for source, _ in plain.values():
        caches = shutil.ignore_patterns("on-*")  # what it said of other tasks' training sets
        shutil.copytree(source / "predictions", folder / "predictions", ignore=caches, dirs_exist_ok=True)
    results.zip_submission(folder)
    write_text(folder / "metrics.jsonl", "")
    write_json(folder / "scores.json", scores)
    print(results.table(tasks_of(options), data, scores))
    print(f"results in {folder}")


def _with_targets(options, data, plain):
    """The data with all training sets as one, labelled by the scheme."""
    tasks = tasks_of(options)
    models = {}

    def load(folder):
        if folder not in models:
            device = argparse.Namespace(use_gpu=options.use_gpu, precision=options.precision, given=[])
            models[folder], _, _ = _open_saved(folder, device)
        return models[folder]

    def predict_with(teacher, task):
        train = data[task]["train"]
        folder, _ = plain[teacher]
        return pseudo_labels.predictions_of(folder, teacher, train.examples, train.sequences, load)

    union = {pseudo_labels.UNION: {"train": pseudo_labels.union(options, tasks, data, predict_with)}}
    rest = {name: {split: part for split, part in data[name].items() if split != "train"} for name in data}
    return union | rest


def evaluate(options):
    """Score a saved run on dev, and write its dev and test predictions."""
    folder = Path(options.evaluate)
    model, tokenizer, options = _open_saved(folder, options)
    data, notes = read_data(options, tokenizer, training=False)
    print("\n".join(notes))
    out = Path(options.run_dir) if "run_dir" in options.given else folder / "evaluation"
    if (out / "config.json").exists():
        raise UserError(f"--run_dir {out}: that is a run itself, whose scores would be lost; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    dev = results.predict_all(model, data, "dev")
    results.write_predictions(out, model.tasks, data, "dev", dev, options)
    scores = results.write_results(out, model, data, dev, options)
    write_json(out / "scores.json", scores)
    print(results.table(model.tasks, data, scores))
    print(f"results in {out}")


def predict(options):
    """Print what a saved run says of sentences, or of pairs with a tab between them."""
    lines = inference.read_lines(options.input)
    model, tokenizer, options = _open_saved(Path(options.predict), options)
    at_once = 1 if inference.interactive(options.input) else inference.BATCH  # somebody typing waits for each answer
    for text in inference.predict_texts(model, tokenizer, lines, options.max_length, model.fused, at_once):
        print(text, flush=True)


def _open_saved(folder, options):
    """(the best model of a finished run, its tokenizer, its flags)."""
    if not all((folder / name).is_file() for name in ("config.json", "model.safetensors", "bert/config.json")):
        raise UserError(f"{folder}: no finished run is there (config.json, model.safetensors and bert/)")
    options = command_line.check(command_line.of_saved_run(options, saved_config(folder / "config.json")["flags"]))
    _check_device(options, "--use_gpu:")
    found = Found(folder / "bert", str(folder), "a saved run")
    tokenizer = fit_to_checkpoint(options, found)
    model = build_model(found, options)
    load_weights(model, folder / "model.safetensors")
    return model, tokenizer, options


def _check_device(options, what):
    if options.use_gpu and not torch.cuda.is_available():
        raise UserError(f"{what} this machine has no CUDA device that torch can use")


def tensorboard_writer():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(carry_out(evaluate if OPTIONS.evaluate else predict if OPTIONS.predict else run, OPTIONS))
