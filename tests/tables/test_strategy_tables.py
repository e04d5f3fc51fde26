"""The tables of strategies: what the papers print, what the rows ask for, and what the rows on a CPU come to; and rows
that start from the weights of others, or are one run with another table's."""

import json
from dataclasses import replace

import pytest
from sweeps import TABLE, forget, paper, resolved, result_of, row_of, run_folder, shown

import experiments
from minbert.methods.schedules import make_batches, steps_of_epoch
from minbert.tables import record, store
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row
from minbert.tables.strategies import ON_CPU, STRATEGY_TABLES, YAN1, YAN_A1


def test_names_are_unique_and_every_table_is_listed():
    names = [table.name for table in STRATEGY_TABLES]
    assert len(set(names)) == len(names)
    assert set(names) < set(TABLES)
    assert {"minbert", "recipe"} < set(TABLES)


@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ("yan1/baseline", {"SST": 0.309, "Quora": 0.667, "STS": 0.209, "score": 0.527}),
        ("yan1/concat", {"SST": 0.479, "Quora": 0.738, "STS": 0.369, "score": 0.634}),
        ("yan1/absdiff", {"SST": 0.510, "Quora": 0.733, "STS": 0.532, "score": 0.670}),
        ("yan1/cosine", {"SST": 0.482, "Quora": 0.533, "STS": 0.436, "score": 0.578}),
        ("yan1/dot_attention", {"SST": 0.514, "Quora": 0.737, "STS": 0.486, "score": 0.665}),
        ("yan1/fused", {"SST": 0.501, "Quora": 0.829, "STS": 0.852, "score": 0.752}),
        ("yan-a1/concat", {"SST": 0.476, "Quora": 0.732, "STS": 0.363, "score": 0.630}),
        ("yan-a1/fused", {"SST": 0.486, "Quora": 0.823, "STS": 0.832, "score": 0.742}),
        ("yan-sts/regression", {"STS": 0.868}),
        ("yan-sts/classes", {"STS": 0.864}),
        ("qin1/sst", {"SST": 0.516, "Quora": 0.463, "STS": 0.248, "mean": 0.409}),
        ("qin1/uneven", {"SST": 0.305, "Quora": 0.455, "STS": 0.019, "mean": 0.260}),
        ("qin1/even", {"SST": 0.490, "Quora": 0.748, "STS": 0.613, "mean": 0.617}),
        ("qin1/specialised", {"SST": 0.493, "Quora": 0.748, "STS": 0.654, "mean": 0.632}),
        ("qin2/specialised", {"SST test": 0.529, "Quora test": 0.744, "STS test": 0.677, "mean test": 0.650}),
        ("kalicki0/sst", {"SST": 0.511}),
        ("kalicki0/cfimdb", {"CFIMDB": 0.963}),
        ("kalicki1/sst", {"SST": 0.262, "STS": 0.001, "Quora": 0.375}),
        (
            "kalicki1/mtdnn",
            {"SST": 0.511, "STS": 0.395, "Quora": 0.522, "SST train": 0.993, "STS train": 0.986, "Quora train": 0.686},
        ),
        ("kalicki3/in_turn", {"SST": 0.506, "STS": 0.442, "Quora": 0.806}),
        ("kalicki3/cosine", {"SST": 0.502, "STS": 0.403, "Quora": 0.807}),
        ("kalicki4/in_turn", {"SST test": 0.514, "STS test": 0.393, "Quora test": 0.811}),
        ("kalicki5/in_turn", {"Quora F1": 0.787}),
        ("kalicki5/mtdnn", {"Quora F1": 0.601}),
    ],
)
def test_figures_of_the_papers(row, figures):
    assert paper(row) == figures


def test_kalickis_row_without_pretraining_has_the_f1_of_each_class():
    figures = paper("kalicki2/in_turn")
    assert [figures[f"F1 of {label}"] for label in range(5)] == [0.471, 0.513, 0.393, 0.528, 0.430]
    assert [figures[f"{task} train"] for task in ("SST", "STS", "Quora")] == [0.962, 0.943, 0.975]


