#!/usr/bin/env python3
"""Runs the programs of this folder, each a client of its own kind, against a server, and compares what they say with what they
said of PostgreSQL.

    run.py URL [NAME...]             compare with NAME/expected.txt; all programs where none is named
    run.py --record URL [NAME...]    write NAME/expected.txt, from a real PostgreSQL

URL is postgresql://USER@HOST:PORT/stratagem. PostgreSQL needs the database, a schema `work` and the search_path `work, public`. What the
programs need is installed once, below the cache folder; what needs.txt of a program lists, as a file and the Debian package that has it, must
be there. Ends with 77 where that is not possible, with 1 where a program says something else.
"""

import difflib
import glob
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "benches"))
import run as benches  # noqa: E402

SECONDS = 240


def node(folder):
    """What runs a program for Node.js, with its packages beside it."""
    content = (folder / "package.json").read_bytes()
    home = benches.cache_root() / "bench" / f"node-{hashlib.sha256(content).hexdigest()[:12]}"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_bytes(content)
        try:
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise benches.Problem(f"npm could not install tests/clients/{folder.name}/package.json: {error}") from None
        (home / "ready").touch()
    shutil.copy(folder / "test.mjs", home)
    return ["node", str(home / "test.mjs")]


def java(folder):
    """What runs a program for Java, from its source."""
    driver = Path("/usr/share/java/postgresql.jar")
    if not driver.exists() or not shutil.which("javac"):
        raise benches.Problem("Java or pgjdbc is missing (Debian: apt-get install default-jdk-headless libpostgresql-jdbc-java)")
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", str(driver), str(folder / "Test.java")]


def command(folder):
    """What runs the program of a folder."""
    if (folder / "package.json").exists():
        return node(folder)
    if (folder / "Test.java").exists():
        return java(folder)
    needs = folder / "needs.txt"
    for line in needs.read_text(encoding="utf-8").splitlines() if needs.exists() else []:
        pattern, package = line.split()
        if not glob.glob(pattern):
            raise benches.Problem(f"{pattern} is missing, which {folder.name} needs (Debian: apt-get install {package})")
    own = folder / "requirements.txt"
    requirements = own if own.exists() else HERE / "requirements.txt"
    return [benches.environment_for(str(requirements)), "-B", str(folder / "test.py")]


def main():
    arguments = sys.argv[1:]
    record = arguments[:1] == ["--record"]
    url, *names = arguments[record:]
    folders = [HERE / name for name in names] or sorted(path for path in HERE.iterdir() if path.is_dir() and list(path.glob("[tT]est.*")))
    try:
        commands = [command(folder) for folder in folders]
    except benches.Problem as problem:
        print(problem, flush=True)
        return 77
    wrong = 0
    for folder, words in zip(folders, commands):
        done = subprocess.run(
            [*words, url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False
        )
        expected = folder / "expected.txt"
        if record and done.returncode == 0:
            expected.write_text(done.stdout, encoding="utf-8")
        told = expected.read_text(encoding="utf-8") if expected.exists() else ""
        if done.returncode == 0 and done.stdout == told:
            print(f"{folder.name}: {len(told.splitlines())} answers as PostgreSQL's", flush=True)
            continue
        wrong += 1
        print(f"{folder.name}: ended with status {done.returncode}")
        print("\n".join(difflib.unified_diff(told.splitlines(), done.stdout.splitlines(), "PostgreSQL", "this server", lineterm="", n=1)))
        print(done.stderr[-4000:], flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
