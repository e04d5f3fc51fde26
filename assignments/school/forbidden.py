"""Which forbidden names a source uses, told from its syntax: imports, and dotted names through their aliases."""

import ast

from assignments.school import syntax


def used(source, forbidden):
    """The forbidden names that the source mentions, in the manifest's order."""
    tree = syntax.tree(source)
    aliases, mentioned = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                mentioned.add(alias.name)
                first = alias.name.partition(".")[0]
                aliases[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                mentioned |= {node.module, f"{node.module}.{alias.name}"}
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := _dotted(node)):
            first, dot, rest = name.partition(".")
            mentioned.add(aliases.get(first, first) + dot + rest)
    return [name for name in forbidden if any(f"{each}.".startswith(f"{name}.") for each in mentioned)]


def _dotted(node):
    """ "torch.nn.Linear" of an attribute of attributes of a name; None of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None
