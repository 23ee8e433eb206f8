"""Does the platform take it in this form? What does not fit is put into a form that does, where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from adapters import MediaRule
from normalizers.model import Context, OutboundFile, OutboundMessage
from outbox import measure
from outbox.facts import Facts
from outbox.rules.declare import rule
from outbox.rules.settings import MediaSettings, PartsSettings, TextLengthSettings
from outbox.splitting import split
from outbox.verdict import ALLOW, Change, Verdict, change, deny

_REFUSED = "the platform refuses what does not fit"


def files_of(message: OutboundMessage) -> tuple[OutboundFile, ...]:
    """All files of a message, however its channel takes them."""
    return (message.file, *message.files) if message.file is not None else message.files


@rule("deny", kept="an empty message says nothing")
def empty(message: OutboundMessage, facts: Facts) -> Verdict:
    """There is something to say, and to see: blanks, control and zero-width characters alone are nothing."""
    said = measure.visible(message.text) or measure.visible(message.html) or message.file or message.files
    if said or message.template or message.content or message.reaction is not None:
        return ALLOW
    return deny("empty", "the message is empty", "write something or attach a file")


@rule("deny", "change", source="the adapter's limits", kept=_REFUSED, settings=MediaSettings, elsewhere=True)
def media(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """Every file is of a type and size the channel takes; what is too large as a picture may still go as a file."""
    limits, files = facts.channel.limits, files_of(message)
    if not files:
        return ALLOW
    if limits.total_bytes is not None and sum(file.size for file in files) > limits.total_bytes:
        reason = f"the files are larger than {_size(limits.total_bytes)} together"
        return deny("media", reason, "send fewer or smaller files, or a link", source=limits.source)
    if not limits.media:
        return ALLOW
    fitted: list[OutboundFile] = []
    for file in files:
        rule = _rule_for(file, limits.media)
        if rule is None:
            return _refuse_file(file, limits.media, facts)
        fitted.append(file if rule.kind == file.kind else replace(file, kind=rule.kind))
    if tuple(fitted) == files:
        return ALLOW
    names = ", ".join(new.filename for new, old in zip(fitted, files, strict=True) if new is not old)
    return change("media", f"sent as a file: {names}", _with_files(message, fitted), source=limits.source)


@rule("deny", source="the adapter's limits", kept=_REFUSED, elsewhere=True)
def links(message: OutboundMessage, facts: Facts) -> Verdict:
    """Where the platform fetches files by their address, each has one of the kind and length it takes."""
    limits = facts.channel.limits
    if limits.link_max_bytes is None and not limits.fetches:
        return ALLOW
    for file in files_of(message):
        if limits.fetches and not file.url.startswith(("https://", f"{limits.fetches}://")):
            return _no_address(file, facts)
        if limits.link_max_bytes is None:
            continue
        size = len(file.url.encode("utf-8", "replace"))
        if size > limits.link_max_bytes:
            reason = f"the address of {file.filename or 'the file'} has {size} bytes; {facts.channel.title} takes"
            remedy = "upload the file, or use a shorter address"
            return deny("links", f"{reason} {limits.link_max_bytes}", remedy, source=limits.source)
    return ALLOW


def _no_address(file: OutboundFile, facts: Facts) -> Verdict:
    name, title, source = file.filename or "the file", facts.channel.title, facts.channel.limits.source
    if not file.url:
        reason = f"{title} fetches files by a public address, and {name} has none"
        return deny("links", reason, "have the operator set gateway.public_url, or attach an address", source=source)
    reason = f"{title} fetches files by https, and the address of {name} is another"
    return deny("links", reason, "attach an https address; ours begin as gateway.public_url does", source=source)


def _rule_for(file: OutboundFile, rules: Sequence[MediaRule]) -> MediaRule | None:
    """What the file may go as: its own kind, else a plain file."""
    fitting = [rule for rule in rules if _takes(rule, file.media_type) and file.size <= rule.max_bytes]
    own = next((rule for rule in fitting if rule.kind == file.kind), None)
    return own or next((rule for rule in fitting if rule.kind == "file"), None)


def _takes(rule: MediaRule, media_type: str) -> bool:
    base = media_type.partition(";")[0].strip().lower()
    return any(
        kind in (base, "*/*") or (kind.endswith("/*") and base.startswith(kind[:-1])) for kind in rule.media_types
    )


def _refuse_file(file: OutboundFile, rules: Sequence[MediaRule], facts: Facts) -> Verdict:
    name, source = file.filename or "the file", facts.channel.limits.source
    largest = max((rule.max_bytes for rule in rules if _takes(rule, file.media_type)), default=None)
    if largest is None:
        reason = f"{facts.channel.title} does not take {name} ({file.media_type or 'of unknown type'})"
        return deny("media", reason, "send another type of file, or a link", source=source)
    reason = f"{name} has {_size(file.size)}; {facts.channel.title} takes up to {_size(largest)} of this type"
    return deny("media", reason, "send a smaller file, or a link", source=source)


def _size(size: int) -> str:
    return f"{size / 2**20:.3g} MiB" if size >= 2**20 else f"{size / 2**10:.3g} KiB"


def _with_files(message: OutboundMessage, files: Sequence[OutboundFile]) -> OutboundMessage:
    single = message.file is not None
    return replace(message, file=files[0] if single else None, files=tuple(files[1:] if single else files))


@rule("deny", "change", source="the adapter's limits", kept=_REFUSED, settings=PartsSettings, elsewhere=True)
def parts(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """Not more files in one message than the platform takes, and no text beside a file that carries none."""
    limits, files = facts.channel.limits, files_of(message)
    if not files:
        return ALLOW
    if message.template is not None:  # in parts it would leave once for each
        if len(files) == 1:
            arranged = _carrying(message, files, message.text, 1)
            return ALLOW if arranged == message else Change(ALLOW, (arranged,))
        return deny("parts", "a template takes one file at most, for its header", "send the other files after it")
    most = max(limits.files_per_message, 1)
    caption = message.text if _carries(message.text, files[0], facts) else ""
    groups = [files[start : start + most] for start in range(0, len(files), most)]
    apart = not caption and measure.visible(message.text)
    if len(groups) == 1 and not apart:
        arranged = _carrying(message, groups[0], caption, most)
        return ALLOW if arranged == message else Change(ALLOW, (arranged,))
    if not limits.split and message.thread.kind == "public":
        return deny("parts", "the text and the files do not fit in one post", "send less", source=limits.source)
    later = replace(message, html="", context=_without_reply(message.context))
    made: list[OutboundMessage] = [replace(message, file=None, files=())] if apart else []
    for group in groups:
        made.append(_carrying(later if made else message, group, "" if made else caption, most))
    return change("parts", f"sent as {len(made)} messages", *made, source=limits.source)


def _carries(text: str, file: OutboundFile, facts: Facts) -> bool:
    limits = facts.channel.limits
    captioned = {rule.kind for rule in limits.media if rule.caption}
    if limits.caption_max <= 0 or (limits.media and file.kind not in captioned):
        return False
    return measure.length(text, limits.text_unit) <= limits.caption_max and measure.fits(text, limits)


def _carrying(message: OutboundMessage, group: Sequence[OutboundFile], text: str, most: int) -> OutboundMessage:
    """The message with these files: in `file` where a channel takes one, in `files` where it takes several."""
    if most == 1:
        return replace(message, text=text, file=group[0], files=())
    return replace(message, text=text, file=None, files=tuple(group))


@rule("deny", "change", source="the adapter's limits", kept=_REFUSED, settings=TextLengthSettings, elsewhere=True)
def text_length(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """A text over the channel's limit goes in several messages where the channel allows it, else not at all."""
    limits = facts.channel.limits
    if message.template is not None or not message.text or measure.fits(message.text, limits):
        return ALLOW
    size = measure.length(message.text, limits.text_unit)
    if not limits.split or message.content is not None:  # in parts, the content would leave once for each
        reason = f"the text has {size} characters; {facts.channel.title} takes {limits.text_max}"
        return deny("text_length", reason, f"shorten it by {size - limits.text_max}", source=limits.source)
    texts = split(message.text, limits, counter=facts.policy.of(TextLengthSettings).counter)
    texts = tuple(filter(measure.visible, texts)) or texts[:1]  # a part nobody sees would be refused as it leaves
    later = replace(message, html="", context=_without_reply(message.context), file=None, files=())
    made = [replace(message if index == 0 else later, text=text) for index, text in enumerate(texts)]
    how = f"sent as {len(made)} messages" if len(made) > 1 else "sent without what nobody sees of it"
    return change("text_length", how, *made, source=limits.source)


def _without_reply(context: Context | None) -> Context | None:
    """Only the first part answers; a one-time right to answer is used up by it."""
    return replace(context, reply_to="", reply_token="", quote_token="") if context is not None else None
