"""A block of configuration as typed, frozen values: every mistake is reported at once, with the key it is at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from components.core.errors import ConfigError, did_you_mean

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Config(BaseModel):
    """A frozen block of parameters that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    def idle(self) -> Mapping[str, str]:
        """Return the options that nobody reads beside these values of the others, each with why."""
        return {}

    @model_validator(mode="after")
    def _every_option_counts(self) -> Self:
        for key, reason in self.idle().items():
            if getattr(self, key) != type(self).model_fields[key].default:  # a saved model's config has every key
                raise ValueError(f"{key}: {reason}; leave it out")
        return self

    def changed(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return these values with changes, not checked yet, but without those that the changes leave idle."""
        idle = self.model_copy(update=dict(changes)).idle()
        return {**self.model_dump(exclude=set(idle)), **changes}


def parse_config(kind: type[ConfigT], values: Any, where: str) -> ConfigT:
    """Check `values` against a config class; `where` is the dotted key they stand at.

    Raises:
        ConfigError: all problems at once.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_problem(kind, where, detail) for detail in error.errors()) from None


def _problem(kind: type[BaseModel], where: str, detail: Any) -> str:
    *path, last = detail["loc"] or [""]
    keys, kinds = _follow(kind, path)
    known = [field.alias or name for config in kinds for name, field in config.model_fields.items()]
    if len(kinds) < 2:  # of a union the last step is the tag of one
        keys.append(str(last))
    key = ".".join(filter(None, [where, *keys]))
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{did_you_mean(keys[-1], known)}"
    if detail["type"] == "missing":
        return f"{key}: missing; add it"
    return f"{key}: {detail['msg']}, got {detail['input']!r}"


def _follow(kind: type[BaseModel], path: list[Any]) -> tuple[list[str], list[type[BaseModel]]]:
    """Return a path's keys, a union's tags left out, and the config classes it may end in."""
    keys, kinds = list[str](), [kind]
    for step in path:
        if len(kinds) > 1:  # a union: the step is its tag
            kinds = [config for config in kinds if _tag(config) == step]
            continue
        keys.append(str(step))
        fields = {key: field for config in kinds for name, field in config.model_fields.items()
                  for key in (name, field.alias)}  # fmt: skip
        if step in fields:  # else the key of a mapping, or an index of a list
            kinds = _configs(fields[step].annotation) or kinds
    return keys, kinds


def _configs(annotation: Any) -> list[type[BaseModel]]:
    """Return the config classes an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _configs(argument)]


def _tag(config: type[BaseModel]) -> Any:
    """Return the value of `kind` by which a union tells a config, or None."""
    kind = config.model_fields.get("kind")
    return get_args(kind.annotation)[0] if kind else None
