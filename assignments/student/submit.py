"""Put what is handed in into one zip file: the files of this assignment, and nothing else."""

import json
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    facts = json.loads((HERE / "handout.json").read_text(encoding="utf-8"))
    missing = [name for name in facts["files"] if not (HERE / name).is_file()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; put it back, from the handout if need be")
    out = HERE / f"{facts['assignment']}.zip"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in facts["files"]:
            compile((HERE / name).read_bytes(), name, "exec")  # a syntax error now, not in the grader
            archive.write(HERE / name, name)
    print(f"{out.name} holds {', '.join(facts['files'])}")


if __name__ == "__main__":
    main()
