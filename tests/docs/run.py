"""Runs the examples of Markdown files. See run.sh."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^(?P<before><!-- run -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


def check_yaml(binary, text, folder):
    file = folder / "example.yaml"
    file.write_text(text)
    return subprocess.run([binary, "check", "--offline", str(file)], capture_output=True, text=True)


def run_shell(binary, text, folder):
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    link = bin_folder / "brownout"
    if not link.exists():
        link.symlink_to(binary)
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=300)


def main():
    binary, files = sys.argv[1], sys.argv[2:]
    passed, failed = 0, []
    for name in files:
        source = pathlib.Path(name).read_text()
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for block in BLOCK.finditer(source):
                line = source[: block.start()].count("\n") + 1
                kind, text = block["kind"], block["text"]
                if kind == "yaml" and re.search(r"^version: 1$", text, re.M):
                    result = check_yaml(binary, text, folder)
                elif block["before"] and kind in ("sh", "bash"):
                    result = run_shell(binary, text, folder)
                else:
                    continue
                if result.returncode == 0:
                    passed += 1
                else:
                    failed.append(f"{name}:{line} exit {result.returncode}\n{result.stdout}{result.stderr}")
    for failure in failed:
        print(failure)
    print(f"docs: {passed} passed, {len(failed)} failed")
    if failed or not passed:
        sys.exit(1)


main()
