"""Which models a caller may ask for. Pure.

`models` of `[callers.NAME]` lists names as callers say them, and it is the name that was
asked for which has to be in it. So an alias opens nothing but itself: who may ask for
`gpt-4o` gets the model that the operator has put behind it, with its system text and its
cap, and not that model by its own name; and an alias of a model that is listed has to be
listed too. `default` and the name of the default model are the same name, and so are a name
and it with the tag `:latest`.
"""

from gateway.core.errors import ModelNotAllowed, ModelNotFound
from gateway.core.models import ModelInfo
from gateway.core.ticket import Caller
from gateway.pool.catalogue import Catalogue
from gateway.pool.pool import Pool

_NAMED_MAX = 8


def may_use(caller: Caller, name: str, catalogue: Catalogue) -> bool:
    """Whether the caller may ask for a model by this name."""
    if not caller.models:
        return True
    return catalogue.spelled(name) in {catalogue.spelled(allowed) for allowed in caller.models}


def require_model(caller: Caller, name: str, catalogue: Catalogue) -> None:
    """Raises ModelNotAllowed when the caller may not ask for a model by this name."""
    if not may_use(caller, name, catalogue):
        names = sorted(caller.models)
        more = ", …" if len(names) > _NAMED_MAX else ""
        raise ModelNotAllowed(
            f"This key may not use this model. It may use {', '.join(names[:_NAMED_MAX])}{more}.",
            param="model",
        )


def listed_for(caller: Caller, pool: Pool) -> list[ModelInfo]:
    """Of the models that somebody serves, those that the caller may ask for."""
    return [info for info in pool.listed() if may_use(caller, info.id, pool.catalogue)]


def told_to(caller: Caller | None, error: ModelNotFound) -> ModelNotFound:
    """The error without the names of models that are not for this caller."""
    if caller is None or not caller.models:
        return error
    return ModelNotFound("There is no such model here.", param=error.param)
