"""Networks of the transformers library: a folder of one's own, or one that is downloaded once from huggingface.co."""

import os
from pathlib import Path

from util import UserError, needs_extra

FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


def model_folder(name, option, expected):
    """The folder that an option names, or that of a name OWNER/MODEL at the hub, downloaded unless it is here already.

    UserError: the extra is missing; there is neither.
    """
    needs_extra(option, "transformers", "dino")
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists() or str(name).count("/") != 1 or os.path.isabs(name) or str(name)[0] == ".":
        raise UserError(f"{option} {name}: no such folder; expected {expected}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=FILES))
    except (OSError, ValueError) as error:  # no network, no such name, a name that cannot be
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{option} {name}: no such folder, and it cannot be downloaded ({reason}); expected "
                        f"{expected}") from None


def pretrained(kind, folder, option, expected):
    """The model in a folder, of that automatic class of transformers, in evaluation mode. UserError: it is none."""
    needs_extra(f"{option} {folder}", "transformers", "dino")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True).eval()
    except Exception as error:  # of damaged weights, other configurations: the library raises many kinds
        raise UserError(f"{option} {folder}: cannot be read ({str(error).splitlines()[0][:120]}); expected {expected}"
                        ) from None
