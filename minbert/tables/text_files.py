"""Files that the rows of tables name: by names that hold on every machine, and where they are on this one.

    {unlabelled_dir}/sst.tsv           a file in a folder that the sweep is told of
    tfidf({unlabelled_dir}/sst.tsv)    changed copies of its texts, made by a method of augmentation.py
    tfidf@0({unlabelled_dir}/sst.tsv)    the same, with --p 0 in place of the method's own (none is changed)
    {masked_lm}                        a checkpoint that pretraining.py wrote, which the sweep is told of

Copies depend on the method, p and the source's content alone (those of mlm on the checkpoint's too): they are made
once, with augmentation.py's own seed and other settings, and kept under a digest of that content. A copy that cannot be
made here may be laid where it is looked for.
"""

import functools
import re
from pathlib import Path

from minbert.files import UserError, sha256
from minbert.locks import alone_in

FOLDERS = ("data_dir", "glue_dir", "imdb_dir", "unlabelled_dir")
MASKED_LM = "masked_lm"
FLAGS = ("unlabeled", "uda", "train_on_augmented")  # of multitask_classifier.py: task=NAME,...
MADE_HERE = ("tfidf", "eda", "mlm")  # the methods that need no endpoint
FOLDER = re.compile(r"\{(\w+)\}")
COPIES = re.compile(r"(\w+)(?:@([\d.]+))?\(([^()]*)\)")  # method(source) or method@p(source)


def local(text, folders, kept):
    """A name, or a flag's value with names in it, as this machine has them; copies that are missing are made.

    folders: {"data_dir": ..., "masked_lm": ..., ...}. kept: the folder of the copies. Raises UserError for a folder
    that is not among `folders`, a source that is not there, or copies that cannot be made here.
    """

    def replaced(found):
        model = _with_folders(f"{{{MASKED_LM}}}", folders) if found[1] == "mlm" else None
        p = None if found[2] is None else float(found[2])
        return str(_made(found[1], p, Path(_with_folders(found[3], folders)), Path(kept), model))

    return _with_folders(COPIES.sub(replaced, text), folders)


def needs_masked_lm(flags):
    """Whether any of a row's flags names the checkpoint of pretraining.py, or copies that it fills in."""
    values = [value for value in flags.values() if isinstance(value, str)]
    methods = {found[1] for value in values for found in COPIES.finditer(value)}
    return "mlm" in methods or any(f"{{{MASKED_LM}}}" in value for value in values)


def _with_folders(text, folders):
    def folder(found):
        if not folders.get(found[1]):
            raise UserError(f"{text}: say where that is with --{found[1]}")
        return folders[found[1]]

    return FOLDER.sub(folder, text)


def _made(method, p, source, kept, model):
    """The file with a method's copies of the texts of `source`; p: its share, None for its own; `model`: of mlm."""
    from minbert.augment.copies import augment  # numpy takes a moment, which `list` does not need
    from minbert.text.rows import read_rows

    if not source.is_file():
        raise UserError(f"{source}: no such file, so there is nothing to make copies of")
    digest = sha256(source)
    share, filled_by = "" if p is None else f"@{p:g}", f"-{_weights(model)[:8]}" if model else ""
    path = kept / f"{method}{share}-{digest[:16]}{filled_by}.tsv"
    if path.is_file():
        return path
    if method not in MADE_HERE:
        raise UserError(f"{method} copies cannot be made here; lay those of {source}, made elsewhere, at {path}")
    with alone_in(kept, wait=""):  # another sweep may be making the same file
        if not path.is_file():
            augment(read_rows(source), path, method, p=p, source=digest, model=model)
    return path


@functools.cache
def _weights(model):
    """sha256 of a checkpoint's weights."""
    from minbert.hub import resolve

    return sha256(resolve(model).weights)
