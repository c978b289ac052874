"""Install the package in an empty environment and run it: ``python tests/try_versions.py PYTHON... [--lowest]``.

Each PYTHON is an interpreter, for example ~/.pyenv/versions/3.12.1/bin/python. Without options nothing is pinned, so
that the newest versions of all dependencies are installed; with --lowest, the lower bounds of setup.py are. Then
doctor, demo, scan and preview are run. Prints a row of the table in docs/testing.md for each interpreter. An
environment takes several gigabytes and is removed again.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHOWN = ("av", "numpy", "pyarrow", "pillow", "torch", "nvidia-dali-cuda130")
VERSIONS = f"import importlib.metadata as m, sys; print(sys.version.split()[0], *(m.version(n) for n in {SHOWN}))"
DEMO = "from dali_vidaug.commands.demo import make_videos; make_videos('videos', per_class=2)"


def lowest():
    """The lower bounds of the dependencies, as exact versions."""
    text = (ROOT / "setup.py").read_text()
    required = re.search(r"install_requires=\[(.*?)\]", text, re.DOTALL)
    dali = re.search(r"nvidia-dali-cuda130>=[\d.]+", text)
    assert required and dali
    bounds = re.findall(r'"([\w-]+>=[\d.]+)', required[1])
    return [bound.replace(">=", "==") for bound in (*bounds, dali[0])]


def run(command, folder):
    """Run a command; its output when it fails."""
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()[-2000:], done.stdout


def attempt(python, pins, tests):
    """Install and run in an empty environment: versions, and the result of each command."""
    with tempfile.TemporaryDirectory(prefix="dali_vidaug-versions-") as name:
        folder = Path(name)
        for command in ([python, "-m", "venv", "venv"], ["venv/bin/pip", "install", "-q", f"{ROOT}[cpu]", *pins]):
            failed, _ = run(command, folder)
            if failed:
                return "not installed", {"install": failed}
        venv = folder / "venv" / "bin"
        _, versions = run([venv / "python", "-c", VERSIONS], folder)
        commands = {
            "doctor": [venv / "dali-vidaug", "doctor"],
            "demo": [venv / "dali-vidaug", "demo"],
            "videos": [venv / "python", "-c", DEMO],
            "scan": [venv / "dali-vidaug", "scan", "videos", "-o", "videos.parquet", "--deep"],
            "demo of a manifest": [venv / "dali-vidaug", "demo", "--videos", "videos.parquet"],
            "preview": [venv / "dali-vidaug", "preview", "--mix", "all"],
        }
        if tests:
            extra = ["pytest", "psutil"]
            run([venv / "pip", "install", "-q", *extra], folder)
            commands["tests"] = [venv / "python", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                                 *(ROOT / "tests" / test for test in tests)]  # fmt: skip
        return versions.strip(), {title: run(command, folder)[0] for title, command in commands.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreters")
    parser.add_argument("--lowest", action="store_true", help="the lower bounds of setup.py, not the newest versions")
    parser.add_argument("--tests", nargs="*", default=[], metavar="FILE", help="test files to run too")
    args = parser.parse_args()
    failures = 0
    print(f"| Python | {' | '.join(SHOWN)} | result |\n|{'---|' * (len(SHOWN) + 2)}")
    for python in args.pythons:
        versions, results = attempt(Path(python).expanduser(), lowest() if args.lowest else [], args.tests)
        failed = {title: text for title, text in results.items() if text}
        failures += bool(failed)
        print(
            f"| {' | '.join(versions.split(' '))} | {'FAILED: ' + ', '.join(failed) if failed else 'runs'} |",
            flush=True,
        )
        for title, text in failed.items():
            print(f"--- {title}\n{text}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
