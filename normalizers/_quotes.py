"""What the customer wrote this time: replies without the quoted mail and the signature below them.

Only a shorter text for display: the full text is always kept. Nothing is cut unless something stays above the cut, and
a text with answers between the quoted lines stays whole. Line by line, at most `LOOKED_AT` characters: known libraries
for this need minutes for a few kilobytes written to hurt them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lxml import etree

from normalizers._html import tree, tree_text

LOOKED_AT = 64 * 1024  # characters searched for the cut
LINE_MAX = 400  # characters of one line that are looked at
SIGNATURE_MAX = 15  # lines
HEADER_LINES = 8  # a quoted header block is no longer
ATTRIBUTION_LINES = 3

# --- subjects ---------------------------------------------------------------------------------------------------------

_REPLY_PREFIXES = "re aw antw sv vs r rif res odp ynt 回复 答复 回覆 i enc"
_FORWARD_PREFIXES = "fw fwd wg tr rv 转发 轉寄"


def _prefix(words: str) -> re.Pattern[str]:
    return re.compile(rf"\s*(?:{'|'.join(words.split())})(?:\[\d{{1,3}}\])?\s*[:：]\s*", re.IGNORECASE)


_ANY_PREFIX = _prefix(f"{_REPLY_PREFIXES} {_FORWARD_PREFIXES}")
_FORWARD_PREFIX = _prefix(_FORWARD_PREFIXES)


def bare_subject(subject: str) -> str:
    """The subject without Re:, AW:, Fwd: and their kin."""
    position = 0
    while (match := _ANY_PREFIX.match(subject, position)) is not None:
        position = match.end()
    return subject[position:].strip()


def is_forward(subject: str) -> bool:
    """Whether the outermost prefix marks a forward."""
    return _FORWARD_PREFIX.match(subject) is not None


# --- where the quoted mail begins: markers by the programs that write them --------------------------------------------

_RULE = re.compile(r"[_\-=*]{10,}$")
_ORIGINAL = re.compile(
    r"[-_ ]{2,}\s*(?:original message|original appointment|reply message|ursprüngliche nachricht|"
    r"originalnachricht|message d'origine|message original|mensaje original|mensagem original|messaggio originale|"
    r"oorspronkelijk bericht|original meddelande|ursprungligt meddelande|oprindelig meddelelse|opprinnelig melding|"
    r"alkuperäinen viesti|wiadomość oryginalna|oryginalna wiadomość|původní zpráva|исходное сообщение|"
    r"原始邮件|原始郵件|邮件原件|元のメッセージ|원본 메시지)\s*[-_ ]{2,}",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"[-_ >]*(?:begin forwarded message|forwarded message|weitergeleitete nachricht|anfang der weitergeleiteten|"
    r"message transféré|début du message|mensaje reenviado|messaggio inoltrato|doorgestuurd bericht|"
    r"转发的邮件|转发邮件|転送メッセージ)\b",
    re.IGNORECASE,
)
_ATTRIBUTION = re.compile(
    r"(?:on\b.{4,}\b(?:wrote|writes)|"
    r"(?:am|on|le|el|il|op|den|em|w dniu|dnia|dne|på|kl|vào|em|a)\b.{2,}"
    r"\b(?:schrieb|escribió|a écrit|ha scritto|schreef|skrev|escreveu|napisała?|napisał\(a\)|napsala?|kirjoitti)"
    r".{0,120}|"
    r".{0,200}\b(?:wrote|schrieb|escribió|a écrit|ha scritto|schreef|skrev|пишет|написал|написала)|"
    r".{2,}(?:写道|寫道|님이 작성|のメール)|"
    r"\d{4}年\d{1,2}月\d{1,2}日.{4,}|"
    r".{4,}<[^<>\s]+@[^<>\s]+>)\s*[:：]$",
    re.IGNORECASE,
)
_LABELS: tuple[frozenset[str], ...] = (  # From, Sent, To or Subject: in a quoted header block
    frozenset(
        {"from", "von", "de", "da", "van", "från", "fra", "lähettäjä", "od", "от", "发件人", "寄件者", "寄件人",
         "差出人", "보낸 사람", "kimden", "feladó"}
    ),
    frozenset(
        {"sent", "date", "gesendet", "datum", "envoyé", "enviado", "enviado el", "fecha", "inviato", "data",
         "verzonden", "skickat", "sendt", "dato", "lähetetty", "wysłano", "odesláno", "отправлено", "дата", "发送时间",
         "发送日期", "寄件日期", "日期", "送信日時", "日時", "보낸 날짜", "envoyé le", "sent on"}
    ),
    frozenset(
        {"to", "an", "à", "a", "para", "aan", "till", "til", "vastaanottaja", "do", "komu", "кому", "收件人", "收件者",
         "宛先", "받는 사람", "subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "ämne", "emne", "aihe",
         "temat", "předmět", "тема", "主题", "主旨", "件名", "제목", "assunto"}
    ),
)  # fmt: skip
_LABEL = re.compile(r"[>*_ \t]{0,10}([^\W\d_][^:：*]{0,20}?)\s{0,3}\**\s{0,3}[:：]\**(?:\s|$|(?=[^/]))")
_ADDRESS = re.compile(r"[<( ][^\s<>()@]{1,64}@[^\s<>()@]{1,255}")
_DAY = re.compile(r"\b(?:\d{1,2}\b.{1,20}\b\d{4}|\d{4}\b.{1,20}\b\d{1,2})\b")  # a day and a year
_MARK = re.compile(r"^[ \t]*> ?")
_DELIMITER = re.compile(r"##\s*-.{3,200}-\s*##")
_SIGNED_BY_DEVICE = re.compile(
    r"(?:sent from (?:my|mail|outlook|yahoo|the)\b|get outlook for\b|von mein\w* .{1,60}gesendet|"
    r"gesendet (?:von|mit)\b|envoyé (?:de|depuis)\b|enviado (?:desde|do|de)\b|inviato d[ai]\w*\b|"
    r"verzonden vanaf\b|skickat från\b|sendt fra\b|wysłane z\b|отправлено (?:с|из)\b|发自我的|從我的|iPhoneから送信)",
    re.IGNORECASE,
)


def short_text(text: str, delimiter: str = "", *, answers: bool = True) -> str:
    """The text above the quoted mail, without signature; the text itself when nothing would stay or be gone.

    `delimiter` is the line our own mails open with ("Please type your reply above this line"), matched loosely. What
    `answers` nothing quotes nothing: lines like "From: ... Date: ... To: ..." are then what it has to say (a form).
    """
    looked_at = text[:LOOKED_AT]
    lines = looked_at.split("\n")
    heads = [line.strip()[:LINE_MAX] for line in lines]
    if any(_FORWARDED.match(head) for head in heads[:200]):
        return text
    delimiter = " ".join(delimiter.split()).casefold()
    if answers:
        cut = _quote_start(heads, delimiter)
    else:
        cut = next((index for index, head in enumerate(heads) if _is_delimiter(head, delimiter)), None)
    kept = len(lines) if cut is None else cut
    kept = _without_signature(lines, heads, kept, exactly=not answers)
    if kept == len(lines):
        return text
    return "\n".join(lines[:kept]).strip() or text


def _quote_start(heads: Sequence[str], delimiter: str) -> int | None:
    """The first line of the quoted mail, None when there is none or when answers stand between the quoted lines."""
    for index, head in enumerate(heads):
        if not head:
            continue
        if _is_delimiter(head, delimiter) or _ORIGINAL.match(head) or _is_header_block(heads, index):
            return _before_rule(heads, index)
        if head.startswith(">"):
            return _before_attribution(heads, index) if _only_quoted(heads, index) else None
        if (end := _attribution_end(heads, index)) is not None:
            following = next((line for line in heads[end:] if line), "")
            if following.startswith(">") and not _only_quoted(heads, end):
                return None
            return index
    return None


def _is_delimiter(head: str, delimiter: str) -> bool:
    if delimiter and delimiter in " ".join(head.casefold().split()):
        return True
    return "##" in head and _DELIMITER.search(head) is not None


def _is_header_block(heads: Sequence[str], index: int) -> bool:
    """From, with Sent and To or Subject close below: what Outlook and its imitators put above the quoted mail."""
    if _label(heads[index]) not in _LABELS[0]:
        return False
    below = {_label(line) for line in heads[index + 1 : index + HEADER_LINES] if line}
    return bool(below & _LABELS[1]) and bool(below & _LABELS[2])


def _label(head: str) -> str:
    match = _LABEL.match(head[:60])
    return match[1].strip().casefold() if match is not None else ""


def _before_rule(heads: Sequence[str], index: int) -> int:
    above = index - 1
    while above >= 0 and not heads[above]:
        above -= 1
    return above if above >= 0 and _RULE.match(heads[above]) else index


def _before_attribution(heads: Sequence[str], index: int) -> int:
    """The paragraph above the quoted lines that says when which address wrote them, in whatever language; else they."""
    end = index
    while end and not heads[end - 1]:
        end -= 1
    start = end
    while start and heads[start - 1] and end - start < ATTRIBUTION_LINES:
        start -= 1
    said = " ".join(heads[start:end])[: LINE_MAX * 2]
    alone = start == 0 or not heads[start - 1]
    dated = _ADDRESS.search(said) is not None and _DAY.search(said) is not None
    return start if alone and dated and said.endswith((":", "：")) else index


def _attribution_end(heads: Sequence[str], index: int) -> int | None:
    """The line below an attribution ("On ..., Ann wrote:") that starts here and may be wrapped; None if none does."""
    for count in (1, 2, 3):
        last = heads[index + count - 1 : index + count]
        if not last or not last[0]:
            return None
        if not last[0].endswith((":", "：")):
            continue
        joined = " ".join(heads[index : index + count])[: LINE_MAX * 2].lstrip("> ")
        if any(char.isdigit() for char in joined) and _ATTRIBUTION.match(joined):
            return index + count
        return None
    return None


def _only_quoted(heads: Sequence[str], start: int) -> bool:
    """Whether nothing but quoted lines and a signature follows."""
    for index in range(start, len(heads)):
        if heads[index] == "--":
            return True
        if heads[index] and not heads[index].startswith(">"):
            return False
    return True


def _without_signature(lines: Sequence[str], heads: Sequence[str], end: int, *, exactly: bool) -> int:
    """The end of the text before "-- " (`exactly`; else programs have eaten the blank) or the line a phone adds."""
    for index in range(max(end - SIGNATURE_MAX - 1, 1), end):
        marked = lines[index].rstrip("\r") == "-- " if exactly else heads[index] == "--"
        if marked or (_SIGNED_BY_DEVICE.match(heads[index]) and not any(heads[index + 2 : end])):
            return index
    return end


# --- forwards ---------------------------------------------------------------------------------------------------------


def forwarded_from(text: str) -> str:
    """The From line of a forwarded mail's quoted headers, "" when there is none. Only what the forwarder claims."""
    heads = [line.strip()[:LINE_MAX].lstrip("> ") for line in text[:LOOKED_AT].split("\n")]
    for index, head in enumerate(heads):
        if head and _is_header_block(heads, index):
            return re.split("[:：]", head, maxsplit=1)[1].strip("* \t")
    return ""


