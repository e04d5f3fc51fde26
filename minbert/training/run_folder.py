"""A run's folder: how it is opened or continued, its config.json, and what must not have changed since.

A run is a folder: config.json (flags, versions, machine, which model and data), metrics.jsonl (one line an epoch),
log.jsonl (one line every so many updates, appended), model.safetensors (the best epoch by dev score), bert/ (its trunk
as a Hugging Face folder), state.pt (all that is needed to go on), predictions/, analysis.json and analysis.png,
report.html, and, last, scores.json. All but the log are written whole or not at all. Once a run is finished its state
goes; --keep_state keeps it, and the last epoch's weights, last.safetensors.
"""

import contextlib
import os
import platform
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from minbert import evaluation, hub, processes
from minbert.files import UNFINISHED, UserError, remove_unfinished, sha256, write_json
from minbert.flags import checks as command_line
from minbert.flags.extension import extension
from minbert.flags.methods import PLAIN
from minbert.flags.parser import DEFAULTS, Options
from minbert.layers import devices
from minbert.layers.precision import bf16_unit, precision_told
from minbert.locks import LOCK
from minbert.script import Stopped
from minbert.training.commit import commit
from minbert.training.data import fit_to_checkpoint, read_data, told
from minbert.training.saved import GRID, RUN, saved_history, saved_record

MOST_THREADS = 1024  # torch would make any number of them


