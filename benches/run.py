#!/usr/bin/env python3
"""Runs benchmarks side by side with their peers and keeps the results.

    run.py [NAME...]        every benches/*.json, or the named ones

A benchmark is a JSON file with two sides, `stratagem` and `peer`, each a command whose last line of output is a JSON object with
the field that `value` names. The sides run in alternation on the same machine, medians are compared, the ratio comes first
(above 1: Stratagem is better), and a dated line with the hardware is added to benches/results/NAME.csv. In commands {stratagem},
{release}, {examples}, {python}, {cores}, {cache} stand for the built program, a release build of it, the built examples, the peer's Python,
the number of cores and the cache folder.
A benchmark that measures both in one run has `peer_value`, the field of the peer's number, in place of `peer`; `also` names further
fields of Stratagem's side that are kept in the line.
A benchmark whose folder `needs` is missing is skipped, and says so at the end.
Only the standard library; what a peer needs goes into an environment of its own below the cache folder.
"""

import csv
import datetime
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BENCHES = REPOSITORY / "benches"


class Problem(Exception):
    """Why a benchmark has no result, as one sentence."""


class Skipped(Exception):
    """The same, where that is no failure."""


def say(text):
    print(text, flush=True)


def cache_root():
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stratagem"
    return Path(os.environ.get("STRATAGEM_CACHE") or default)


def values():
    cache = cache_root()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or cache / "target")
    built = target / "debug"
    return {"stratagem": str(built / "stratagem"), "release": str(target / "release" / "stratagem"), "examples": str(built / "examples"), "python": sys.executable, "cores": str(os.cpu_count()), "cache": str(cache)}


def with_runtime():
    """The environment with the installed ONNX Runtime in ORT_DYLIB_PATH, for commands that do not look for it themselves."""
    if os.environ.get("ORT_DYLIB_PATH"):
        return dict(os.environ)
    libraries = sorted((cache_root() / "assets" / "onnxruntime" / "lib").glob("libonnxruntime.*"))
    if not libraries:
        raise Problem(f"{cache_root() / 'assets' / 'onnxruntime'} is missing, repair it with `make setup`")
    return dict(os.environ, ORT_DYLIB_PATH=str(libraries[0]))


def fill(command, known):
    return [part.format(**known) for part in command]


def environment_for(requirements):
    """The interpreter of an environment with these requirements, made once and again when their list changes."""
    content = (BENCHES / requirements).read_bytes()
    folder = cache_root() / "bench" / hashlib.sha256(content).hexdigest()[:12]
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        say(f"bench: installing {requirements} into {folder}, once")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "-r", str(BENCHES / requirements)]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise Problem(f"pip could not install benches/{requirements} (its reason is above)")
        ready.touch()
    return str(python)


def measure(command, *fields):
    """The JSON object on the last line, in which these fields are numbers."""
    done = subprocess.run(command, cwd=REPOSITORY, env=with_runtime(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Problem(f"`{' '.join(command)}` ended with status {done.returncode}")
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        return answer | {field: float(answer[field]) for field in fields}
    except (IndexError, ValueError, KeyError, TypeError):
        numbers = "the numbers " + ", ".join(fields) if len(fields) > 1 else f"the number {fields[0]}"
        raise Problem(f"`{' '.join(command)}` did not end with a JSON object that has {numbers}") from None


def compare(bench):
    """Both sides in alternation: which one comes first changes every round, so that neither has the warmer machine."""
    known = values()
    if "requirements" in bench:
        known["python"] = environment_for(bench["requirements"])
    for command in bench.get("prepare", []):
        filled = fill(command, known)
        if subprocess.run(filled, cwd=REPOSITORY, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise Problem(f"`{' '.join(filled)}` failed (its reason is above)")
    found, answers = {"stratagem": [], "peer": []}, []
    for round_number in range(bench["rounds"]):
        order = ("stratagem", "peer") if round_number % 2 == 0 else ("peer", "stratagem")
        for side in order:
            if side not in bench:
                continue
            answer = measure(fill(bench[side], known), bench["value"], *([bench["peer_value"]] if "peer_value" in bench else []))
            values_of = {side: answer[bench["value"]]}
            if "peer_value" in bench:
                values_of["peer"] = answer[bench["peer_value"]]
            if side == "stratagem":
                answers.append(answer)
            for name, value in values_of.items():
                found[name].append(value)
                say(f"bench: round {round_number + 1} of {bench['rounds']}, {name}: {number(value)} {bench['unit']}")
    return found["stratagem"], found["peer"], answers


def also(names, answers):
    """Further figures of Stratagem's side, as one text: medians of numbers, the last of anything else."""
    figures = []
    for name in names:
        values_of = [answer[name] for answer in answers]
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values_of)
        figures.append(f"{name} {number(statistics.median(values_of)) if numbers else values_of[-1]}")
    return ", ".join(figures)


def ratio_of(ours, peers, better):
    """How many times as good Stratagem is, by the medians."""
    ours, peers = statistics.median(ours), statistics.median(peers)
    return ours / peers if better == "higher" else peers / ours


def number(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(found):
    return f"{number(min(found))}..{number(max(found))}"


def cpu_name():
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit():
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout.strip()

    changed = "+changes" if git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benches/results") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def reported(main):
    """Runs the main function of a benchmark's script: a problem is a line and a status, and a signal ends its server too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Problem as problem:
        sys.exit(f"{Path(sys.argv[0]).stem}: {problem}")


def circumstances():
    """When, and on what."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def keep(name, columns, rows):
    """Adds rows to benches/results/NAME.csv."""
    path = BENCHES / "results" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def run(path):
    bench = json.loads(path.read_text(encoding="utf-8"))
    say(f"bench: {path.stem}: {bench['promise']}")
    if "needs" in bench and not (REPOSITORY / bench["needs"]).is_dir():
        raise Skipped(f"the folder {bench['needs']} is missing")
    ours, peers, answers = compare(bench)
    unit = bench["unit"]
    ratio = ratio_of(ours, peers, bench["better"])
    here = circumstances()
    row = {
        "date": here.pop("date"),
        "ratio": f"{ratio:.2f}",
        "stratagem": number(statistics.median(ours)),
        "peer": number(statistics.median(peers)),
        "unit": unit,
        "stratagem_range": spread(ours),
        "peer_range": spread(peers),
        "rounds": bench["rounds"],
        "peer_name": bench["peer_name"],
        **here,
    }
    further = ""
    if "also" in bench:
        row["also"] = also(bench["also"], answers)
        further = f"; {row['also']}"
    keep(path.stem, list(row), [row])
    return f"{row['ratio']:>7}  {path.stem}: stratagem {row['stratagem']} {unit}, {bench['peer_name']} {row['peer']} {unit}{further}"


def main():
    names = sys.argv[1:]
    paths = [BENCHES / f"{name}.json" for name in names] if names else sorted(BENCHES.glob("*.json"))
    lines, skipped, problems = [], [], []
    for path in paths:
        try:
            lines.append(run(path))
        except FileNotFoundError as error:
            problems.append(f"bench: {path.stem}: {error.filename} is missing")
        except Skipped as reason:
            skipped.append(f"bench: {path.stem}: SKIPPED, nothing was measured: {reason}")
        except Problem as problem:
            problems.append(f"bench: {path.stem}: {problem}")
    if lines:
        say("\n  ratio  (above 1: Stratagem is better; medians; lines with the hardware are in benches/results/)")
        say("\n".join(lines))
    for line in skipped + problems:
        say(line)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
