"""Configurations from YAML or options, checked strictly."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from adaptmr.errors import BadInputError, UsageError

Model = TypeVar("Model", bound=BaseModel)


def load_config(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a configuration; a relative path in it is taken from where one is.

    Args:
        path: the file.
        model: what it has to hold.

    Raises:
        BadInputError: the file cannot be read, is not YAML, or a key or value is wrong; an unknown
            key is named together with the nearest one there is.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(
            "the configuration cannot be read", file=path, got=error.strerror
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(
            "the configuration is not YAML", file=path, got=str(error), hint="Check its indentation"
        ) from error
    if not isinstance(values, dict):
        raise BadInputError(
            "the configuration is not a list of keys and values",
            file=path,
            got=type(values).__name__,
            expected="lines such as 'epochs: 10'",
        )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        field, got, hint = _problem(error, model)
        raise BadInputError(
            "the configuration is wrong", file=path, field=field, got=got, hint=hint
        ) from error


def checked(model: type[Model], values: Mapping[str, Any], what: str) -> Model:
    """A configuration from the options of a command.

    Args:
        model: what to make.
        values: its fields.
        what: what to say when they do not fit, as a short sentence.

    Raises:
        UsageError: a value is out of its range, or values contradict each other.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        field, got, hint = _problem(error, model)
        raise UsageError(what, field=field.replace("_", "-"), got=got, hint=hint) from error


def overridden(base: Model, given: Mapping[str, Any], what: str) -> Model:
    """A configuration with those of its fields changed that the options of a command give.

    Args:
        base: what holds otherwise.
        given: fields; those that are None were not given.
        what: as of `checked`.

    Raises:
        UsageError: as `checked`.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    return checked(type(base), {**dict(base), **changes}, what)


def _problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str, str | None]:
    """Field, what is wrong with it, and what to do, of the first problem.

    An unknown key goes first: a misspelt one is missing under its right name as well.
    """
    problems = error.errors()
    first = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    field = ".".join(str(part) for part in first["loc"]) or "all"
    if first["type"] == "missing":
        return field, "nothing", "Add this key"
    if first["type"] != "extra_forbidden":
        return field, f"{first['input']!r}: {first['msg']}", None
    near = get_close_matches(str(first["loc"][-1]), _keys(model), n=1, cutoff=0.0)
    return field, "an unknown key", f"Did you mean '{near[0]}'?" if near else None


def _keys(model: type[BaseModel]) -> list[str]:
    """The keys of a model and of the models inside it."""
    nested: list[str] = []
    for definition in model.model_json_schema().get("$defs", {}).values():
        nested += definition.get("properties", {})
    return [*model.model_fields, *nested]
