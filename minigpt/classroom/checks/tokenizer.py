"""Checks for 01_tokenizer: longest match, pair counts, one merge, and back from ids to text.

Texts are built from a few letters, so that repeats, overlaps and the corner cases that break a loop turn up every time.
"""

import random
from collections import Counter

from minigpt.arguments import shown
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    Try,
    article,
    check,
    explanation,
    one_of,
    shortest_wrong,
)

BYTES = [bytes([value]) for value in range(256)]


# -------------------------------------------------------------------------------------------------- check_longest_match

def longest_match(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """The truth: at each position the longest token that the text goes on with."""
    longest, tokens, start = max(map(len, vocab)), [], 0
    while start < len(text):
        size = next(size for size in range(longest, 0, -1) if text[start:start + size] in vocab)
        tokens.append(text[start:start + size])
        start += size
    return tokens


def grown_match(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """What growing a token byte by byte gives, if it stops at the first piece that is not in the vocabulary."""
    tokens, start = [], 0
    while start < len(text):
        size = 1
        while start + size < len(text) and text[start:start + size + 1] in vocab:
            size += 1
        tokens.append(text[start:start + size])
        start += size
    return tokens


def shortest_match(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """What trying the sizes from small to large gives."""
    return [text[start:start + 1] for start in range(len(text))]


def match_from_the_end(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """What longest match gives if it works from right to left."""
    return [token[::-1] for token in longest_match(text[::-1], {token[::-1] for token in vocab})][::-1]


def longest_anywhere(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """What cutting out the longest token wherever it stands gives, then the next longest in the rest."""
    for token in sorted(vocab, key=len, reverse=True):
        if text and token in text:
            left, right = text.split(token, 1)
            return longest_anywhere(left, vocab) + [token] + longest_anywhere(right, vocab)
    return []


def fewest_tokens(text: bytes, vocab: set[bytes]) -> int:
    """The smallest number of tokens that spell the text."""
    best = [0]
    for end in range(1, len(text) + 1):
        best.append(min(best[start] + 1 for start in range(end) if text[start:end] in vocab))
    return best[-1]


@check("longest match: spells every text, takes the longest token at each place, equal to ours on 43 texts")
def check_longest_match(student: Student) -> None:
    """Checks `fn(text: bytes, vocab: set[bytes]) -> list[bytes]`: greedy longest match; `vocab` has all 256 bytes."""
    small = {b"a", b"b", b"c", b"ab", b"abc"} | set(BYTES)
    cases = [(b"", small), (b"abcab", small), (b"ab c", small),
             (b"abcd", {b"abcd", *BYTES})]                   # without the prefixes ab and abc
    for _ in range(39):
        vocab = {bytes(random.choices(b"ab ", k=random.randint(2, 5))) for _ in range(12)} | {"é".encode()} | set(BYTES)
        text = bytes(random.choices(b"abc ", weights=(4, 4, 1, 2), k=random.randint(1, 30)))
        cases.append((text + one_of(b"", "né".encode(), b" "), vocab))
    tries = []
    for text, vocab in cases:
        answer = student(text=text, vocab=vocab)
        look_at_tokens(student.name, answer, text, vocab)
        tries.append(Try((text, vocab), answer, longest_match(text, vocab)))
    if any(one.wrong for one in tries):
        raise longest_match_mistake(tries)


def look_at_tokens(name: str, answer, text: bytes, vocab: set[bytes]) -> None:
    """Raises what is wrong with this list of tokens whatever the rule: it has to spell the text, in known tokens."""
    if not isinstance(answer, list):
        raise Mistake(f"{name} returns {article(answer)}; it should return a list of bytes, such as "
                      f"{longest_match(text, vocab)}.")
    foreign = [token for token in answer if not isinstance(token, bytes)]
    if foreign:
        hint = ("text[i] of bytes is a number: text[i:i + 1] is bytes" if isinstance(foreign[0], int)
                else "the tokens themselves, as they stand in the vocabulary")
        raise Mistake(f"Your list holds {shown(foreign[0])}, {article(foreign[0])}; it should hold bytes ({hint}).")
    yours = f"Of {text} yours makes {answer}"
    if b"" in answer:
        raise Mistake(f"{yours}, with an empty token b'' in it. A token has at least one byte: try sizes down to 1.")
    unknown = [token for token in answer if token not in vocab]
    if unknown:
        raise Mistake(f"{yours}, and {unknown[0]} is not in the vocabulary. Take a piece only if it is in `vocab`.")
    spelled = b"".join(answer)
    if spelled == text:
        return
    if len(spelled) < len(text) and text.startswith(spelled):
        raise Mistake(f"{yours}: the end of the text, {text[len(spelled):]}, is missing. "
                      "Does the loop go on until start == len(text)?")
    if spelled.replace(b" ", b"") == text.replace(b" ", b""):
        raise Mistake(f"{yours}: joined together they no longer spell the text, spaces got lost. "
                      "A space is a byte like any other.")
    if len(spelled) > len(text):
        raise Mistake(f"{yours}: joined together that is {len(spelled)} bytes, and the text has {len(text)}. "
                      "After a token, go on behind it: start += len(token).")
    raise Mistake(f"{yours}: joined together they spell {spelled}, and the text is lost.")


def longest_match_mistake(tries: list[Try]) -> Mistake:
    """Why these tokens, which do spell the texts, are not the greedy ones."""
    text, vocab = shortest_wrong(tries).inputs
    answer, right = shortest_wrong(tries).answer, shortest_wrong(tries).right
    place = next(i for i, (one, other) in enumerate(zip(right, answer, strict=False)) if one != other)
    yours = f"Of {text} yours makes {answer}"
    reason = explanation(tries, {
        f": single bytes, the shortest match, though {right[place]} is in the vocabulary. Try the longest piece first.":
            shortest_match,
        f" and misses {right[place]}. You let a token grow a byte at a time and stop at the first piece that is not in "
        "the vocabulary, but a longer one may be in it again. Try the sizes from long to short.": grown_match,
        f", which is the longest match from the right. Start at the left: {right}.": match_from_the_end,
        ": it cuts out the longest token wherever it stands in the text. Greedy looks at one place at a time, from "
        f"left to right: {right}.": longest_anywhere,
    })
    if reason:
        return Mistake(yours + reason)
    if all(len(one.answer) == fewest_tokens(*one.inputs) for one in tries):
        return Mistake(f"{yours}, the fewest tokens possible. Clever, but greedy never looks ahead: "
                       f"at each place it takes the longest token, {right}.")
    limit = max(len(token) for one in tries for token in one.answer)
    if limit < max(len(token) for one in tries for token in one.right):
        return Mistake(f"{yours}, where {right[place]} is longer than {answer[place]} and fits too. Your longest piece "
                       f"ever has length {limit}: do you start from the longest token in the vocabulary?")
    return Mistake(f"{yours}. At token {place} you take {answer[place]} where the longest that fits is {right[place]}.")


# ---------------------------------------------------------------------------------------------------- check_pair_counts

@check("pair counts: every pair of neighbours counted, in order, equal to ours on 33 lists")
def check_pair_counts(student: Student) -> None:
    """Checks `fn(ids: list[int]) -> dict[tuple[int, int], int]`: how often each pair of neighbours occurs."""
    cases = [[], [7], [1, 2, 1, 2, 1]] + [random.choices(range(4), k=random.randint(2, 20)) for _ in range(30)]
    tries = []
    for ids in cases:
        answer = student(ids=ids)
        if not isinstance(answer, dict):
            raise Mistake(f"{student.name} returns {article(answer)}; it should return a dict: pair -> how often.")
        if not all(isinstance(key, tuple) and len(key) == 2 for key in answer):
            raise Mistake(f"Of {ids} yours makes {shown(answer)}: the keys should be pairs, such as (1, 2).")
        counts = {pair: count for pair, count in answer.items() if count}
        tries.append(Try((ids,), counts, dict(Counter(zip(ids, ids[1:], strict=False)))))
    if any(one.wrong for one in tries):
        raise pair_counts_mistake(tries)


def pair_counts_mistake(tries: list[Try]) -> Mistake:
    """Why these counts are wrong."""
    ids, answer, right = shortest_wrong(tries).inputs[0], shortest_wrong(tries).answer, shortest_wrong(tries).right
    yours = f"Of {ids} yours makes {shown(answer)}"
    reason = explanation(tries, {
        "the last id counts as a neighbour of the first. A text is no ring: stop one before the end.":
            lambda ids: Counter(zip(ids, ids[1:] + ids[:1], strict=True)),
        "it steps over two ids at a time and sees only every second pair. Neighbours overlap.":
            lambda ids: Counter(zip(ids[::2], ids[1::2], strict=False)),
        "(1, 2) and (2, 1) are counted together. Which id comes first matters.":
            lambda ids: Counter(tuple(sorted(pair)) for pair in zip(ids, ids[1:], strict=False)),
        "in a run like 3, 3, 3 it counts (3, 3) once. Every two neighbours count, so it is 2.": pairs_apart,
        "each pair is counted once, however often it occurs. Add 1 to what is there.":
            lambda ids: Counter(set(zip(ids, ids[1:], strict=False))),
        "the last pair is missing. range(len(ids) - 1) is what runs over the pairs.":
            lambda ids: Counter(zip(ids[:-1], ids[1:-1], strict=False)),
        "the pairs are the wrong way round: (left, right), as they stand in the text.":
            lambda ids: Counter(zip(ids[1:], ids, strict=False)),
    })
    if reason:
        return Mistake(f"{yours}: {reason}")
    pair = next(pair for pair in (*right, *answer) if right.get(pair, 0) != answer.get(pair, 0))
    return Mistake(f"{yours}: {pair} occurs {right.get(pair, 0)} times, and you count {answer.get(pair, 0)}.")


def pairs_apart(ids: list[int]) -> Counter:
    """What comes of not counting a pair that overlaps the same pair just counted."""
    counts, i = Counter(), 0
    while i + 1 < len(ids):
        counts[ids[i], ids[i + 1]] += 1
        i += 2 if ids[i:i + 2] == ids[i + 1:i + 3] else 1
    return counts


# ---------------------------------------------------------------------------------------------------------- check_merge

def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """The truth: from left to right, and what has been merged is not looked at again."""
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i:i + 2]) == tuple(pair)
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def merge_overlapping(ids, pair, new_id) -> list[int]:
    """What comes of looking at every place, also inside a pair that was merged just before."""
    merged = []
    for i, left in enumerate(ids):
        if tuple(ids[i:i + 2]) == pair:
            merged.append(new_id)
        elif i == 0 or tuple(ids[i - 1:i + 1]) != pair:
            merged.append(left)
    return merged


def merge_leaving_the_second(ids, pair, new_id) -> list[int]:
    """What comes of writing the new id without stepping over the second of the pair."""
    return [new_id if tuple(ids[i:i + 2]) == pair else left for i, left in enumerate(ids)]


def merge_first(ids, pair, new_id) -> list[int]:
    """What comes of stopping after one merge."""
    place = next((i for i in range(len(ids)) if tuple(ids[i:i + 2]) == pair), len(ids))
    return [*ids[:place], *([new_id] if place < len(ids) else []), *ids[place + 2:]]


def merge_from_the_end(ids, pair, new_id) -> list[int]:
    """What comes of working from right to left."""
    return merge(ids[::-1], pair[::-1], new_id)[::-1]


def merge_either_order(ids, pair, new_id) -> list[int]:
    """What comes of taking (right, left) for the pair too."""
    merged, i = [], 0
    while i < len(ids):
        found = set(ids[i:i + 2]) == set(pair) and len(ids[i:i + 2]) == 2
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def merge_single_ids(ids, pair, new_id) -> list[int]:
    """What comes of replacing each of the two ids wherever it stands."""
    return [new_id if left in pair else left for left in ids]


def merge_without_the_last(ids, pair, new_id) -> list[int]:
    """What comes of a loop over the pairs that forgets the last id."""
    ended = bool(ids) and merge([*ids, -1], pair, new_id)[-2] == ids[-1]
    return merge(ids, pair, new_id)[:-1] if ended else merge(ids, pair, new_id)


def merge_and_keep(ids, pair, new_id) -> list[int]:
    """What comes of putting the new id in without taking the pair out."""
    kept, i = [], 0
    while i < len(ids):
        found = tuple(ids[i:i + 2]) == pair
        kept += [*ids[i:i + 2], new_id] if found else [ids[i]]
        i += 2 if found else 1
    return kept


@check("merge: every pair replaced, from left to right, nothing else touched, equal to ours on 47 lists")
def check_merge(student: Student) -> None:
    """Checks `fn(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]`: one byte-pair merge."""
    cases = [([1, 2, 3], (1, 2)), ([3, 1, 2], (1, 2)), ([], (1, 2)), ([1], (1, 2)), ([1, 2], (1, 2)),
             ([5, 5, 5], (5, 5)), ([1, 2, 1, 2, 1], (1, 2))]
    for _ in range(40):
        left = random.randint(0, 3)
        pair = (left, one_of(left, random.randint(0, 3)))
        cases.append((random.choices(range(4), k=random.randint(3, 20)), pair))
    tries = []
    for ids, pair in cases:
        new_id = random.randint(256, 999)
        answer, right = student(ids=ids, pair=pair, new_id=new_id), merge(ids, pair, new_id)
        if not isinstance(answer, list):
            raise Mistake(f"{student.name} returns {article(answer)}; it should return a list of ids, such as {right}.")
        tries.append(Try((ids, pair, new_id), answer, right))
    if any(one.wrong for one in tries):
        raise merge_mistake(tries)


def merge_mistake(tries: list[Try]) -> Mistake:
    """Why these ids are wrong."""
    (ids, pair, new_id), right = shortest_wrong(tries).inputs, shortest_wrong(tries).right
    yours = f"Merging {pair} into {new_id}, yours makes {shown(shortest_wrong(tries).answer)} of {ids}"
    reason = explanation(tries, {
        "nothing was merged. Compare the pair with (ids[i], ids[i + 1]), a tuple with a tuple.": lambda ids, *_: ids,
        "it stops after the first. Go on to the end: every occurrence is merged.": merge_first,
        "in a run of equal ids it merges from the right. Start at the left.": merge_from_the_end,
        "the merged pairs overlap. Once you have merged two ids, go on behind both: i += 2.": merge_overlapping,
        "the second id of the pair is still there. After a merge step over both: i += 2.": merge_leaving_the_second,
        f"{pair[::-1]} is another pair. Merge the two only in their order.": merge_either_order,
        f"{pair[0]} and {pair[1]} are replaced where they stand alone. Merge them only side by side.":
            merge_single_ids,
        "the last id is lost. It has no right neighbour, and has to be copied all the same.": merge_without_the_last,
        "the new id is put in, and the pair was not taken out.": merge_and_keep,
    })
    if reason:
        return Mistake(f"{yours}: {reason} Right is {right}.")
    if new_id not in right:
        return Mistake(f"{yours}: the pair does not occur, so the list should stay {right}.")
    return Mistake(f"{yours}. Right is {right}.")


# --------------------------------------------------------------------------------------------------------- check_decode

TEXTS = ["Größe 🙂", "a naïve café", "日本 and 🇫🇷", "plain text"]


@check("decode: characters that span several tokens come back whole, and broken bytes become �")
def check_decode(student: Student) -> None:
    """Checks `fn(ids: list[int], vocab: tuple[bytes, ...]) -> str`: ids to text, with U+FFFD for invalid UTF-8."""
    for text in [*TEXTS, random.choice("éüøλЖ") + random.choice("🙂🐍🚀") + " end"]:
        vocab = tuple(random.sample(BYTES, len(BYTES))) + (b"the", b" a", b"\xc3", "ß".encode())
        ids = [vocab.index(bytes([value])) for value in text.encode()]
        answer = student("The bytes of one character may be spread over several tokens.", ids=ids, vocab=vocab)
        if answer != text:
            raise decode_mistake(student.name, answer, text, [vocab[i] for i in ids])
    for tokens in ([b"the", b" a"], []):
        answer = student(ids=[vocab.index(token) for token in tokens], vocab=vocab)
        if answer != "".join(token.decode() for token in tokens):
            raise decode_mistake(student.name, answer, b"".join(tokens).decode(), tokens)
    cut = [vocab.index(bytes([value])) for value in "ok é".encode()[:-1]]             # half an é at the end
    answer = student('bytes.decode("utf-8", errors="replace") shows � instead of stopping.', ids=cut, vocab=vocab)
    if answer != "ok �":
        raise Mistake(f"The ids end in the middle of an é: that half should show as �, \"ok �\", and yours gives "
                      f"{answer!r}. Decode with errors=\"replace\".")


def decode_mistake(name: str, answer, text: str, tokens: list[bytes]) -> Mistake:
    """Why this is not the text."""
    if not isinstance(answer, str):
        if isinstance(answer, (bytes, bytearray)):
            return Mistake(f"{name} returns bytes, {shown(bytes(answer))}: decode them into a str.")
        return Mistake(f"{name} returns {article(answer)}; it should return a str.")
    joined = b"".join(tokens)
    yours = f"{text!r} comes back as {answer!r}"
    reasons = {
        "each byte was taken for a character. Bytes become characters through UTF-8: join, then decode.":
            joined.decode("latin-1"),
        "each token was decoded alone, and half a character is none. Join all bytes first, then decode once.":
            "".join(token.decode(errors="replace") for token in tokens),
        "bytes that are no character by themselves were thrown away. Join all bytes first, then decode once.":
            "".join(token.decode(errors="ignore") for token in tokens),
        "str() of bytes shows how Python writes them. Use bytes.decode.": str(joined),
        "each token is written as Python writes bytes. Join the bytes, then decode.": "".join(map(str, tokens)),
        "spaces have come between the tokens. The tokens carry their own: join with b\"\".":
            b" ".join(tokens).decode(errors="replace"),
    }
    for reason, wrong in reasons.items():
        if answer == wrong:
            return Mistake(f"{yours}: {reason}")
    return Mistake(f"{yours}.")
