"""Two rows compared seed by seed: by hand, and against scipy."""

import numpy as np
import pytest
import scipy.stats
from sweeps import TABLE, result_of, set_accuracy

import experiments
from minbert.tables import store
from minbert.tables.comparison import FEWEST_DRAWN, T, paired, verdict


def test_students_quantiles():
    for degrees, quantiles in T.items():
        assert quantiles == pytest.approx(scipy.stats.t.ppf([0.975, 0.8], degrees), abs=5.1e-4)


@pytest.mark.parametrize("n", [2, 3, 5, 11, 13, 14, 40])
def test_interval_and_test_against_scipy(n):
    """An interval leaves 0 out exactly where the paired t-test has p < 0.05; between the degrees of freedom of the list
    the wider interval is taken."""
    random = np.random.default_rng(n)
    a, b = random.normal(0.5, 0.02, n), random.normal(0.49, 0.02, n)
    difference, half, smallest = paired(list(a), list(b))
    theirs = scipy.stats.ttest_rel(a, b)
    low, high = theirs.confidence_interval(0.95)
    assert difference == pytest.approx((a - b).mean(), abs=1e-15)
    expected = (high - low) / 2
    assert half == pytest.approx(expected, rel=5e-4) if n - 1 in T else expected < half < 1.02 * expected
    assert smallest > half
    for shift in np.linspace(-0.1, 0.1, 41):
        difference, half, _ = paired(list(a + shift), list(b))
        p = scipy.stats.ttest_rel(a + shift, b).pvalue
        if not 0.045 < p < 0.055:
            assert (verdict(difference, half, max(n, 3)) == "differs") == (p < 0.05)


def test_the_smallest_difference_is_seen_four_times_in_five():
    """Drawn 4,000 times: at the true difference that it names (here from the true deviation) 80 % are called."""
    n, deviation, random = 6, 0.02, np.random.default_rng(0)
    true = (T[n - 1][0] + T[n - 1][1]) * deviation / n**0.5
    draws = random.normal(true, deviation, (4000, n))
    called = [verdict(*paired(list(row), [0] * n)[:2], n) == "differs" for row in draws]
    assert np.mean(called) == pytest.approx(0.8, abs=0.04)


def test_a_claim_needs_seeds():
    assert verdict(0.5, 0.1, 2) == "no claim"
    assert verdict(0.5, 0.1, 3) == "differs"
    assert verdict(0.5, 0.1, 3, drawn=True) == "no claim"
    assert verdict(0.5, 0.1, FEWEST_DRAWN, drawn=True) == "differs"
    assert verdict(-0.05, 0.1, 5) == "not seen"
    assert paired([0.5], [0.25]) == (0.25, None, None)


def compared(capsys, *arguments):
    """(the table's lines by heading, the whole text) of `experiments.py compare demo`."""
    assert experiments.main(["compare", "demo", *arguments]) == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}, text


def test_two_rows_compared_by_hand(script, run, home, capsys):
    run("--seeds", "3", "--only", "plain", "clipped")
    set_accuracy("plain", {11711: 0.50, 11712: 0.60, 11713: 0.40})
    set_accuracy("clipped", {11711: 0.44, 11712: 0.55, 11713: 0.36})  # each seed lower, by 0.06, 0.05, 0.04
    rows, text = compared(capsys, "plain", "clipped")
    # d = 0.05, s = 0.01, SE = 0.01 / sqrt 3 = 0.00577; t(2) = 4.303: 0.0248; (4.303 + 1.061) SE = 0.0310
    assert rows["SST"] == ["0.500 ± 0.100", "0.450 ± 0.095", "+0.050", "+0.025 to +0.075", "0.031", "3", "differs"]
    assert rows["STS"] == ["0.250 ± 0.000", "0.250 ± 0.000", "+0.000", "+0.000 to +0.000", "0.000", "3", "not seen"]
    assert "## Plain against Clipped" in text
    set_accuracy("clipped", {11711: 0.55, 11712: 0.44, 11713: 0.36})  # the same figures by other seeds
    rows, _ = compared(capsys, "clipped", "plain", "--column", "SST")
    # -0.05 again; d_i 0.05, -0.16, -0.04, s = 0.1054, SE = 0.0608
    assert rows == {"SST": ["0.450 ± 0.095", "0.500 ± 0.100", "-0.050", "-0.312 to +0.212", "0.326", "3", "not seen"]}


def test_rows_are_compared_over_the_seeds_that_both_have(script, run, home, capsys):
    run("--seeds", "4", "--only", "plain")
    run("--seeds", "2", "--only", "clipped")
    set_accuracy("plain", {11711: 0.6, 11712: 0.6, 11713: 0.1, 11714: 0.1})
    rows, _ = compared(capsys, "plain", "clipped", "--column", "SST")
    assert rows["SST"][0] == "0.600 ± 0.000"
    assert rows["SST"][-2:] == ["2", "no claim"]
    run("--only", "part")
    rows, _ = compared(capsys, "part", "plain", "--column", "SST", "score")
    assert rows["SST"] == ["0.500", "0.600", "-0.100", "", "", "1", "no claim"]
    assert rows["score*"][-1] == "no claim"  # on a part of Quora's dev set
    result = result_of("part")
    result["model"]["sha256"] = "another"
    store.put(TABLE, result)
    assert experiments.main(["compare", "demo", "part", "plain"]) == 2
    assert "no seed, model and data in common" in capsys.readouterr().err
