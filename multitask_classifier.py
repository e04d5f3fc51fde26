"""The multitask classifier: one BERT trunk, one head a task, and the script that trains and scores them.

    python multitask_classifier.py --option finetune --use_gpu

`MultitaskBERT` is the model. `train_one` carries out one run, from the command line's flags to a folder of results;
`train_scheme` and `train_grid` are made of several. The training loop is minbert/training/loop.py.
"""

from minbert.script import begin as begin_script
from minbert.script import carry_out

if __name__ == "__main__":

    def command_line():
        from minbert import launch
        from minbert.flags import checks

        parsed = checks.parse()
        launch.settle(parsed)
        if not (
            parsed.resume or parsed.evaluate or parsed.predict or parsed.export
        ):  # a saved run brings flags of its own
            checks.check(parsed)
        return parsed

    COMMAND = begin_script(command_line)  # before torch is imported, so that --help and mistakes are answered at once

from functools import partial
from pathlib import Path

import torch
from torch import nn

from bert import BertModel
from minbert import launch, processes
from minbert.files import UserError, write_json
from minbert.flags import checks
from minbert.flags.methods import PLAIN
from minbert.hub import Found
from minbert.layers.cls_alone import encode_cls
from minbert.layers.heads import make_head
from minbert.layers.packing import pack
from minbert.layers.precision import autocast
from minbert.layers.varlen import use_varlen
from minbert.locks import alone_in
from minbert.methods.shared_head import UNION, SharedHead, merging_of
from minbert.text.course import fused_pairs, without_pads
from minbert.text.own_files import with_labels
from minbert.text.tokenization import SentencePairs, Sequences, copy_tokenizer
from minbert.training import inference, results, run_folder
from minbert.training.answers import SavedModel
from minbert.training.checkpoint import drop_state, load_weights
from minbert.training.data import read_data, told
from minbert.training.export import export_heads
from minbert.training.grid import Grid, is_grid
from minbert.training.pseudo_labels import PlainModels, with_targets
from minbert.training.run_report import write_report
from minbert.training.saved import saved_scores
from minbert.training.screen import next_commands
from minbert.training.trainer import Trainer


class MultitaskBERT(nn.Module):
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
        self.shares_head = label_scheme is not None
        hidden_size = bert.config.hidden_size
        if label_scheme:
            heads = {UNION: SharedHead(hidden_size, label_scheme, merging_of(label_scheme, tasks), head_dropout)}
        else:
            heads = {name: make_head(task, hidden_size, head_dropout, pairs, **choices) for name, task in tasks.items()}
        self.heads = nn.ModuleDict(heads)

    @property
    def device(self):
        return self.bert.word_embedding.weight.device

    @property
    def autocast(self):
        """Trunk and heads run in bf16 where --precision says so; weights stay fp32."""
        return autocast(self.device, self.precision)

    def forward(self, sequences):
        """{task: Sequences or SentencePairs} -> {task: logits [B, C]}."""
        return self.classify(self.embed(sequences))

    def embed(self, sequences, all_tokens=True):
        """{task: Sequences or SentencePairs} -> {task: embeddings [B, P, H]}: one pass of the trunk over all of it.
        all_tokens: as `encode` has it."""
        tokens = self.pack(sequences)
        with self.autocast:
            embedded = self.bert.embed(tokens.ids, tokens.positions, tokens.types)
            return self.encode(embedded, tokens.packing, sequences, all_tokens)

    def pack(self, sequences):
        """All sequences of all tasks as packed tokens."""
        return pack(Sequences.concatenate([part for s in sequences.values() for part in s.parts]), self.device)

    def encode(self, embedded, packing, sequences, all_tokens=True):
        """Embedded tokens [N, H] -> {task: embeddings [B, P, H]}.

        all_tokens: the last layer computes all states, also where [CLS] alone is read. In fp32 training does so, to
        repeat older runs to the last bit; bf16, which is younger, never does."""
        if self.pooling == "mean":
            pooled = packing.mean(self.bert.encode(embedded, packing))  # [S, H]
        elif all_tokens and self.precision == "fp32":
            pooled = self.bert.pool(self.bert.encode(embedded, packing)[packing.first])  # [S, H]
        else:
            pooled = self.bert.pool(encode_cls(self.bert, embedded, packing))  # [S, H]
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
        """The head of a task; `rule` is how labels are decoded from one that is shared. UserError where it has none."""
        if task in self.heads:
            return self.heads[task]
        if task not in self.tasks:
            raise UserError(f"{task}: this model has no head for it; its tasks are {', '.join(self.tasks)}")
        return self.heads[UNION].view(self.tasks[task], rule)

    # What the course's scripts call, on padded ids and masks [B, T] of separately encoded sentences.

    def predict_sentiment(self, input_ids, attention_mask):
        """-> SST logits [B, 5]."""
        return self({"sst": without_pads(input_ids, attention_mask)})["sst"]

    def predict_paraphrase(self, input_ids_1, attention_mask_1, input_ids_2, attention_mask_2):
        """-> logits [B, 1]: a paraphrase where sigmoid(logit) > 0.5."""
        return self._pair_logits("quora", input_ids_1, attention_mask_1, input_ids_2, attention_mask_2)

    def predict_similarity(self, input_ids_1, attention_mask_1, input_ids_2, attention_mask_2):
        """-> predicted scores [B], whatever the head."""
        logits = self._pair_logits("sts", input_ids_1, attention_mask_1, input_ids_2, attention_mask_2)
        return self.heads["sts"].predict(logits)

    def _pair_logits(self, task, ids_1, mask_1, ids_2, mask_2):
        pairs = SentencePairs(without_pads(ids_1, mask_1), without_pads(ids_2, mask_2))
        return self({task: fused_pairs(pairs, self.bert.config.max_position_embeddings) if self.fused else pairs})[task]