def forwarded_text(text: str) -> str:
    """What stands below the quoted headers of a forwarded mail, without the marks before each line; "" without any."""
    lines = text.split("\n")
    heads = [line.strip()[:LINE_MAX].lstrip("> ") for line in text[:LOOKED_AT].split("\n")]
    start = next((index for index, head in enumerate(heads) if head and _is_header_block(heads, index)), len(heads))
    found: set[int] = set()
    for index in range(start, len(heads)):
        if not heads[index] and found == {1, 2}:
            below, marked = lines[index:], lines[start].lstrip().startswith(">")
            return "\n".join(_MARK.sub("", line) for line in below).strip() if marked else "\n".join(below).strip()
        found |= {kind for kind in (1, 2) if _label(heads[index]) in _LABELS[kind]}
    return ""


# --- HTML -------------------------------------------------------------------------------------------------------------

_QUOTED_IDS = {"appendonsend", "divrplyfwdmsg", "mail-editor-reference-message-container", "isforwardcontent"}
_QUOTED_CLASSES = {
    "gmail_quote_container", "moz-cite-prefix", "yahoo_quoted", "protonmail_quote", "zmail_extra", "gmail_attr",
    "gmail_extra", "reply-delimiter",
}  # fmt: skip


def short_html_text(html: str) -> str:
    """The text above the first element in which a mail program keeps the quoted mail; "" when there is none."""
    root = tree(html)
    if root is None:
        return ""
    for element in root.iter():
        if isinstance(element.tag, str) and _holds_quote(element):
            if _answered_below(element):
                return ""
            _cut(element)
            return tree_text(root)
    return ""


