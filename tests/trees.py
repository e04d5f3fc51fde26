"""Run a script of a copy of the tree in a process of its own. Imports nothing of the project, so that only the copy's
modules are there; what takes long to import is loaded once, by the server that these processes are forked from."""

import multiprocessing
import os
import runpy
import sys

SLOW = ("torch._dynamo", "torch.nn", "safetensors.torch", "matplotlib.pyplot", "tokenizers", "numpy")


def start(tree, script, argv, folder, log):
    """The process that runs `tree`/`script` with these arguments in `folder`; what it says goes to the file `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(SLOW))
    process = context.Process(target=run, args=(str(tree), script, [*map(str, argv)], str(folder), str(log)))
    process.start()
    return process


def run(tree, script, argv, folder, log):
    os.chdir(folder)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.path.insert(0, tree)
    sys.argv = [f"{tree}/{script}", *argv]
    runpy.run_path(sys.argv[0], run_name="__main__")
