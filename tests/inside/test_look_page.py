"""bert.html: its numbers are the tensors' own, rounded; it is one harmless file; it opens, and is walked by keys."""

import json
import math

import numpy as np
import pytest
import torch
from browser import Page, needs_chromium, opened

from bert import BertModel
from minbert import hub
from minbert.files import UserError
from minbert.inside.look_page import COLUMNS, write_look
from minbert.inside.numbers import decoded, encoded
from minbert.inside.steps import BATCH, BLOCK, HEADS, KINDS
from minbert.inside.trace import trace
from minbert.report import page
from minbert.text.tokenization import Tokenizer

EVIL = "<img src=x onerror=alert(1)>'\"</script>"
TEXTS = ("the dog was a good dog", "a film")


@pytest.fixture(scope="module")
def model(tiny_model):
    return BertModel.from_pretrained(tiny_model), Tokenizer.from_folder(tiny_model)


@pytest.fixture(scope="module")
def seen(model):
    return trace(*model, *TEXTS)


@pytest.fixture(scope="module")
def written(tmp_path_factory, seen):
    path = tmp_path_factory.mktemp("look") / "bert.html"
    write_look(path, seen, "tiny", TEXTS)
    return path


def data_of(path):
    ((_, text),) = Page.of(path.read_text(encoding="utf-8")).all("script", id="data")
    return json.loads(text)


# --------------------------------------------------------------------------------------------------------- numbers


def test_numbers_are_rounded_and_no_more():
    values = torch.tensor([[0.12344, -3.0], [2.00006, -math.inf]])
    kept = encoded(values)
    assert kept["places"] == 4
    assert decoded(kept).tolist() == [[0.1234, -3], [2.0001, -math.inf]]
    for size, places in ((3.2, 4), (3.3, 3), (32, 3), (33, 2), (4e4, -1)):
        assert encoded(torch.tensor([size]))["places"] == places
        assert decoded(encoded(torch.tensor([-size]))).item() == pytest.approx(-size, abs=0.5 * 10.0**-places)
    assert encoded(torch.tensor([0.5]), 3)["places"] == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_is_no_number(value):
    with pytest.raises(UserError, match="NaN or infinity"):
        encoded(torch.tensor([0.0, value]))


def test_every_number_is_the_module_s_own_rounded(written, seen):
    data = data_of(written)
    drawn = [kind for kind in KINDS if kind.name not in ("ids", "mask")]
    assert data["values"].keys() == {kind.name for kind in drawn}
    for kind in drawn:
        for text, layers in enumerate(data["values"][kind.name]):
            assert len(layers) == (2 if kind.room == "layer" else 1)
            for layer, kept in enumerate(layers):
                part = seen.part(kind.name, layer if kind.room == "layer" else None, text).double().numpy()
                if kind.form == BATCH:
                    part = part[None]
                if kind.form not in (HEADS, BLOCK):
                    part = part[:, :COLUMNS]
                assert np.array_equal(decoded(kept), np.rint(part * 10 ** kept["places"]) / 10 ** kept["places"])


def test_ids_types_and_mask_are_those_of_the_pass(written, seen):
    for text, sentence in enumerate(data_of(written)["sentences"]):
        assert [row["id"] for row in sentence["inputs"]] == seen.ids[text].tolist()
        assert [row["mask"] for row in sentence["inputs"]] == seen.mask[text].tolist()
        assert [row["token"] for row in sentence["inputs"] if row["mask"]] == seen.tokens(text) == sentence["tokens"]


def test_code_and_shapes_stand_beside_each_step(written, seen):
    text = Page.of(written.read_text(encoding="utf-8"))
    codes = [words for _, words in text.all("pre")]
    shapes = [words for _, words in text.all("span", class_="shape")]
    assert len(codes) == len(shapes) == len(KINDS)
    for kind, code, shape in zip(KINDS, codes, shapes, strict=True):
        layer = 0 if kind.room == "layer" else None
        assert seen.code(kind.name, layer).text in code
        assert shape == f"{kind.shape} = {list(seen[kind.name, layer].shape)}"


def test_two_texts_are_coloured_by_one_scale(written):
    for kept in data_of(written)["values"].values():
        for first, second in zip(*kept, strict=True):
            assert first["most"] == second["most"]


# ------------------------------------------------------------------------------------------------------ one page


def test_it_asks_for_nothing_and_says_so(written):
    text = written.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    assert not [
        a for tag, a, _ in Page.of(text).elements if "src" in a or (tag == "a" and not a["href"].startswith("#"))
    ]


def test_what_a_text_says_is_text(tmp_path, model):
    write_look(tmp_path / "bert.html", trace(*model, EVIL), EVIL, [EVIL], [EVIL])
    found = Page.of((tmp_path / "bert.html").read_text(encoding="utf-8"))
    assert not found.all("img")
    assert len(found.all("script")) == 2
    assert data_of(tmp_path / "bert.html")["sentences"][0]["text"] == EVIL


def test_a_text_that_is_too_long_for_a_page(tmp_path, model):
    with pytest.raises(UserError, match="text 2 has 72 tokens, a page room for 64"):
        write_look(tmp_path / "bert.html", trace(*model, "dog", "dog " * 70), "tiny", ["dog", "dog " * 70])


