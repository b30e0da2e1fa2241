"""Part: the base of every model. It knows where in the source it came from, and speaks of the author's keys.

Unknown keys are reported at their own line and dropped, so that the rest of the part is still checked in the
same pass. A union of parts is resolved by the keys that are present, before pydantic sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from orchestrator.rulebook.meant import meant_key
from orchestrator.rulebook.meant_value import hint, named
from orchestrator.rulebook.problem import Report, did_you_mean
from orchestrator.rulebook.source import Map

_ORIGIN = "<origin>"


class Part(BaseModel):
    """A mapping of a rule file. ``origin`` is the mapping of the source that it was read from."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False, serialize_by_alias=True)

    _keys: ClassVar[frozenset[str]]
    #: How to write a part of which only a name is given, with … for the name: ``{event: …}``.
    short_form: ClassVar[str] = ""

    @property
    def origin(self) -> Map:
        """The mapping of the source, for the places of problems."""
        # Kept beside the fields: a private attribute of pydantic costs ten times as much to read and to set.
        return cast(Map, self.__dict__[_ORIGIN])

    @classmethod
    def allowed(cls) -> frozenset[str]:
        """Return the keys that authors may write here."""
        return cls._keys

    @classmethod
    def meant(cls, value: Any) -> str:
        """Return how to write what is no mapping as this part, or nothing where nobody can tell."""
        return named(cls.short_form)(value) if cls.short_form else ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Settle the allowed keys once."""
        cls._keys = frozenset(field.alias or name for name, field in cls.model_fields.items())

    @model_validator(mode="wrap")
    @classmethod
    def _locate(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(value, Map):
            if isinstance(value, cls):
                return value
            if not isinstance(value, dict):
                keys = ", ".join(sorted(cls.allowed()))
                raise expected(f"a mapping with the keys {keys}", value, cls.meant(value))
            value = plain_map(value)
        known = value
        if not value.keys() <= cls.allowed() and isinstance(info.context, Report):
            known = _without_unknown(cls, value, info.context)
        part = handler(known)
        part.__dict__[_ORIGIN] = value
        return part


def _without_unknown(cls: type[Part], value: Map, report: Report) -> Any:
    for key in value.keys() - cls.allowed():
        report.error(value, key, unknown_key(key, cls.allowed(), value))
    return {key: item for key, item in value.items() if key in cls.allowed()}


def unknown_key(key: str, allowed: frozenset[str], given: Collection[str] = ()) -> str:
    """Return the message for a key that a part does not have; what is ``given`` already can hardly be meant."""
    meant = meant_instead(key, allowed.difference(given)) or did_you_mean(key, allowed)
    return f'unknown key "{key}". Allowed: {", ".join(sorted(allowed))}.{meant}'


def meant_instead(key: str, allowed: Collection[str]) -> str:
    """Return `` Did you mean "…"?`` for a key: what another system's word stands for, or one that is spelt alike."""
    return (
        hint(f'"{meant}"?', lead=" Did you mean ") if (meant := meant_key(key, allowed)) else did_you_mean(key, allowed)
    )


def plain_map(value: dict[str, Any]) -> Map:
    """Return a mapping that came from nowhere (a test, a program) as one of the source."""
    located = Map("<memory>", 1, None, 0)
    for key, item in value.items():
        located[key] = item
        located.key_lines[key] = located.value_lines[key] = 1
    return located


def expected(what: str, got: Any, meant: str = "") -> PydanticCustomError:
    """Return the error that says what was expected, what was found and, where it is known, what to write instead."""
    return told(f"expected {what}, got {shown(got)}{hint(meant)}")


def told(message: str, *, at: str | None = None) -> PydanticCustomError:
    """Return an error with a message of ours; ``at`` is the key of the mapping at hand that is wrong."""
    return PydanticCustomError("told", "{message}", {"message": message, "at": at})


def shown(value: Any) -> str:
    """Return a value as its author would recognise it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}…"'
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return str(value)


#: Marks the tags that pydantic puts into the place of an error, so that they can be taken out again.
TAG_MARK = "<union>"


def _unknown_meaning(value: object) -> str:
    return ""


class ByKey:
    """Annotates a union of parts that are told apart by one key each, given as ``key=Part``.

    A trailing underscore of an argument is dropped, for keys that are words of Python. ``meant`` returns how to write
    what is no mapping.
    """

    def __init__(self, noun: str, meant: Callable[[object], str] = _unknown_meaning, /, **members: type[Part]) -> None:
        self._noun = noun
        self._meant = meant
        self._members = {key.rstrip("_"): kind for key, kind in members.items()}

    @property
    def noun(self) -> str:
        """What the union is called, with its article."""
        return self._noun

    @property
    def members(self) -> dict[str, type[Part]]:
        """The parts by the key that tells them."""
        return dict(self._members)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {TAG_MARK + key: handler.generate_schema(kind) for key, kind in self._members.items()}
        union = core_schema.tagged_union_schema(choices, discriminator=self._tag)
        return core_schema.no_info_before_validator_function(self._checked, union)

    def _tag(self, value: Any) -> str | None:
        present = self._present(value)
        return TAG_MARK + present[0] if present else None

    def _present(self, value: Any) -> list[str]:
        if isinstance(value, Part):
            return [key for key, kind in self._members.items() if kind is type(value)]
        return [key for key in self._members if key in value] if isinstance(value, dict) else []

    def _checked(self, value: Any) -> Any:
        present = self._present(value)
        if len(present) == 1:
            return value
        keys = ", ".join(self._members)
        if not isinstance(value, (dict, Part)):
            raise expected(f"{self._noun} with one of the keys {keys}", value, self._meant(value))
        if present:
            both = " and ".join(present)
            raise told(f"{self._noun} has one of the keys {keys}; this one has {both}: write them apart")
        found = list(value) if isinstance(value, dict) else []
        wrong = next(((key, meant) for key in found if (meant := meant_instead(key, self._members))), None)
        message = f"{self._noun} needs one of the keys {keys}; this one has {', '.join(found) or 'none'}."
        raise told(message) if wrong is None else told(message + wrong[1], at=wrong[0])


class OneOrMore:
    """Annotates a list that may be written as its single item."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}

    @staticmethod
    def _as_list(value: Any) -> Any:
        return [value] if isinstance(value, (dict, str, int, float)) else value


class ShortForm:
    """Annotates a part that may be written as the value of one of its keys: ``number`` for ``{type: number}``."""

    def __init__(self, key: str, words: tuple[str, ...]) -> None:
        self._key = key
        self._words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_mapping, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self._words)}, handler(schema)]}

    def _as_mapping(self, value: Any) -> Any:
        return plain_map({self._key: value}) if isinstance(value, str) else value
