"""Twenty submissions that try to get points or to do harm: none gets a point, each is met with a line."""

import os
import stat
import zipfile

import pytest
from assignments_graded import ALL, OnePart, changed, reference, written

from assignments.school import submissions
from assignments.school.manifest import ROOT
from minbert.files import UserError

BODY = (
    "        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)"
    "  # [b, A, t, t]: query t attends to key t\n"
    "        if is_pad is not None:\n            scores = scores.masked_fill(is_pad, -math.inf)\n"
    "        return self.dropout(scores.softmax(dim=-1)) @ v\n"
)
NOT_ALLOWED = "not allowed in the grader"
TRIES = {  # name: (what the function does, words of the message)
    "fork bomb": ("import os\nwhile True:\n    os.fork()", NOT_ALLOWED),
    "fork bomb by ctypes": ("import ctypes\nctypes.CDLL(None).fork()", NOT_ALLOWED),
    "fork bomb by multiprocessing": (
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        NOT_ALLOWED,
    ),
    "100 GB": ("return torch.zeros(100 * 2**30 // 8)", "out of memory"),
    "a list that grows": ("x = [0]\nwhile True:\n    x = x + x", ("out of memory", "MemoryError", "longer than")),
    "endless loop": ("while True:\n    pass", "longer than"),
    "endless print": (
        "import sys\nwhile True:\n    print('x' * 1000, file=sys.__stdout__)",
        ("File too large", "longer than"),
    ),
    "sys.exit": ("import sys\nsys.exit(0)", "ended the program itself"),
    "os._exit": ("import os\nos._exit(0)", "ended the process"),
    "reading the reference": (f"return open({str(ROOT / 'bert.py')!r}).read()", NOT_ALLOWED),
    "reading it past Python": (f"torch.UntypedStorage.from_file({str(ROOT / 'bert.py')!r}, False, 9)", None),
    "importing the answers": (
        "import assignments.a1.answers as a\nreturn a.R.attend(q, k, v, None)",
        "No module named",
    ),
    "patching allclose": (
        "torch.allclose = lambda *a, **k: True\nimport numpy\nnumpy.allclose = torch.allclose\nreturn q",
        "mixture",
    ),
    "writing a verdict": (
        "import os\nfor h in range(3, 64):\n    try:\n        os.write(h, b'{\"answers\": []}')\n"
        "    except OSError:\n        pass\nos._exit(0)",
        None,
    ),
    "printing a verdict": ('print(\'{"passed": true, "score": 12}\')\nreturn q', "mixture"),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", NOT_ALLOWED),
    "killing everybody": ("import os\nos.kill(-1, 9)", NOT_ALLOWED),
    "writing elsewhere": ("open('/tmp/written-by-a-student', 'w').write('x')", NOT_ALLOWED),
    "writing past Python": ("torch.save({'q': q}, '/tmp/written-by-a-student')", None),
    "a pickle": (
        "import pickle\nclass P:\n    def __reduce__(self):\n        import os\n        return os.system, ('true',)\n"
        "pickle.loads(pickle.dumps(P()))",
        NOT_ALLOWED,
    ),
    "what does the work already": ("return getattr(F, 'scaled_dot_' + 'product_attention')(q, k, v)", "not to be used"),
    "an optimizer under another name": ("return getattr(nn, 'Multihead' + 'Attention')(4, 2)", "not to be used"),
    "recursion": ("return self.plain_attention(q, k, v, is_pad)", "calls itself"),
}


@pytest.fixture(scope="module")
def short(grade):
    """Less patience than the usual grader has."""
    grade = OnePart(seconds=5.0)
    yield grade
    grade.close()


def does(lines):
    return changed("bert.py", BODY, "".join(f"        {line}\n" for line in lines.split("\n")))


@pytest.mark.parametrize("name", TRIES)
def test_no_point_and_a_line(short, name):
    lines, words = TRIES[name]
    result = short("a1", "attention", {"bert.py": does(lines)})
    assert result.points == 0
    messages = [check.message for check in result.checks]
    assert all(messages)
    assert all("\n" not in message for message in messages)
    if words:
        wanted = (words,) if isinstance(words, str) else words
        assert any(word in messages[0] for word in wanted), messages[0]
    assert not os.path.exists("/tmp/written-by-a-student")


def test_a_forbidden_name_is_told_before_anything_runs(short):
    source = changed(
        "bert.py", "import torch.nn.functional as F", "import torch.nn.functional as F\nimport transformers"
    )
    result = short("a1", "attention", {"bert.py": source})
    assert {check.message for check in result.checks} == {"bert.py uses transformers, which does the work already"}


def test_the_grader_goes_on_afterwards(short):
    result = short("a1", "attention", {"bert.py": reference("bert.py")})
    assert [check.message for check in result.checks if not check.passed] == []


# ------------------------------------------------------------------------------------------- what is handed in


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_a_zip_bomb(tmp_path):
    bomb = zipped(tmp_path / "bomb.zip", {"bert.py": b"#" * (64 << 20)})
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="larger than 1 MiB"):
        submissions.read(bomb, ["bert.py"])


def test_a_zip_of_too_many_entries(tmp_path):
    many = zipped(tmp_path / "many.zip", {f"{number}.py": b"" for number in range(submissions.MOST_ENTRIES + 1)})
    with pytest.raises(UserError, match="more than 20000 entries"):
        submissions.read(many, ["bert.py"])


def test_a_path_that_climbs_out_is_no_file(tmp_path):
    climbing = zipped(tmp_path / "climb.zip", {"../../bert.py": b"1", "/etc/bert.py": b"2"})
    with pytest.raises(UserError, match=r"holds none of bert\.py"):
        submissions.read(climbing, ["bert.py"])


def test_a_link_inside_a_zip_is_no_file(tmp_path):
    link = zipfile.ZipInfo("bert.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, str(ROOT / "bert.py"))
    with pytest.raises(UserError, match="holds none"):
        submissions.read(tmp_path / "link.zip", ["bert.py"])


def test_links_to_the_reference_are_no_submission(tmp_path):
    (tmp_path / "hers").mkdir()
    (tmp_path / "hers" / "bert.py").symlink_to(ROOT / "bert.py")
    (tmp_path / "his").symlink_to(ROOT)
    with pytest.raises(UserError, match="holds none"):
        submissions.read(tmp_path / "hers", ["bert.py"])
    with pytest.raises(UserError, match="symbolic link"):
        submissions.read(tmp_path / "his", ["bert.py"])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe", "not UTF-8"), (b"def f(:\n", None)],
)
def test_a_source_that_is_no_source(tmp_path, short, content, said):
    (tmp_path / "bert.py").write_bytes(content)
    result = short.whole("a1", tmp_path)
    if said:
        assert said in result.error
    else:
        assert {check.message for check in result.checks} == {"bert.py, line 1: no Python (invalid syntax)"}
    assert result.points == 0


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "a1.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(UserError, match="not a zip file that can be read"):
        submissions.read(tmp_path / "a1.zip", ["bert.py"])


def test_nested_folders_and_mac_leftovers(tmp_path):
    right = reference("bert.py")
    made = zipped(tmp_path / "a1.zip", {"a1/bert.py": right, "__MACOSX/a1/bert.py": "no", "a1/old/bert.py": "no"})
    assert submissions.read(made, ["bert.py"]) == {"bert.py": right}
    folder = written(tmp_path / "hers", {"work/bert.py": right, "work/.git/bert.py": "no"})
    assert submissions.read(folder, ["bert.py"]) == {"bert.py": right}
    assert ALL["a1"].files("ours") == ["bert.py"]
