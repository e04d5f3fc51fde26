"""The report: means, deviations and marks by hand, and the pictures' contents."""

import json
from dataclasses import replace

import pytest
from sweeps import TABLE, result_of, shown

import experiments
from minbert.hub import MINILM, SHA256
from minbert.tables import pictures, places, report, store
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row


def test_mean_and_deviation_by_hand(script, run, capsys):
    script.accuracy = {11711: 0.40, 11712: 0.44, 11713: 0.54}
    run("--seeds", "3", "--only", "plain")
    run("--only", "clipped")
    script.accuracy = {11711: 0.1}
    run("--only", "plain", "--fraction", "0.5")
    text, rows = shown(capsys)
    # mean (0.40 + 0.44 + 0.54) / 3 = 0.46; squares 0.0036 + 0.0004 + 0.0064 = 0.0104, over 2 is 0.0052, root 0.0721
    assert "| Plain " in text
    lines = [line for line in text.splitlines() if line.startswith("| Plain ")]
    whole, part = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert whole == ["Plain", "0.460 ± 0.072 (0.511)", "0.300 ± 0.000", "0.250 ± 0.000", "0.560 ± 0.072 (0.752)",
                     "1", "3", "2", "2.0"]  # fmt: skip
    assert part == ["Plain", "0.100 (0.511)", "0.300", "0.250", "0.200 (0.752)", "0.5", "1", "2", "2.0"]
    assert rows["Clipped"]["SST"] == "0.400"  # one seed has no deviation, and the paper no figure
    assert rows["Part"] == {
        "": "Part", "SST": "", "F1 of neutral": "", "STS": "open (0.400)", "score": "", "fraction": "", "seeds": "0",
        "epochs": "", "minutes": "",
    }  # fmt: skip
    assert "Open: part." in text
    assert "- Plain: with a note" in text
    assert "Nobody, Table 1" in text
    assert "abacus" in text
    assert "Quora duplicate pairs" not in text


def test_a_figure_on_part_of_a_dev_set_is_marked(script, run, capsys):
    run()
    _, rows = shown(capsys)
    assert rows["Part"]["score"] == "0.600*"  # Quora, one of the three, was scored on 9 rows
    assert rows["Part"]["STS"] == "0.250 (0.400)"
    assert rows["Plain"]["score"] == "0.600 (0.752)"


def test_models_and_data_are_not_averaged_together(script, run, home, tmp_path, capsys):
    run("--seeds", "2", "--only", "plain")
    result = result_of("plain", 11712)
    result["model"] = {"name": "minilm", "source": "a package", "sha256": SHA256[MINILM]}
    store.put(TABLE, result)
    text, rows = shown(capsys)
    assert [row["seeds"] for name, row in rows.items() if name.startswith("Plain")] == ["1", "1"]
    assert {name.split(" [")[1].split(",")[0] for name in rows if name.startswith("Plain")} == {"tiny", "minilm"}
    assert "Quora duplicate pairs" in text


def test_a_tables_note_stands_below_it(script, run, monkeypatch, capsys):
    monkeypatch.setitem(TABLES, "demo", replace(TABLE, note="On few examples."))
    assert "\n\nOn few examples.\n" in shown(capsys)[0]


def test_pictures_are_drawn_where_asked(script, run, home, tmp_path, capsys):
    assert experiments.main(["show", "demo"]) == 0
    assert "drawn" not in capsys.readouterr().out  # nothing to draw yet
    run("--seeds", "2")
    assert experiments.main(["show", "demo", "--out", str(tmp_path / "pictures")]) == 0
    for name in ("bars.png", "curves.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")


def test_show_leaves_the_working_tree_clean(script, run, home, capsys):
    """By default the pictures go where git does not look."""
    run("--publish")
    before = {path: path.read_bytes() for path in (home / "results").rglob("*")}
    shown(capsys)
    assert {path: path.read_bytes() for path in (home / "results").rglob("*")} == before
    assert {path.name for path in (home / "runs/pictures/demo").iterdir()} == {"bars.png", "curves.png"}
    assert "/runs/" in (places.HERE / ".gitignore").read_text().splitlines()


def test_the_curves_are_means_by_epoch_of_trained_tasks(script, run, monkeypatch):
    script.accuracy = {11711: 0.4, 11712: 0.6}
    rows = (*TABLE.rows, Row("sst", "SST alone", {"tasks": "sst"}))
    table = replace(TABLE, rows=rows)
    monkeypatch.setitem(TABLES, "demo", table)
    run("--seeds", "2")
    lines = report.collect(table)
    assert lines[0].history("dev.sst.accuracy") == {1: [0.4, 0.6], 2: [0.4, 0.6]}
    panels = {panel.get_title(): panel for panel in pictures._curves(table, lines).axes}
    assert len(panels["SST"].lines) == 4
    assert len(panels["STS"].lines) == 3  # the row that trains SST alone has no STS curve
    assert list(panels["SST"].lines[0].get_ydata()) == pytest.approx([0.5, 0.5])
    bars = {panel.get_title(): panel for panel in pictures._bars(table, lines).axes}
    widths = [bar.get_width() for bar in bars["SST"].patches]
    assert widths == pytest.approx([0.5, 0.511, 0.5, 0.5, 0.5])  # ours, the paper's, and the rows it has not


def change_history(row, seed, *records):
    """Write what differs from the default into the epochs of a result's history."""
    result = result_of(row, seed)
    (first,) = {json.dumps(record) for record in result["history"][:1]}
    result["history"] = [{**json.loads(first), "epoch": n, **record} for n, record in enumerate(records, 1)]
    store.put(TABLE, result)


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ([0.0, 0.01, 0.002], "at most 0.01"),
        ([0.0, 0.011, 0.002], None),
        ([0.99, 1.0, 0.995], "at least 0.99"),
        ([0.98, 1.0, 1.0], None),
        ([0.0, 1.0, 1.0], None),
    ],
)
def test_a_row_that_was_not_treated_says_so(script, run, home, capsys, kept, says):
    run("--seeds", "2", "--only", "plain")
    for seed in (11711, 11712):
        change_history("plain", seed, *({"kept": {"sst UDA kept": share, "sts UDA kept": 0.5}} for share in kept))
    text, _ = shown(capsys)
    assert ("| Plain † " in text) == bool(says)
    assert ("† Not treated, so no comparison" in text) == bool(says)
    if says:
        assert f"\n- Plain: sst UDA kept {says}\n" in text
        change_history("plain", 11711, {"kept": {"sst UDA kept": 0.5}})  # one seed was treated
        assert "†" not in shown(capsys)[0]


def test_the_last_epoch_stands_beside_the_best(script, run, home, capsys):
    run("--seeds", "2", "--only", "plain")
    best = result_of("plain", 11711)["scores"]["dev"]["sst"]["accuracy"]
    for seed, last in ((11711, best), (11712, best - 0.1)):
        change_history("plain", seed, {"dev": {"sst": {"accuracy": best}}}, {"dev": {"sst": {"accuracy": last}}})
    text, rows = shown(capsys)
    assert rows["Plain"]["SST"] == f"{best:.3f} ± 0.000 [last {best - 0.05:.3f}] (0.511)"
    assert "[last" not in rows["Plain"]["STS"]  # the history says nothing of it
    assert "[last ...]: the mean after the last epoch" in text
    for seed in (11711, 11712):
        change_history("plain", seed, {"dev": {"sst": {"accuracy": best}}})
    assert "[last" not in shown(capsys)[0]
