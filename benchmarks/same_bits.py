"""Do two commits compute the same bits? Every method of the command line, run by both on the same tiny files.

    python benchmarks/same_bits.py HEAD~1
    python benchmarks/same_bits.py v1 --only pcgrad uda --jobs 2
    python benchmarks/same_bits.py HEAD~1 --saved

The earlier commit is exported into a temporary folder; the later one is this working tree, as it stands. Both trees run
each row of METHODS from the same tiny random checkpoint, in a folder of the same name, and all they leave there is
compared byte for byte: weights, caches, predictions, changed texts, analyses; scores and metrics less what holds times.
(Not compared: config.json and report.html, which say how a run was made, and state.pt.) Prints a line for each method.

--saved: are the earlier commit's runs still good? It trains each row of SAVED, unbroken and once more with a SIGTERM.
This tree then resumes the broken run, which must end with the bits of the unbroken one, and reads the unbroken one,
which must print and write what the earlier commit does. Exit code 0, or 1 where anything differs or fails.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"seconds", "train_seconds", "eval_seconds"}
NOT_COMPARED = {"config.json", "state.pt", "report.html"}

RUN = "multitask_classifier.py --data_dir {data} --glue_dir {glue} --run_dir {home}/run --option finetune --epochs 2"
TRAIN = f"{RUN} --model {{model}} --lr 3e-3"
PRETRAIN = "pretraining.py --model {model} --data_dir {data} --run_dir {home}/run --epochs 2 --batch_size 8 --lr 1e-3"
CHANGE = "augmentation.py --in {data}/quora-train.csv --task quora --out {home}/changed.tsv"
UDA = "--sts_head classification --uda_threshold 0.35 --uda"
SCHEME = "--plain_dir {home}/plain --label_scheme"
SCHEMES = "plain independent soft_independent augmented_independent soft_probability soft_predicted hard_predicted"

# Flags to add to TRAIN; a row's name is its flags. `plain` is simultaneous steps of fused pairs
FLAGS = """
option pretrain; option pretrain --pairs absdiff --pooling mean; pooling mean; attention fused; sst_head coral
pairs concat; pairs absdiff; pairs cosine; pairs dot_attention
sts_head linear; sts_head classification; sts_head classification --sts_predict expectation
sts_head ordinal6; sts_head ordinal6 --sts_predict expectation; sts_head cosine --pairs concat
sts_head cosine --pairs concat --sts_cosine shifted; sts_head cosine --pairs concat --sts_cosine embedding
schedule sequential; schedule round_robin; schedule balanced_round_robin; schedule in_turn; schedule mtdnn_upsample
schedule mtdnn; schedule annealed; schedule round_robin --step summed; step per_task; epoch_steps 7; shuffle once
schedule sequential --task_order sts,sst,quora; schedule balanced_round_robin --balanced_sample once
pcgrad; smart 1 --smart_radius 0.01; r_drop 1; layer_decay 0.9; clip 0.1; weight_decay 0.1; lr_schedule linear
weight_decay 0.1 --no_decay_bias_norm; lr_schedule linear --warmup 0.3; patience 1 --epochs 9 --lr 0.1; lr 1e-3,1e-4
limit quora=16,sst=0.5; dev_limit quora=7,sst=0.5; batch_size sst=4,quora=6,sts=3; max_length 9; eval_train
hidden_dropout_prob 0.1; seed 5; tasks cfimdb; tasks rte,qqp,mnli,sst2; tasks sst,sst2,cfimdb
tsa linear --sts_head classification; tsa log --sts_head classification; tsa exp --sts_head classification
mean_teacher kl --labels_per_class 1; mean_teacher mse --labels_per_class 1; mean_teacher mse_prob --labels_per_class 1
mean_teacher bregman --labels_per_class 1; mean_teacher kl --teacher_mode eval --ema_decay 0.8
mean_teacher kl --ramp_up 0.5; mean_teacher kl --consistency_weight 2
"""
NAMED = {  # name: flags to add to TRAIN, or whole commands, where they begin with a script's name
    "recipe": "--clip 0.1 --weight_decay 0.1 --no_decay_bias_norm --lr_schedule linear --warmup 0.3",
    "init": (f"{TRAIN} --run_dir {{home}}/first --option pretrain", f"{RUN} --init {{home}}/first --tasks cfimdb,sst"),
    "files": "--sst_dev_out {home}/sst.csv --para_test_out {home}/para.csv --sts_train {fresh}/sts-train.csv",
    "uda": f"{UDA} {{data_copies}}",
    "uda kept": f"{UDA} {{data_copies}} --uda_mean kept --uda_threshold 0.55 --uda_temperature 0.8",
    "uda unlabeled": f"{UDA} {{fresh_copies}} --unlabeled {{fresh_texts}} --unlabeled_batch_size 5",
    "uda, teacher, tsa": f"{UDA} {{fresh_copies}} --unlabeled {{fresh_texts}} --mean_teacher kl --tsa exp",
    "uda, teacher, few labels": f"{UDA} {{data_copies}} --mean_teacher mse --labels_per_class 1 --schedule annealed",
    "uda, teacher, frozen": f"{UDA} {{data_copies}} --mean_teacher kl --option pretrain --uda_weight 2",
    "train_on_augmented": "--train_on_augmented {data_copies}",
    **{f"label_scheme {name}": f"{SCHEME} {name}" for name in SCHEMES.split()},
    "label_scheme independent_frozen": f"{SCHEME} independent_frozen",
    "label_scheme soft_independent_frozen": f"{SCHEME} soft_independent_frozen",
    "label_scheme plain_lr": f"{SCHEME} augmented_independent --plain_lr 1e-3,1e-4",
    "label_scheme literal_eq20": f"{SCHEME} hard_predicted --literal_eq20",
    "label_scheme cfimdb": f"{SCHEME} soft_predicted --tasks rte,mnli,sst2,cfimdb",
    "masked LM": PRETRAIN,
    "masked LM, text": "pretraining.py --model {model} --text {lines} --run_dir {home}/run",
    "augmentation eda": f"{CHANGE} --method eda",
    "augmentation tfidf": f"{CHANGE} --method tfidf",
    "augmentation mlm": (PRETRAIN, f"{CHANGE} --method mlm --model {{home}}/run/bert"),
}
METHODS = {"plain": "", **{row: f"--{row}" for line in FLAGS.split("\n") for row in line.split("; ") if row}, **NAMED}

READ = ("multitask_classifier.py --evaluate {home}/run", "multitask_classifier.py --predict {home}/run --input {lines}")
SAVED = {  # name: (what is trained, the file upon which it is stopped, what then reads the finished run)
    "plain": (f"{TRAIN} --epochs 9", "run/state.pt", READ),
    "mean_teacher, tsa": (
        f"{TRAIN} --epochs 9 --mean_teacher kl --tsa linear --sts_head classification",
        "run/state.pt",
        READ,
    ),
    "lr 1e-3,1e-4": (f"{TRAIN} --epochs 9 --lr 1e-3,1e-4", "run/lr-0.001/state.pt", READ),
    "label_scheme soft_predicted": (f"{TRAIN} --epochs 9 {SCHEME} soft_predicted", "run/state.pt", READ),
    "label_scheme plain": (f"{TRAIN} --epochs 9 {SCHEME} plain", "plain/rte-*/state.pt", ()),
    "masked LM": (f"{PRETRAIN} --epochs 9", "run/state.pt", (f"{CHANGE} --method mlm --model {{home}}/run/bert",)),
}


class Failed(Exception):
    """A command that ended otherwise than it should."""


def main():
    args = parse()
    table, check = (SAVED, saved) if args.saved else (METHODS, method)
    names = [name for name in table if any(word in name for word in args.only)]
    if not names:
        sys.exit(f"--only: there are {'; '.join(table)}")
    differ = 0
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(args.jobs) as pool:
        scratch = Path(scratch)
        before, files = export(args.before, scratch / "before"), make_files(scratch / "files")
        found = pool.map(partial(check, before, files, scratch), names)
        for name, (updates, verdict) in zip(names, found, strict=True):
            print(f"{name:64}{updates:>8}  {verdict or 'same'}", flush=True)
            differ += bool(verdict)
    print(f"{len(names)} methods, {differ} differ")
    return 1 if differ else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="BEFORE", help="the earlier commit: any name that git knows")
    parser.add_argument("--saved", action="store_true", help="resume and read runs of the earlier commit instead")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="rows with one of these in their name")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at a time (default: %(default)s)")
    return parser.parse_args()


def export(revision, folder):
    """The files of a commit, in a new folder."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", revision], stdout=subprocess.PIPE)
    if archive.returncode:
        sys.exit(f"{revision}: no commit that git can export")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def make_files(folder):
    """{placeholder of a command: what it stands for}: a checkpoint, data, and texts that both trees read."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import tiny

    files = {"data": tiny.make_data(folder / "data"), "fresh": tiny.make_data(folder / "fresh", seed=5)}
    files |= {"glue": tiny.make_glue_data(folder / "glue"), "lines": folder / "lines.txt"}
    files["model"] = tiny.make_checkpoint(folder / "model", initializer_range=0.8)  # or it predicts one class only
    names = {"sst": "ids-sst-train.csv", "quora": "quora-train.csv", "sts": "sts-train.csv"}
    for source in ("data", "fresh"):
        texts = {task: files[source] / name for task, name in names.items()}
        for task, path in texts.items():
            run(ROOT, f"augmentation.py --method eda --in {path} --task {task} --out {path}.changed", {})
        files[f"{source}_texts"] = ",".join(f"{task}={path}" for task, path in texts.items())
        files[f"{source}_copies"] = ",".join(f"{task}={path}.changed" for task, path in texts.items())
    sentences = [" ".join(tiny.WORDS[start::9]) for start in range(9)]
    files["lines"].write_text("\n".join([*sentences, *map("\t".join, itertools.pairwise(sentences))]) + "\n")
    return files


def method(before, files, scratch, name):
    """(updates, what differs first or "") of a row of METHODS."""
    home, kept, commands = scratch / "home" / name.replace(" ", "_"), [], METHODS[name]
    try:
        for tree in (before, ROOT):
            home.mkdir(parents=True)
            for command in [commands] if isinstance(commands, str) else commands:
                run(tree, command if ".py" in command else f"{TRAIN} {command}", {**files, "home": home})
            kept.append(home.rename(scratch / f"{name}, {len(kept)}"))
    except Failed as failed:
        return "-", str(failed)
    return updates(kept[0]), first_difference(*kept)


def saved(before, files, scratch, name):
    """(updates, what differs first or "") of a row of SAVED."""
    command, upon, reads = SAVED[name]
    home, whole, read = scratch / "home" / name.replace(" ", "_"), scratch / f"{name}, whole", []
    files = {**files, "home": home}
    home.mkdir(parents=True)
    try:
        run(before, command, files)
        home.rename(whole)
        for tree in (before, ROOT):
            shutil.copytree(whole, home)
            (home / "printed.txt").write_text("".join(run(tree, line, files) for line in reads))
            read.append(home.rename(scratch / f"{name}, read {len(read)}"))
        home.mkdir()
        run(before, command, files, stop=lambda: any(home.glob(upon)))
        again = "--plain_dir {home}/plain" * ("--plain_dir" in command)  # outside the run: it has to be said once more
        run(ROOT, f"{command.split()[0]} --resume {{home}}/run {again}", files)
    except Failed as failed:
        return "-", str(failed)
    found = {"read": first_difference(*read), "resumed": first_difference(whole, home)}
    return updates(whole), "; ".join(f"{what}: {difference}" for what, difference in found.items() if difference)


def run(tree, command, files, stop=None):
    """Run a script of a tree; returns what it printed. stop: a function; once it is true, the script gets a SIGTERM,
    which must be what ends it. Raises Failed."""
    script, *flags = command.format(**files).split()
    trains = script in ("multitask_classifier.py", "pretraining.py") and not {"--evaluate", "--predict"} & {*flags}
    groups = tree / "minbert" / "flags" / "groups.py"  # an older layout has none, and lets no state go
    if trains and groups.is_file() and "keep_state" in groups.read_text():
        flags.append("--keep_state")  # so that the last epoch's weights are there to be compared
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        argv = [sys.executable, tree / script, *flags]
        process = subprocess.Popen(argv, cwd=tree, env=environment, stdout=out, stderr=err)
        while stop and not stop() and process.poll() is None:
            time.sleep(0.002)
        if stop:
            process.send_signal(signal.SIGTERM)
        code = process.wait()
        out.seek(0), err.seek(0)
        if code != (130 if stop else 0):
            where = "this tree" if tree == ROOT else "the earlier commit"
            _, _, last = err.read().strip().rpartition("\n")
            raise Failed(f"{script} of {where}: exit code {code}: {last}")
        return out.read()


def updates(home):
    scores = home / "run" / "scores.json"
    return json.loads(scores.read_text())["updates"] if scores.is_file() else "-"


def first_difference(one, two):
    """The first file that is not the same in two folders, metrics before all others, or ""."""
    paths = {path.relative_to(folder) for folder in (one, two) for path in folder.rglob("*") if path.is_file()}
    names = sorted((p for p in paths if p.name not in NOT_COMPARED), key=lambda p: (p.name != "metrics.jsonl", p))
    different = [name for name in names if content(one / name) != content(two / name)]
    return f"differs in {different[0]} (files that differ: {len(different)})" if different else ""


def content(path):
    """A file's bytes, or its JSON less the times; None where there is no such file."""
    if not path.is_file():
        return None
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    text = path.read_text(encoding="utf-8")
    return timeless([json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text))


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.path.append(str(ROOT))
    from minbert.script import carry_out

    sys.exit(carry_out(main))