def test_kalickis_row_with_pretraining():
    """It differs from the row without in its checkpoint alone, and starts from heads trained on that one."""
    figures = paper("kalicki2/mlm")
    assert [figures[f"F1 of {label}"] for label in range(5)] == [0.501, 0.551, 0.405, 0.553, 0.454]
    assert [figures[f"{task} train"] for task in ("SST", "STS", "Quora")] == [0.984, 0.957, 0.971]
    assert [figures[task] for task in ("SST", "STS", "Quora")] == [0.506, 0.442, 0.806]
    for one, other in (("mlm", "in_turn"), ("mlm-heads", "in_turn-heads")):
        a, b = (resolved(f"kalicki2/{name}") for name in (one, other))
        assert {name for name in a if a[name] != b[name]} - {"run_dir"} == {"model"}, one
        assert a["model"] == "{masked_lm}"
    assert row_of("kalicki2/mlm")[1].init == "mlm-heads"


@pytest.mark.parametrize("table", [YAN1, YAN_A1], ids=lambda table: table.name)
def test_yans_averages_are_our_score(table):
    """score = (SST + Quora + (STS + 1) / 2) / 3 of its own three figures: a figure typed wrong shows."""
    for row in table.rows:
        paper = row.paper
        score = (paper["SST"] + paper["Quora"] + (paper["STS"] + 1) / 2) / 3
        assert paper["score"] == pytest.approx(score, abs=0.0011), row.name


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ("yan1/baseline", {"option": "pretrain", "lr": 1e-3, "pairs": "concat", "schedule": "simultaneous"}),
        ("yan1/fused", {"clip": 0.1, "weight_decay": 0.01, "lr": 1e-5, "epochs": 10, "limit": {"quora": 14057}}),
        ("yan-a1/absdiff", {"schedule": "sequential", "pairs": "absdiff"}),
        ("yan-sts/classes", {"tasks": ["sts"], "sts_head": "classification"}),
        ("qin1/uneven", {"schedule": "round_robin", "batch_size": {"sst": 32, "quora": 64, "sts": 8}}),
        ("qin1/even", {"schedule": "balanced_round_robin", "step": "summed", "sts_head": "ordinal6", "batch_size": 8}),
        ("qin1/specialised", {"schedule": "balanced_round_robin", "step": "per_task", "sts_head": "linear"}),
        ("qin-figures/batch-64", {"batch_size": 64, "eval_train": True}),
        ("kalicki0/sst-heads", {"option": "pretrain", "batch_size": 64, "lr": 1e-3}),
        ("kalicki0/sst", {"option": "finetune", "batch_size": 32, "lr": 1e-5}),
        ("kalicki1/in_turn", {"schedule": "in_turn", "shuffle": "once", "sts_head": "linear", "pairs": "concat"}),
        ("kalicki1/mtdnn", {"schedule": "mtdnn_upsample", "batch_size": 32, "eval_train": True}),
        ("kalicki-f1/mtdnn-eighth", {"schedule": "mtdnn_upsample", "limit": {"quora": 0.125}, "epochs": 5}),
        ("extras/concat-cosine", {"pairs": "concat", "sts_head": "cosine"}),
    ],
)
def test_flags_of_the_rows(row, flags):
    found = resolved(row)
    assert {name: found[name] for name in flags} == flags


def test_heads_come_first_in_every_run_of_kalickis_tables():
    for name in ("kalicki0", "kalicki1", "kalicki2", "kalicki3", "kalicki4", "kalicki5"):
        for row in TABLES[name].rows:
            frozen = resolved(f"{name}/{row.name}")["option"] == "pretrain"
            assert frozen == (row.init is None)
            assert frozen or resolved(f"{name}/{row.init}")["option"] == "pretrain"


SHARED = [
    ("minbert/fused-simultaneous", "yan1/fused", "extras/base"),
    ("yan1/concat", "extras/concat"),
    ("yan-a1/fused", "extras/sequential"),
    ("yan1-cpu/fused", "extras-cpu/base"),
    ("yan-a1-cpu/fused", "extras-cpu/sequential"),
    ("qin1/specialised", "qin2/specialised", "qin-figures/base"),
    ("kalicki0/sst", "kalicki1/sst"),
    *[
        tuple(f"kalicki{number}{size}/{row}" for number in numbers)
        for size in ("", "-cpu")
        for row, numbers in (("in_turn-heads", (1, 3, 5)), ("in_turn", (1, 3, 5)), ("mtdnn", (1, 5)))
    ],
]


@pytest.mark.parametrize("names", SHARED, ids="=".join)
def test_rows_of_several_tables_that_are_one_run(names):
    flags = [{**resolved(name), "run_dir": None} for name in names]
    assert all(found == flags[0] for found in flags)


