"""Words that nobody guesses, and that can be read out and typed: tamiro-veluna."""

import secrets

CONSONANTS, VOWELS = "bdfgjklmnprstv", "aeiou"
SYLLABLES = 3                   # of each part


def unguessable(parts: int) -> str:
    """Each part has three of 70 syllables, and so 18.4 bits: two have 37, four have 74.

    This server answers some 2,000 requests a second: half of all pairs take it a year.
    """
    return "-".join("".join(secrets.choice(CONSONANTS) + secrets.choice(VOWELS)
                            for _ in range(SYLLABLES)) for _ in range(parts))
