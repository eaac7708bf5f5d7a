"""The unit tests against the built wheel, in an environment of its own where `src` cannot be seen.

A module left out of the wheel, or found only because the checkout lies on the path, shows here and
nowhere else. The dependencies are those of the running environment (that is: of the lock), borrowed
through one `.pth` line; Python does not follow the `.pth` files it finds there, so the editable install
of bgfetch stays out of sight.
"""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "wheel"
ENVIRONMENT = BUILD / "venv"


def main() -> int:
    """The exit code of pytest, or 1 with a message when the wheel is wrong before any test runs."""
    wheel = build()
    if left_out := files_left_out(wheel):
        print("not in the wheel:", *left_out, sep="\n  ", file=sys.stderr)
        return 1
    python = install(wheel)
    print(f"{wheel.name}: tests/unit without src", flush=True)
    return subprocess.call(
        [python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit"], cwd=ROOT
    )


def build() -> Path:
    """The one wheel of this checkout, fresh."""
    for old in BUILD.glob("*.whl"):
        old.unlink()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(BUILD)])
    (wheel,) = BUILD.glob("*.whl")
    return wheel


def files_left_out(wheel: Path) -> list[str]:
    """Files of the package that the wheel lacks, sorted; caches of the interpreter do not count."""
    source = ROOT / "src"
    present = {str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()}
    wanted = {name for name in present if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        return sorted(wanted - set(archive.namelist()))


def install(wheel: Path) -> Path:
    """The interpreter of a new environment that holds the wheel, and borrows the rest."""
    venv.create(ENVIRONMENT, clear=True, symlinks=True, with_pip=False)
    python = ENVIRONMENT / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(ENVIRONMENT)})
    (Path(packages) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)])
    run(
        [
            python,
            "-P",
            "-c",
            f"import bgfetch; assert bgfetch.__file__.startswith({packages!r}), bgfetch.__file__",
        ]
    )
    return python


def run(command: list[str | Path]) -> None:
    """Run to the end, quietly; a failure shows what was said.

    Raises:
        SystemExit: With the exit code of the command.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    raise SystemExit(main())