@pytest.mark.parametrize("table", ON_CPU, ids=lambda table: table.name)
def test_what_a_cpu_is_asked_for(table):
    """The rows of its full twin, at most 4,000 examples a task, 500 updates where the batch is 8, the same epochs where
    batch sizes are compared."""
    full = TABLES[table.name.removesuffix("-cpu")]
    assert table.rows == full.rows
    for row in table.rows:
        flags = resolved(f"{table.name}/{row.name}")
        assert flags["limit"].keys() == set(flags["tasks"])
        assert all(isinstance(rows, int) and rows <= 4000 for rows in flags["limit"].values())
        assert flags["tasks"] == ["cfimdb"] or 0 < flags["dev_limit"]["quora"] <= 2000
        assert flags["lr"] == (1e-3 if flags["option"] == "pretrain" else 5e-5)
        batches = make_batches(flags["schedule"], flags["limit"], flags["batch_size"], seed=0)
        counts = {task: found.count for task, found in batches.items()}
        steps = steps_of_epoch(flags["schedule"], counts, 0, flags["epochs"], seed=0, step=flags["step"])
        updates = len(steps) * flags["epochs"]
        if flags["batch_size"] == 8:
            assert 500 <= updates <= 1536, f"{row.name}: {updates} updates"
        else:
            assert (table.name, flags["epochs"]) == ("qin-figures-cpu", 1)


def test_figure_1_on_a_cpu_halves_quora_and_keeps_pairs_alike():
    table = TABLES["kalicki-f1-cpu"]
    flags = {row.name: resolved(f"{table.name}/{row.name}") for row in table.rows}
    shares = ("full", "half", "quarter", "eighth")
    assert [flags[f"in_turn-{share}"]["limit"]["quora"] for share in shares] == [4000, 2000, 1000, 500]
    for share in shares:
        one, other = flags[f"in_turn-{share}"], flags[f"mtdnn-{share}"]
        assert {name for name in one if one[name] != other[name]} <= {"schedule", "run_dir"}


# ------------------------------------------------------------------------------------ rows that start from others

CHAIN = replace(
    TABLE,
    rows=(
        Row("heads", "Heads", {"option": "pretrain", "lr": 1e-3}),
        Row("all", "All", {"option": "finetune", "lr": 1e-5}, base="heads", init="heads"),
        Row("fast", "Fast", {"lr": 1e-4}, base="all", init="heads"),
    ),
)


@pytest.fixture
def chain(script, monkeypatch):
    monkeypatch.setitem(TABLES, "demo", CHAIN)
    return script


def weights(row):
    return sorted(path.name for path in run_folder(row).glob("*.safetensors"))


def test_a_row_starts_from_another_whose_weights_stay_as_long_as_they_are_needed(chain, run, home, tiny_model):
    assert run("--only", "heads") == 0
    assert weights("heads") == ["model.safetensors"]
    assert run("--only", "all") == 0
    assert weights("heads") == ["model.safetensors"]  # for `fast`
    assert run() == 0
    assert chain.rows == ["heads", "all", "fast"]
    assert weights("heads") == weights("all") == weights("fast") == []
    folder = run_folder("heads")
    assert [flags.init for _, flags, _ in chain.calls] == [None, str(folder), str(folder)]
    assert [flags.model for _, flags, _ in chain.calls] == [str(tiny_model), None, None]
    result = result_of("all")
    assert result["model"] == result_of("heads")["model"]  # the checkpoint that it all began with
    assert str(home) not in json.dumps(result)
    assert run("--seeds", "1") == 0
    assert len(chain.calls) == 3


def test_the_row_to_start_from_runs_first_wherever_its_weights_are_missing(chain, run, home, capsys):
    assert run("--only", "fast", "--fraction", "0.5") == 0
    assert chain.rows == ["heads", "fast"]
    assert [flags.limit["sst"] for _, flags, _ in chain.calls] == [0.5, 0.5]
    assert run() == 0
    forget("all")  # its start has a result, but no weights any more
    assert run() == 0
    assert chain.rows[2:] == ["heads", "all", "fast", "heads", "all"]
    assert "from heads again (its weights are gone) ... ... done" in capsys.readouterr().out
    chain.fail = {"heads": 2}
    assert run("--only", "all", "--seeds", "2") == 1
    assert "all, seed-11712: from heads ... FAILED: error: out of memory" in capsys.readouterr().out


