"""The manifest of an artefact folder: which files belong to it, and their sha256."""

import hashlib
import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from adaptmr.errors import BadInputError

MANIFEST = "manifest.json"

Description = TypeVar("Description", bound=BaseModel)


def sha256(file: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Write ``manifest.json`` over all files below ``folder``, manifests of its parts included."""
    own = folder / MANIFEST
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != own)
    own.write_text(_text({path.relative_to(folder).as_posix(): sha256(path) for path in files}))


def check_manifest(folder: Path) -> None:
    """Check that the files of ``folder`` are those its manifest lists, byte for byte.

    Raises:
        BadInputError: no manifest, or a file is missing or altered, be it the manifest.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text()
        digests = dict(json.loads(text)["sha256"])
    except FileNotFoundError as error:
        raise BadInputError(
            "the manifest is missing", file=path, hint="Name the folder that a command wrote"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError("the manifest cannot be read", file=path, got=str(error)) from error
    if text != _text(digests):
        raise BadInputError("the manifest was altered after it was written", file=path)
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file():
            raise BadInputError("a file of the folder is missing", file=file)
        if (got := sha256(file)) != digest:
            raise BadInputError(
                "the file was altered after it was written",
                file=file,
                field="sha256",
                got=got[:16],
                expected=digest[:16],
                hint="Copy the folder again, or make it anew",
            )


def _text(digests: dict[str, str]) -> str:
    return json.dumps({"sha256": digests}, indent=1) + "\n"


def read_description(file: Path, kind: type[Description], what: str) -> Description:
    """Read the JSON that says what a folder or a file holds.

    Args:
        file: the JSON file.
        kind: the model it has to fit; a field ``schema_version`` tells newer ones apart.
        what: the thing described, for messages: "a mask bank".

    Raises:
        BadInputError: the file is missing, describes something else, or is of a newer version.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        newer = field == "schema_version"
        raise BadInputError(
            f"this is not {what} that this version can read",
            file=file,
            field=field or None,
            got=problem["input"] if newer else problem["msg"],
            expected=problem.get("ctx", {}).get("expected") if newer else None,
            hint="It was written by a newer adaptmr: update adaptmr" if newer else None,
        ) from error
    except OSError as error:
        raise BadInputError(f"this is not {what}: its description is missing", file=file) from error
