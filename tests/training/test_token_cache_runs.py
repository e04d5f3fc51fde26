"""--token_cache of multitask_classifier.py: unlabelled text from files, and the bits of a run that has it in memory."""

import pytest
import tiny
import unlabelled_text
from kills import stopped_at

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
LEARN = "--tsa linear --mean_teacher kl --uda_threshold 0.2 --sts_head classification"


@pytest.fixture(scope="module")
def texts(tmp_path_factory, tiny_data):
    return unlabelled_text.flags_for(tmp_path_factory.mktemp("texts"), tiny_data)


@pytest.fixture
def argv(tmp_path, tiny_model, tiny_data, texts):
    def line(name, flags):
        shared = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / name, *tiny.FINETUNE)
        return (*shared, "--keep_state", *flags.format(cache=f"--token_cache {tmp_path / 'cache'}", **texts).split())

    return line


@pytest.mark.parametrize(
    "flags",
    [
        f"{LEARN} {{fresh}} {{fresh_uda}}",
        f"{LEARN} {{fresh}} {{fresh_uda}} --pairs concat --unlabeled_batch_size 5",
        "--mean_teacher mse {fresh} --max_length 9",
    ],
)
def test_the_bits_are_those_of_a_run_from_memory(argv, tmp_path, flags):
    outcomes = [tiny.script(*argv(name, f"{flags} {more}")) for name, more in (("plain", ""), ("cached", "{cache}"))]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[1].err
    tiny.assert_same_results(tmp_path / "plain", tmp_path / "cached")
    tables = [
        [line for line in outcome.out.splitlines() if line.startswith(("examples", "sst ", "sts ", "quora "))]
        for outcome in outcomes
    ]
    assert tables[0] == tables[1]  # as many examples, as long
    again = tiny.script(*argv("again", f"{flags} {{cache}}"))
    assert again.code == 0
    tiny.assert_same_results(tmp_path / "plain", tmp_path / "again")


def test_a_stopped_run_goes_on(argv, tmp_path):
    flags = f"{LEARN} {{fresh}} {{fresh_uda}} {{cache}}"
    assert tiny.script(*argv("whole", flags)).code == 0
    stopped_at(4, *argv("stopped", flags))
    assert tiny.script("--resume", tmp_path / "stopped").code == 0
    tiny.assert_same_results(tmp_path / "whole", tmp_path / "stopped")


def test_copies_of_other_texts_are_refused(argv, tmp_path, texts):
    """As without the cache, and in its words."""
    flags = "--uda sst={path} --unlabeled sst={fresh} {cache}"
    path = unlabelled_text.written(tmp_path / "few.tsv", {f"fresh{row}": ("the dog",) for row in range(5)})
    fresh = texts["fresh"].split("sst=")[1].split(",")[0]
    filled = flags.replace("{path}", str(path)).replace("{fresh}", fresh)
    error = tiny.script(*argv("a", filled)).error
    assert "5 of 12 unlabelled texts have a copy there by id; fewer than half" in error
    assert error.split("texts have")[0] in tiny.script(*argv("b", filled.replace("{cache}", ""))).error
    many = {f"r{row}": (f"{' '.join(tiny.WORDS[row % 40 :][:9])}",) for row in range(120)}
    moved = dict(zip(many, [*many.values()][-1:] + [*many.values()][:-1], strict=True))
    here, there = (unlabelled_text.written(tmp_path / f"{name}.tsv", of) for name, of in (("h", many), ("t", moved)))
    assert "share no more words" in tiny.script(*argv("c", f"--uda sst={there} --unlabeled sst={here} {{cache}}")).error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("{cache}", "--token_cache is of no use without --unlabeled"),
        ("--option pretrain --mean_teacher kl {fresh} {cache}", "--token_cache: on a frozen trunk"),
    ],
)
def test_mistakes(argv, flags, said):
    assert said in tiny.script(*argv("run", flags)).error