@dataclass
class Start:
    """A run that is about to begin or to go on: its flags, folder, checkpoint (hub.Found) and data, its config.json as
    it would be now, and whether it is there already."""

    options: Options
    folder: Path
    found: hub.Found
    data: dict
    config: dict
    is_new: bool
    extended: dict = field(default_factory=dict)  # {flag: its value before} where the run now ends later

    @property
    def is_over(self):
        """Whether the run is finished and has no state any more: trained again, it would lose what it came to."""
        return not self.is_new and is_over(self.folder)

    def make_folder(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.is_new:
            write_json(self.folder / RUN, self.config, new=True)

    def extend(self):
        """Go on past the end that the run was planned with: it is not finished any more, and says so first."""
        if self.extended:
            (self.folder / "scores.json").unlink(missing_ok=True)
            write_json(self.folder / RUN, self.config)

    @property
    def earlier(self):
        """Digests of the flags (checks.digest) under which an extended run may have saved its state."""
        flags = self.config["flags"]
        return tuple(command_line.digest({**flags, **before}) for before in self.config.get("went_on_from", ()))


def begin(options):
    """`Start` of the run that `options` ask for; says what it reads. Raises UserError where the run cannot be, or where
    the one to continue began with something else."""
    folder, saved = open_folder(options.run)
    extended = {}
    if saved:
        take_over_threads(saved)
        options = command_line.check(command_line.resumed(options.namespace(), saved["flags"]))
        options = options.changed(model=saved["model"]["name"])
        extended = extension(options.namespace(), {**DEFAULTS, **saved["flags"]})
        if extended and is_over(folder):
            raise UserError(
                f"{folder} is finished, and has no state.pt to go on from (--keep_state would have kept it): go on "
                f"from its weights with --init {folder}"
            )
        done = len(saved_history(folder)) if extended and (folder / "metrics.jsonl").is_file() else 0
        if "epochs" in extended and done >= options.schedule.epochs:
            raise UserError(f"--epochs {options.schedule.epochs}: {folder} has done {done}; give more to go on")
    check_device(options.model, "the run to resume used --use_gpu, but" if saved else "--use_gpu:")
    check_outputs(options, folder)
    for path in [Path(path) for _, path in written(options)] if saved else ():
        remove_unfinished(path.parent, path.name)
    if options.run.tensorboard:
        tensorboard_writer()

    found = find_model(options.model)
    print(f"model: {found.name}, {found.source}\n{precision_told(options.model.runs_on, options.model.precision)}")
    tokenizer, max_length = fit(options, found)
    options = options.changed(max_length=max_length)
    data, notes = read_data(options, tokenizer)
    print(told(data, notes))
    config = describe_run(command_line.to_saved(options), options.model, found, data, notes)
    check_inputs_stay(written(options), config)
    if saved:
        check_unchanged(folder, saved, config)
        if before := [*saved.get("went_on_from", ()), *([extended] if extended else [])]:
            config["went_on_from"] = before
            config["flags"] = {**saved["flags"], **{name: config["flags"][name] for name in extended}}
    return Start(options, folder, found, data, config, is_new=saved is None, extended=extended)


def flags_of(options):
    """`Options` of a parsed command line, which may be one that continues a run or a grid: then those of its record.
    Raises UserError."""
    if not options.resume:
        return command_line.check(options)
    folder = command_line.folder_of(options)
    wants_grid = isinstance(options.lr, list) and options.label_scheme != PLAIN
    for record in (GRID,) if wants_grid else (GRID, RUN):
        if (folder / record).is_file():
            return command_line.check(command_line.resumed(options, saved_record(folder / record)["flags"]))
    if isinstance(options.resume, str):
        record, what = (GRID, "grid") if wants_grid else (RUN, "run")
        raise UserError(f"--resume {folder}: no {record} there, so no {what} to continue")
    return command_line.check(options)


@contextlib.contextmanager
def resumable(options):
    """A stop inside, perhaps in one of the runs that this one is made of, says how to go on. Before and after training,
    where Ctrl-C is no signal to the loop, all that was trained is saved already."""
    folder = options.run.folder
    try:
        yield
    except Stopped as stop:
        said, where = str(stop), stop.folder
    except KeyboardInterrupt:
        if not any((folder / record).is_file() for record in (RUN, GRID)):
            raise  # there is nothing to go on with
        said, where = "interrupted; all that was trained is saved", folder
    else:
        return
    if where != folder:
        said += f" of {os.path.relpath(where)}"
    words = [word for flag, path in outside(options, folder).items() for word in (f"--{flag}", path)]
    raise Stopped(f"{said}; continue with {shlex.join(['--resume', os.path.relpath(folder), *words])}", where)


def find_model(flags):
    """The checkpoint to begin with: that of --init's run, or of --model."""
    if not flags.init:
        return hub.resolve(flags.model)
    folder = Path(flags.init)
    if not (folder / "bert" / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise UserError(f"--init {folder}: no finished run is there (bert/ and model.safetensors)")
    return hub.Found(folder / "bert", str(folder / "bert"), f"the best epoch of {folder}")


def fit(options, found):
    """As data.fit_to_checkpoint, with what it needs of the flags."""
    pairs = any(task.is_pair for task in options.scored.values())
    model = options.model
    return fit_to_checkpoint(found, model.max_length, "max_length" in options.given, pairs, model.truncate)


def check_device(model, what):
    """Refuse a GPU that is not there, by words that begin with `what`, and bf16 where it would only be imitated."""
    if model.use_gpu and not torch.cuda.is_available():
        raise UserError(f"{what} this machine has no CUDA device that torch can use")
    if not devices.is_here(model.runs_on):
        raise UserError(f"--device {model.runs_on}: this machine has none that torch can use; try --device auto")
    if model.precision == "bf16" and not bf16_unit(model.runs_on):
        raise UserError(
            f"--precision bf16: this {'GPU' if model.use_gpu else 'CPU'} has no unit for it (a GPU's tensor cores, or "
            "a CPU's AMX or AVX512-BF16) and would only imitate it, slowly; use --precision fp32"
        )


def check_outputs(options, folder):
    """Refuse, before training, a prediction file that could not be written after it, or only over something else, and
    whatever would be written outside the run's folder on the word of a file: its config.json may be anybody's."""
    for flag, path in outside(options, folder).items():
        if flag not in options.given:
            raise UserError(
                f"{folder}: its record says --{flag} {path}, which is outside of it; if that may be written to, say "
                f"so with --{flag} once more"
            )
    for flag, path in written(options):
        parent = Path(path).absolute().parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK) or Path(path).is_dir():
            raise UserError(f"--{flag} {path}: cannot be written there; choose another file")
        evaluation.check_replaceable_predictions(path)


def written(options):
    """[(flag, path)] of the prediction files that are not in the run's folder."""
    found, place, scored = list(options.run.outputs.items()), options.run.predictions_dir, options.scored
    for task in scored.values() if place else ():
        for split in ("dev", "test"):
            alone = list(scored) == [task.name]
            path = evaluation.prediction_files(place, task, split, options.model.mode, alone)[-1]
            found.append(("predictions_dir", str(path)))
    return found


def outside(options, folder):
    """{flag: path} of what is written outside the run's folder, but for what a default says."""
    values = options.flat()
    unused = () if options.pseudo_labels.label_scheme else ("plain_dir",)
    written = {flag: values[flag] for flag in command_line.WRITTEN if flag not in unused}
    return {
        flag: path for flag, path in written.items() if path and path != DEFAULTS[flag] and not is_inside(folder, path)
    }


def check_inputs_stay(outputs, config):
    """Refuse a prediction file that would take the place of one that the run reads, whatever that looks like."""
    parts = [part for splits in config["data"].values() for part in splits.values()]
    read = {os.path.realpath(part[kind]) for part in parts for kind in ("file", "labels_file") if kind in part}
    for flag, path in outputs:
        if os.path.realpath(path) in read:
            raise UserError(f"--{flag} {path}: the run reads that file; choose another one to write")


def is_inside(folder, path):
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def refuse_links(folder):
    """A run from elsewhere may come with a link in place of a folder, and what is written there go anywhere."""
    for path in Path(folder).iterdir():
        if path.is_symlink() and path.is_dir() and not is_inside(folder, path):
            raise UserError(f"{path}: a link to a folder outside of the run, into which it would write; take it away")


def tensorboard_writer():
    """The type of TensorBoard's writers. Raises UserError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter


# ----------------------------------------------------------------------------------------------------- its record


def open_folder(run):
    """(folder, saved config or None): a new folder for a new run, or the one of the run to resume."""
    folder, config = run.folder, run.folder / RUN
    if run.resume and config.is_file():
        saved = saved_record(config)
        refuse_links(folder)
        tidy(folder)
        return folder, saved
    if isinstance(run.resume, str):
        raise UserError(f"--resume {folder}: no {RUN} there, so no run to continue")
    if folder.is_file() or in_use(folder):
        raise UserError(f"{folder} exists: choose another --run_dir, or continue that run with --resume")
    remove_unfinished(folder, RUN)
    return folder, None


def tidy(folder):
    """Delete what a killed process left half-written in a run's folder, which is ours (locks.alone_in)."""
    for part in (folder, folder / "predictions", folder / "bert"):
        remove_unfinished(part)


def in_use(folder, own=()):
    """Whether there is more in a folder than files named `own`, and what a process that was killed early left."""
    if not folder.is_dir():
        return False
    return any(path.name not in (LOCK, *own) and path.suffix != UNFINISHED for path in folder.iterdir())


def is_finished(folder):
    """Whether a run or a grid came to its end there: its scores are written last."""
    return (folder / "scores.json").is_file()


def is_over(folder):
    """Whether a finished run has been left without its state, which is large."""
    return is_finished(folder) and not (folder / "state.pt").is_file()


def describe_run(flags, model, found, data, notes):
    """What config.json records: flags as saved, versions, machine, and exactly which model and data. model: where it
    runs (the group of flags)."""
    return {
        "flags": flags,
        "model": describe_model(found),
        "data": {
            name: {
                split: {
                    "file": str(part.examples.path),
                    **({"labels_file": str(path)} if (path := part.examples.labels_path) else {}),
                    "rows": len(part.examples),
                    "sha": part.sha,
                }
                for split, part in splits.items()
            }
            for name, splits in data.items()
        },
        "data_notes": notes,  # where the data are from and why, rows skipped, texts cut
        "code": commit(),
        **describe_machine(model),
    }


def describe_machine(model):
    """What decides the last bits besides flags, model and data."""
    return {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": {
            "device": torch.cuda.get_device_name()
            if model.use_gpu
            else model.device or platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            **({"processes": count} if (count := processes.here().count) > 1 else {}),
        },
    }


