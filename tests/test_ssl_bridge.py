"""From the project's root, `import ssl` gives Python's TLS and this project's semi-supervised names, in any order.

Each order runs in a process of its own that trusts only the test certificate (tests/fixtures/localhost.crt, for
localhost and 127.0.0.1, valid until 2120) and makes real handshakes on loopback (tests/fixtures/tls_probe.py).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures"

ORDERS = {
    "ssl alone, and it brings no torch": "import ssl, sys; assert 'torch' not in sys.modules",
    "ssl then torch": "import ssl, torch",
    "torch then ssl": "import torch, ssl",
    "the forwarded name then torch": "from ssl import tsa_threshold, create_default_context; import torch",
    "asyncio first": "import asyncio, ssl, torch",
    "urllib first": "import urllib.request, ssl",
    "ours first": "from minbert.methods.semi_supervised import uda_loss as u; import ssl; assert u is ssl.uda_loss",
    "ssl twice": "import importlib, ssl; importlib.reload(ssl)",
    "an event loop": "import asyncio; asyncio.run(asyncio.sleep(0))",
}


def run_python(*arguments, cwd=ROOT):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SSL_CERT"))}
    env |= {"SSL_CERT_FILE": str(FIXTURES / "localhost.crt"), "PYTHONPATH": str(FIXTURES), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("order", ORDERS)
def test_import_order(order):
    assert run_python("-c", f"{ORDERS[order]}\nimport tls_probe\nprint(tls_probe.check())") == "ok"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method):
    if method == "fork" and sys.platform != "linux":
        pytest.skip("forking is only safe on Linux")
    program = f"""
import multiprocessing, ssl, tls_probe
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.apply(tls_probe.check))
"""
    assert run_python("-c", program) == "ok"


def test_urllib_over_https():
    program = "import ssl, tls_probe\nprint(tls_probe.fetch_https(), ssl.tsa_threshold(1, 5, 'exp'))"
    assert run_python("-c", program) == "hello 1.0"


def test_under_pytest(tmp_path):
    (tmp_path / "test_inside.py").write_text("import ssl\nimport tls_probe\n\ndef test():\n    tls_probe.check()\n")
    assert "1 passed" in run_python("-m", "pytest", "-p", "no:cacheprovider", tmp_path)


def test_from_elsewhere_ssl_is_python_s_own(tmp_path):
    program = "import ssl, sysconfig\nprint(ssl.__file__.startswith(sysconfig.get_path('stdlib')))"
    assert run_python("-c", program, cwd=tmp_path) == "True"