def _answered_below(element: etree._Element) -> bool:
    """Whether text follows beside the quotation: the customer wrote below or between."""
    if element.get("id") or element.get("style"):
        return False  # Outlook only marks where the quotation begins
    siblings = (later for later in element.itersiblings() if later.tag != "blockquote")
    return bool((element.tail or "").strip()) or any(
        tree_text(later) or (later.tail or "").strip() for later in siblings
    )


def _holds_quote(element: etree._Element) -> bool:
    """Markers of Gmail, Outlook, Apple Mail, Thunderbird, Yahoo, Proton, QQ and GMX."""
    tag: str = element.tag
    name: str = element.get("id", "").lower()
    classes = set(element.get("class", "").lower().split())
    if name in _QUOTED_IDS or "yahoo_quoted_" in name or classes & _QUOTED_CLASSES:
        return True
    if tag == "includetail":
        return True
    if "gmail_quote" in classes:  # on a blockquote it may also be an ordinary indent
        return tag == "div"
    if tag == "blockquote":
        return str(element.get("type", "")).lower() == "cite"
    style: str = element.get("style", "").lower().replace(" ", "")
    if tag == "div" and "border-top:solid" in style and "border:none" in style:
        return True
    return tag == "div" and str(element.get("name", "")) == "quote"


def _cut(element: etree._Element) -> None:
    """Remove the element and everything after it in the document."""
    node = element
    while (parent := node.getparent()) is not None:
        for later in list(node.itersiblings()):
            parent.remove(later)
        node.tail = None
        node = parent
    if (parent := element.getparent()) is not None:
        parent.remove(element)
