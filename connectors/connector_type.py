"""A connector's type: its name, what it carries, and the two parameter lists that it is checked against.

``parameters`` describes the settings that a connector is built from, ``action_params`` what one delivery must
bring. Both are pydantic models, so that linting, documentation and sending all read the same list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from connectors.callback import CallbackReader
from connectors.errors import ConnectorMisconfigured, Problem, model_problems, unknown_name
from connectors.markup import Markup
from connectors.protocol import Connector, Delivery, Receipt, Result

#: What an action may be. Limits and consent of the engine speak of these words.
KINDS = ("call", "sms", "whatsapp", "email", "push", "chat", "crm", "webhook", "publish")


class Parameters(BaseModel):
    """Settings of one connector type: closed, frozen, every field described."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ActionParams(BaseModel):
    """What a delivery must bring. Of each group in ``one_of`` at least one must be there.

    ``markup`` says of those that are written in one: values that a template puts into them are escaped for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()
    markup: ClassVar[Mapping[str, Markup]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_keywords: Any) -> None:
        """Refuse a declaration that nobody reads, because a misspelt ``markup`` would let every value through."""
        public = {name for name in cls.__class_vars__ if not name.startswith("_")}
        if unknown := sorted(public - ActionParams.__class_vars__):
            raise TypeError(f"{cls.__name__}.{unknown[0]} is no declaration. Known: markup, one_of.")
        free = cls.model_config.get("extra") == "allow"
        if not free and (unknown := sorted(set(cls.markup) - set(cls.model_fields))):
            raise TypeError(f'{cls.__name__}.markup names "{unknown[0]}", which is no param of it.')

    @model_validator(mode="after")
    def _one_of_each_group(self) -> Self:
        for group in self.one_of:
            if not any(getattr(self, name) for name in group):
                raise ValueError(_none_of(group))
        return self


class AnyParams(ActionParams):
    """Params of any name: the other side decides what they mean."""

    model_config = ConfigDict(extra="allow", frozen=True)


#: Named here because inside ``ConnectorType`` the word ``type`` is a field.
ParametersModel = type[Parameters]
ActionParamsModel = type[ActionParams]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a connector takes from its process: the environment (for secrets) and the present in epoch seconds."""

    environ: Mapping[str, str]
    now_s: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorType:
    """One kind of connector. ``create(name, parameters, surroundings)`` opens nothing and does not block.

    ``create`` gets validated ``parameters`` and may raise ``ConnectorMisconfigured``, for a secret that is not set.
    ``callbacks`` builds, from the same, what understands the reports that the other side sends on its own; None when
    it sends none.
    """

    type: str
    description: str
    kinds: tuple[str, ...]
    parameters: ParametersModel
    action_params: ActionParamsModel
    create: Callable[[str, Any, Surroundings], Connector]
    callbacks: Callable[[str, Any, Surroundings], CallbackReader] | None = None

    def param_name_problems(self, names: Iterable[str]) -> list[Problem]:
        """Return what is wrong with the names of a template's params, before there are any values."""
        given, fields = set(names), self.action_params.model_fields
        free = self.action_params.model_config.get("extra") == "allow"
        unknown = [] if free else [unknown_name("param", name, fields) for name in sorted(given - set(fields))]
        missing = [
            Problem(name, f'param "{name}" is missing', f"It is: {field.description}")
            for name, field in fields.items()
            if field.is_required() and name not in given
        ]
        groups = [
            Problem(" or ".join(group), _none_of(group), "Give one of them.")
            for group in self.action_params.one_of
            if not given & set(group)
        ]
        return unknown + missing + groups


def on_first_use(reference: str) -> Callable[..., Any]:
    """Return a function that stands for another, written ``module:name``, and loads its module when it is called.

    For ``create`` and ``callbacks`` of a type whose client library takes long to load: whoever only lints rules need
    not wait for it.
    """
    module, _, name = reference.partition(":")

    def called(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return called


P = TypeVar("P", bound=ActionParams)


def checked_params(model: type[P], delivery: Delivery) -> P | Receipt:
    """Return the delivery's params as ``model``, or the refusal that names each faulty one.

    A template that renders to nothing is a parameter that is missing: null and "" count as absent.
    Values are not quoted in the refusal, because ledgers keep it and phone numbers do not belong there.
    """
    present = {name: value for name, value in delivery.params.items() if value is not None and value != ""}
    try:
        return model.model_validate(present)
    except ValidationError as error:
        detail = " ".join(str(problem) for problem in model_problems(model, error, "param"))
        return Receipt(result=Result.REFUSED, detail=detail)


def environment_value(connector: str, setting: str, variable: str, surroundings: Surroundings) -> str:
    """Return the variable that ``setting`` names, or raise ``ConnectorMisconfigured`` when it is unset or empty."""
    if value := surroundings.environ.get(variable, "").strip():
        return value
    message = f'setting "{setting}" names the environment variable "{variable}", which is not set'
    remedy = f"Set {variable}, or leave {setting} out."
    raise ConnectorMisconfigured(connector, [Problem(setting, message, remedy, variable)])


def _none_of(group: tuple[str, ...]) -> str:
    return "param " + " or ".join(f'"{name}"' for name in group) + " is missing"
