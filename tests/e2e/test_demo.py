"""The demo checks its own claims; here it has to pass on a new home, and once more on the same one."""

import os
import re
import subprocess
import sys

from kgl_cli.testing import dev_system


def test_the_demo_passes_on_a_new_home_and_doubles_nothing_the_second_time() -> None:
    with dev_system() as system:
        outputs = [demo(str(system.home.path)) for _ in range(2)]
    first, second = outputs
    documents = re.search(r"(\d+) documents are new, 0 were known", first)
    assert documents is not None, first
    assert f"0 documents are new, {documents[1]} were known" in second
    assert f"{documents[1]} summaries, one each" in second


def demo(home: str) -> str:
    """What `kgl demo` prints; it must end with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "kgl_cli.main", "demo"],
        env={**os.environ, "KGL_HOME": home, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
