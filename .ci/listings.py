"""The guide's listings as files, and what they printed beside what the guide says. Called by .ci/listings.

    listings.py split FOLDER [CHAPTER...]       writes CHAPTER.LINE[.no_run].SYSTEM.rs, and .text where output is shown
    listings.py compare FOLDER [CHAPTER...]     after they were run: .out against .text
"""

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where the listings of a chapter run, if not here.
SYSTEMS = {"ch05": "kqueue", "ch06": "windows", "ch07": "windows"}
# The same server in four chapters and four examples, to the letter.
SERVERS = {"ch04": "epoll", "ch05": "kqueue", "ch06": "iocp", "ch08": "minimio"}


def chapters(wanted):
    for path in sorted((ROOT / "src/guide").glob("*.md")):
        name = path.stem[:4] if path.stem.startswith("ch") else path.stem
        if not wanted or name in wanted:
            yield name, path.read_text()


def split(folder, wanted):
    for name, text in chapters(wanted):
        server = SERVERS.get(name)
        found = False
        for block in re.finditer(r"^```rust(\S*)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", text, re.M | re.S):
            flags, code, shown = block.groups()
            if "compile_fail" in flags or "should_panic" in flags:
                continue  # rustdoc sees to these
            line = text.count("\n", 0, block.start()) + 1
            if server and code == (ROOT / f"examples/raw/{server}.rs").read_text():
                found = True
            kind = ".no_run" if "no_run" in flags else ""
            stem = f"{name}.{line}{kind}.{SYSTEMS.get(name, 'linux')}"
            (folder / f"{stem}.rs").write_text(code if "fn main" in code else f"fn main() {{\n{code}}}\n")
            if shown is not None and not kind:
                (folder / f"{stem}.text").write_text(shown)
        if server and not found:
            sys.exit(f"src/guide/{name}: no listing is examples/raw/{server}.rs")


def compare(folder, wanted):
    run = len(list(folder.glob("*.out")))
    wrong = 0
    for shown in sorted(folder.glob("*.text")):
        printed = shown.with_suffix(".out").read_text()
        if printed != shown.read_text():
            wrong += 1
            name, line = shown.name.split(".")[:2]
            print(f"src/guide/{name}, the listing in line {line}: it does not print what is shown", file=sys.stderr)
            lines = difflib.unified_diff(shown.read_text().split("\n"), printed.split("\n"), "shown", "printed", lineterm="")
            print("\n".join(lines), file=sys.stderr)
    print(f"listings: {run} run, {len(list(folder.glob('*.text')))} compared with what is shown")
    sys.exit(1 if wrong else 0)


{"split": split, "compare": compare}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:])