def build_model(found, options):
    """The trunk of a checkpoint on the device that was asked for, with fresh heads, or those of --init's run."""
    flags, heads, scheme = options.model, options.heads, options.pseudo_labels.scheme
    varlen = flags.attention == "varlen"
    bert = BertModel.from_pretrained(found.folder, attention="fused" if varlen else flags.attention)
    bert = use_varlen(bert) if varlen else bert
    torch.manual_seed(options.schedule.seed)  # the heads' initial weights
    model = MultitaskBERT(
        bert,
        options.scored,
        flags.hidden_dropout_prob,
        heads.pairs,
        heads.pooling,
        flags.precision,
        scheme,
        sts_head=heads.sts_head,
        sts_cosine=heads.sts_cosine,
        sts_predict=heads.sts_predict,
        sst_head=heads.sst_head,
    )
    if flags.init:
        fresh = load_weights(model, Path(flags.init) / "model.safetensors", heads_may_differ=True)
        print(f"weights of {flags.init}" + (f"; fresh heads for {', '.join(fresh)}" if fresh else ""))
    return model.to(flags.runs_on)


# ------------------------------------------------------------------------------------------------------- training


def train(parsed):
    """What a command line asks to train: one run, or several of which it is made. Raises Stopped, with a word on how to
    go on."""
    options = with_labels(run_folder.flags_of(parsed))
    launch.check_one_run(options.optimisation.lr, options.pseudo_labels.label_scheme)
    processes.join(options.model.use_gpu)
    with run_folder.resumable(options):
        train_grid(options) if is_grid(options) else train_at_one_rate(options)
    print(next_commands(options.run.folder))


def train_grid(options):
    """A run at each of several learning rates, of which the best is kept."""
    with alone_in(options.run.folder):
        grid = Grid(options)
        for said, attempt in grid.missing():
            print(said)
            train_at_one_rate(attempt)
        print(grid.finish())


def train_at_one_rate(options):
    with alone_in(options.run.folder):
        {None: train_one, PLAIN: train_plain}.get(options.pseudo_labels.label_scheme, train_scheme)(options)


def train_one(options):
    """One run, from its first line to its last file."""
    start = run_folder.begin(options)
    if start.is_over:
        return complete(start)
    model = build_model(start.found, start.options)
    processes.here().meet()  # all have seen what is in the folder
    start.make_folder()
    train_to_the_end(start, model, start.data)


def train_scheme(options):
    """A run on pseudo-labels: the plain models that it learns from, then one head on all tasks' examples."""
    start = run_folder.begin(options)
    if start.is_over:
        return complete(start)
    plain = train_plain_models(start)
    data = with_targets(start.options, start.data, plain)
    train_to_the_end(start, build_model(start.found, start.options), data)


def train_plain(options):
    """The plain models of all tasks, as the run that label schemes are compared with."""
    start = run_folder.begin(options)
    scores = train_plain_models(start).finish(start.folder)
    report(start.folder, start.options.scored, start.data, scores)
    print(write_report(start.folder))


def train_plain_models(start):
    """`PlainModels` of a run, those trained that are not there yet."""
    flags = start.options.model
    plain = PlainModels(start.options, start.data, start.config["model"]["sha256"], partial(open_plain, flags))
    start.make_folder()
    for said, options in plain.missing():
        folder = options.run.folder
        with alone_in(folder, wait=f"waiting for another process that trains the {said}"):
            if not run_folder.is_finished(folder):
                print(said)
                train_one(options)
    return plain


def train_to_the_end(start, model, data):
    """The loop, then the results."""
    folder, options, first = start.folder, start.options, processes.here().first
    writer = run_folder.tensorboard_writer()(folder / "tensorboard") if options.run.tensorboard and first else None
    trainer = Trainer(model, data, options, folder, writer, start.earlier)
    trainer.resume(bool(start.extended))
    start.extend()
    print(f"run: {folder}\n{trainer.describe()}")
    trainer.fit()
    scores = trainer.finish()
    if not first:
        return
    model.bert.save_pretrained(folder / "bert")
    copy_tokenizer(start.found.folder, folder / "bert")
    reported = write_report(folder, scores)
    write_json(folder / "scores.json", scores)  # a folder with scores is a finished run
    drop_state(folder, options.run)
    report(folder, model.tasks, data, scores)
    print(reported)


