"""Spoils a solution of the workshop, one line at a time.

    python3 spoil.py LIST SOLUTION FOLDER

LIST has four lines for each: "step 7" (or "step 7-again", for a second one), "- " and a piece of the solution, "+ " and
what it becomes, "> " and words that the step must say then. The piece must stand in the solution exactly once. For each
FOLDER gets 7.rs and 7.words; their names are printed.
"""

import sys
from pathlib import Path


def main():
    listing, solution, folder = map(Path, sys.argv[1:])
    text = solution.read_text()
    folder.mkdir(exist_ok=True)
    lines = [line for line in listing.read_text().splitlines() if line and not line.startswith("#")]
    for step, old, new, words in zip(*[iter(lines)] * 4):
        if [step[:5], old[:2], new[:2], words[:2]] != ["step ", "- ", "+ ", "> "]:
            sys.exit(f"{listing}: not four lines that belong together: {step}")
        if text.count(old[2:]) != 1:
            sys.exit(f"{listing}: {step}: {text.count(old[2:])} times, not once: {old[2:]}")
        (folder / f"{step[5:]}.rs").write_text(text.replace(old[2:], new[2:]))
        (folder / f"{step[5:]}.words").write_text(words[2:])
        print(step[5:])
    missing = set(range(1, 16)) - {int(line[5:].split("-")[0]) for line in lines[::4]}
    if missing or len(lines) % 4:
        sys.exit(f"{listing}: nothing is spoiled for the steps {missing}")


main()
