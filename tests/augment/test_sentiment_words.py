"""Words that a copy may not change, and who keeps them."""

import pytest

import augmentation
from minbert.augment.sentiment_words import decides, none
from minbert.augment.word_changes import Eda, TfIdf
from minbert.text.rows import generator

REVIEW = "It is not a Good film, but I didn't find it boring: the acting, although slow, never fails."


@pytest.mark.parametrize("word", ["not", "Good", "didn't", "DIDN’T", "boring:", "(never)", "fails."])
def test_words_that_decide_a_sentiment(word):
    assert decides(word)


@pytest.mark.parametrize("word", ["film", "acting", "note", "goods", "n", "", "nt"])
def test_words_that_do_not(word):
    assert not decides(word)


@pytest.mark.parametrize("change", [TfIdf, Eda])
def test_what_decides_a_sentiment_stays(change):
    """In a hundred copies with most words changed each of them is there; without `keeps` they are not."""
    words = [word for word in REVIEW.split() if decides(word)]
    assert len(words) == 9
    others = [*3 * [REVIEW], "a dog and a cat on a mat", "the story of a film about the acting in a house"]
    copies = {
        keeps: [change(others, 0.9, keeps)(REVIEW, generator(0, i)).lower() for i in range(100)]
        for keeps in (decides, none)
    }
    lost = {keeps: sum(word.lower() not in copy for copy in made for word in words) for keeps, made in copies.items()}
    assert lost[decides] == 0
    assert lost[none] > 300
    assert len(set(copies[decides])) > 20


def test_single_texts_keep_them_by_default_and_pairs_do_not(tmp_path, capsys):
    header = "id\tsentence\n"
    lines = "".join(f"{i}\t{REVIEW}\n" for i in range(30)) + "x\tthe story of a film about the acting in a house\n"
    (tmp_path / "a.tsv").write_text(header + lines)
    pairs = "".join(f"{i}\t{REVIEW}\tthe story of a house {i}\n" for i in range(30))
    (tmp_path / "b.tsv").write_text("id\tsentence1\tsentence2\n" + pairs)
    words = [word.lower() for word in REVIEW.split() if decides(word)]

    def lost(name, *flags):
        out = tmp_path / "out.tsv"
        argv = ["--method", "tfidf", "--p", "0.9", "--in", str(tmp_path / name), "--out", str(out), *flags]
        assert augmentation.main(argv) == 0
        copies = [line.split("\t")[1].lower() for line in out.read_text().splitlines()[1:31]]
        return sum(word not in copy for copy in copies for word in words)

    assert lost("a.tsv") == lost("a.tsv", "--keep_words", "sentiment") == 0
    assert "pairs" not in capsys.readouterr().out
    assert lost("a.tsv", "--keep_words", "none") > 50
    assert lost("b.tsv") == lost("b.tsv", "--keep_words", "none") > 50
    assert "warning: these are pairs, and a copy of a pair may not keep its label" in capsys.readouterr().out
    assert lost("b.tsv", "--keep_words", "sentiment") == 0
