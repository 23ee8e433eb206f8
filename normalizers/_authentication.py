"""Whether the mail server in front vouches for who a mail says it is from (Authentication-Results).

The sender's own words stand in that header, too: the address he gave in the session, quoted or in a comment. So it is
read as its grammar says, and what contradicts itself proves nothing. Source: RFC 8601, 7489.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from normalizers._mime import Headers
from normalizers._mime_text import domain_of

VALUE_MAX = 16_384  # characters of one header
_PROVES = {
    "dmarc": ("header.from",),
    "dkim": ("header.d", "header.i"),
    "spf": ("smtp.mailfrom", "smtp.mail"),
}


def is_aligned(headers: Headers, trusted: Iterable[str], from_address: str) -> bool:
    """Whether our own edge vouches for the From domain.

    Only the topmost Authentication-Results of a trusted server counts: what stands below may have come with the mail.
    DMARC passed for the domain; or DKIM or SPF passed for it or for a domain above it, unless DMARC says otherwise. A
    subdomain does not vouch for its parent here: without the public suffix list that would let anybody's subdomain
    speak for a shared one.
    """
    names = {name.lower() for name in trusted}
    for value in headers.all("authentication-results"):
        server, *results = _results(value[:VALUE_MAX].lower())
        if server and server[0] in names:
            told = {words[0] for words in results if words and words[0].startswith("dmarc=")}
            if "dmarc=fail" in told or len(told) > 1:  # one domain has one result
                return False
            return any(_vouches(words, domain_of(from_address)) for words in results)
    return False


def _results(value: str) -> list[list[str]]:
    """The words between top-level semicolons, without comments; a quoted string is part of one word."""
    results: list[list[str]] = [[]]
    word: list[str] = []
    for char in _outside(value):
        if char == ";" or char.isspace():
            if word:
                results[-1].append("".join(word))
                word = []
            if char == ";":
                results.append([])
        else:
            word.append(char)
    if word:
        results[-1].append("".join(word))
    return results


def _outside(value: str) -> Iterator[str]:
    """The characters outside of comments (each is a blank); what separates within quotes is a "_"."""
    quoted, depth, position = False, 0, 0
    while position < len(value):
        char = value[position]
        if char == "\\" and (quoted or depth):
            position += 1  # the next one means nothing
            char = "_"
        elif quoted:
            quoted = char != '"'
            char = "_" if char == ";" or char.isspace() else char
        elif depth or char == "(":
            depth += (char == "(") - (char == ")")
            char = "" if depth else " "
        else:
            quoted = char == '"'
        if char and not depth:
            yield char
        position += 1


def _vouches(words: list[str], domain: str) -> bool:
    method, _, result = words[0].partition("=") if words else ("", "", "")
    method = method.partition("/")[0]
    if result != "pass" or method not in _PROVES:
        return False
    for word in words[1:]:
        name, _, value = word.partition("=")
        proven = domain_of(value.strip('"<>,')) if name in _PROVES[method] else ""
        if proven and (domain == proven or (method != "dmarc" and "." in proven and domain.endswith(f".{proven}"))):
            return True
    return False
