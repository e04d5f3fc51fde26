"""In-domain pretraining: a BERT goes on guessing hidden words, now in the text that it is to be used on.

    python pretraining.py --model minilm --run_dir runs/in-domain
    python multitask_classifier.py --option finetune --model runs/in-domain/bert

Kalicki, "Multiple Strategies to Improve minBERT Multitask Learning", section 4.3; the task is that of Devlin et al.
2019, section 3.1, task 1, "masked LM". The text is the training sentences of the tasks, or files; dev text only where
it is named. 2 % of it is held out, and its perplexity is told before training and after every epoch.

A run's folder holds config.json, metrics.jsonl (a line an epoch, the first before training), state.pt (all that is
needed to go on, until it is finished), bert/ (the result: a checkpoint with its head and tokenizer) and, at its end,
scores.json.
The work is done in minbert/masked_lm/trainer.py.
"""

from minbert.script import begin, carry_out

if __name__ == "__main__":
    begin()

from argparse import Namespace
from dataclasses import dataclass

from minbert import launch
from minbert.files import UserError
from minbert.flags import checks, types
from minbert.flags.fields import Parser, add_group, flag
from minbert.flags.groups import COURSE_NAMES, Data, Model, Optimisation, Run, Schedule
from minbert.flags.parser import DEFAULTS, Options
from minbert.locks import alone_in

MAY_CHANGE = ("resume", "run_dir", "checkpoint_minutes", "keep_state", "log_every")  # these do not decide the result
SHARED = {  # flags that are those of multitask_classifier.py, word for word, by their group
    Model: ("model", "max_length", "use_gpu", "device", "precision"),
    Schedule: ("seed",),
    Optimisation: ("compile",),
    Data: ("data_dir", "limit", "token_cache"),
    Run: (*MAY_CHANGE, "log_every"),
}
# Not flags: Devlin et al. 2019, appendix A.2, and the clipping of BERT's release
SETTLED = {"lr_schedule": "linear", "weight_decay": 0.01, "clip": 1.0, "no_decay_bias_norm": True}


@dataclass(frozen=True)
class MaskedLM:
    """what it learns from, and how"""

    train: list | None = flag(
        type=lambda text: text.split(","),
        metavar="FILE,...",
        help="files with commas, tabs or JSON lines, of which --text names the columns",
    )
    text: list | None = flag(
        type=lambda text: text.split(","),
        metavar="COLUMN,...",
        help="with --train, the column with the text, or the two of a pair; without, files of text: one a line, or "
        ".csv, .tsv with a header, .jsonl, .jsonl.gz (default: training sets of tasks)",
    )
    tasks: list | None = flag(
        type=types.names, metavar="T,...", help="whose training sentences (default: sst,quora,sts)"
    )
    epochs: int = flag(4, type=types.positive(int), metavar="N", help="epochs (default: %(default)s)")
    batch_size: int = flag(32, type=types.positive(int), metavar="N", help="sentences a batch (default: %(default)s)")
    # Kalicki's 1e-3 destroys a pretrained trunk
    lr: float = flag(5e-5, type=types.positive(float), metavar="X", help="highest learning rate (default: %(default)s)")
    warmup: float = flag(
        0.1,
        type=types.share,
        metavar="SHARE",
        help="share of the updates in which the rate rises; then it falls to 0 (default: %(default)s)",
    )


def build_parser():
    parser = Parser(prog="pretraining.py", description="Masked-LM training on the text a BERT is to be used on.")
    for group, names in SHARED.items():
        add_group(parser, group, only=names)
    add_group(parser, MaskedLM)
    return parser


def parse(argv=None):
    """The command line as a namespace, and in it `given`; checked, unless a run to be resumed brings the rest."""
    parsed = build_parser().parse_with_given(argv)
    launch.settle(parsed)
    checks.settle_device(parsed)
    checks.check_resume(parsed)
    if not parsed.resume:
        check(parsed)
    return parsed


def check(parsed):
    """(`Options`, (files or None, their columns), {flag: value} for config.json) of a namespace: what depends on other
    flags is filled in, and combinations that make no sense are refused. Raises UserError."""
    if parsed.train and not (parsed.text and len(parsed.text) <= 2):
        raise UserError("--train needs --text COLUMN, the column with the text, or two of them with a comma between")
    files, columns = (parsed.train, tuple(parsed.text)) if parsed.train else (parsed.text, ())
    if parsed.text and (useless := [name for name in ("data_dir", "tasks", "limit") if name in parsed.given]):
        raise UserError(f"--{useless[0]} is of no use with --text: the files named are all the text there is")
    tasks = [] if parsed.text else parsed.tasks or list(COURSE_NAMES.values())
    if parsed.token_cache and not parsed.text:
        raise UserError("--token_cache needs --text: the tasks' own sets are small")
    if unknown := [name for name in parsed.limit if name not in tasks]:
        raise UserError(f"--limit names {unknown[0]}: no use with --tasks {','.join(tasks)}")
    precision = checks.checked_precision(parsed.precision, parsed.use_gpu)
    run_dir = parsed.run_dir or checks.new_run_dir()
    values = {**vars(parsed), **SETTLED, "tasks": tasks, "precision": precision, "run_dir": run_dir}
    saved = {name: value for name, value in sorted(values.items()) if name not in (*checks.NOT_SAVED, "given")}
    ours = {name: value for name, value in values.items() if name not in ("train", "text")}  # no task's, as there
    return Options.of({**DEFAULTS, **ours}), (files, columns), saved


def resumed(parsed, saved):
    """The flags, as a namespace, of the run being continued; one given now must agree with them. Raises UserError."""
    if "text" not in saved:
        raise UserError("--resume: that is no run of pretraining.py; continue it with multitask_classifier.py")
    saved = {**saved, "tasks": saved.get("tasks") or None}  # [] where the text is files
    saved = checks.checked_flags(saved, build_parser(), f"--resume {checks.folder_of(parsed)}")
    checks.refuse_other_flags(parsed, saved, MAY_CHANGE)
    now = ("resume", "run_dir", *(name for name in MAY_CHANGE if name in parsed.given), "given")
    return Namespace(**{**saved, **{name: getattr(parsed, name) for name in now}})


def main(argv=None):
    """A new run, or one to resume, from its first line to its last file."""
    parsed = parse(argv)  # before torch is imported: --help and mistakes are answered at once
    from minbert import processes
    from minbert.masked_lm import perplexity_page, trainer
    from minbert.training.run_folder import RUN, open_folder, resumable, saved_record

    folder = checks.folder_of(parsed)
    if parsed.resume and (folder / RUN).is_file():
        parsed = resumed(parsed, saved_record(folder / RUN)["flags"])
    options, text, saved = check(parsed)
    processes.join(options.model.use_gpu)
    with alone_in(options.run.folder), resumable(options):
        folder, before = open_folder(options.run)
        if before:
            options = options.changed(model=before["model"]["name"])
        trainer.pretrain(options, text, saved, folder, before)
        if processes.here().first:
            print(perplexity_page.write_report(folder, vars(build_parser().parse_args([]))))


if __name__ == "__main__":
    raise SystemExit(carry_out(main))
