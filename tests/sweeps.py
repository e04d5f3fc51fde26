"""What the tests of tables share: a small table, a stand-in for the main script, and a home for what a sweep leaves."""

import json
import signal
from pathlib import Path

import pytest

import experiments
from minbert.files import sha256
from minbert.flags import checks as options
from minbert.tables import jobs, places, record, store, sweep
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row, Table, find_row, flags_of

TABLE = Table(
    name="demo",
    title="A demonstration",
    source="Nobody, Table 1",
    columns={"SST": "dev.sst.accuracy", "F1 of neutral": "dev.sst.f1.2", "STS": "dev.sts.pearson", "score": "score"},
    flags={"epochs": 2, "batch_size": 4, "option": "finetune"},
    rows=(
        Row("plain", "Plain", {"lr": 1e-5}, paper={"SST": 0.511, "score": 0.752}, note="with a note"),
        Row("clipped", "Clipped", {"clip": 0.1}, base="plain"),
        Row("part", "Part", {"limit": "quora=14,sts=0.5", "dev_limit": "quora=9"}, paper={"STS": 0.4}),
    ),
)


class Script:
    """Stands in for multitask_classifier.py: notes its arguments and writes a run's files. `fail` maps a row name to an
    exit code, `interrupt` is the number of calls after which it is interrupted."""

    def __init__(self):
        self.calls, self.fail, self.interrupt, self.accuracy = [], {}, None, {}

    def __call__(self, arguments, log, processes):
        checked = options.check(options.parse(arguments[3:]))
        flags = checked.namespace()
        folder = Path(flags.run_dir)
        row = folder.parent.name
        existed = (folder / "config.json").exists()
        self.calls.append((row, flags, existed))
        flags.saved = options.to_saved(checked)
        config = self.config(flags)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "state.pt").write_text("half")
        if len(self.calls) == self.interrupt:
            raise KeyboardInterrupt
        if row in self.fail:
            log.write(b"epoch 1\rerror: out of memory\n")
            log.flush()
            return self.fail[row]
        accuracy = self.accuracy.get(flags.seed, 0.5)
        dev = {"sst": {"accuracy": accuracy, "f1": [0.1, 0.2, 0.3, 0.4, 0.5]}, "sts": {"pearson": 0.25}}
        history = [{"epoch": e, "dev": dev, "score": accuracy + 0.1} for e in (1, 2)]
        scores = {"score": accuracy + 0.1, "dev": dev, "epochs": 2, "train_seconds": 100.0, "eval_seconds": 20.0}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "model.safetensors").write_text("weights")
        (folder / "bert").mkdir(exist_ok=True)
        (folder / "bert" / "model.safetensors").write_text("weights")
        return 0

    @staticmethod
    def config(flags):
        model = Path(flags.init) / "bert" if flags.init else Path(flags.model)
        files = [Path(flags.data_dir) / f"{name}-train.csv" for name in ("ids-sst", "quora", "sts")]
        return {
            "flags": flags.saved,
            "model": {"name": str(model), "source": "here", "sha256": sha256(model / "model.safetensors")},
            "data": {path.name: {"train": {"file": str(path), "rows": 20, "sha": "0"}} for path in files},
            "versions": {"python": "3"},
            "machine": {"device": "abacus", "threads": 2},
        }

    @property
    def rows(self):
        return [row for row, _, _ in self.calls]


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Runs, results and tables of this test alone."""
    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(places, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(TABLES, "demo", TABLE)
    return tmp_path


@pytest.fixture
def script(home, monkeypatch):
    fake = Script()
    monkeypatch.setattr(sweep, "launch", fake)
    return fake


@pytest.fixture
def run(home, tiny_model, tiny_data):
    """`experiments.py run demo` with more arguments; returns the exit code."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run_demo(*more, model=tiny_model, data=tiny_data):
        record.checkpoint.cache_clear(), record.content.cache_clear()  # each call stands for a process of its own
        return experiments.main(["run", "demo", "--model", str(model), "--data_dir", str(data), *more])

    yield run_demo
    for number, handler in before.items():
        signal.signal(number, handler)


def run_folder(row, name="seed-11711"):
    """The run folder of a row of the table `demo`."""
    return places.experiments() / "demo" / row / name


def result_of(row, seed=11711, fraction=1.0, table="demo"):
    """The result of a row, or None."""
    return store.get(jobs.Job(TABLES[table], find_row(TABLES[table], row), seed, fraction))


def set_accuracy(row, values):
    """Change a row's accuracy on SST: {seed: value}."""
    for seed, value in values.items():
        result = result_of(row, seed)
        result["scores"]["dev"]["sst"]["accuracy"] = value
        store.put(TABLE, result)


def forget(row, seed=11711, table="demo"):
    """Take away the user's results of a row and seed, as somebody does who deletes their lines."""
    path = places.user_results() / f"{table}.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    left = [line for line in lines if (line["row"], line["seed"]) != (row, seed)]
    assert len(left) < len(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in left), encoding="utf-8")


def shown(capsys):
    """(the whole text, {row title: {heading: cell}}) of `experiments.py show demo`."""
    assert experiments.main(["show", "demo"]) == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return text, {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


# ------------------------------------------------------------------------------------------- rows of the real tables


def row_of(name):
    """ "yan1/fused" -> (table, row)"""
    table, row = name.split("/")
    return TABLES[table], find_row(TABLES[table], row)


def resolved(name):
    """ "yan2/uda" -> that row's flags, every default filled in."""
    return jobs.resolve(flags_of(*row_of(name)))


def paper(name):
    """ "yan2/uda" -> {heading: the paper's figure}"""
    return row_of(name)[1].paper
