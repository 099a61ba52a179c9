"""A TOML file -> a validated model, and every mistake in it -> one sentence.

Called by config.py and fleet.py. The sentence names the file, the dotted key, what is allowed there and the nearest
miss; all mistakes of a file are told at once. Refuses to guess: an unknown key is an error, never ignored.
"""
import difflib
import math
import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from harness.errors import ConfigError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
NAME_RULE = "letters, digits, '.', '_', '+' and '-', at most 64, the first a letter or digit: it becomes a file name"


def _file_name(value: str) -> str:
    if value.endswith((".", ".part")):
        raise ValueError("a name must not end in '.' or '.part': it becomes a file name")
    return value


#: What is wanted, by pydantic's name of the mistake, in the words of a TOML file instead of Python's.
_WANTED = {
    "tuple_type": "a list is needed, in brackets", "list_type": "a list is needed, in brackets",
    "model_type": "a table is needed, as { key = ... }", "dict_type": "a table is needed, as { key = ... }",
    "string_type": "text is needed, in quotes", "path_type": "a path is needed, in quotes",
    "int_type": "a whole number is needed, without quotes", "float_type": "a number is needed, without quotes",
    "int_from_float": "a whole number is needed",
}

#: A name that is safe as a file name, as part of an id and on a command line.
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN), AfterValidator(_file_name)]


class Spec(BaseModel):
    """What is read from a file: frozen, strict about keys and types, no silent conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model", bound=Spec)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The file as a dict. Raises ConfigError with line and column when it is broken, and when it cannot be read."""
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8-sig"))     # some editors begin a file with a mark
    except FileNotFoundError:
        raise ConfigError(_missing(path, what)) from None
    except OSError as error:
        raise ConfigError(f"cannot read the {what} file {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 (byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: broken TOML: {error}.") from None
    _refuse_what_json_lacks(value, "", path)
    return value


def validated(model: type[Model], value: dict[str, Any], path: Path) -> Model:
    """`value` as a `model`. Raises ConfigError that tells every mistake, one a line."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_sentence(model, one) for one in error.errors(include_url=False)]
        raise ConfigError("\n".join(f"{path}: {line}" for line in dict.fromkeys(lines))) from None


def _refuse_what_json_lacks(value: Any, key: str, path: Path) -> None:
    """Settings travel and are hashed as JSON, which has no dates, times, infinities or NaN."""
    if isinstance(value, dict):
        for name, one in value.items():
            _refuse_what_json_lacks(one, f"{key}.{name}" if key else name, path)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _refuse_what_json_lacks(one, f"{key}.{index}", path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: {key} = {value} is not a finite number.")
    elif not isinstance(value, str | int | float):
        raise ConfigError(f"{path}: {key} = {value} is a date or a time, which no key takes; quote it to make it text.")


def _missing(path: Path, what: str) -> str:
    folder = path.parent
    beside = sorted(entry.name for entry in folder.glob("*.toml")) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6)
    hint = f" Did you mean {folder / near[0]}?" if near else ""
    if not folder.is_dir():
        return f"there is no {what} file {path}: the folder {folder} does not exist."
    return f"there is no {what} file {path}.{hint} TOML files in {folder}: {', '.join(beside) or 'none'}."


def _sentence(model: type[BaseModel], error: Any) -> str:
    parts = tuple(part for part in error["loc"] if not str(part).startswith(("function-", "nullable", "list[")))
    key = ".".join(str(part) for part in parts)
    kind, message = error["type"], str(error["msg"])
    if kind == "extra_forbidden":
        allowed = sorted(_keys_at(model, parts[:-1]))
        near = difflib.get_close_matches(str(parts[-1]), allowed, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"unknown key {key!r}.{hint} Allowed here: {', '.join(allowed)}."
    if kind == "missing":
        return f"the key {key!r} is missing."
    if kind == "string_pattern_mismatch":
        return f"{key} = {error['input']!r} is no name: {NAME_RULE}."
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{key}: {message}." if key else f"{message}."
    return f"{key} = {_short(error['input'])}: {_WANTED.get(kind) or message[0].lower() + message[1:]}."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(annotation: Any, path: tuple[Any, ...]) -> set[str]:
    """The keys that are allowed where `path` leads, down from a model through its fields, tables and lists."""
    for part in path:
        annotation = _inside(annotation, part)
    model = _part_of(annotation, BaseModel)
    return set(model.model_fields) if model is not None else set()


def _inside(annotation: Any, part: Any) -> Any:
    """What `part` (a field of a model, a key of a table, an index) leads to; None when to nothing that is known."""
    model, table = _part_of(annotation, BaseModel), _part_of(annotation, (dict, list, tuple))
    if model is not None:
        return model.model_fields[part].annotation if part in model.model_fields else None
    if table is None:
        return None
    arguments = get_args(table)
    return arguments[1 if get_origin(table) is dict else 0]


def _part_of(annotation: Any, kinds: Any) -> Any:
    """The model or container inside `Annotated[...]` and `X | None`; None when it is of another kind."""
    origin = get_origin(annotation)
    plain = annotation if origin is None else origin
    if isinstance(plain, type) and plain is not UnionType:
        return annotation if issubclass(plain, kinds) else None
    return next((found for part in get_args(annotation) if (found := _part_of(part, kinds)) is not None), None)
