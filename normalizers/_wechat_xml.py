"""A WeChat callback's body as a mapping: XML, or the JSON an account may choose in its place.

Sources: WeChat, Service account, Receiving standard messages; Message encryption, 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from normalizers._fields import NotWellFormed, load_json

BODY_MAX: Final = 64 * 1024
"""Bytes of one callback: the longest text is 2 KB, and compatible mode sends it about three times."""

_DEPTH_MAX = 8
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # what customers can type and XML 1.0 cannot hold


def load(body: bytes) -> Mapping[str, Any]:
    """The body's fields: texts, mappings for elements with children, lists for repeated ones (not at the top).

    Raises `NotWellFormed`: too long, a DTD, a field twice, or neither XML nor JSON.
    """
    if len(body) > BODY_MAX:
        raise NotWellFormed(f"more than {BODY_MAX} bytes")
    if body.lstrip()[:1] == b"{":
        value = load_json(body)
        return value if isinstance(value, dict) else {}
    text = _FORBIDDEN.sub("", body.decode("utf-8", "replace"))
    try:
        root = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise NotWellFormed(f"XML with a {type(error).__name__}") from None
    except (ParseError, ValueError, LookupError) as error:
        raise NotWellFormed(f"not XML: {type(error).__name__}") from None
    if len({child.tag for child in root}) != len(root):
        raise NotWellFormed("XML with a field twice")
    return {child.tag: _value(child, _DEPTH_MAX) for child in root}


def _value(element: Element, depth: int) -> Any:
    if not len(element) or not depth:
        return element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        value, known = _value(child, depth - 1), found.get(child.tag)
        if known is None:
            found[child.tag] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            found[child.tag] = [known, value]
    return found
