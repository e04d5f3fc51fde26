"""The command line of experiments.py."""

import subprocess
import sys

import pytest

import experiments
from minbert.tables import places
from minbert.tables.catalogue import TABLES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "absent"), "no table absent; experiments.py list has their names"),
        (("show", "yan1-gpu"), "no table yan1-gpu; is it yan1-cpu?"),
        (("compare", "demo", "plain", "absent"), "no row absent"),
        (("compare", "demo", "plain", "part"), "plain and part of table demo have no seed, model and data in common"),
        (("compare", "demo", "plain", "part", "--column", "RTE"), "no column RTE; its columns: SST, F1 of neutral"),
        (("run", "demo", "--only", "absent"), "no row absent; its rows: plain, clipped, part"),
        (("run", "demo", "--seeds", "0"), "--seeds: '0': expected a whole number above 0"),
        (("run", "demo", "--fraction", "1.5"), "--fraction: '1.5': expected a number above 0 and at most 1"),
        (("run", "demo", "--jobs", "0"), "--jobs: '0': expected a whole number above 0"),
        (("run", "demo", "--minutes", "0"), "--minutes: '0': expected a number above 0"),
        (("run", "demo", "--shard", "0/4"), "--shard: '0/4': expected I/N, as 1/4"),
        (("run", "demo", "--shard", "5/4"), "--shard: '5/4': expected I/N, as 1/4"),
        (("run", "demo", "--shard", "2"), "--shard: '2': expected I/N, as 1/4"),
        (("run", "demo", "--fraction", "0"), "--fraction: '0': expected a number above 0 and at most 1"),
        (("run", "demo", "--data_dir", "/absent"), "/absent: no such folder"),
    ],
)
def test_mistakes_are_one_line(script, capsys, arguments, message):
    assert experiments.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert script.calls == []


def test_list_is_a_line_a_table_and_list_table_its_rows(script, run, capsys):
    run("--seeds", "2", "--only", "part")
    capsys.readouterr()
    assert experiments.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(TABLES)
    assert next(line for line in lines if line.startswith("demo ")).split()[1:5] == ["3", "rows", "2", "results"]
    assert experiments.main(["list", "demo"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {row.name} " in out for row in TABLES["demo"].rows)
    assert "\n  part                 2 results  --epochs 2 --batch_size 4 --option finetune" in out


@pytest.mark.parametrize("argument", ["--help", "list"])
def test_help_and_list_need_neither_torch_nor_matplotlib(argument):
    code = (
        "import sys\nimport experiments\n"
        f"try:\n    experiments.main(['{argument}'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'matplotlib', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=places.HERE, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
