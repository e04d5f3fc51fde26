"""JSON is read in one place, which refuses what would crash or deceive later."""

import json

import pytest

from base_bert import BertConfig
from minbert.files import MOST_JSON, NUMBER, UserError, misfit, parse_json, read_json
from minbert.hub import pretraining_scores
from minbert.training.saved import saved_history, saved_record, saved_scores

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
        assert str(error.value).startswith(f"{tmp_path / name}: ")
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