def take_over_threads(saved):
    """Go on with as many threads as the run or grid of this record began with, for sums depend on their number; and
    say where a library is another one now. (The records of old grids say neither.) With another number of processes
    the last bits differ anyway, and so may the threads."""
    many, before = processes.here().count, saved.get("machine", {}).get("processes", 1)
    if many != before:
        print(f"processes: {many}, and {before} as it began: dropout and the last bits differ")
        return
    now = torch.get_num_threads()
    began = saved.get("machine", {}).get("threads", now)
    if not 0 < began <= MOST_THREADS:
        raise UserError(f"a record of {began} threads, which no machine has; put config.json or grid.json back")
    if began != now:
        torch.set_num_threads(began)
        print(f"threads: {began}, as it began with, and not {now}: their number decides the last bits")
    versions = saved.get("versions", {})
    for name, version in (("torch", torch.__version__), ("numpy", np.__version__)):
        if (before := versions.get(name, version)) != version:
            print(f"warning: it began with {name} {before}, now it is {version}: the last bits may differ")


def describe_model(found):
    """Which checkpoint it is, wherever it lies."""
    return {"name": found.name, "source": found.source, "sha256": sha256(found.weights)}


def check_unchanged(folder, saved, now):
    """UserError where the model or the data of a run to continue is not what it began with, wherever it lies."""
    began_with = None
    if saved["model"]["sha256"] != now["model"]["sha256"]:
        began_with = f"the weights of {now['model']['name']} are"
    elif changed := _changed_data(saved["data"], now["data"]):
        began_with = f"{changed} is"
    if began_with:
        raise UserError(f"{folder}: {began_with} not what this run began with; start a new run")


def _changed_data(before, now):
    """The first file whose content differs between two records of data; None when all are equal."""
    for name, splits in now.items():
        for split, part in splits.items():
            if before.get(name, {}).get(split, {}).get("sha") != part["sha"]:
                return f"{part['file']} ({name} {split})"
    return None
