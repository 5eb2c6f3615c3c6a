"""Models of the Hugging Face Hub: which commit a name means, and its files. Errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from byrote.network import reachable
from byrote.types import StudyError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
CODE = "*.py"


def cached(repo: str) -> bool:
    """Whether the local cache of the Hub holds the weights of a model, in one file."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo, "model.safetensors"), str)


def commit_of(repo: str, revision: str | None) -> str:
    """The commit hash that a name and revision mean now, or meant when they were cached. Fetches the config only."""
    from huggingface_hub import hf_hub_download

    with _plain_errors(repo, revision):
        config = Path(hf_hub_download(repo, "config.json", revision=revision, local_files_only=not reachable()))
    return config.parent.name


def snapshot(repo: str, commit: str, *, code: bool) -> Path:
    """The folder with a model's config, tokenizer and safetensors, fetched where missing; Python only where `code`."""
    from huggingface_hub import snapshot_download

    patterns = [*WANTED, *([CODE] if code else [])]
    with _plain_errors(repo, commit):
        here = snapshot_download(repo, revision=commit, allow_patterns=patterns, local_files_only=not reachable())
    return Path(here)


@contextmanager
def _plain_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turns what the Hub's client raises into a StudyError that says what to do."""
    from huggingface_hub import errors

    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except errors.GatedRepoError:
        raise StudyError(
            f"the model {repo!r} is gated: accept its terms on its page of the Hub, then set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise StudyError(
            f"the Hub has no model {repo!r} that you may read. Check the spelling; for a private model set HF_TOKEN; "
            "for a folder of your own, give a path that exists"
        ) from None
    except errors.RevisionNotFoundError:
        raise StudyError(f"the model {repo!r} has no revision {revision!r} on the Hub") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        # Before EntryNotFoundError, of which an offline miss is one kind.
        raise StudyError(_unreachable(repo, at)) from None
    except errors.EntryNotFoundError:
        raise StudyError(
            f"{repo!r}{at} has no config.json on the Hub, so it is not a transformers model (an adapter, perhaps, or a "
            "GGUF file: download that and give its path)"
        ) from None
    except errors.HFValidationError:
        raise StudyError(f"{repo!r} is neither a folder that exists nor a well-formed Hub id") from None
    except errors.HfHubHTTPError as error:
        raise StudyError(f"the Hub refused the model {repo!r}{at}: {first_line(error)}") from None
    except (errors.HTTPError, ConnectionError, TimeoutError):  # type: ignore[attr-defined]
        raise StudyError(_unreachable(repo, at)) from None


def _unreachable(repo: str, at: str) -> str:
    return (
        f"cannot reach the Hub for the model {repo!r}{at}, and it is not in the local cache. Without a network, use a "
        "local folder, a .gguf file or a built-in model such as builtin:tiny (see `byrote list models`)"
    )


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
