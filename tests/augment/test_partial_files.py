"""Partial files: what is in them is looked at before it is believed, and one command at a time has one."""

import pytest
from test_augmentation import Stop, command, some_rows, write_rows

from minbert.augment import copies
from minbert.augment.copies import augment
from minbert.text.rows import generator


def stopped_at(id, folder, monkeypatch):
    """The partial file of a command that was stopped at a row."""

    def stop(seed, this):
        if this == id:
            raise Stop
        return generator(seed, this)

    with monkeypatch.context() as patch:
        patch.setattr(copies, "generator", stop)
        with pytest.raises(Stop):
            augment(some_rows(), folder / "out.tsv", "tfidf")
    (partial,) = folder.glob("out.tsv.*.partial")
    return partial


DAMAGED = {  # what becomes of the eighth line of a partial file
    "zeros": lambda line: b"\0" * len(line),
    "not UTF-8": lambda line: line[:4] + b"\xff" + line[5:],
    "empty": lambda line: b"",
    "a cell missing": lambda line: line[: line.rindex(b"\t")],
    "a cell more": lambda line: line + b"\teda",
    "another id": lambda line: b"x" + line,
    "an id once more": lambda line: line.replace(b"r6\t", b"r5\t"),
    "an empty copy": lambda line: line[:3] + b" " + line[line.rindex(b"\t") :],
    "a line break in a copy": lambda line: line[:8] + b"\r" + line[9:],
    "another method": lambda line: line[:-1],
    "two lines in one": lambda line: line + line,
    "a line more": lambda line: line + b"\n" + line,
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_rows_are_made_again(tmp_path, monkeypatch, capsys, damage):
    augment(some_rows(), tmp_path / "whole.tsv", "tfidf")
    partial = stopped_at("r20", tmp_path, monkeypatch)
    lines = partial.read_bytes().split(b"\n")
    lines[7] = DAMAGED[damage](lines[7])
    partial.write_bytes(b"\n".join(lines))
    _, resumed = augment(some_rows(), tmp_path / "out.tsv", "tfidf")
    assert resumed == 6 + (damage == "a line more")
    assert f"{partial}, line {8 + (damage == 'a line more')}: damaged" in capsys.readouterr().out
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


@pytest.mark.parametrize("damage", ["header", "too long"])
def test_a_partial_file_of_another_form_is_made_again(tmp_path, monkeypatch, capsys, damage):
    augment(some_rows(), tmp_path / "whole.tsv", "tfidf")
    partial = stopped_at("r20", tmp_path, monkeypatch)
    if damage == "header":
        partial.write_bytes(partial.read_bytes().replace(b"sentence", b"text"))
    else:
        partial.write_bytes((tmp_path / "whole.tsv").read_bytes() + b"r60\ttext\ttfidf\n")
    _, resumed = augment(some_rows(), tmp_path / "out.tsv", "tfidf")
    assert resumed == (0 if damage == "header" else 60)
    assert "damaged" in capsys.readouterr().out
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


@pytest.mark.parametrize("other", [(), ("--seed", "3"), ("--method", "tfidf")], ids=["same", "seed", "method"])
def test_two_commands_at_once_on_one_out_end_in_a_line(tmp_path, monkeypatch, capsys, other):
    """The second begins while the first is at its fifth row. Were it let in, its copies would be lost in a moment."""
    source, out, codes = write_rows(tmp_path / "in.tsv"), tmp_path / "out.tsv", []
    words = ("--method", "eda", "--in", source, "--out", out)
    assert command(*words) == 0
    alone = out.read_bytes()

    def meanwhile(seed, id):
        if id == "r5" and not codes:
            codes.append(command(*words, *other))
        return generator(seed, id)

    monkeypatch.setattr(copies, "generator", meanwhile)
    assert command(*words) == 0
    assert codes == [2]
    assert f"{out}: another process is at work there" in capsys.readouterr().err
    assert out.read_bytes() == alone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tsv", "out.tsv"]
