"""The words of the stories: names, things, goods, vehicles. Few and frequent, so that a tiny policy can know them all."""

from __future__ import annotations

from collections.abc import Sequence

from generators.worlds.arithmetic.draw import Draw

NAMES: tuple[tuple[str, str], ...] = (
    ("Tom", "he"),
    ("Ben", "he"),
    ("Sam", "he"),
    ("Leo", "he"),
    ("Max", "he"),
    ("Omar", "he"),
    ("Jack", "he"),
    ("Ravi", "he"),
    ("Luis", "he"),
    ("Ken", "he"),
    ("Anna", "she"),
    ("Mia", "she"),
    ("Lucy", "she"),
    ("Sara", "she"),
    ("Emma", "she"),
    ("Nina", "she"),
    ("Rosa", "she"),
    ("Kate", "she"),
    ("Zoe", "she"),
    ("Amy", "she"),
)
THINGS: tuple[tuple[str, str], ...] = (
    ("pen", "pens"),
    ("book", "books"),
    ("card", "cards"),
    ("stamp", "stamps"),
    ("shell", "shells"),
    ("coin", "coins"),
    ("cookie", "cookies"),
    ("marble", "marbles"),
    ("pear", "pears"),
    ("plum", "plums"),
    ("lemon", "lemons"),
    ("button", "buttons"),
    ("sticker", "stickers"),
    ("ball", "balls"),
    ("toy", "toys"),
    ("candle", "candles"),
    ("rose", "roses"),
    ("bead", "beads"),
    ("muffin", "muffins"),
    ("cup", "cups"),
)
GOODS: tuple[str, ...] = (
    "coat",
    "bike",
    "lamp",
    "chair",
    "phone",
    "watch",
    "table",
    "jacket",
    "tent",
    "guitar",
    "desk",
    "camera",
    "rug",
    "sofa",
    "drum",
    "kite",
)
VEHICLES: tuple[str, ...] = (
    "car",
    "bus",
    "train",
    "truck",
    "van",
    "boat",
    "tram",
    "taxi",
    "ship",
    "scooter",
    "ferry",
    "cyclist",
    "drone",
    "horse",
    "rider",
    "sled",
)
MAKERS: tuple[str, ...] = ("machine", "worker", "printer", "robot", "baker", "tailor", "cook", "potter", "painter", "builder", "weaver", "farmer")
HOLDERS: tuple[tuple[str, str], ...] = (
    ("box", "boxes"),
    ("bag", "bags"),
    ("jar", "jars"),
    ("basket", "baskets"),
    ("crate", "crates"),
    ("tray", "trays"),
    ("pack", "packs"),
)
PEOPLE: tuple[str, ...] = ("friends", "children", "students", "cousins", "players", "neighbors", "girls", "boys")

WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        word
        for pairs in (*NAMES, *THINGS, *HOLDERS, *((word,) for word in (*GOODS, *VEHICLES, *MAKERS, *PEOPLE)))
        for word in (*pairs, *(pronoun.capitalize() for pronoun in pairs if pronoun in ("he", "she")))
    )
)
"""Every word that fills a slot: what a story has to say again as it said it before."""

_HIS = {"he": "his", "she": "her"}

Words = dict[str, str]


def draw_words(draw: Draw, slots: Sequence[str]) -> Words:
    """Words for the slots a text uses: A, B, C names (he/He/his follow A); x/xs, y/ys things; good, vehicle, maker, holder(s), people."""
    words: Words = {}
    wanted = set(slots)
    names = draw.pick_distinct(NAMES, 3) if wanted & {"A", "B", "C", "he", "He", "his"} else []
    for slot, (name, pronoun) in zip("ABC", names):
        words[slot] = name
        if slot == "A":
            words |= {"he": pronoun, "He": pronoun.capitalize(), "his": _HIS[pronoun]}
    if wanted & {"x", "xs", "y", "ys"}:
        (words["x"], words["xs"]), (words["y"], words["ys"]) = draw.pick_distinct(THINGS, 2)
    if wanted & {"holder", "holders"}:
        words["holder"], words["holders"] = draw.pick(HOLDERS)
    for slot, options in (("good", GOODS), ("vehicle", VEHICLES), ("maker", MAKERS), ("people", PEOPLE)):
        if slot in wanted:
            words[slot] = draw.pick(options)
    return words
