"""A run's state on disk: state.pt, with all that is needed to go on to the same bits, and weights as safetensors."""

import errno
import json
from dataclasses import asdict
from typing import get_args, get_type_hints

import torch
from safetensors.torch import save

from minbert.files import UserError, short, written_whole
from minbert.layers import devices
from minbert.readers import misfit
from minbert.script import in_a_line
from minbert.weights import damaged_member, is_finite, is_plain, read_tensors


def save_state(loop, path):
    """Write the state of a `loop.Loop`: weights, optimizer, teacher, random generators, position, sums of the epoch,
    length of the log."""
    state = {
        "identity": loop.identity,
        "progress": asdict(loop.progress),
        "model": loop.model.state_dict(),
        "optimizer": loop.optimizer.state_dict(),
        "teacher": loop.teacher and loop.teacher.state_dict(),
        "record": loop.record.state_dict(),
        "log": loop.log.state_dict(),
        "rng": loop.processes.random_state(),
        "cuda_rng": devices.random_states(loop.device),
    }
    with written_whole(path) as temporary, open(temporary, "wb") as f:
        try:
            torch.save(state, f)
        except RuntimeError as error:  # what a full disk raised in its midst is hidden behind torch's own
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def drop_state(folder, run):
    """The state of a finished run goes, which is as large as the weights and the optimizer's moments together, unless
    --keep_state is among the flags of its group `run`."""
    if not run.keep_state:
        (folder / "state.pt").unlink(missing_ok=True)


def load_state(loop, path):
    """Go back to where the last checkpoint stood. Raises UserError for a file that is damaged or no state of such a
    run, and where the flags are others now."""
    try:
        if damaged := damaged_member(path):  # torch reads a flipped bit as another number
            raise ValueError(f"{damaged} in it is damaged")
        _restore(loop, torch.load(path, map_location=devices.readable(loop.device), weights_only=True), path)
    except Exception as error:  # torch.load and load_state_dict raise many kinds
        cut = isinstance(error, OSError) and error.errno == errno.EINVAL  # an archive that points before its start
        if in_a_line(error) and not cut:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path}: not a state of this run ({reason}); start anew with another --run_dir") from None


def _restore(loop, state, path):
    if state.get("identity", loop.identity) not in (loop.identity, *loop.earlier):  # older states have none
        raise UserError(
            f"{path}: not a state of this run with the flags that its config.json has now; put those back, or start "
            "a new run"
        )
    progress, record = state["progress"], state["record"] if "record" in state else _record_of_old(state["sums"])
    _check_progress(loop, progress)
    _check_record(loop, record)
    _check_tensors(loop.model.state_dict(), state["model"])
    _check_moments(loop.optimizer, state["optimizer"]["state"])
    loop.progress = type(loop.progress)(**progress)
    loop.model.load_state_dict(state["model"])
    # rates and the like are what the flags say
    loop.optimizer.load_state_dict({**loop.optimizer.state_dict(), "state": state["optimizer"]["state"]})
    if loop.teacher:
        _check_tensors(loop.teacher.state_dict()["model"], state["teacher"]["model"])
        _check_count(state["teacher"]["t"])
        loop.teacher.load_state_dict(state["teacher"])
    loop.record.load_state_dict(record)
    if "log" in state:  # older states have none
        _check_count(state["log"]["bytes"])
        loop.log.load_state_dict(state["log"])
    loop.processes.set_random_state(state["rng"].cpu())
    devices.set_random_states(loop.device, state["cuda_rng"])


# What a checksum does not tell: whether somebody wrote it who knows what belongs there. All raise ValueError.


def _check_progress(loop, progress):
    hints = get_type_hints(type(loop.progress))
    shape = {name: get_args(hint) or hint for name, hint in hints.items()} | {"history": [{"epoch": int}]}
    if problem := misfit(progress, shape, "the progress"):
        raise ValueError(problem)
    json.dumps(progress, allow_nan=False)  # it is written to metrics.jsonl
    for name in ("epoch", "step", "update", "tokens", "best_epoch", "epochs_without_gain"):
        _check_count(progress[name])
    epoch, epochs = progress["epoch"], loop.plan.epochs
    done = [line["epoch"] for line in progress["history"]]
    if epoch > epochs or done != [*range(0 if loop.examine_first else 1, epoch + 1)]:
        raise ValueError(f"epochs {done} of {epochs}, where {epoch} are said to be done")
    if any(line.keys() != progress["history"][0].keys() for line in progress["history"]):
        raise ValueError("not all epochs have the same records")
    if epoch < epochs and progress["step"] > len(loop.plan.steps_of(epoch)):
        raise ValueError(f"step {progress['step']} of {len(loop.plan.steps_of(epoch))}")


def _check_record(loop, record):
    tasks = {task for step in loop.plan.steps_of(loop.progress.epoch) for task, _ in step}
    for sums in (record["terms"], record["shares"]):
        for (task, name), value in sums.items():
            _check_tensors({"a sum": torch.zeros(2, dtype=torch.float64)}, {"a sum": value})
            if task not in tasks or not isinstance(name, str):
                raise ValueError(f"a term of {short(task)}")


def _check_tensors(own, saved):
    """Tensors by name, each of the form that it has in this run, and finite."""
    if own.keys() != saved.keys():
        raise ValueError("tensors of another model")
    for name, tensor in own.items():
        found = saved[name]
        if not isinstance(found, torch.Tensor) or not is_plain(found.cpu()) or not is_finite(found):
            raise ValueError(f"{name} is no dense tensor of finite numbers")
        if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name} has another shape or type")


def _check_moments(optimizer, saved):
    """AdamW's running means, by the number of their parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, state in saved.items():
        like = parameters[number].detach()
        _check_tensors({"exp_avg": like, "exp_avg_sq": like}, {n: v for n, v in state.items() if n != "step"})
        _check_count(state["step"])
        if state["step"] == 0 or state["exp_avg_sq"].min() < 0:
            raise ValueError("running means that cannot be")


def _check_count(value):
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{short(value)} is no count")


def _record_of_old(sums):
    """The record of a state that was written when terms and shares stood together under "task", "task name" and "task
    name kept"."""
    record = {"terms": {}, "shares": {}}
    for words, value in sums.items():
        task, _, name = words.partition(" ")
        record["shares" if name.endswith("kept") else "terms"][task, name] = value
    return record


# -------------------------------------------------------------------------------------------------------- weights


def save_weights(model, path):
    """Trunk and heads as safetensors."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))


def load_weights(model, path, heads_may_differ=False):
    """Load what `save_weights` wrote. With `heads_may_differ` a head that the file does not have, or has with another
    shape, stays as it is. Returns the names of those heads. Raises UserError for a file of something else."""
    saved, fresh = read_tensors(path, "start a new run"), []
    if heads_may_differ:
        for task, head in model.heads.items():
            own = {f"heads.{task}.{name}": value for name, value in head.state_dict().items()}
            theirs = {name: value for name, value in saved.items() if name.startswith(f"heads.{task}.")}
            if {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in theirs.items()}:
                saved = {name: value for name, value in saved.items() if name not in theirs} | own
                fresh.append(task)
        saved = {n: v for n, v in saved.items() if not n.startswith("heads.") or n.split(".")[1] in model.heads}
    try:
        model.load_state_dict(saved)
    except RuntimeError:
        raise UserError(f"{path}: weights of another model than this run's; start a new run") from None
    return fresh
