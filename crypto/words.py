"""Fingerprints as words, to read out on the telephone: one byte, one word.

Twelve words are 96 bits of the SHA-256. Words are compared by people only; approvals hold the whole fingerprint.
Whoever wants to pass for a given site has to find keys whose fingerprint starts with its twelve words: 2^96 tries, and
still 2^76 against any one of a million sites. Eight words (64 bits) would be within reach of many cheap key pairs.
"""

from __future__ import annotations

from typing import Final

WORDS_SHOWN: Final = 12

# 256 everyday English words of at most 6 letters; no two begin with the same three letters.
_LIST = """
acorn actor agent album alley amber anchor angle ankle apple april arena arrow aspen atlas attic
august autumn avenue bacon badge bakery banana barrel basket beacon bell bench berry boat bonnet
bottle bowl branch bread brick bronze bubble bucket butter cabin cactus camel candle carpet castle
cedar cellar cement chair cheese circle citrus cliff clock coach cobalt coffee comet copper coral
cotton cousin cradle crown cube daisy dancer dawn desert dinner doctor donkey door dragon dream drum
eagle earth easel echo elbow engine fabric falcon family farmer fence ferry fiddle figure film
finger fire fish flag flower flute forest fossil fox friday frog fruit galaxy garden gate giant
ginger glove goblet gold goose grape green guitar hammer hazel heart helmet hill hockey honey horse
hotel house hunter igloo indigo island ivory jacket jaguar jelly jewel jigsaw judge juice july
jungle kayak kernel kettle king knight koala label ladder lake lamp lava lawyer lemon letter lily
lime linen lion lizard lotus lunch magnet maple marble meadow melon metal mill mirror monday moon
motor music napkin needle nest noble noodle north novel nut oak oasis ocean office olive onion opera
orange otter oven owl oyster paddle palace panda paper parrot peach pencil pepper piano pine plum
poem polar pond poppy puma queen quilt radio raft raven razor rice river robin roof rose ruby rugby
satin seed shell shoe skate sky smoke snow soap sofa solar south spoon stone sugar swan table tango
tape tiger toast tower tulip twin uncle vase wagon water whale wheat wolf wood yacht zebra
"""

WORDS: Final = tuple(_LIST.split())


def words_of(digest: bytes) -> str:
    """The first twelve bytes of a digest as hyphenated words."""
    return "-".join(WORDS[byte] for byte in digest[:WORDS_SHOWN])
