"""A run's state on disk: state.pt, with all that is needed to go on to the same bits, and weights as safetensors."""

import errno
from dataclasses import asdict

import torch
from safetensors.torch import save

from minbert.files import UserError, written_whole
from minbert.script import in_a_line
from minbert.weights import damaged_member, read_tensors


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
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if loop.device.type == "cuda" else [],
    }
    with written_whole(path) as temporary, open(temporary, "wb") as f:
        try:
            torch.save(state, f)
        except RuntimeError as error:  # what a full disk raised in its midst is hidden behind torch's own
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load_state(loop, path):
    """Go back to where the last checkpoint stood. Raises UserError for a file that is damaged or no state of such a
    run, and where the flags are others now."""
    try:
        if damaged := damaged_member(path):  # torch reads a flipped bit as another number
            raise ValueError(f"{damaged} in it is damaged")
        _restore(loop, torch.load(path, map_location=loop.device, weights_only=True), path)
    except Exception as error:  # torch.load and load_state_dict raise many kinds
        cut = isinstance(error, OSError) and error.errno == errno.EINVAL  # an archive that points before its start
        if in_a_line(error) and not cut:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path}: not a state of this run ({reason}); start anew with another --run_dir") from None


def _restore(loop, state, path):
    if state.get("identity", loop.identity) != loop.identity:  # older states have none
        raise UserError(
            f"{path}: not a state of this run with the flags that its config.json has now; put those back, or start "
            "a new run"
        )
    loop.progress = type(loop.progress)(**state["progress"])
    loop.model.load_state_dict(state["model"])
    loop.optimizer.load_state_dict(state["optimizer"])
    if loop.teacher:
        loop.teacher.load_state_dict(state["teacher"])
    loop.record.load_state_dict(state["record"] if "record" in state else _record_of_old(state["sums"]))
    if "log" in state:  # older states have none
        loop.log.load_state_dict(state["log"])
    torch.set_rng_state(state["rng"].cpu())
    if loop.device.type == "cuda":
        torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda_rng"]])


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
