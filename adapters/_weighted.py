"""How long a text is where the platform weighs it: links alike, emoji alike, scripts by their density.

Source: X, Counting characters (twitter-text configuration v3), 2026-08. It rather counts too much than too little: what
is too long is refused over there.
"""

from __future__ import annotations

import re
import unicodedata

LINK_WEIGHT = 23  # of every link, whatever its length
EMOJI_WEIGHT = 2
_HEAVY = re.compile("[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")  # code points that weigh 2, not 1

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]\ufe0f?[\U0001f3fb-\U0001f3ff]?"
)
_EMOJI = (
    "[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3"
    rf"|{_PICTURE}(?:\u200d{_PICTURE})*[\U000e0020-\U000e007f]*"
)  # flags, key caps, and pictures with tone, joined pictures and tags

_NAME = "a-z0-9\u00c0-\u024f"  # of a host; other scripts end a link, as they do for X
_REST = r"!-'*-~\u00a1-\u024f\u0400-\u04ff"  # of an address, but brackets: those belong to it in pairs
_LINK = (
    rf"(?<![{_NAME}@#$./_-])(?P<scheme>https?://)?(?:[{_NAME}](?:[{_NAME}_-]{{0,61}}[{_NAME}])?\.){{1,10}}(?P<end>[a-z]{{2,24}})"
    rf"(?![a-z0-9@+-])(?P<tail>(?::\d{{1,5}})?(?:[/?](?:(?:[{_REST}]|\([{_REST}]*\))*(?:[{_NAME}\u0400-\u04ff/=#&%+~_-]"
    rf"|\([{_REST}]*\)))?)?)"
)
_UNIT = re.compile(rf"(?P<link>{_LINK})|(?P<emoji>{_EMOJI})", re.IGNORECASE)

# The platform links names with a real ending only. Where ours may be none, the text counts as it stands, if that is
# more.
_LISTED = """
com org net edu gov mil int info biz name pro app dev blog shop store online site tech xyz cloud live news link ac ad
ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch
ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh
gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp
kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc
ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si
sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg
vi vn vu wf ws ye yt za zm zw
"""
_ENDINGS = frozenset(_LISTED.split())


def weight(text: str) -> int:
    """The weight of a text. Linear in its length, whatever it holds."""
    words, total = unicodedata.normalize("NFC", text.replace("\r\n", "\n")), 0
    for found in _UNIT.finditer(words):
        total += (EMOJI_WEIGHT if found["link"] is None else _link(found)) - _plain(found[0])
    return total + _plain(words)


def _plain(words: str) -> int:
    return len(words) + len(_HEAVY.findall(words))


def _link(found: re.Match[str]) -> int:
    words, least = found[0], LINK_WEIGHT
    if not found[
        "scheme"
    ]:  # then a first letter with an accent, or what follows but is no path, stands beside the link
        least += (words[0] > "\x7f") + (0 if "/" in found["tail"] else len(found["tail"]))
    return least if found["end"].lower() in _ENDINGS else max(least, _plain(words))
