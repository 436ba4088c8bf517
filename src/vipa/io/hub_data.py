"""Data sets by their name on the Hugging Face hub."""

from pathlib import Path


def local_folder(source: Path) -> Path:
    """A folder as it is; of `owner/name`, where there is no such folder, the hub's data set, brought into its cache
    whole. HF_TOKEN says who you are, HF_ENDPOINT another hub. ValueError where the hub has none."""
    source = Path(source)
    if source.exists() or source.is_absolute() or len(source.parts) != 2 or source.parts[0].startswith((".", "~")):
        return source
    from huggingface_hub import snapshot_download  # here: most data are folders, and it takes a while to import
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(source.as_posix(), repo_type="dataset"))
    except (HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise ValueError(f"{source}: no data here, neither as a folder nor on the hub ({reason})") from None
