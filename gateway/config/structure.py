"""From a parsed document to a Config, strictly, with every mistake in plain words.

cattrs does the walking and collects what it meets; the hooks here are stricter
than its own (text is never a number, true is never 1) and say what would be
right. The validators of the schema run field by field, because `__init__` would
stop at the first that fails.
"""

import math
import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.cols import mapping_structure_factory
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from gateway.config.environment import parse_text
from gateway.config.keys import Key, dotted, names_in, nearest, present
from gateway.config.mistakes import INT_MAX, INT_MIN, Document, Mistake
from gateway.config.schema import Config, SlotCount, is_setting

_BOUND: Final = re.compile(r"must be (?P<sign>[<>]=?) (?P<bound>-?[0-9.]+)")
_SIGNS: Final = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}
_UNITS: Final = {"_seconds": " of seconds", "_ms": " of milliseconds", "_bytes_max": " of bytes"}


class _WrongError(ValueError):
    """What a value must be, in plain words; becomes a Mistake."""


def structure(document: Document) -> tuple[Config, list[Mistake]]:
    """Build the Config.

    Returns:
        The Config of everything that is right, defaults for the rest, and the
        mistakes: only without any is the Config what the operator asked for.
    """
    try:
        return _converter.structure(document, Config), []
    except BaseValidationError as error:
        mistakes = list(_mistakes(error, ()))
    right = document
    for mistake in mistakes:
        right = _without(right, mistake.key)
    return _converter.structure(right, Config), mistakes


# --- What a value must be ---------------------------------------------------


def _whole(value: Any, _: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _WrongError("must be a whole number")
    if not INT_MIN <= value <= INT_MAX:
        raise _WrongError("must be a smaller whole number")
    return value


def _number(value: Any, _: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _WrongError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _WrongError("must be a finite number")
    return number


def _switch(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _WrongError("must be true or false")


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _WrongError("must be text, in quotes")
    # Bytes that are no UTF-8 come out of the environment as lone surrogates,
    # which no log line and no JSON can carry.
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise _WrongError("must be valid UTF-8")
    return value


def _choice(value: Any, type_: Any) -> str:
    choices = get_args(type_)
    if isinstance(value, str) and value in choices:
        return value
    close = get_close_matches(str(value).lower(), choices, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    raise _WrongError(f"must be one of {', '.join(choices)}{hint}")


def _slot_count(value: Any, _: Any) -> SlotCount:
    try:
        return "auto" if value == "auto" else _whole(value, int)
    except _WrongError as wrong:
        raise _WrongError(f'{wrong}, or "auto"') from None


def _texts(value: Any, _: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(_text(item, str) for item in value)
    raise _WrongError('must be a list of texts, such as ["one", "two"]')


def _table_of(type_: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """A table of names that the operator picks."""
    inside = mapping_structure_factory(type_, converter)
    return lambda value, _: inside(_table(value), type_)


def _table_as(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """A table with the keys of a class."""
    hooks: Any = {
        field.name: override(struct_hook=_field_hook(field, converter))
        if is_setting(field)
        else override(omit=True)
        for field in attrs.fields(cls)
    }
    inside = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        **hooks,
    )
    return lambda value, _: inside(_table(value), cls)


def _table(value: Any) -> Document:
    if isinstance(value, dict):
        return value
    raise _WrongError("must be a table")


def _field_hook(field: "attrs.Attribute[Any]", converter: Converter) -> Callable[[Any, Any], Any]:
    """The type's own hook, then the field's validator."""
    type_: Any = field.type

    def hook(value: Any, _: Any) -> Any:
        try:
            structured = converter.structure(value, type_)
        except _WrongError as wrong:
            raise _WrongError(f"{wrong}{_help(field, value)}") from None
        if field.validator is not None:
            try:
                field.validator(None, field, structured)
            except ValueError as refused:
                raise _WrongError(_bound_words(str(refused))) from None
        return structured

    return hook


def _help(field: "attrs.Attribute[Any]", value: Any) -> str:
    """The unit, an example, and what to do about a number that stands in quotes."""
    type_ = present(field.type)
    if type_ not in (int, float, bool, SlotCount):
        return ""
    words = next((unit for end, unit in _UNITS.items() if field.name.endswith(end)), "")
    if field.type in (int, float):
        words += f", such as {str(field.default).removesuffix('.0')}"
    if isinstance(value, str) and not isinstance(parse_text(value, type_), str):
        words += ", without quotes"
    return words


def _bound_words(message: str) -> str:
    """A validator's message, `'port' must be <= 65535: 70000`, for a person."""
    found = _BOUND.search(message)
    assert found is not None, message
    sign, bound = _SIGNS[found["sign"]], found["bound"].removesuffix(".0")
    if not message.startswith("Length of"):
        return f"must be {sign} {bound}"
    return "must not be empty" if bound == "1" else f"must have {sign} {bound} characters"


def _origin_is(origin: Any) -> Callable[[Any], bool]:
    return lambda type_: get_origin(type_) is origin


def _new_converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(bool, _switch)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook_func(_origin_is(Literal), _choice)
    converter.register_structure_hook_func(lambda type_: type_ == SlotCount, _slot_count)
    converter.register_structure_hook_func(_origin_is(tuple), _texts)
    converter.register_structure_hook_factory(_origin_is(dict), _table_of)
    converter.register_structure_hook_factory(attrs.has, _table_as)
    return converter


_converter: Final = _new_converter()


# --- What cattrs found, as mistakes -----------------------------------------


def _mistakes(error: BaseException, key: Key) -> Iterator[Mistake]:
    match error:
        case ForbiddenExtraKeysError():
            for name in sorted(error.extra_fields):
                yield _unknown((*key, name))
        case BaseValidationError():
            for inner in error.exceptions:
                yield from _mistakes(inner, (*key, *_step(inner)))
        case _WrongError():
            # What stands in a table's place can be anything, a key too.
            text = str(error) if str(error).endswith("?") else f"{error}."
            yield Mistake(key, text, value_shown=not names_in(key))
        case _:
            raise error


def _step(error: BaseException) -> Key:
    """The field or name that cattrs was at."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (str(note.index),)
    return ()


def _unknown(key: Key) -> Mistake:
    meant = nearest(key)
    hint = "."
    if meant is not None:
        shown = meant[-1] if meant[:-1] == key[:-1] else dotted(meant)
        hint = f"; did you mean `{shown}`?"
    return Mistake(key, f"there is no such key{hint}", value_shown=False)


def _without(document: Document, key: Key) -> Document:
    """The document less one key."""
    name, *rest = key
    if not rest:
        return {given: value for given, value in document.items() if given != name}
    return {**document, name: _without(document[name], tuple(rest))}
