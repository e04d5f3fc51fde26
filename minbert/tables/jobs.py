"""A row of a table made concrete: its flags, and the folder of its run."""

import json
from dataclasses import dataclass, replace

from minbert.flags import checks as command_line
from minbert.tables import places, text_files
from minbert.tables.rows import Row, Table, find_row, flags_of
from minbert.tables.text_files import FOLDERS

PATHS = ("run_dir", "model", "init", "plain_dir", *FOLDERS)  # flags that a result does not repeat: where, not what
NOT_OF_THE_SCRIPT = {"unlabelled_dir", text_files.MASKED_LM}  # they stand in the names of files only
CHECKPOINT = f"{{{text_files.MASKED_LM}}}"  # a row's --model: the result of pretraining.py

# ---------------------------------------------------------------------------------------------------------- flags


def command(flags):
    """{flag: value} as command-line arguments; a flag of value None is left out, one of value True stands alone."""
    given = {name: value for name, value in flags.items() if value is not None and name not in NOT_OF_THE_SCRIPT}
    return [word for name, value in given.items() for word in ([f"--{name}"] + ([] if value is True else [str(value)]))]


def on_this_machine(text, flags):
    """A file that a row or a result names, or a flag's value with such names, as this machine has it: text_files.py."""
    return text_files.local(text, flags, places.experiments() / "augmented")


def placed(flags):
    """{flag: value} with the files and the checkpoint that rows name as this machine has them."""
    here = {name: on_this_machine(flags[name], flags) for name in text_files.FLAGS if name in flags}
    return flags | here | ({"model": model_of(flags)} if "model" in flags else {})


def model_of(flags):
    """The checkpoint as this machine has it. A --model that somebody typed may be any name, so it is no pattern."""
    return on_this_machine(CHECKPOINT, flags) if flags["model"] == CHECKPOINT else flags["model"]


def resolve(flags):
    """{flag: value} with every default filled in, as a run's config.json has it. Raises UserError as the command line
    would."""
    resolved = command_line.to_saved(command_line.check(command_line.parse(command(flags))))
    return json.loads(json.dumps(resolved))


# ----------------------------------------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Job:
    """One row at one seed, on one share of each task's training rows."""

    table: Table
    row: Row
    seed: int
    fraction: float = 1.0

    @property
    def name(self):
        return f"seed-{self.seed}" + (f"-fraction-{self.fraction:g}" if self.fraction < 1 else "")

    @property
    def folder(self):
        return places.experiments() / self.table.name / self.row.name / self.name

    @property
    def log(self):
        return self.folder.with_name(f"{self.name}.log")  # beside the folder, which the run wants to make itself

    @property
    def start(self):
        """The job whose weights this one starts from; None if it starts from the checkpoint."""
        return None if self.row.init is None else replace(self, row=find_row(self.table, self.row.init))

    @property
    def followers(self):
        """The jobs that start from this one's weights."""
        return [replace(self, row=row) for row in self.table.rows if row.init == self.row.name]

    @property
    def flags(self):
        """The row's flags with the seed, and with a --limit that cuts each trained task to the fraction. Plain models
        are kept where every row of every table finds them."""
        flags = {**flags_of(self.table, self.row), "seed": self.seed}
        if "label_scheme" in flags:
            flags["plain_dir"] = str(places.experiments() / "plain")
        if self.fraction < 1:
            resolved = resolve(flags)
            parts = {task: _part(resolved["limit"].get(task, 1.0), self.fraction) for task in resolved["tasks"]}
            flags["limit"] = ",".join(f"{task}={part}" for task, part in parts.items())
        return flags


def _part(limit, fraction):
    """A fraction of a --limit, which is a number of rows (int) or a share of them (float)."""
    return max(1, round(limit * fraction)) if isinstance(limit, int) else f"{limit * fraction:.9f}".rstrip("0")
