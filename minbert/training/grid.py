"""A grid of learning rates: the same run at each of them, of which the one with the best dev score is kept.

The folder of the grid becomes that of the best run: its files, and grid.json with the scores of every attempt. Each
attempt is an ordinary run in a folder of its own below, `lr-2e-05`, so a grid that was killed goes on where it was.
"""

import shutil
from pathlib import Path

from minbert import evaluation
from minbert.files import UserError, remove_unfinished, write_json, write_text, written_whole
from minbert.flags import checks as command_line
from minbert.flags.methods import PLAIN
from minbert.training.run_folder import (
    check_inputs_stay,
    check_outputs,
    describe_machine,
    describe_model,
    find_model,
    in_use,
    is_finished,
    refuse_links,
    take_over_threads,
    tidy,
    written,
)
from minbert.training.run_report import write_report
from minbert.training.saved import GRID, RUN, saved_record, saved_scores


def is_grid(options):
    """Whether a command asks for a grid. (The plain models of `plain` are tried at each rate anyway.)"""
    return isinstance(options.optimisation.lr, list) and options.pseudo_labels.label_scheme != PLAIN


class Grid:
    """The attempts of `options`, whose rate is a list: those still to be made, and then the best of them."""

    def __init__(self, options):
        self.folder = options.run.folder
        record = self.folder / GRID
        saved = saved_record(record) if options.run.resume and record.is_file() else None
        if saved:
            options = options.changed(model=saved["model"]["name"])
            take_over_threads(saved)
            refuse_links(self.folder)
            tidy(self.folder)
        elif in_use(self.folder, own=(GRID,)):
            raise UserError(f"{self.folder} exists: choose another --run_dir, or continue that grid with --resume")
        check_outputs(options, self.folder)
        model = describe_model(find_model(options.model))
        if saved and saved["model"]["sha256"] != model["sha256"]:
            raise UserError(
                f"{self.folder}: the weights of {model['name']} are not what this grid began with; start a new one"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.folder, GRID)
        self.options = options
        self.known = saved or {
            "flags": command_line.to_saved(options),
            "model": model,
            **describe_machine(options.model),
        }
        if not saved:
            write_json(record, self.known)

    def _attempt(self, rate):
        return self.folder / f"lr-{rate:g}"

    def missing(self):
        """(a sentence, the options of the run) of each attempt that is not finished."""
        for rate in self.options.optimisation.lr:
            folder = self._attempt(rate)
            if not is_finished(folder):
                # "Given", so that an attempt's own record has no say: no outputs, and the grid's plain models.
                outputs = command_line.PREDICTIONS
                settled = outputs if self.options.pseudo_labels.label_scheme is None else command_line.WRITTEN
                none = {**dict.fromkeys(outputs), "given": (*self.options.given, *settled)}
                changed = self.options.changed(lr=rate, run_dir=str(folder), resume=True, **none)
                yield f"attempt at rate {rate:g}: {folder}", changed

    def finish(self):
        """Keep the best attempt as the result of the grid. Returns a sentence on it."""
        attempts = {rate: saved_scores(self._attempt(rate)) for rate in self.options.optimisation.lr}
        best = max(attempts, key=lambda rate: attempts[rate]["selection_score"])  # the first of equals
        self._take_over(self._attempt(best), best)
        self._write_outputs(self._attempt(best))
        by_rate = {f"{rate:g}": said for rate, said in attempts.items()}
        write_json(self.folder / GRID, {**self.known, "best": best, "attempts": by_rate})
        tried = ", ".join(f"{rate:g} {said['selection_score']:.3f}" for rate, said in attempts.items())
        return f"best rate {best:g} (dev scores: {tried}); results in {self.folder}\n{write_report(self.folder)}"

    def _write_outputs(self, source):
        """The best attempt's predictions, where --sst_dev_out and its kin say, and --predictions_dir."""
        outputs, place = self.options.run.outputs, self.options.run.predictions_dir
        check_inputs_stay(written(self.options), saved_record(source / RUN))
        found = source / "predictions"
        copies = []  # not where an earlier version wrote each attempt's straight to the place
        for flag, path in outputs.items():
            name = flag.removesuffix("_out").replace("_", "-")
            copies += [(own, Path(path)) for own in found.glob(f"*{name}-output.*")]
        if place:
            names = [*found.glob("*-out.csv")] or [*found.glob("*-output.*")]
            copies += [(own, Path(place) / own.name) for own in names]
        for own, path in copies:
            evaluation.check_replaceable_predictions(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, own.read_text(encoding="utf-8"))

    def _take_over(self, source, rate):
        """Copy the best attempt's files into the grid's folder, config.json with the grid's flags last."""
        for path in sorted(source.rglob("*")):
            target = self.folder / path.relative_to(source)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            elif path not in (source / "state.pt", source / RUN) and not path.name.startswith("."):
                with written_whole(target) as temporary:
                    shutil.copyfile(path, temporary)
        config = saved_record(source / RUN)
        write_json(self.folder / RUN, {**config, "flags": self.known["flags"], "rate": rate})
