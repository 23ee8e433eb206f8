"""What automatic messages say: built-in texts in a few languages, the operator's own in their place.

An acknowledgement (`created`) answers whoever wrote, forged senders too: its texts cannot show a word of what came in.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapters import Places, TemplateFault, TextTemplate
from config.settings import AutomaticSettings, AutomaticText

EVENTS = ("created", "updated", "solved")
_ACCOUNT = {"account": frozenset({"name", "address"})}
_ACKNOWLEDGED: Places = {"ticket": frozenset({"number"}), **_ACCOUNT}
_KNOWN: Places = {
    "ticket": frozenset({"number", "subject", "status"}),
    "contact": frozenset({"name", "language"}),
    **_ACCOUNT,
}
PLACES: Mapping[str, Places] = {"created": _ACKNOWLEDGED, "updated": _KNOWN, "solved": _KNOWN}

DEFAULTS: tuple[AutomaticText, ...] = (
    AutomaticText(
        "created",
        "Thank you for writing to us. We have received your message (number {{ ticket.number }}) and will answer as "
        "soon as we can.\n\nThis is an automatic message.",
        subject="We have received your message",
    ),
    AutomaticText(
        "created",
        "Vielen Dank für Ihre Nachricht. Sie ist bei uns eingegangen (Nummer {{ ticket.number }}); wir antworten, "
        "sobald wir können.\n\nDies ist eine automatische Nachricht.",
        "de",
        "Ihre Nachricht ist bei uns eingegangen",
    ),
    AutomaticText(
        "created",
        "Merci de nous avoir écrit. Nous avons bien reçu votre message (numéro {{ ticket.number }}) et vous répondrons "
        "dès que possible.\n\nCeci est un message automatique.",
        "fr",
        "Nous avons bien reçu votre message",
    ),
    AutomaticText(
        "created",
        "Gracias por escribirnos. Hemos recibido su mensaje (número {{ ticket.number }}) y le responderemos lo antes "
        "posible.\n\nEste es un mensaje automático.",
        "es",
        "Hemos recibido su mensaje",
    ),
    AutomaticText(
        "updated",
        "Your request number {{ ticket.number }} has been updated. We will be in touch.\n\n"
        "This is an automatic message.",
    ),
    AutomaticText(
        "updated",
        "Ihre Anfrage Nummer {{ ticket.number }} wurde aktualisiert. Wir melden uns bei Ihnen.\n\n"
        "Dies ist eine automatische Nachricht.",
        "de",
    ),
    AutomaticText(
        "updated",
        "Votre demande numéro {{ ticket.number }} a été mise à jour. Nous revenons vers vous.\n\n"
        "Ceci est un message automatique.",
        "fr",
    ),
    AutomaticText(
        "updated",
        "Su solicitud número {{ ticket.number }} ha sido actualizada. Nos pondremos en contacto.\n\n"
        "Este es un mensaje automático.",
        "es",
    ),
    AutomaticText(
        "solved",
        "We have marked your request number {{ ticket.number }} as solved. If it is not, simply answer this message."
        "\n\nThis is an automatic message.",
    ),
    AutomaticText(
        "solved",
        "Wir haben Ihre Anfrage Nummer {{ ticket.number }} als gelöst markiert. Ist sie es nicht, antworten Sie "
        "einfach auf diese Nachricht.\n\nDies ist eine automatische Nachricht.",
        "de",
    ),
    AutomaticText(
        "solved",
        "Nous avons marqué votre demande numéro {{ ticket.number }} comme résolue. Si ce n'est pas le cas, répondez "
        "simplement à ce message.\n\nCeci est un message automatique.",
        "fr",
    ),
    AutomaticText(
        "solved",
        "Hemos marcado su solicitud número {{ ticket.number }} como resuelta. Si no lo está, responda a este mensaje."
        "\n\nEste es un mensaje automático.",
        "es",
    ),
)


@dataclass(frozen=True, slots=True)
class Said:
    """A text with its places filled. `subject` empty: the ticket's."""

    subject: str
    text: str


def say(settings: AutomaticSettings, event: str, fields: Mapping[str, Mapping[str, str]], language: str) -> Said:
    """The text for an event in the person's language, else in that of the first one there is."""
    chosen = _choose([text for text in (*settings.texts, *DEFAULTS) if text.event == event], language)
    known = {name: {key: fields.get(name, {}).get(key, "") for key in keys} for name, keys in PLACES[event].items()}
    subject = _template(chosen.subject, event).render(known) if chosen.subject else ""
    if not subject and event == "created":
        subject = next(text.subject for text in DEFAULTS if text.event == event)
    return Said(" ".join(subject.split()), _template(chosen.text, event).render(known).strip())


def _choose(texts: list[AutomaticText], language: str) -> AutomaticText:
    """The operator's texts stand before ours: his in the language, ours in it only where he wrote none at all."""
    own = [text for text in texts if text not in DEFAULTS] or texts
    wanted = language.casefold()
    for name in (wanted, wanted.partition("-")[0], ""):
        for text in own:
            if text.language.casefold() == name:
                return text
    return own[0]


@functools.cache
def _template(source: str, event: str) -> TextTemplate:
    return TextTemplate(source, PLACES[event])


def faults(settings: AutomaticSettings) -> Iterator[tuple[str, str]]:
    """(setting, problem) of every text that cannot be filled."""
    for index, text in enumerate(settings.texts):
        for key, source in (("text", text.text), ("subject", text.subject)):
            if key == "text" and not source.strip():
                yield f"automatic.texts[{index}].{key}", "is empty"
            try:
                _template(source, text.event)
            except TemplateFault as fault:
                yield f"automatic.texts[{index}].{key}", str(fault)


def switched_on(settings: AutomaticSettings | None) -> frozenset[str]:
    """The events an account tells its customers of."""
    return frozenset(event for event in EVENTS if settings is not None and getattr(settings, event))
