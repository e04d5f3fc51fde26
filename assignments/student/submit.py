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
    for name in facts["files"]:
        try:  # a syntax error now, not in the grader
            compile((HERE / name).read_bytes(), name, "exec")
        except (SyntaxError, ValueError) as error:
            sys.exit(f"nothing is packed: {name} is no Python ({error})")
    out = HERE / f"{facts['assignment']}.zip"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in facts["files"]:
            archive.write(HERE / name, name)
    print(f"{out.name} holds {', '.join(facts['files'])}")
    for part in facts["parts"].values():
        if f"{part['file']}: {part['function']} is not written yet" in (HERE / part["file"]).read_text(
            encoding="utf-8"
        ):
            print(f"mind that {part['function']} in {part['file']} is still blank")


if __name__ == "__main__":
    main()
