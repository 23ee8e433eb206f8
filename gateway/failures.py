"""What went wrong, in one line an operator can act on: the store's own words instead of a type's name."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from gateway.store.dialect import StoreUnavailable

LINE_MAX = 500  # characters


def store_words(error: BaseException) -> str:
    """The driver's first line, else the error's own. The statement it failed at is left out: it may hold contents."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(origin).strip().splitlines()
    return lines[0][:LINE_MAX] if lines else type(origin).__name__


def is_known(error: BaseException) -> bool:
    """Whether the line says all there is; of anything else one wants to know where it happened."""
    return isinstance(error, DBAPIError | StoreUnavailable | OSError)


def sentence(error: BaseException) -> str:
    """One line for whoever called the command."""
    if isinstance(error, DBAPIError):
        return f"the store cannot do this: {store_words(error)}"
    if isinstance(error, StoreUnavailable) and isinstance(error.__cause__, DBAPIError):
        return f"the store is not available: {store_words(error.__cause__)}"
    if isinstance(error, StoreUnavailable | OSError):
        return store_words(error)
    words = str(error).strip().partition("\n")[0][:LINE_MAX]
    return f"unexpected: {type(error).__name__}" + (f": {words}" if words else "")