def test_without_jinja2_it_is_told(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(page, "can_render", lambda: False)
    with pytest.raises(UserError, match="pip install jinja2"):
        write_look(tmp_path / "bert.html", seen, "tiny", TEXTS)


def test_32_tokens_of_minilm_are_under_2_mb(tmp_path):
    try:
        folder = hub.find_checkpoint("minilm", online=False).folder
    except UserError:
        pytest.skip("needs minilm")
    minilm = BertModel.from_pretrained(folder), Tokenizer.from_folder(folder)
    text = "the " * 30
    seen = trace(*minilm, text)
    assert len(seen.tokens()) == 32
    write_look(tmp_path / "bert.html", seen, "minilm", [text], before=seen)
    assert (tmp_path / "bert.html").stat().st_size < 2_000_000


# --------------------------------------------------------------------------------------------------- in a browser


def shown(value, places):
    return "−∞" if value == -math.inf else f"{value:.{places}f}".replace("-", "−")


@needs_chromium
def test_the_numbers_shown_are_those_of_the_tensors(written, seen):
    """The page in its form of numbers, layer 2 and head 2: each cell, as text."""
    found, console = opened(written, "#layer=2&head=2&word=3&numbers=yes")
    assert console == []
    data, drawn = data_of(written), found.all("figure", class_="tensor")
    assert len(drawn) == 2 * (len(KINDS) - 2)
    tables = tables_within(found)
    for (a, _), cells in zip(drawn, tables, strict=True):
        kind = next(kind for kind in KINDS if kind.name == a["data-tensor"])
        layer, text = (1 if kind.room == "layer" else None), int(a["data-text"])
        part = seen.part(kind.name, layer, text, 1 if kind.form in (HEADS, BLOCK) else None)
        part = part[None] if kind.form == BATCH else part
        places = data["values"][kind.name][text][layer or 0]["places"]
        expected = np.rint(part.double().numpy() * 10**places) / 10**places
        assert cells == [shown(value, places) for value in expected.flatten()], kind.name


def tables_within(found):
    """[texts of the data cells] of each figure of a tensor."""
    tables = []
    for tag, _, text in found.elements:
        if tag == "figure":
            tables.append([])
        elif tag == "td" and tables and text:
            tables[-1].append(text)
    return tables


@needs_chromium
def test_a_head_and_a_word_from_the_address(written, seen):
    found, console = opened(written, "#layer=2&head=1&word=4")
    assert console == []
    ((chosen, _),) = [(a, t) for a, t in found.all("button", aria_pressed="true") if "data-layer" in a]
    assert (chosen["data-layer"], chosen["data-head"], chosen["tabindex"]) == ("1", "0", "0")
    words = [(a, text) for a, text in found.all("button") if a.get("data-word")]
    assert [a["data-word"] for a, _ in words if a["aria-pressed"] == "true"] == ["3", "3"]
    row = seen.part("softmax", 1, 0, 0)[3].double()
    tokens = seen.tokens(0)
    assert [text for _, text in words[: len(tokens)]] == [
        f"{token}{shown(round(share, 3), 3)}" for token, share in zip(tokens, row.tolist(), strict=False)
    ]
    most = int(row.argmax())
    assert found.all("p", class_="said")[0][1].startswith(
        f"“{tokens[3]}” takes most from {tokens[most]} {row[most]:.3f}"
    )


@needs_chromium
@pytest.mark.parametrize("address", ["", "#layer=99&head=0&word=x", "#steps", "#layer=2&head=2&word=999"])
def test_it_opens_at_any_address(written, address):
    found, console = opened(written, address)
    assert console == []
    assert len([a for a, _ in found.all("button", aria_pressed="true") if "data-layer" in a]) == 1
    assert len(found.all("canvas")) > 4


@needs_chromium
def test_arrow_keys_walk_over_heads_and_words(written, tmp_path):
    press = """<script>
    const key = name => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
    document.querySelector(".heads button[tabindex='0']").focus();
    key("ArrowDown"); key("ArrowRight"); key("ArrowRight");
    document.querySelector(".words button[tabindex='0']").focus();
    key("End"); key("ArrowLeft");
    document.querySelector("canvas[tabindex='0']").focus(); key("ArrowRight");
    </script>"""
    pressed = tmp_path / "pressed.html"
    pressed.write_text(written.read_text(encoding="utf-8").replace("</body>", f"{press}</body>"), encoding="utf-8")
    found, console = opened(pressed)
    assert console == []
    ((chosen, _),) = [(a, t) for a, t in found.all("button", aria_pressed="true") if "data-layer" in a]
    assert (chosen["data-layer"], chosen["data-head"]) == ("1", "1")  # two heads: the last stays the last
    assert {a["data-word"] for a, _ in found.all("button", aria_pressed="true") if "data-word" in a} == {"6", "3"}
    kept = data_of(written)["values"]["word"][0][0]
    value = decoded(kept)[0, 1]
    assert found.all("output", aria_live="polite")[1][1] == f"[CLS], column 1: {shown(value, kept['places'])}"