def complete(start):
    """A finished run without its state: predictions that are missing are made again, and all else stays."""
    folder, options, data = start.folder, start.options, start.data
    print(f"{folder} is finished, and has no state.pt to go on from: what it came to stays as it is")
    files = results.PredictionFiles(folder, options.scored, options.model, options.run)
    splits = ("dev",) if options.run.skip_test else ("dev", "test", "test_mismatched")
    missing = [path for split in splits for path in files.missing(data, split)]
    if missing and (folder / "model.safetensors").is_file():
        model = build_model(start.found, options)
        load_weights(model, folder / "model.safetensors")
        for split in splits:
            files.write(data, split, results.predict_all(model, data, split))
        results.zip_submission(folder)
    for path in [*missing, folder / "metrics.jsonl"]:
        if not path.is_file():
            print(f"missing, and not to be made again without the weights and the state: {path}")
    report(folder, options.scored, data, saved_scores(folder))
    if (folder / "metrics.jsonl").is_file():
        print(write_report(folder))


def report(folder, tasks, data, scores):
    print(results.table(tasks, data, scores))
    print(f"results in {folder}")


# ------------------------------------------------------------------------------------------------------ saved runs


def evaluate(parsed):
    """Score a saved run on dev, and write its dev and test predictions."""
    folder = Path(parsed.evaluate)
    model, tokenizer, options = open_saved(folder, parsed)
    data, notes = read_data(options, tokenizer, training=False)
    print(told(data, notes))
    out = Path(options.run.run_dir) if "run_dir" in options.given else folder / "evaluation"
    if (out / run_folder.RUN).exists():
        raise UserError(f"--run_dir {out}: that is a run itself, whose scores would be lost; choose another folder")
    run_folder.refuse_links(folder)
    with alone_in(out):
        run_folder.refuse_links(out)
        files = results.PredictionFiles(out, model.tasks, options.model, options.run)
        dev = results.predict_all(model, data, "dev")
        files.write(data, "dev", dev)
        scores = results.write_results(files, model, data, dev)
        write_json(out / "scores.json", scores)
    report(out, model.tasks, data, scores)


def predict(parsed):
    """Print or write what a saved run says of sentences, or of pairs with a tab between them."""
    lines = inference.read_lines(parsed.input)
    if parsed.output is not None:
        inference.check_output(parsed.output, parsed.input)
    model, tokenizer, options = open_saved(Path(parsed.predict), parsed)
    at_once = 1 if inference.interactive(parsed.input) else inference.BATCH  # somebody typing waits for each answer
    answered = inference.answer_lines(model, tokenizer, lines, options.model.max_length, at_once)
    if said := inference.deliver(answered, model.tasks, parsed.format, parsed.output):
        print(said)


def export(parsed):
    """Write each head of a saved run as a Hugging Face folder, and say of those that cannot be one why."""
    run, out = map(Path, parsed.export)
    model, tokenizer, options = open_saved(run, parsed)
    for said in export_heads(run, out, model, tokenizer, options):
        print(said)


def load(folder, use_gpu=False):
    """The best model of a finished run, to ask it (answers.SavedModel). `from minbert import load` is this one.
    Raises UserError."""
    model, tokenizer, options = open_saved(Path(folder), _asked_of_saved(use_gpu))
    return SavedModel(model, tokenizer, options.model.max_length)


def open_saved(folder, parsed):
    """(the best model of a finished run, its tokenizer, its options with the flags given now)."""
    if not all((folder / name).is_file() for name in (run_folder.RUN, "model.safetensors", "bert/config.json")):
        raise UserError(f"{folder}: no finished run is there (config.json, model.safetensors and bert/)")
    saved = run_folder.saved_record(folder / run_folder.RUN)["flags"]
    options = checks.check(checks.of_saved_run(parsed, saved, folder))
    run_folder.check_device(options.model, "--use_gpu:")
    found = Found(folder / "bert", str(folder), "a saved run")
    tokenizer, max_length = run_folder.fit(options, found)
    options = options.changed(max_length=max_length)
    model = build_model(found, options)
    load_weights(model, folder / "model.safetensors")
    return model, tokenizer, options


def open_plain(flags, folder):
    """The model of a finished run, on the device of `flags` (flags.groups.Model)."""
    return open_saved(folder, _asked_of_saved(flags.use_gpu, flags.precision))[0]


def _asked_of_saved(use_gpu, precision=None):
    """What a command line that only says where a saved run is to run comes to."""
    parsed = checks.build_parser().parse_args([])
    parsed.use_gpu, parsed.precision, parsed.given = use_gpu, precision, []
    return parsed


if __name__ == "__main__":
    ASKED = {"evaluate": evaluate, "predict": predict, "export": export}  # of a saved run
    JOB = next((job for flag, job in ASKED.items() if getattr(COMMAND, flag)), train)
    raise SystemExit(carry_out(JOB, COMMAND))
