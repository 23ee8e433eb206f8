"""What a view is made of: conditions on tickets, held against what there is. Pure.

A condition names a field, an operator and a value. Of `all` every one must be true, of `any` at least one, where there
are any. What is unknown or does not fit is refused with its path: "conditions.all[1].operator".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from gateway.ids import micros
from gateway.tickets import STATUSES, VIA_CLOSED, Priority

ME, MINE, NONE = "me", "mine", "none"
PRIORITIES: tuple[str, ...] = get_args(Priority)
DAYS_MAX = 36_500
DAY_US = 86_400_000_000

_EQUALS = ("is", "is_not", "in", "not_in")
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "choice": _EQUALS,
    "ranked": (*_EQUALS, "at_least", "at_most"),
    "name": _EQUALS,
    "user": _EQUALS,
    "group": _EQUALS,
    "tags": ("has", "has_not"),
    "moment": ("before", "after", "within_days", "older_than_days"),
    "flag": ("is",),
    "words": ("matches",),
    "line": ("is", "is_not", "contains"),
    "text": (*_EQUALS, "is_set"),
    "number": ("is", "is_not", "at_least", "at_most", "is_set"),
    "date": ("is", "before", "after", "is_set"),
    "checkbox": ("is",),
}
"""Kind of a field -> what may be asked of it. The last four are kinds of custom fields; a custom choice is a text."""

FIELDS: Mapping[str, str] = {
    "status": "choice",
    "priority": "ranked",
    "conversation_state": "choice",
    "channel": "name",
    "account": "name",
    "via": "name",
    "updated_via": "name",
    "assignee": "user",
    "group": "group",
    "tags": "tags",
    "vip": "flag",
    "messaging": "flag",
    "created_at": "moment",
    "updated_at": "moment",
    "solved_at": "moment",
    "closed_at": "moment",
    "subject": "line",
    "text": "words",
}
CUSTOM = "fields."
SORTS = ("created_at", "updated_at", "solved_at", "status", "priority")
COLUMNS = (
    "number", "subject", "status", "priority", "channel", "account", "via", "contact", "assignee", "group", "tags",
    "conversation_state", "created_at", "updated_at",
)  # fmt: skip


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One condition as it is written: {"field": "status", "operator": "in", "value": ["new", "open"]}."""

    field: Annotated[str, Meta(max_length=100)]
    operator: Annotated[str, Meta(max_length=40)]
    value: Any = None


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of these, and at least one of those where there are any."""

    all: Annotated[list[Condition], Meta(max_length=50)] = []
    any: Annotated[list[Condition], Meta(max_length=50)] = []


class ConditionError(ValueError):
    """A condition that cannot be: the path of what is wrong, and why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What there is to be named. Users and groups are free text as long as there are none."""

    accounts: Collection[str]
    channels: Collection[str]
    users: Collection[str] = ()
    groups: Collection[str] = ()
    custom: Mapping[str, str] = field(default_factory=dict)  # name of a custom field -> its type
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Test:
    """A condition that was checked. `values` are texts, numbers, microseconds or flags, by the kind of the field."""

    __test__ = False  # nothing for pytest

    field: str
    kind: str
    operator: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Tests:
    """Checked conditions."""

    __test__ = False

    all: tuple[Test, ...] = ()
    any: tuple[Test, ...] = ()


def check(conditions: Conditions, known: Vocabulary, path: str = "conditions") -> Tests:
    """The conditions, each held against what there is. Raises `ConditionError`."""
    return Tests(
        tuple(_check(one, known, f"{path}.all[{place}]") for place, one in enumerate(conditions.all)),
        tuple(_check(one, known, f"{path}.any[{place}]") for place, one in enumerate(conditions.any)),
    )


def _check(condition: Condition, known: Vocabulary, path: str) -> Test:
    name = condition.field
    if name.startswith(CUSTOM):
        type_ = known.custom.get(name.removeprefix(CUSTOM))
        if type_ is None:
            raise ConditionError(f"{path}.field", f"there is no ticket field {name.removeprefix(CUSTOM)!r}")
        kind = "text" if type_ == "choice" else type_
    elif name in FIELDS:
        kind = FIELDS[name]
    else:
        raise ConditionError(f"{path}.field", f"unknown; there are {', '.join(FIELDS)} and {CUSTOM}NAME")
    operators = OPERATORS[kind]
    if condition.operator not in operators:
        raise ConditionError(f"{path}.operator", f"{name} takes {', '.join(operators)}")
    where = f"{path}.value"
    given = condition.value
    if condition.operator == "is_set" or kind in ("flag", "checkbox"):
        return Test(name, kind, condition.operator, (_flag(given, where),))
    if condition.operator in ("in", "not_in") or (kind == "tags" and isinstance(given, list)):
        if not isinstance(given, list) or not given or len(given) > 100:
            raise ConditionError(where, "must be a list of 1 to 100 values")
        pairs = [(value, f"{where}[{place}]") for place, value in enumerate(given)]
    else:
        pairs = [(given, where)]
    read = _reader(name, kind, condition.operator, known)
    return Test(name, kind, condition.operator, tuple(read(value, place) for value, place in pairs))


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConditionError(path, "must be true or false")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 500:
        raise ConditionError(path, "must be a text of 1 to 500 characters")
    return value


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        raise ConditionError(path, "must be a number")
    return float(value)


def _one_of(known: Iterable[str], what: str) -> Callable[[Any, str], str]:
    values = list(known)

    def read(value: Any, path: str) -> str:
        if _text(value, path) not in values:
            raise ConditionError(path, f"there is no {what} {value!r}; there are {', '.join(values) or 'none'}"[:300])
        return str(value)

    return read


def _moment(value: Any, path: str) -> int:
    try:
        found = datetime.fromisoformat(_text(value, path))
    except ValueError:
        raise ConditionError(path, "must be a moment as in 2026-11-29T12:00:00Z") from None
    return micros(found if found.tzinfo is not None else found.replace(tzinfo=UTC))


def _days(value: Any, path: str) -> float:
    days = _number(value, path)
    if not 0 < days <= DAYS_MAX:
        raise ConditionError(path, f"must be days, more than 0 and at most {DAYS_MAX}")
    return days


def day_number(value: Any) -> int:
    """The day of a date as text, as a number that sorts. Raises `ValueError`."""
    return date.fromisoformat(value).toordinal() if isinstance(value, str) and len(value) == 10 else _refuse()


def _refuse() -> int:
    raise ValueError("no date")


def _day(value: Any, path: str) -> float:
    try:
        return float(day_number(value))
    except ValueError:
        raise ConditionError(path, "must be a date as in 2026-11-29") from None


def _reader(name: str, kind: str, operator: str, known: Vocabulary) -> Callable[[Any, str], Any]:
    if kind == "moment":
        return _days if operator.endswith("_days") else _moment
    if kind == "number":
        return _number
    if kind == "date":
        return _day
    if name == "status":
        return _one_of(STATUSES, "status")
    if name == "priority":
        return _one_of(PRIORITIES, "priority")
    if name == "conversation_state":
        return _one_of(("started", "replied"), "state")
    if name == "account":
        return _one_of(known.accounts, "account")
    if name in ("channel", "via", "updated_via"):
        return _one_of([*known.channels, *((VIA_CLOSED, "api") if name != "channel" else ())], "channel")
    if name == "assignee" and known.users:
        return _one_of([ME, NONE, *known.users], "user")
    if name == "group" and known.groups:
        return _one_of([MINE, NONE, *known.groups], "group")
    if name.startswith(CUSTOM) and (choices := known.choices.get(name.removeprefix(CUSTOM))):
        return _one_of(choices, "choice")
    return _text


def since(days: float, now: int) -> int:
    """The moment so many days ago."""
    return now - int(days * DAY_US)


def built_in(now_open: Collection[str] = ("new", "open", "pending", "hold")) -> dict[str, tuple[str, Conditions]]:
    """The views that are always there, by their ids: title and conditions (S1, S7)."""

    def made(*all_: tuple[str, str, Any]) -> Conditions:
        return Conditions([Condition(*one) for one in all_])

    open_ = ("status", "in", list(now_open))
    return {
        "mine": ("Assigned to me", made(("assignee", "is", ME), ("status", "in", ["new", "open"]))),
        "unassigned": ("Unassigned", made(("assignee", "is", NONE))),
        "messaging-mine": ("Your messaging tickets", made(("assignee", "is", ME), ("messaging", "is", True), open_)),
        "messaging-unassigned": (
            "Unassigned messaging tickets", made(("assignee", "is", NONE), ("messaging", "is", True), open_),
        ),
        "open": ("All that is not done", made(open_)),
    }  # fmt: skip
