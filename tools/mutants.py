"""Seed bugs into the core, one at a time, and show that a test catches each.

Each mutant is one change to a copy of the sources, and the tests that must fail with it; the same tests pass
without it. `python tools/mutants.py WORD` takes only those whose name contains the word.
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
_FAILED, _PASSED = 1, 0


def main() -> int:
    """Run the mutants; 1 if one survives."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutant for mutant in MUTANTS if word in mutant.name]
    with tempfile.TemporaryDirectory(prefix="kgl-mutants-") as folder:
        copy = Path(folder) / "kgl"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".kgl", "build", "*_cache", "__pycache__")
        )
        if not _sound(copy, chosen):
            return 1
        caught = sum(_caught(copy, mutant) for mutant in chosen)
    print(f"{caught} of {len(chosen)} mutants caught")
    return 0 if caught == len(chosen) else 1


def _sound(copy: Path, mutants: list[Mutant]) -> bool:
    """Without a mutant, all the tests pass: else a failure would prove nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    ended = _run(copy, tests, fail_fast=False)
    if ended.returncode != _PASSED:
        print(ended.stdout[-4000:])
        print("the tests do not pass without a mutant")
    return ended.returncode == _PASSED


def _caught(copy: Path, mutant: Mutant) -> bool:
    path = copy / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        print(f"STALE     {mutant.name}: the text to change is in {mutant.file} {source.count(mutant.old)} times")
        return False
    start = time.monotonic()
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        ended = _run(copy, list(mutant.tests), fail_fast=True)
        caught = ended.returncode == _FAILED
    except subprocess.TimeoutExpired:
        caught = True  # the tests have limits of their own: a run that never ends is a bug seen as well
    finally:
        path.write_text(source)
    print(f"{'caught   ' if caught else 'SURVIVED '} {mutant.name} ({time.monotonic() - start:.0f} s)", flush=True)
    return caught


def _run(copy: Path, tests: list[str], *, fail_fast: bool) -> "subprocess.CompletedProcess[str]":
    """Run tests of the copy, with the copy's packages before the installed ones."""
    packages = [str(project.parent) for project in sorted(copy.glob("*/*/pyproject.toml"))] + [str(copy / "cli")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", *tests]
    return subprocess.run(
        [*command, *(["-x"] if fail_fast else [])],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT if fail_fast else None,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
