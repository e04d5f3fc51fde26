"""Ask a student's code: run probes on inputs, and bring back numbers or one line that says what went wrong.

Runs where the student's code runs: in check.py itself, and in the grader's sandbox. It makes no verdict.
"""

import contextlib
import linecache
import traceback

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MOST_NUMBERS = 1 << 20  # of one answer


# ------------------------------------------------------------------------------------------------- numbers as JSON


def to_json(value):
    """Tensors and arrays as {"array": nested lists, "dtype": ...}; plain values stay."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        kind = {"f": "float", "i": "int", "u": "int", "b": "bool"}[value.dtype.kind]
        return {"array": value.tolist(), "dtype": kind}
    if isinstance(value, dict):
        return {name: to_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    return value


def from_json(value):
    """The same back, arrays as torch tensors: float64, int64 or bool."""
    if isinstance(value, dict) and "array" in value:
        kind = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}[value["dtype"]]
        return torch.tensor(value["array"], dtype=kind)
    if isinstance(value, dict):
        return {name: from_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [from_json(each) for each in value]
    return value


def outputs_of(answer):
    """What a probe returned as {name: nested lists of floats}. TypeError for what is no number."""
    if not isinstance(answer, dict):
        answer = {"the result": answer}
    told = {}
    for name, value in answer.items():
        if value is None:
            raise TypeError(f"{name} is None: is there a return?")
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().double().numpy()
        array = np.asarray(value, dtype=np.float64)
        if array.size > MOST_NUMBERS:
            raise TypeError(f"{name} holds {array.size} numbers")
        told[name] = array.tolist()
    return told


# ------------------------------------------------------------------------------------------------------- the asking


def ask(probe, student, inputs):
    """{"outputs": ...} or {"error": sentence} of one probe. Meanwhile torch's default is float64."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(None), np.errstate(all="ignore"):
            return {"outputs": outputs_of(probe(student, from_json(inputs)))}
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        return {"error": in_words(error)}
    finally:
        torch.set_default_dtype(usual)


def in_words(error):
    """An exception of the student's code in one line: what, and at which of their lines."""
    said = " ".join(str(error).split())[:300]
    if isinstance(error, NotImplementedError):
        return said if "not written yet" in said else f"not written yet: it raises NotImplementedError {said}".strip()
    if isinstance(error, SystemExit):
        said = f"the code ended the program itself (sys.exit({error.code!r}))"
        return said + _where(error)
    if isinstance(error, RecursionError):
        return "the function calls itself without end" + _where(error)
    if isinstance(error, RuntimeError) and "allocate" in said:
        return f"out of memory ({said[:120]})" + _where(error)
    if "NoneType" in said and not _where(error):  # in the probe, which works with what came back
        return f"it returned None: is a return missing? ({said})"
    return f"{type(error).__name__}: {said}" + _where(error)


def _where(error):
    """The deepest line that is no library's and none of the grader's."""
    places = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)  # which, unlike extract_tb, reads no file
        if "site-packages" not in frame.f_code.co_filename
        and "/assignments/" not in frame.f_code.co_filename
        and not frame.f_code.co_filename.startswith("<")
        and "/lib/python" not in frame.f_code.co_filename
    ]
    if not places:
        return ""
    code, line = places[-1]
    return f", in {code.co_name}, at: {linecache.getline(code.co_filename, line).strip()}"


# -------------------------------------------------------------------------------------------------------- dropout


class Marks(list):
    """The rates with which dropout acted, in order."""


def head_of(student, kind):
    """A student's head of 4 inputs: 3 classes, one logit, or one score from 0 to 5."""
    heads = student.heads
    return {
        "softmax": lambda: heads.SoftmaxHead(4, 3, 0.0),
        "binary": lambda: heads.BinaryHead(4, 0.0),
        "regression": lambda: heads.RegressionHead(4, (0.0, 5.0), 0.0),
    }[kind]()


@contextlib.contextmanager
def marked_dropout(*classes):
    """Inside, dropout does something exact in place of drawing: x -> x * x, in training mode and for p > 0; in
    eval mode nothing. So where it acts can be told from the result. `classes`: more modules like nn.Dropout."""
    marks = Marks()

    def mark(x, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return x
        marks.append(float(p))
        return x * x

    def forward(self, x):
        return mark(x, self.p, self.training)

    saved = [(kind, kind.forward) for kind in (nn.Dropout, *classes)]
    functions = [(place, "dropout", place.dropout) for place in (F, torch)]
    functions += [(torch, "dropout_", torch.dropout_), (torch, "native_dropout", torch.native_dropout)]
    try:
        for kind, _ in saved:
            kind.forward = forward
        F.dropout = mark
        torch.dropout = lambda x, p, train: mark(x, p, train)
        torch.dropout_ = torch.dropout
        torch.native_dropout = lambda x, p, train: (mark(x, p, train), None)
        yield marks
    finally:
        for kind, original in saved:
            kind.forward = original
        for where, name, original in functions:
            setattr(where, name, original)
