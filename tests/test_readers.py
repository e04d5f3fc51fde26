"""Lines and JSON are each read in one place, which refuses what would crash, deceive or fill the memory later."""

import gzip
import io
import json

import pytest

from base_bert import BertConfig
from minbert import readers
from minbert.files import UserError
from minbert.hub import pretraining_scores
from minbert.readers import MOST_JSON, NUMBER, lines_of, misfit, parse_json, read_json
from minbert.training.saved import saved_history, saved_record, saved_scores

# ----------------------------------------------------------------------------------------------------------- lines


def written(folder, content, name="a.txt"):
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz"])
def test_lines_keep_their_ends_and_lose_the_byte_order_mark(tmp_path, name):
    content = "\ufeffone\r\n\ntwo\u2028three\rfour\n\ufefffive".encode()
    expected = [(1, "one\r\n"), (2, "\n"), (3, "two\u2028three\rfour\n"), (4, "\ufefffive")]
    assert list(lines_of(written(tmp_path, content, name))) == expected
    assert list(lines_of(io.BytesIO(content), "here")) == expected
    assert list(lines_of(written(tmp_path, b"", name))) == []


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"x" * 101, "longer than 0 MiB"),
        (b"x" * 100 + b"\n", "longer than 0 MiB"),
        (b"caf\xe9\n", "bytes that are not UTF-8"),
        (b"\xed\xa0\xbd\n", "bytes that are not UTF-8"),
        (b"a\0b\n", "a NUL byte"),
    ],
)
def test_a_line_that_is_no_text_is_named(tmp_path, monkeypatch, name, line, says):
    monkeypatch.setattr(readers, "MOST_LINE", 100)
    path = written(tmp_path, b"y" * 99 + b"\n\n" + line + b"more\n", name)
    read = []
    with pytest.raises(UserError) as error:
        read.extend(number for number, _ in lines_of(path))  # extend keeps what came before
    assert str(error.value).startswith(f"{path}, line 3: {says}")
    assert read == [1, 2]
    with pytest.raises(UserError, match=r"^here, line 3: "):
        list(lines_of(io.BytesIO(b"\n\n" + line), "here"))


def test_a_file_without_an_end_is_not_waited_for():
    with pytest.raises(UserError, match=r"^/dev/zero, line 1: longer than 16 MiB"):
        next(lines_of("/dev/zero"))


def test_a_small_file_does_not_unpack_to_gigabytes(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as f:
        for _ in range(40):
            f.write(b'{"id": 1, "text": "a"}\n' * 50_000)
    assert path.stat().st_size < 300_000
    with pytest.raises(
        UserError, match=r"bomb\.jsonl\.gz, line \d+: a \.gz file that unpacks to more than 100 times"
    ) as error:
        list(lines_of(path))
    assert int(str(error.value).split("line ")[1].split(":")[0]) < 2_000_000


# ------------------------------------------------------------------------------------------------------------ JSON

BAD_JSON = {
    "nothing": (b"", "Expecting value"),
    "cut": (b'{"a": 1', "Expecting"),
    "not UTF-8": (b'{"a": "\xff"}', "bytes that are not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "bytes that are not UTF-8"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "the key 'c' comes twice"),
    "NaN": (b'{"a": NaN}', "'NaN' is no number"),
    "infinity": (b'{"a": -Infinity}', "'-Infinity' is no number"),
    "beyond floats": (b'{"a": -1e999}', "'-1e999' is too large"),
    "many digits": (b'{"a": ' + b"9" * 10_000 + b"}", "is no number"),
    "nested brackets": (b"[" * 100_000, "nested too deep"),
    "nested lists": (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deep"),
    "nested objects": (b'{"a": ' * 100 + b"1" + b"}" * 100, "nested too deep"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_a_value_error_of_few_words(case):
    content, says = BAD_JSON[case]
    with pytest.raises(ValueError, match=says) as error:
        parse_json(content)
    assert type(error.value) in (ValueError, json.JSONDecodeError)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 100


def test_good_json_is_what_it_was():
    value = {"a": [1, -2.5, 1e-300, 10**20, True, None, "é 😀 \\ud83d"], "b": {"c": {}}, "": "\u2028"}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=2)):
        assert parse_json(text) == parse_json(text.encode()) == parse_json(b"\xef\xbb\xbf" + text.encode()) == value
    assert type(parse_json("1")) is int
    assert type(parse_json("1.0")) is float


@pytest.mark.parametrize("half", [r"\ud83d", r"\uDE00", r"\ude00\ud83d", r"\ud83d \ude00"])
def test_half_an_emoji_becomes_what_a_file_can_hold(half):
    (key, (text,)), *_ = parse_json(f'{{"x{half}": ["{half} \\ud83d\\ude00"]}}').items()
    assert "?" in key
    assert "?" in text
    assert text.endswith("😀")
    (key + text).encode()


@pytest.mark.parametrize("case", [*BAD_JSON, "a list", "null", "a folder", "none", "huge"])
def test_every_saved_file_is_refused_in_one_line(tmp_path, case):
    """Whichever reader it is; a masked-LM checkpoint without scores has none."""
    names = ("config.json", "grid.json", "scores.json", "metrics.jsonl")
    contents = {"a list": b"[]", "null": b"null", "huge": b" " * (MOST_JSON + 1)}
    for name in () if case == "none" else names:
        if case == "a folder":
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(contents[case] if case in contents else BAD_JSON[case][0] or b"\n")
    readers = [lambda name=name: saved_record(tmp_path / name) for name in names[:2]]
    readers += [lambda: saved_scores(tmp_path), lambda: BertConfig.from_file(tmp_path / "config.json")]
    readers += [lambda: saved_history(tmp_path)]
    for name, reader in zip((*names[:3], "config.json", names[3]), readers, strict=True):
        with pytest.raises(UserError) as error:
            reader()
        assert str(error.value).startswith((f"{tmp_path / name}: ", f"{tmp_path / name}, line 1: "))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300 + len(str(tmp_path))
    assert pretraining_scores(tmp_path / "bert") is None


SHAPE = {"name": str, "count?": int, "sizes": [NUMBER], "data": {...: {"sha": str}}}
FITTING = {"name": "a", "sizes": [1, 2.5], "data": {"x": {"sha": "0", "more": None}}, "more": [None]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"count": 3, "sizes": [], "data": {}}, None),
        ({"name": None}, "name is None, expected str"),
        ({"count": True}, "count is True, expected int"),
        ({"count": 3.0}, "count is 3.0, expected int"),
        ({"sizes": {}}, "sizes is no list"),
        ({"sizes": [1, "2"]}, "an item of sizes is '2', expected int or float"),
        ({"data": []}, "data is no object"),
        ({"data": {"y": {}}}, "y has no sha"),
        ({"data": {"y": {"sha": ["x" * 1000]}}}, "sha is ['" + "x" * 38 + "..., expected str"),
    ],
)
def test_where_a_value_has_not_its_shape(tmp_path, change, says):
    assert misfit({**FITTING, **change}, SHAPE) == says
    (tmp_path / "a.json").write_text(json.dumps({**FITTING, **change}))
    if says is None:
        assert read_json(tmp_path / "a.json", "a thing", "mend it", SHAPE) == {**FITTING, **change}
    else:
        with pytest.raises(UserError) as error:
            read_json(tmp_path / "a.json", "a thing", "mend it", SHAPE)
        assert str(error.value) == f"{tmp_path / 'a.json'}: not a thing ({says}); mend it"


def test_what_is_missing_is_named():
    assert misfit({}, SHAPE) == "it has no data, name, sizes"
    assert misfit([], SHAPE) == "it is no object"
