"""Seed bugs into the core, one at a time, and show that a test catches each.

Each mutant is one change to a copy of the sources, and the tests that must fail with it; the same tests pass
without it. Those of races must be seen by the simulation alone as well. `python tools/mutants.py WORD` takes only
those whose name contains the word; `--simulation` before it leaves the tests out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tools.mutants_list import MUTANTS, Mutant  # noqa: E402

_TIMEOUT = 240
_SCHEDULES, _SIMULATION_SECONDS = 3000, 600
_FAILED, _PASSED = 1, 0


def main() -> int:
    """Run the mutants; 1 if one survives."""
    words = [argument for argument in sys.argv[1:] if argument != "--simulation"]
    tested = "--simulation" not in sys.argv
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    simulated = [mutant for mutant in chosen if mutant.simulated]
    with tempfile.TemporaryDirectory(prefix="kgl-mutants-") as folder:
        copy = Path(folder) / "kgl"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".kgl", "build", "*_cache", "__pycache__")
        )
        if tested and not _sound(copy, chosen):
            return 1
        with_tests = [mutant for mutant in chosen if mutant.tests and tested]
        caught = sum(_caught(copy, mutant) for mutant in with_tests)
        seen = sum(_caught(copy, mutant, by_simulation=True) for mutant in simulated)
    if tested:
        print(f"{caught} of {len(with_tests)} mutants caught by their tests")
    print(f"{seen} of {len(simulated)} mutants of races caught by the simulation alone")
    return 0 if caught == len(with_tests) and seen == len(simulated) else 1


def _sound(copy: Path, mutants: list[Mutant]) -> bool:
    """Without a mutant, all the tests pass: else a failure would prove nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    ended = _run(copy, tests, fail_fast=False)
    if ended.returncode != _PASSED:
        print(ended.stdout[-4000:])
        print("the tests do not pass without a mutant")
    return ended.returncode == _PASSED


def _caught(copy: Path, mutant: Mutant, *, by_simulation: bool = False) -> bool:
    path = copy / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        print(f"STALE     {mutant.name}: the text to change is in {mutant.file} {source.count(mutant.old)} times")
        return False
    start, seen = time.monotonic(), ""
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        ended = _simulate(copy) if by_simulation else _run(copy, list(mutant.tests), fail_fast=True)
        caught = ended.returncode == _FAILED
        seen = ended.stdout.partition("\n")[0] if caught and by_simulation else ""
    except subprocess.TimeoutExpired:
        caught = True  # the tests have limits of their own: a run that never ends is a bug seen as well
    finally:
        path.write_text(source)
    by = f" by the simulation: {seen}" if by_simulation else ""
    print(f"{'caught   ' if caught else 'SURVIVED '} {mutant.name}{by} ({time.monotonic() - start:.0f} s)", flush=True)
    return caught


def _run(copy: Path, tests: list[str], *, fail_fast: bool) -> "subprocess.CompletedProcess[str]":
    """Run tests of the copy."""
    command = ["pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", *tests]
    return _python(copy, [*command, *(["-x"] if fail_fast else [])], _TIMEOUT if fail_fast else None)


def _simulate(copy: Path) -> "subprocess.CompletedProcess[str]":
    """Run schedules of the copy until one is violated."""
    command = ["tests.simulation", "--fail-fast", "--schedules", str(_SCHEDULES)]
    return _python(copy, [*command, "--seconds", str(_SIMULATION_SECONDS)], None)


def _python(copy: Path, module: list[str], timeout: float | None) -> "subprocess.CompletedProcess[str]":
    """Run a module with the copy's packages before the installed ones."""
    packages = [str(project.parent) for project in sorted(copy.glob("*/*/pyproject.toml"))]
    return subprocess.run(
        [sys.executable, "-m", *module],
        cwd=copy,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*packages, str(copy / "cli"), str(copy)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
