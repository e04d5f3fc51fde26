"""Files of somebody's own, as tests of own tasks need them: random sentences with a label or a score."""

import csv
import json

import numpy as np
import tiny

NAMES = ("spam", "private", "work, mostly")


def rows_of(count, seed=0, pairs=False, score=None, names=NAMES):
    """[{column: value}] with the columns subject (and reply) and kind; score: (low, high) in place of names."""
    random = np.random.default_rng(seed)
    columns = ("subject", "reply") if pairs else ("subject",)
    rows = []
    for row in range(count):
        cells = {column: " ".join(random.choice(tiny.WORDS, random.integers(3, 17))) for column in columns}
        rows.append({**cells, "kind": round(random.uniform(*score), 2) if score else names[row % len(names)]})
    return rows


def written(path, rows):
    """The file, in the form that its name says: .csv has commas, .tsv tabs, .jsonl JSON lines. Returns its path."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as f:
            table = csv.DictWriter(f, [*rows[0]], delimiter="," if path.suffix == ".csv" else "\t")
            table.writeheader()
            table.writerows(rows)
    return path


def flags_of(folder, suffix=".csv", train=24, dev=9, **kind):
    """The flags of an own task whose files are written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [written(folder / f"{n}{suffix}", rows_of(c, s, **kind)) for n, c, s in (("a", train, 1), ("b", dev, 2))]
    flags = ["--train", files[0], "--dev", files[1], "--text", "subject", "--label", "kind"]
    flags += ["--text_pair", "reply"] if kind.get("pairs") else []
    return flags + ([f"--regression={kind['score'][0]},{kind['score'][1]}"] if kind.get("score") else [])
