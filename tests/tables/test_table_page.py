"""report.html of tables: its figures are those of `show`, its filters work in a browser, it is one harmless file."""

import re

import pytest
from browser import Page, needs_chromium, opened
from sweeps import TABLE, set_accuracy, shown

import experiments
from minbert.report import page
from minbert.tables import table_page
from minbert.tables.catalogue import TABLES
from minbert.tables.rows import Row, Table, flags_of


@pytest.fixture
def report(script, run, home, capsys):
    """The page of the table `demo`: three seeds of one row, one of another, and a row that is open."""
    run("--seeds", "3", "--only", "plain")
    run("--only", "clipped")
    set_accuracy("plain", {11711: 0.40, 11712: 0.44, 11713: 0.54})
    capsys.readouterr()
    path = home / "new" / "demo.html"
    assert experiments.main(["report", "demo", "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"report: {path}\n"
    return path


def rows_of(found):
    """{row: is it hidden} of a page."""
    return {a["data-row"]: "hidden" in a for a, _ in found.all("tr") if "data-row" in a}


def test_its_figures_are_those_of_the_markdown(report, capsys):
    _, rows = shown(capsys)
    found = Page.of(report.read_text(encoding="utf-8"))
    cells = [(a["data-name"], text) for a, text in found.all("td")]
    expected = [rows[title] for title in ("Plain", "Clipped", "Part")]
    for row, at in zip(expected, range(0, len(cells), 7), strict=True):
        of_row = dict(cells[at : at + 7])
        for heading in TABLE.columns:
            assert of_row[heading].strip().endswith(row[heading])
        assert [of_row[name].strip() for name in ("seeds", "epochs", "minutes")] == [
            row[name] for name in ("seeds", "epochs", "minutes")
        ]


def test_every_seed_is_a_dot_and_the_paper_a_diamond_on_one_scale(report):
    found = Page.of(report.read_text(encoding="utf-8"))
    sentences = [text for _, text in found.all("desc")]
    assert sentences[0] == "SST: seeds 0.400, 0.440, 0.540; the paper 0.511"
    seeds = [float(a["cx"]) for a, _ in found.all("circle", class_="seed")][3:6]  # after the sample in the header
    assert seeds == sorted(seeds)
    assert (seeds[1] - seeds[0]) / (seeds[2] - seeds[0]) == pytest.approx(0.04 / 0.14, abs=0.01)
    diamonds = [a["d"] for a, _ in found.all("path", class_="paper")]
    assert len(diamonds) == 1 + 3  # SST and score of one row, STS of another


def test_a_row_that_is_open_is_marked(report):
    found = Page.of(report.read_text(encoding="utf-8"))
    assert [text for _, text in found.all("span", class_="badge")] == ["not finished"]
    assert [a["data-open"] for a, _ in found.all("tr") if "data-open" in a] == ["no", "no", "yes"]


def test_without_names_all_tables_those_with_results_first(report, home, capsys):
    assert experiments.main(["report"]) == 0
    path = home / "runs" / "report.html"
    assert capsys.readouterr().out == f"report: {path}\n"
    found = Page.of(path.read_text(encoding="utf-8"))
    names = [a["data-table"] for a, _ in found.all("section")]
    assert sorted(names) == sorted(TABLES)
    assert names[0] == "demo"


def test_a_mistake_and_a_missing_package_are_a_line(home, capsys, monkeypatch):
    assert experiments.main(["report", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: no table nothing; ")
    monkeypatch.setattr(page, "can_render", lambda: False)
    assert experiments.main(["report", "demo"]) == 0
    said = capsys.readouterr().out
    assert said == "no report was written: it needs the package jinja2 (pip install jinja2)\n"


def test_it_is_one_file_and_can_be_heard(report):
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|fetch\(|https?://|src=", text)
    found = Page.of(text)
    assert len(found.all("h1")) == len(found.all("main")) == 1
    assert len(found.all("table")) == len(found.all("caption"))
    assert all(a.get("scope") in ("row", "col") for a, _ in found.all("th"))
    assert len(found.all("svg", role="img")) == len(found.all("desc"))
    assert len(found.all("label")) == len(found.all("select")) + len(found.all("input"))


def test_what_a_table_says_is_text(tmp_path, home, monkeypatch):
    evil = "<script>document.title='spoiled'</script>"
    table = Table("evil", evil, evil, {evil: "dev.sst.accuracy"}, (Row("a", evil, {}, paper={evil: 0.5}, note=evil),))
    table_page.write_tables([table], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert evil not in text
    assert len(Page.of(text).all("script")) == 1


# -------------------------------------------------------------------------------------------------- in a browser


@needs_chromium
@pytest.mark.parametrize(
    ("address", "left"),
    [
        ("", {"plain", "clipped", "part"}),
        ("#rows=finished", {"plain", "clipped"}),
        ("#rows=open", {"part"}),
        ("#find=CLIP", {"clipped"}),
        ("#table=demo&find=a+r", {"part"}),
        ("#find=clip&rows=open", set()),
        ("#table=no-such-table", {"plain", "clipped", "part"}),
        ("#method=option", {"plain", "clipped", "part"}),
    ],
)
def test_filters(report, address, left):
    found, console = opened(report, address)
    assert console == []
    assert {name for name, hidden in rows_of(found).items() if not hidden} == left
    ((_, said),) = found.all("output")
    assert said == f"{len(left)} of 3 rows"
    assert [("hidden" in a) for a, _ in found.all("section")] == [not left]
    assert "hidden" not in found.all("form")[0][0]


@needs_chromium
def test_rows_are_found_by_their_method(home, tmp_path):
    table = TABLES["extras-cpu"]
    table_page.write_tables([TABLES["demo"], table], tmp_path / "page.html")
    found, console = opened(tmp_path / "page.html", "#method=pcgrad")
    assert console == []
    left = {name for name, hidden in rows_of(found).items() if not hidden}
    assert left == {row.name for row in table.rows if flags_of(table, row).get("pcgrad")} != set()
    assert [(a["data-table"], "hidden" in a) for a, _ in found.all("section")] == [
        ("demo", True),
        ("extras-cpu", False),
    ]
