"""Which contacts of a group that shares a value become one. Pure: the same for a value set now, a preview, and a rule
applied to what was there before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.identity import Key, contradiction

Pair = frozenset[str]
"""Two contact ids."""


@dataclass(slots=True)
class Facts:
    """What decides whether a contact may be linked. `anchor` is its oldest identity; `pinned`: one was taken out."""

    keys: set[Key] = field(default_factory=set)
    anchor: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """The two are one person: the younger goes into the older."""

    winner: str
    loser: str


@dataclass(frozen=True, slots=True)
class Clash:
    """The two match and contradict each other: a person decides."""

    one: str
    other: str
    why: str


@dataclass(slots=True)
class Linker:
    """Contacts being linked, group after group. What was linked before counts: `root` tells who a contact is now.

    `facts` may be added to between groups; `apart` are pairs a person keeps apart, `disputed` open conflicts.
    """

    facts: dict[str, Facts] = field(default_factory=dict)
    apart: set[Pair] = field(default_factory=set)
    disputed: set[Pair] = field(default_factory=set)
    _parent: dict[str, str] = field(default_factory=dict)

    def keep(self, apart: Collection[Pair], disputed: Collection[Pair]) -> None:
        """Take in further pairs, by the contacts as they are stored."""
        names = {contact: self.root(contact) for pair in (*apart, *disputed) for contact in pair}
        self.apart |= renamed(apart, names)
        self.disputed |= renamed(disputed, names)

    def members(self, root: str) -> set[str]:
        """Every contact that has become part of this one, itself included."""
        return {root, *(contact for contact in list(self._parent) if self.root(contact) == root)}

    def root(self, contact: str) -> str:
        """The contact this one has become part of."""
        parent = self._parent.get(contact, contact)
        while (above := self._parent.get(parent, parent)) != parent:
            self._parent[contact] = parent = above
        return parent

    def link(self, contacts: Iterable[str]) -> list[Match | Clash]:
        """What follows for contacts that have the same value: the oldest takes in all that do not contradict it,
        those it cannot take gather around the next one."""
        steps: list[Match | Clash] = []
        heads: list[str] = []
        for contact in sorted({self.root(contact) for contact in contacts}):
            reasons: list[tuple[str, str]] = []
            for head in heads:
                if self._pinned(head, contact) or Pair((head, contact)) in self.apart:
                    continue
                why = contradiction(self._of(head).keys, self._of(contact).keys)
                if not why:
                    steps.append(self._unite(head, contact))
                    break
                reasons.append((head, why))
            else:
                heads.append(contact)
                steps += [Clash(head, contact, why) for head, why in reasons if self._dispute(head, contact)]
        return steps

    def _of(self, contact: str) -> Facts:
        return self.facts.setdefault(contact, Facts())

    def _pinned(self, *contacts: str) -> bool:
        return any(self._of(contact).pinned for contact in contacts)

    def _dispute(self, one: str, other: str) -> bool:
        """Note a conflict; False for one that is known."""
        pair = Pair((one, other))
        known = pair in self.disputed
        self.disputed.add(pair)
        return not known

    def _unite(self, winner: str, loser: str) -> Match:
        self._parent[loser] = winner
        self._of(winner).keys |= self._of(loser).keys
        self.apart, self.disputed = (renamed(pairs, {loser: winner}) for pairs in (self.apart, self.disputed))
        return Match(winner, loser)


def renamed(pairs: Collection[Pair], names: Mapping[str, str]) -> set[Pair]:
    """The pairs with contacts under the names they have now; one that has become a single contact is dropped."""
    if not pairs:
        return set()
    found = {Pair(names.get(contact, contact) for contact in pair) for pair in pairs}
    return {pair for pair in found if len(pair) == 2}
