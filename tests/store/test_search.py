"""What is indexed is found by what is asked, on both stores alike: signs beyond letters among it."""

from __future__ import annotations

from sqlalchemy import insert

from gateway import words
from gateway.store.engine import Database
from gateway.store.schema import search_entries
from gateway.store.search import Words
from gateway.store.search_index import BITS, PEOPLE

SAID = {
    "smile": "Great 😀!",
    "tears": "Oh no 😢😢",
    "heart": "Love it ❤️",
    "sun": "What a day ☀️",
    "thumb": "Fine👍🏽",
    "flag": "Sent from 🇩🇪",
    "order": "Where is DE4711X, or 1️⃣ of it",
    "quote": "It's \\ 'quoted' 😀'",
}
FOUND = {
    "😀": {"smile", "quote"},
    "😢": {"tears"},
    "😭": set(),
    "❤": {"heart"},
    "❤️": {"heart"},
    "👍": {"thumb"},
    "👍🏻": {"thumb"},
    "🇩🇪": {"flag"},
    "🇫🇷": set(),
    "great 😀": {"smile"},
    '"oh no 😢"': {"tears"},
    "4711": {"order"},
    "4711 ": {"order"},
    "711": set(),
}


async def test_emoji_and_digits_within_words_are_found(database: Database) -> None:
    rows = [
        {"id": PEOPLE + (place << BITS), "ref": name, "account": "", "words": words.indexed([text])}
        for place, (name, text) in enumerate(SAID.items())
    ]
    await database.write(lambda c: c.execute(insert(search_entries), rows))
    for asked, wanted in FOUND.items():
        question = Words(asked, None)
        found = await database.read(lambda c, question=question: list(question.contact_ids(c)))  # type: ignore[misc]
        assert {contact for page in found for _, contact in page} == wanted, asked
