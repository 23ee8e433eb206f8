"""HTML mail made safe to show, and made text. Cost is bounded before any library sees the input.

Sanitisers follow the HTML5 rules, by which open formatting elements are repeated in every new block: a few kilobytes
can grow to gigabytes. So the tags are counted first; what nests too deep is shown as text only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape

import nh3
from lxml import etree
from lxml import html as lxml_html

from normalizers._fields import clean

HTML_MAX = 2 * 2**20  # characters
DEPTH_MAX = 2000  # open elements
WORK_MAX = 5_000_000  # open elements summed over all tags; a heavy newsletter has about a million
TEXT_MAX = 2**20  # characters
AMPERSANDS_MAX = 200_000  # the sanitiser needs seconds for more
ATTRIBUTES_MAX = 1000  # separators within one tag; parsers compare each attribute with all before it

_ATTRIBUTES = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
_ATTRIBUTES["*"] = _ATTRIBUTES.get("*", set()) | {"dir"}  # without it right-to-left mail is unreadable
_ATTRIBUTES["img"] = _ATTRIBUTES["img"] | {"src"}
_TAGS = nh3.ALLOWED_TAGS
_SCHEMES = {"http", "https", "mailto", "tel", "cid"}

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:]{0,30})([^>]*)")
_DATA_URL = re.compile(r"data:[a-z/+.-]{1,60};base64,[A-Za-z0-9+/=\s]+", re.IGNORECASE)
_ENDS_ITSELF = frozenset({
    "p", "li", "td", "th", "tr", "dd", "dt", "option", "br", "img", "hr", "input", "meta", "link", "col", "area",
    "base", "wbr", "source", "thead", "tbody", "tfoot",
})  # fmt: skip


def tame(html: str) -> bool:
    """Whether the HTML is small and flat enough to be parsed."""
    if len(html) > HTML_MAX or html.count("&") > AMPERSANDS_MAX:
        return False
    depth = work = 0
    for tag in _TAG.finditer(html):
        if len(tag[3]) > ATTRIBUTES_MAX and sum(map(tag[3].count, " \n\t\f\r/\"'")) > ATTRIBUTES_MAX:
            return False
        if tag[2].lower() not in _ENDS_ITSELF:
            depth = max(depth - 1, 0) if tag[1] else depth + 1
        work += depth
        if depth > DEPTH_MAX or work > WORK_MAX:
            return False
    return True


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Remote images tell the sender who reads when: only those that came with the mail stay."""
    return None if (tag, name) == ("img", "src") and not value.strip().lower().startswith("cid:") else value


def without_data_urls(html: str) -> str:
    """Without the files written into the HTML itself: they are not shown, and they hide its true size."""
    return _DATA_URL.sub("", html) if "base64," in html else html


def sanitise(html: str) -> str:
    """Safe HTML: no scripts, styles, forms or remote images, `cid:` kept; "" when it is not `tame`."""
    html = without_data_urls(html)
    if not tame(html):
        return ""
    return nh3.clean(
        clean(html), tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, attribute_filter=_attribute
    ).strip()


def has_content(html: str) -> bool:
    """Whether sanitised HTML shows anything: text or an image."""
    return "<img" in html or bool(unescape(re.sub(r"<[^<>]*>", "", html)).strip(" \t\r\n\u00a0\u200b"))


def from_text(text: str) -> str:
    """Plain text as HTML."""
    return f"<p>{escape(text, quote=False)}</p>".replace("\n", "<br>\n")


# --- to text ----------------------------------------------------------------------------------------------------------

_SKIPPED = frozenset({
    "script", "style", "head", "title", "noscript", "template", "svg", "object", "iframe", "select", "textarea",
})  # fmt: skip
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt", "fieldset", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "tbody", "tfoot", "thead", "tr", "ul",
})  # fmt: skip
_SPACED = frozenset({
    "p", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "ul", "ol", "table", "dl",
})  # fmt: skip
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)
_WHITE = re.compile(r"[ \t\r\n\f\u00a0\u200b\u200c\ufeff]+")
_LEADS = re.compile(r"(?:https?://|mailto:|tel:).", re.IGNORECASE)
_LEFT_OUT = re.compile(r"https?://|^(?:mailto|tel):")
_CRUDE = re.compile(r"<[^<>]*>")


def tree(html: str) -> etree._Element | None:
    """The parsed document, None when there is nothing or it is not `tame`."""
    html = without_data_urls(html)
    if not html.strip() or not tame(html):
        return None
    try:
        parser = lxml_html.HTMLParser(
            encoding="utf-8", no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
        )
        root: etree._Element | None = lxml_html.document_fromstring(clean(html).encode(), parser=parser)
    except (etree.LxmlError, ValueError, AssertionError):
        return None  # not even HTML
    return root


def to_text(html: str, *, addresses: bool = False) -> str:
    """The readable text, one line per block; hidden elements (preheaders) left out.

    `addresses`: what links lead to stands behind their words, where these do not say it.
    """
    root = tree(html)
    return tree_text(root, addresses=addresses) if root is not None else crude_text(html)


def tree_text(root: etree._Element, *, addresses: bool = False) -> str:
    """The readable text of a parsed document."""
    text = re.sub(r" *\n *", "\n", "".join(_pieces(root, addresses)))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" {2,}", " ", text)).strip()[:TEXT_MAX]


def _pieces(root: etree._Element, addresses: bool) -> Iterator[str]:
    """Texts and line breaks in document order. Iterative: documents nest deeper than Python's stack."""
    skipped: etree._Element | None = None
    preformatted = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if skipped is None and (tag in _SKIPPED or _HIDDEN.search(element.get("style") or "")):
                skipped = element
            if skipped is not None:
                continue
            preformatted += tag == "pre"
            yield _opening(tag)
            if element.text:
                yield element.text if preformatted else _WHITE.sub(" ", element.text)
        else:
            if skipped is None:
                if addresses and tag == "a":
                    yield _leads_to(element)
                preformatted -= tag == "pre"
                yield "\n" * ((tag in _BLOCKS) + (tag in _SPACED))
            elif skipped is element:
                skipped = None
            if skipped is None and element.tail and element is not root:
                yield element.tail if preformatted else _WHITE.sub(" ", element.tail)


def _leads_to(link: etree._Element) -> str:
    """The address of a link whose words do not tell it."""
    href = (link.get("href") or "").strip()
    if _LEADS.match(href) is None:
        return ""
    shown = href.partition(":")[2] if href.lower().startswith(("mailto:", "tel:")) else href
    words = "".join(link.itertext()).strip()
    if _bare(shown) in _bare(words):
        return ""
    return f" ({shown})" if words else shown


def _bare(address: str) -> str:
    """Without what people leave out when they write it down."""
    return _LEFT_OUT.sub("", re.sub(r"\s", "", address.casefold())).rstrip("/")


def _opening(tag: str) -> str:
    match tag:
        case "br":
            return "\n"
        case "li":
            return "\n- "
        case "td" | "th":
            return " "
        case _:
            return "\n" if tag in _BLOCKS else ""


def crude_text(html: str) -> str:
    """What stands between the tags, for documents no parser should see."""
    text = unescape(_CRUDE.sub(" ", html[:TEXT_MAX].replace("<br", "\n<br")))
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t]+", " ", text)).strip()
