"""Whether a result still stands, and whether a row has to run at all.

A result stands as long as the same would be computed now: the same flags, a model and data files with the same
content, wherever they lie, and, where the row starts from another's weights, the result of that one as it was.
"""

from minbert.flags import checks as command_line
from minbert.flags.parser import also_scored_once
from minbert.tables import store
from minbert.tables.jobs import PATHS, model_of, on_this_machine, placed, resolve
from minbert.tables.record import SOURCES, checkpoint, content, fingerprint
from minbert.training.saved import GRID, RUN, saved_record

# Flags that say on what machine and where. A result from a GPU stands on every other machine; model and data are
# compared by their content, a start by its result.
MACHINE = {"use_gpu", "device", "precision", "compile"}
NOT_COMPARED = {*command_line.NOT_SAVED, *command_line.MAY_CHANGE, *MACHINE, *PATHS}


def why_stale(job, saved, extra):
    """In a few words, why a result is not what the job would give now; None if it is. `extra`: model and folders."""
    flags = {**extra, **job.flags}
    if changed := why_changed(job, saved, extra):
        return changed
    if saved["flags"].get("skip_test") and not flags.get("skip_test"):
        return "it made no test predictions"
    name, digest = checkpoint(model_of(flags))
    if saved["model"]["sha256"] != digest:
        return f"the model was {saved['model']['name']}, now {name}"
    for split in (split for splits in saved["data"].values() for split in splits.values()):
        for kind in SOURCES.keys() & split.keys():
            path = on_this_machine(split[kind], flags)
            if content(path) != split[SOURCES[kind]]:
                return f"{path} is not the file it was"
    return None


def why_changed(job, saved, extra=None):
    """As `why_stale`, but of the flags and the start alone, which can be told without the model and the data."""
    if changed := changed_flags(saved, {**(extra or {}), **job.flags}):
        return changed
    if job.start is None:
        return "it started from another row" if "start" in saved else None
    first = store.get(job.start)
    if first is None or why_changed(job.start, first, extra) or saved.get("start") != fingerprint(first):
        return f"{job.row.init}, which it starts from, changed"
    return None


def changed_flags(saved, flags):
    """Which flags of a result (or a run's config) are others now, in words; None if none. A flag that did not exist
    then had the value that is its default now."""
    now, then = resolve(flags), {**resolve({}), **saved["flags"]}
    if "also_score" not in saved["flags"]:
        then["also_score"] = also_scored_once(then["tasks"])
    changed = [name for name in now if name not in NOT_COMPARED and now[name] != then[name]]
    return ", ".join(f"{name} was {then[name]}, now {now[name]}" for name in changed) or None


def can_continue(job, flags):
    """Whether job.folder holds a run of these very flags and this model (for a row that starts from another's weights,
    those: when that one runs, what followed it goes)."""
    records = [job.folder / name for name in (RUN, GRID)]  # a half-done grid has only the latter
    config = next((saved_record(path) for path in records if path.is_file()), None)
    flags = placed(flags)
    if config is None or (job.start is None and config["model"]["sha256"] != checkpoint(flags["model"])[1]):
        return False
    now = resolve(flags)
    if config["flags"].get("skip_test") and not now["skip_test"]:
        return False  # resumed, it would leave them out again
    return changed_flags(config, flags) is None and all(config["flags"].get(name) == now[name] for name in MACHINE)


# ------------------------------------------------------------------------------------------------- adopting results


def adopted(job, extra):
    """The job's result, taken from another row that computed the very same, or did so as one of the learning rates it
    tried; None if there is none. A result so taken names that row as `ran_as`."""
    for saved in store.load_all():
        if (saved["table"], saved["row"]) == (job.table.name, job.row.name):
            continue
        if (saved["seed"], saved["fraction"]) != (job.seed, job.fraction):
            continue
        for found in (saved, *_at_each_rate(saved)):
            if why_stale(job, found, extra) is None:
                ran_as = found.get("ran_as", _place(found))
                return {**found, "table": job.table.name, "row": job.row.name, "ran_as": ran_as}
    return None


def _at_each_rate(saved):
    """Each learning rate that a result's run tried, as the result of a run at that rate alone."""
    rest = {name: value for name, value in saved.items() if name != "attempts"}
    return [
        {
            **rest,
            **outcome,
            "flags": {**saved["flags"], "lr": float(rate)},
            "ran_as": f"{saved.get('ran_as', _place(saved))} at {rate}",
        }
        for rate, outcome in saved.get("attempts", {}).items()
    ]


def _place(saved):
    return f"{saved['table']}/{saved['row']}"
