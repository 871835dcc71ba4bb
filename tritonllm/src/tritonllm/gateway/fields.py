"""How the gateway treats each field of OpenAI's protocol: a `Treatment`, written at the field's declaration.

Requests are pydantic models whose fields carry their treatment; `Body.read` validates by it, and `contract` makes the
reference and the guard contract of it. So there is one table, and a field that is not in it is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

import pydantic

from tritonllm import errors, validation_errors

Handling = Literal["Supported", "Constrained", "Ignored", "Refused"]
Guard = Literal["Guarded", "Constrained", "Opaque", "Refused"]

GUARD_MEANINGS: dict[Guard, str] = {
    "Guarded": "Text to or from the model. The endpoint's rules are applied to it.",
    "Constrained": "A number, a flag, an identifier or one of a fixed set of values. It cannot carry a text past the rules.",
    "Opaque": "It has content that no rule is applied to. The note says what becomes of it.",
    "Refused": "It never reaches the model or the caller: refused, discarded, or not sent.",
}

_MAX_PROBLEMS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Treatment:
    """What becomes of a field.

    Attributes:
        handling: whether it has an effect.
        guard: whether guardrail rules see its content.
        note: one line for people: its meaning, its limits, or why it is refused.
        accepted: of a field that is refused otherwise, the values that are accepted because they ask for nothing.
    """

    handling: Handling
    guard: Guard
    note: str
    accepted: tuple[Any, ...] = ()

    def __get_pydantic_json_schema__(
        self, schema: Any, handler: pydantic.GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The field in the OpenAPI document: with the note, and with no values that are refused."""
        if self.accepted:
            found: dict[str, Any] = {"enum": [*self.accepted, None]}
        elif self.handling == "Refused":
            found = {"type": "null"}
        else:
            found = handler(schema)
        return found | {"description": self.note}


def supported(guard: Guard, note: str) -> Treatment:
    """A field with the meaning that it has in OpenAI's or vLLM's API."""
    return Treatment("Supported", guard, note)


def constrained(guard: Guard, note: str) -> Treatment:
    """A field of which only some values are supported."""
    return Treatment("Constrained", guard, note)


def only(*accepted: Any, note: str) -> Treatment:
    """A field that is refused unless it has a value that asks for nothing."""
    return Treatment("Constrained", "Refused", note, accepted)


def ignored(note: str) -> Treatment:
    """A field that is accepted and discarded."""
    return Treatment("Ignored", "Refused", note)


def refused(note: str) -> Treatment:
    """A field that is refused with a reason; null is accepted, as it is everywhere."""
    return Treatment("Refused", "Refused", note)


class Fields(pydantic.BaseModel):
    """An object of a request. Every field has a treatment in its metadata, or a description and `DEFAULT`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


INHERITED = Treatment("Supported", "Constrained", "")
"""The treatment of fields that a model inherits from `sampling.SamplingParameters`; the note is their description."""


def treatments(model: type[pydantic.BaseModel]) -> dict[str, Treatment]:
    """The treatment of each field of an object of a request, by the name that callers use."""
    found = {}
    for name, field in model.model_fields.items():
        given = next((each for each in field.metadata if isinstance(each, Treatment)), None)
        found[field.alias or name] = given or dataclasses.replace(INHERITED, note=field.description or "")
    return found


class Body(pydantic.BaseModel):
    """The body of a request."""

    KIND: ClassVar[str]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Validates a body.

        Args:
            document: the JSON object that was sent.

        Raises:
            RequestError: `invalid_argument`, with the field that is invalid and why.
        """
        try:
            body = cls.model_validate(document)
        except pydantic.ValidationError as error:
            (field, message), *others = validation_errors.problems(error, cls, limit=_MAX_PROBLEMS)
            more = [f"{name}: {what}" for name, what in others]
            raise errors.RequestError("invalid_argument", field, "; ".join([message, *more])) from None
        for path, treatment in _unsupported(body):
            raise errors.RequestError("invalid_argument", path, _refusal(treatment))
        return body


def _refusal(treatment: Treatment) -> str:
    note = treatment.note.removesuffix(".")
    accepted = " or ".join(json.dumps(value) for value in treatment.accepted)
    return f"is not supported{f' other than {accepted}' if accepted else ''}. {note}"


def _unsupported(part: pydantic.BaseModel, path: str = "") -> Iterator[tuple[str, Treatment]]:
    """The fields that are set although they are refused."""
    table = _TREATMENTS.get(type(part))
    if table is None:
        table = _TREATMENTS[type(part)] = list(treatments(type(part)).items())
    given = part.model_fields_set
    names = type(part).model_fields
    for (shown, treatment), name in zip(table, names, strict=True):
        if name not in given:
            continue
        value = getattr(part, name)
        if value is None:
            continue
        if treatment.handling == "Refused" or (treatment.accepted and value not in treatment.accepted):
            yield f"{path}{shown}", treatment
        elif isinstance(value, pydantic.BaseModel):
            yield from _unsupported(value, f"{path}{shown}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, pydantic.BaseModel):
                    yield from _unsupported(item, f"{path}{shown}[{index}].")


_TREATMENTS: dict[type[pydantic.BaseModel], list[tuple[str, Treatment]]] = {}