def test_a_result_is_stale_once_the_row_it_started_from_changed(chain, run, home, monkeypatch, capsys):
    run()
    slow = replace(CHAIN.rows[0], flags={"option": "pretrain", "lr": 2e-3})
    monkeypatch.setitem(TABLES, "demo", replace(CHAIN, rows=(slow, *CHAIN.rows[1:])))
    text, _ = shown(capsys)
    assert "Open: heads (changed since it ran), all (changed since it ran), fast (changed since it ran)." in text
    chain.interrupt = 5
    assert run() == 130
    assert chain.rows[3:] == ["heads", "all"]
    fast = replace(CHAIN.rows[0], flags={"option": "pretrain", "lr": 3e-3})
    monkeypatch.setitem(TABLES, "demo", replace(CHAIN, rows=(fast, *CHAIN.rows[1:])))
    assert run() == 0
    assert chain.rows[5:] == ["heads", "all", "fast"]
    assert [existed for _, _, existed in chain.calls[5:]] == [False] * 3  # what began with other weights is not resumed
    alone = replace(CHAIN.rows[1], init=None)
    monkeypatch.setitem(TABLES, "demo", replace(CHAIN, rows=(fast, alone, CHAIN.rows[2])))
    run()
    assert chain.rows[8:] == ["all"]
    assert "again (it started from another row)" in capsys.readouterr().out


def test_a_half_done_run_from_other_weights_is_not_continued(chain, run, monkeypatch):
    chain.interrupt = 2
    assert run() == 130
    slow = replace(CHAIN.rows[0], flags={"option": "pretrain", "lr": 2e-3})
    monkeypatch.setitem(TABLES, "demo", replace(CHAIN, rows=(slow, *CHAIN.rows[1:])))
    assert run() == 0
    assert chain.rows == ["heads", "all", "heads", "all", "fast"]
    assert chain.calls[3][2] is False  # the flags of `all` are what they were


def test_the_start_is_told_by_what_it_computed_not_by_when(chain, run, home):
    run()
    result = result_of("heads")
    result["finished"], result["scores"]["train_seconds"] = "later", 7.0
    store.put(CHAIN, result)
    run()
    assert len(chain.calls) == 3
    result["scores"]["dev"]["sst"]["accuracy"] = 0.9
    store.put(CHAIN, result)
    run("--only", "all")
    assert chain.rows[3:] == ["heads", "all"]  # its result is there, but no weights to start from


def test_the_same_run_in_another_table_is_not_run_twice(chain, run, home, monkeypatch, tiny_model, tiny_data, capsys):
    run()
    monkeypatch.setitem(TABLES, "twin", replace(CHAIN, name="twin", rows=(*CHAIN.rows, *TABLE.rows)))
    arguments = ("run", "twin", "--model", str(tiny_model), "--data_dir", str(tiny_data))
    assert experiments.main(arguments) == 0
    assert chain.rows[3:] == ["plain", "clipped", "part"]
    out = capsys.readouterr().out
    assert "all, seed-11711: the same as demo/all, which is there: SST 0.500" in out
    assert "3 run in" in out
    twin = result_of("all", table="twin")
    assert (twin["table"], twin["row"], twin["ran_as"]) == ("twin", "all", "demo/all")
    assert twin["scores"] == result_of("all")["scores"]
    assert experiments.main([*arguments, "--seeds", "2", "--only", "plain"]) == 0
    assert chain.rows[6:] == ["plain"]  # another seed is another run


def test_heads_first_then_everything_with_the_real_script(run, home, monkeypatch, capsys):
    """The second row moves by next to nothing, so it scores what the first did: it did start from those weights."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = {"tasks": "sst,sts", "pairs": "concat", "epochs": 2, "lr": 0.01, "option": "pretrain"}
    rows = (
        Row("heads", "Heads first", flags),
        Row("all", "Then all", {"option": "finetune", "lr": 1e-9, "epochs": 1}, base="heads", init="heads"),
    )
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, rows=rows))
    assert run() == 0, capsys.readouterr().out
    heads, everything = result_of("heads"), result_of("all")
    assert everything["scores"]["dev"]["sst"] == heads["scores"]["dev"]["sst"]
    assert everything["scores"]["dev"]["sts"]["pearson"] == pytest.approx(
        heads["scores"]["dev"]["sts"]["pearson"], abs=1e-4
    )
    assert everything["start"] == record.fingerprint(heads)
    assert everything["model"] == heads["model"]
    assert weights("heads") == []
