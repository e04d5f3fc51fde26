"""What keeps student code apart, piece by piece; the whole is tried in test_hostile.py."""

import os
import subprocess
import sys

import pytest

from assignments.school import forbidden, sandbox
from assignments.school.manifest import HERE, ROOT

if os.name != "posix":
    pytest.skip("Linux and macOS only", allow_module_level=True)


def test_root_is_never_left_to_student_code(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "become_nobody", lambda: False)
    monkeypatch.setattr(sandbox, "_namespaces", lambda hidden, scratch: False)
    with pytest.raises(sandbox.NotApart, match="would run as root"):
        sandbox.keep_apart([ROOT], tmp_path)


@pytest.mark.parametrize(("nobody", "namespaces"), [(True, False), (False, True), (True, True)])
def test_either_layer_is_enough_against_root(monkeypatch, tmp_path, nobody, namespaces):
    monkeypatch.setattr(sandbox, "become_nobody", lambda: nobody)
    monkeypatch.setattr(sandbox, "_namespaces", lambda hidden, scratch: namespaces)
    sandbox.keep_apart([ROOT], tmp_path)


HOOKED = """
import sys
sys.path.insert(0, {root!r})
from assignments.school import sandbox
tried = []
sandbox.install_hook({scratch!r}, [{readable!r}], tried)
try:
    exec({code!r})
    print("done")
except sandbox.Refused as refused:
    print(refused)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('inside', 'w').write('x')", "done"),
        ("open({readable!r} + '/given').read()", "done"),
        ("open('/etc/passwd').read()", "read /etc/passwd"),
        ("open({readable!r} + '/given', 'a')", "write"),
        ("import os; os.open('/etc/passwd', os.O_RDONLY)", "read /etc/passwd"),
        ("import os; os.remove({readable!r} + '/given')", "change files"),
        ("import os; os.rename('inside', {readable!r} + '/b')", "change files"),
        ("import os; os.symlink('/etc', 'etc')", "change files"),
        ("import subprocess; subprocess.run(['true'])", "start another process"),
        ("import os; os.system('true')", "start another process"),
        ("import socket; socket.socket()", "use the network"),
        ("import os, signal; os.kill(1, 0)", "signal a process"),
        ("import ctypes; ctypes.CDLL(None)", "native code"),
        ("f = lambda: 1\nf.__code__ = (lambda: 2).__code__", "exchange the code"),
    ],
)
def test_the_hook_says_what_is_not_allowed(tmp_path, code, said):
    scratch, readable = tmp_path / "scratch", tmp_path / "readable"
    for folder in (scratch, readable):
        folder.mkdir()
    (readable / "given").write_text("x")
    (scratch / "inside").write_text("x")
    code = code.replace("{readable!r}", repr(str(readable)))
    script = HOOKED.format(root=str(ROOT), scratch=str(scratch), readable=str(readable), code=code)
    # Modules are imported before the hook is there, as in the grader.
    script = "import os, socket, subprocess, ctypes, signal\n" + script
    ended = subprocess.run([sys.executable, "-S", "-c", script], cwd=scratch, capture_output=True, text=True)
    assert said in ended.stdout, ended.stderr
    assert (readable / "given").read_text() == "x"


def test_forbidden_names_are_found_through_their_aliases():
    names = ["torch.nn.MultiheadAttention", "torch.nn.functional.scaled_dot_product_attention", "transformers"]
    assert forbidden.used("from torch import nn\nnn.MultiheadAttention(4, 2)", names) == names[:1]
    assert forbidden.used("import torch\nx = torch.nn.MultiheadAttention", names) == names[:1]
    assert forbidden.used("import torch.nn.functional as G\nG.scaled_dot_product_attention(1)", names) == names[1:2]
    assert forbidden.used("from torch.nn.functional import scaled_dot_product_attention as s", names) == names[1:2]
    assert forbidden.used("import transformers.models.bert", names) == names[2:]
    assert forbidden.used("from torch import nn\nnn.Linear(1, 2)  # not transformers", names) == []


@pytest.mark.parametrize("script", ["setup.sh", "run_autograder"])
def test_gradescopes_scripts_are_shell(script):
    assert subprocess.run(["bash", "-n", str(HERE / "gradescope" / script)]).returncode == 0
    assert os.access(HERE / "gradescope" / script, os.X_OK)
