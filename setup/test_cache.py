"""The promises of the set-up, against a folder of tiny wheels in place of the package registry."""

import contextlib
import functools
import hashlib
import io
import json
import os
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))
import cache as setup  # noqa: E402


# Stands in for pip where a test is not about pip, whose start takes half a second.
COPYING_PIP = """
import shutil, sys
from pathlib import Path
name, version = sys.argv[2].split("==")
wheel = Path(sys.argv[0]).with_name("registry") / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
shutil.copy(wheel, sys.argv[sys.argv.index("--dest") + 1]) if wheel.exists() else sys.exit(1)
"""


class SetUp(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.registry = Path(folder.name) / "registry"
        self.cache = Path(folder.name) / "cache"
        self.registry.mkdir()
        self.pins = {"python": "3.12", "packages": {}, "data": {}}
        for name in ("onnxruntime", "onnxruntime-gpu", "letters"):
            self.publish(name, "1.0")
        self.pins["packages"]["onnxruntime-gpu"].update(folder="onnxruntime", needs=["libdoesnotexist.so.13"])
        pip = Path(folder.name) / "pip.py"
        pip.write_text(COPYING_PIP, encoding="utf-8")
        environment = {"DEVICE": "cpu", "STRATAGEM_CACHE": str(self.cache)}
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.real_pip_command = setup.pip_command
        for patch in (
            mock.patch.object(setup, "PINS", self.pins),
            mock.patch.object(setup, "pip_command", return_value=[sys.executable, "-S", str(pip)]),
            mock.patch.dict(os.environ, {**kept, **environment}, clear=True),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def with_real_pip(self):
        """The real pip, which finds the folder of wheels instead of a registry."""
        options = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.registry), "PIP_QUIET": "3"}
        stack = contextlib.ExitStack()
        stack.enter_context(mock.patch.dict(os.environ, options))
        stack.enter_context(mock.patch.object(setup, "pip_command", self.real_pip_command))
        return stack

    def publish(self, name, version):
        plain = name.replace("-", "_")
        file = self.registry / f"{plain}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as wheel:
            wheel.writestr(f"{plain}/a.txt", f"first file of {name}")
            wheel.writestr(f"{plain}/deep/b.txt", f"second file of {name}")
            wheel.writestr(f"{plain}/unwanted.py", "")
            wheel.writestr(f"{plain}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{plain}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        self.pins["packages"][name] = {
            "version": version,
            "folder": name,
            "what": f"the package {name}",
            "licence": "MIT",
            "wheels": {setup.machine(): {"file": file.name, "sha256": setup.sha256_of(file), "bytes": file.stat().st_size}},
            "take": [{"match": f"{plain}/*.txt", "strip": plain, "to": ""}],
        }
        # A wheel for every machine is pinned by `any`; the runtime's are pinned by machine, as in the real list.
        if not name.startswith("onnxruntime"):
            wheels = self.pins["packages"][name]["wheels"]
            wheels["any"] = wheels.pop(setup.machine())

    def run_setup(self, *arguments):
        """Exit message (None when all went well) and what was printed."""
        printed = io.StringIO()
        with mock.patch.object(sys, "argv", ["cache.py", *arguments]), contextlib.redirect_stdout(printed):
            try:
                setup.main()
            except SystemExit as stopped:
                return stopped.code, printed.getvalue()
        return None, printed.getvalue()

    def installed(self, path):
        return (self.cache / "assets" / path).read_text(encoding="utf-8")

    def without_registry(self):
        return mock.patch.object(setup, "pip_command", side_effect=AssertionError("the registry was asked"))

    def test_first_run_installs_the_pinned_files_and_records_their_hashes(self):
        with self.with_real_pip():
            self.assertIsNone(self.run_setup("assets")[0])
        self.assertEqual(self.installed("letters/deep/b.txt"), "second file of letters")
        self.assertFalse((self.cache / "assets/letters/unwanted.py").exists())
        manifest = json.loads((self.cache / "assets/manifest.json").read_text(encoding="utf-8"))
        facts = manifest["installed"]["letters"]["files"]["a.txt"]
        self.assertEqual(facts["sha256"], hashlib.sha256(b"first file of letters").hexdigest())
        self.assertEqual(manifest["installed"]["onnxruntime"]["package"], "onnxruntime")

    def test_files_of_a_package_beside_another_lie_in_its_folder(self):
        self.publish("words", "1.0")
        words = self.pins["packages"].pop("words")
        words["take"][0]["to"] = "words"
        self.pins["packages"]["letters"]["beside"] = {"words": words}
        self.run_setup("assets")
        self.assertEqual(self.installed("letters/deep/b.txt"), "second file of letters")
        self.assertEqual(self.installed("letters/words/a.txt"), "first file of words")
        with self.without_registry():
            self.assertIsNone(self.run_setup("assets")[0])

    def test_second_run_needs_no_network(self):
        self.run_setup("assets")
        with self.without_registry():
            self.assertIsNone(self.run_setup("assets")[0])

    def test_missing_file_is_named_and_repaired_without_network(self):
        self.run_setup("assets")
        gone = self.cache / "assets/letters/a.txt"
        gone.unlink()
        with self.without_registry():
            problem, printed = self.run_setup("assets")
        self.assertIsNone(problem)
        self.assertIn(f"{gone} is missing", printed)
        self.assertEqual(gone.read_text(encoding="utf-8"), "first file of letters")

    def test_damaged_byte_is_found_though_size_and_time_are_unchanged(self):
        self.run_setup("assets")
        file = self.cache / "assets/letters/a.txt"
        before = file.stat()
        file.write_text("First file of letters", encoding="utf-8")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        problem, printed = self.run_setup("assets", "--verify")
        self.assertIsNone(problem)
        self.assertIn(f"{file} is damaged", printed)
        self.assertEqual(file.read_text(encoding="utf-8"), "first file of letters")

    def test_wheel_with_another_hash_is_refused_and_nothing_is_installed(self):
        self.pins["packages"]["letters"]["wheels"]["any"]["sha256"] = "0" * 64
        problem, _ = self.run_setup("assets")
        self.assertRegex(problem, r"letters-1\.0-py3-none-any\.whl came with SHA-256 [0-9a-f]{64}, but 0{64} is pinned")
        self.assertIn("make setup", problem)
        self.assertFalse((self.cache / "assets/letters").exists())
        self.assertFalse((self.cache / "wheels/letters-1.0-py3-none-any.whl").exists())

    def test_unreachable_registry_is_one_sentence_with_the_command(self):
        (self.registry / "letters-1.0-py3-none-any.whl").unlink()
        unheard = functools.partial(setup.subprocess.run, stderr=setup.subprocess.DEVNULL)
        with self.with_real_pip(), mock.patch.object(setup.subprocess, "run", unheard):
            problem, _ = self.run_setup("assets")
        self.assertRegex(problem, r"pip could not download letters 1\.0 .* run `make setup`")

    def test_failed_update_leaves_the_old_version_in_place(self):
        self.run_setup("assets")
        self.publish("letters", "2.0")
        with mock.patch.object(setup, "unpack", side_effect=OSError(28, "No space left on device", "somewhere")):
            problem, _ = self.run_setup("assets")
        self.assertIn("No space left on device", problem)
        self.assertEqual(self.installed("letters/a.txt"), "first file of letters")
        self.assertIn("1.0", (self.cache / "assets/manifest.json").read_text(encoding="utf-8"))
        self.assertIsNone(self.run_setup("assets")[0])
        manifest = json.loads((self.cache / "assets/manifest.json").read_text(encoding="utf-8"))
        self.assertEqual(manifest["installed"]["letters"]["version"], "2.0")

    def test_asked_for_gpu_takes_the_gpu_build_and_says_what_it_lacks(self):
        with mock.patch.dict(os.environ, {"DEVICE": "cuda"}):
            problem, printed = self.run_setup("assets")
        self.assertIsNone(problem)
        self.assertEqual(self.installed("onnxruntime/a.txt"), "first file of onnxruntime-gpu")
        lacking = [line for line in printed.splitlines() if "libdoesnotexist.so.13" in line]
        self.assertEqual(len(lacking), 1)
        self.assertIn("so the CPU is used", lacking[0])

    def test_going_back_to_the_cpu_replaces_the_gpu_build(self):
        with mock.patch.dict(os.environ, {"DEVICE": "cuda:0"}):
            self.run_setup("assets")
        self.assertIsNone(self.run_setup("assets")[0])
        self.assertEqual(self.installed("onnxruntime/a.txt"), "first file of onnxruntime")

    def test_gpu_build_is_taken_where_a_gpu_is_present(self):
        with mock.patch.object(setup, "gpu_is_present", return_value=True), mock.patch.dict(os.environ, {"DEVICE": ""}):
            self.assertEqual(setup.runtime_package(), "onnxruntime-gpu")
            with mock.patch.dict(os.environ, {"DEVICE": "cpu"}):
                self.assertEqual(setup.runtime_package(), "onnxruntime")

    def test_own_library_needs_no_runtime_package(self):
        with mock.patch.dict(os.environ, {"ORT_DYLIB_PATH": "/opt/libonnxruntime.so"}):
            self.assertIsNone(self.run_setup("assets")[0])
        self.assertFalse((self.cache / "assets/onnxruntime").exists())

    def test_wrong_settings_are_one_sentence(self):
        with mock.patch.dict(os.environ, {"DEVICE": "tpu"}):
            self.assertIn("DEVICE is 'tpu', which is not one of auto, cpu, cuda", self.run_setup("assets")[0])
        with mock.patch.dict(os.environ, {"STRATAGEM_CACHE": "here"}):
            self.assertIn("STRATAGEM_CACHE is 'here', which is not an absolute path", self.run_setup("assets")[0])

    def test_missing_pip_tells_how_to_install_it(self):
        with self.with_real_pip(), mock.patch.object(setup, "quiet", return_value=False):
            self.assertRegex(self.run_setup("assets")[0], r"pip is missing for .* -m ensurepip .* run `make setup`")

    def sample_program(self, body):
        program = self.cache.parent / "stratagem"
        program.write_text("#!/bin/sh\n" + body, encoding="utf-8")
        program.chmod(0o755)
        self.pins["data"] = {"shop": {"what": "a shop", "command": ["sample", "{to}"], "sources": []}}
        return ("data", "--stratagem", str(program))

    def test_sample_is_written_once_and_again_when_a_file_is_gone(self):
        command = self.sample_program('echo run >> "$STRATAGEM_CACHE/../runs"; echo table > "$2/items.parquet"\n')
        self.assertIsNone(self.run_setup(*command)[0])
        self.assertIsNone(self.run_setup(*command)[0])
        runs = self.cache.parent / "runs"
        self.assertEqual(runs.read_text(encoding="utf-8"), "run\n")
        (self.cache / "data/shop/items.parquet").unlink()
        self.assertIsNone(self.run_setup(*command)[0])
        self.assertEqual(runs.read_text(encoding="utf-8"), "run\nrun\n")
        self.assertEqual((self.cache / "data/shop/items.parquet").read_text(encoding="utf-8"), "table\n")

    def test_sample_that_fails_leaves_the_old_one(self):
        self.run_setup(*self.sample_program('echo table > "$2/items.parquet"\n'))
        command = self.sample_program('echo half > "$2/items.parquet"; exit 3\n')
        self.pins["data"]["shop"]["command"].append("--changed")
        self.assertIn("`", self.run_setup(*command)[0])
        self.assertEqual((self.cache / "data/shop/items.parquet").read_text(encoding="utf-8"), "table\n")

    def test_clean_keeps_what_the_set_up_did_not_make(self):
        self.run_setup("assets")
        self.run_setup(*self.sample_program('echo table > "$2/items.parquet"\n'))
        (self.cache / "data/.stratagem").mkdir()
        self.assertIsNone(self.run_setup("clean")[0])
        left = sorted(path.relative_to(self.cache).as_posix() for path in self.cache.rglob("*"))
        self.assertEqual(left, ["data", "data/.stratagem"])


if __name__ == "__main__":
    unittest.main()
