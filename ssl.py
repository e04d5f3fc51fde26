"""A bridge: `import ssl` from the project's root gives Python's own TLS module and this project's semi-supervised code.

"SSL" is also semi-supervised learning, and a plain file of this name would take the place of the standard library's
`ssl`: `import torch` would die (torch imports asyncio, which imports ssl). So this file runs the standard library's
ssl inside itself, and looks any other name up in minbert/methods/semi_supervised.py, which is imported only then.
Where Python's ssl was imported before the root came onto sys.path (some pytest plugins, a notebook elsewhere), it
stays; `from minbert.methods import semi_supervised` works everywhere, and is what the project itself uses.
"""

import sysconfig
from importlib.machinery import PathFinder

exec(PathFinder.find_spec("ssl", [sysconfig.get_path("stdlib")]).loader.get_code("ssl"))


def __getattr__(name):
    """A name that the standard ssl lacks: semi_supervised's, or the AttributeError that any module raises."""
    if name.startswith("__"):  # Python's own questions, such as __path__ and __all__
        raise AttributeError(f"module 'ssl' has no attribute {name!r}")
    try:
        from minbert.methods import semi_supervised
    except ImportError as error:  # others ask ssl for old names with hasattr() and expect False, torch or no torch
        raise AttributeError(f"module 'ssl' has no attribute {name!r} (and {error})") from error
    return getattr(semi_supervised, name)
