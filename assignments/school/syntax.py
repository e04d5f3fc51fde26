"""A function in a source, found by its syntax tree, and what its arguments are called. Part of every handout."""

import ast
import threading

_one_at_a_time = threading.Lock()  # Python 3.11 counts depth for all threads together, and gives up where they differ


class Missing(LookupError):
    """A source holds no function of this name."""


def tree(source):
    """ast.parse, from any thread."""
    with _one_at_a_time:
        return ast.parse(source)


def find(source, function):
    """The syntax node of "function" or "Class.function"; Missing where there is none."""
    found = tree(source)
    for name in function.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        named = [node for node in found.body if isinstance(node, kinds) and node.name == name]
        if not named:
            raise Missing(f"no {function} in it")
        found = named[-1]  # Python, too, takes the last of that name
    if isinstance(found, ast.ClassDef):
        raise Missing(f"{function} is a class")
    return found


def arguments(source, function):
    """The names of a function's arguments, in their order."""
    found = find(source, function).args
    return [each.arg for each in (*found.posonlyargs, *found.args, *found.kwonlyargs)]


def renamed(source, function, wanted):
    """What is wrong with the names of a function's arguments, in a sentence; "" where they are the wanted ones."""
    names = arguments(source, function)
    if names == wanted:
        return ""
    return (
        f"the arguments of {function} are called {', '.join(wanted)} in this handout, not {', '.join(names)}: "
        "names are part of the interface"
    )
