"""Follows the first chapter of CONTRIBUTING.md in a copy of the repository: writes its files, adds its
line, and runs its commands. The copy shares the build folder, so that dependencies are built once."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- (file|line|follow)(?:: (.*?))? -->\n```\w+\n(.*?)```\n", re.S)


def copy(to):
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, to / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def main():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    chapter = text[text.index("## Add a fault"):text.index("## Where things are")]
    blocks = BLOCK.findall(chapter)
    kinds = [kind for kind, _, _ in blocks]
    if kinds.count("file") < 2 or "line" not in kinds or "follow" not in kinds:
        sys.exit("CONTRIBUTING.md: the first chapter has lost its marks")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        copy(folder)
        for kind, place, content in blocks:
            if kind == "file":
                target = folder / place
                if target.exists():
                    sys.exit(f"{place} is there already: CONTRIBUTING.md needs another example")
                target.write_text(content)
            elif kind == "line":
                name, before = place.split(" before: ")
                target = folder / name
                lines = target.read_text().split("\n")
                at = [number for number, line in enumerate(lines) if line.strip() == before]
                if len(at) != 1:
                    sys.exit(f"{name}: `{before}` is there {len(at)} times")
                lines.insert(at[0], content.rstrip("\n"))
                target.write_text("\n".join(lines))
        environment = dict(os.environ, CARGO_TARGET_DIR=str(ROOT / "target"))
        for _, _, commands in (block for block in blocks if block[0] == "follow"):
            for command in commands.strip().split("\n"):
                print(f"$ {command}", flush=True)
                done = subprocess.run(
                    ["bash", "-c", command], cwd=folder, env=environment,
                    capture_output=True, text=True,
                )
                sys.stdout.write(done.stdout)
                if done.returncode != 0:
                    sys.exit(f"{done.stderr}\n`{command}` ended with {done.returncode}")
                if "cargo test" in command and not re.search(r"[1-9]\d* passed", done.stdout):
                    sys.exit(f"`{command}` ran no test")
    print("the first chapter of CONTRIBUTING.md holds")


main()
