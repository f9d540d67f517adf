"""Checks for 01_tokenizer: longest match, pair counts, one merge, and back from ids to text.

Texts are built from a few letters, so that repeats, overlaps and the corner cases that break a loop
turn up every time.
"""

import random
import unicodedata
from collections import Counter
from itertools import combinations, pairwise

from minigpt.arguments import shown
from minigpt.classroom.checks.cases import another, large_ids, one_of
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    Try,
    article,
    check,
    explanation,
    shortest_wrong,
)

BYTES = [bytes([value]) for value in range(256)]


def shortened(value) -> str:
    """As Python writes it, cut so that a sentence with two of it can still be read."""
    text = repr(value)
    return text if len(text) <= 120 else text[:120] + "…"


# ------------------------------------------------------------------------------ check_longest_match

def longest_match(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """The truth: at each position the longest token that the text goes on with."""
    longest, tokens, start = max(map(len, vocab)), [], 0
    while start < len(text):
        size = next(size for size in range(longest, 0, -1) if text[start:start + size] in vocab)
        tokens.append(text[start:start + size])
        start += size
    return tokens


def grown_match(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """What growing a token byte by byte gives, up to the first piece not in the vocabulary."""
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
    return [token[::-1]
            for token in longest_match(text[::-1], {token[::-1] for token in vocab})][::-1]


def longest_anywhere(text: bytes, vocab: set[bytes]) -> list[bytes]:
    """What cutting out the longest token wherever it stands gives, then the next in the rest."""
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


@check("longest match: spells every text, takes the longest token at each place, equal to ours on "
       "59 texts")
def check_longest_match(student: Student) -> None:
    """Checks `fn(text: bytes, vocab: set[bytes]) -> list[bytes]`: greedy longest match.

    `vocab` has all 256 bytes.
    """
    small = {b"a", b"b", b"c", b"ab", b"abc"} | set(BYTES)
    cases = [(b"", small), (b"abcab", small), (b"ab c", small),
             (b"abcd", {b"abcd", *BYTES})]                      # without the prefixes ab and abc
    for _ in range(39):
        vocab = {bytes(random.choices(b"ab ", k=random.randint(2, 5)))
                 for _ in range(12)} | {"é".encode()} | set(BYTES)
        text = bytes(random.choices(b"abc ", weights=(4, 4, 1, 2), k=random.randint(1, 30)))
        cases.append((text + one_of(b"", "né".encode(), b" "), vocab))
    cases += [case_of_any_bytes(random.randint(6, 40)) for _ in range(13)]
    cases += [case_of_any_bytes(300)]
    cases += [(random.choice(cases)[0], set(BYTES)),            # a vocabulary of bytes alone
              (bytes(random.choices(b"ab", k=300)), small)]     # so long that trying all takes ages
    tries = []
    for text, vocab in cases:
        answer = student(text=text, vocab=vocab)
        look_at_tokens(student.name, answer, text, vocab)
        tries.append(Try((text, vocab), list(answer), longest_match(text, vocab)))
    if any(one.wrong for one in tries):
        raise longest_match_mistake(tries)


def case_of_any_bytes(longest: int) -> tuple[bytes, set[bytes]]:
    """A text of odd bytes, and a vocabulary with tokens of up to `longest`.

    Line ends, spaces at its ends, a byte-order mark, and bytes that are no UTF-8.
    """
    odd = (b"\n", b"\r\n", b" ", b"\xef\xbb\xbf", b"\xff", b"\x00", "ﬁ".encode(), b"\t", b"E")
    text = b"".join(random.choices((*odd, b"a", b"b", b"ab"), k=longest + 20))
    text = one_of(b" ", b"\xef\xbb\xbf", b"") + text + one_of(b" ", b"\r\n", b"")
    starts = [0, *(random.randrange(len(text)) for _ in range(7))]     # the longest one comes first
    sizes = [longest, *(random.randint(2, longest) for _ in starts[1:])]
    tokens = {text[start:start + size] for start, size in zip(starts, sizes, strict=True)}
    return text, tokens | set(BYTES)


def look_at_tokens(name: str, answer, text: bytes, vocab: set[bytes]) -> None:
    """Raises what is wrong with these tokens whatever the rule: known ones spell the text."""
    if not isinstance(answer, list):
        raise Mistake(f"{name} returns {article(answer)}; it should return a list of bytes, such "
                      f"as {shown(longest_match(text, vocab))}.")
    foreign = [token for token in answer if not isinstance(token, bytes)]
    if foreign:
        hint = ("text[i] of bytes is a number: text[i:i + 1] is bytes"
                if isinstance(foreign[0], int)
                else "the tokens themselves, as they stand in the vocabulary")
        raise Mistake(f"Your list holds {shown(foreign[0])}, {article(foreign[0])}; it should hold "
                      f"bytes ({hint}).")
    yours = f"Of {shortened(text)} yours makes {shortened(answer)}"
    if b"" in answer:
        raise Mistake(f"{yours}, with an empty token b'' in it. A token has at least one byte: try "
                      "sizes down to 1.")
    unknown = [token for token in answer if token not in vocab]
    if unknown:
        raise Mistake(f"{yours}, and {shown(unknown[0])} is not in the vocabulary. Take a piece "
                      "only if it is in `vocab`.")
    spelled = b"".join(answer)
    if spelled == text:
        return
    if len(spelled) < len(text) and text.startswith(spelled):
        raise Mistake(f"{yours}: the end of the text, {shown(text[len(spelled):])}, is "
                      "missing. Does the "
                      "loop go on until start == len(text)?")
    without_ends, without_spaces = text.strip().replace(b" ", b""), text.replace(b" ", b"")
    shorter = len(spelled) < len(text)
    if shorter and spelled.strip().replace(b" ", b"") == without_ends != without_spaces:
        raise Mistake(f"{yours}: joined together they no longer spell the text, what stood at its "
                      "ends is gone. A space or a line end is a byte like any other: strip "
                      "nothing.")
    if spelled.replace(b" ", b"") == without_spaces:
        raise Mistake(f"{yours}: joined together they no longer spell the text, spaces got lost. A "
                      "space is a byte like any other.")
    if len(spelled) > len(text):
        raise Mistake(f"{yours}: joined together that is {len(spelled)} bytes, and the text has "
                      f"{len(text)}. After a token, go on behind it: start += len(token).")
    raise Mistake(f"{yours}: joined together they spell {shortened(spelled)}, and the text is "
                  "lost.")


def longest_match_mistake(tries: list[Try]) -> Mistake:
    """Why these tokens, which do spell the texts, are not the greedy ones."""
    text, vocab = shortest_wrong(tries).inputs
    answer, right = shortest_wrong(tries).answer, shortest_wrong(tries).right
    both = enumerate(zip(right, answer, strict=False))
    place = next(i for i, (one, other) in both if one != other)
    yours = f"Of {shortened(text)} yours makes {shortened(answer)}"
    longer, taken = shown(right[place]), shown(answer[place])
    reason = explanation(tries, {
        f": single bytes, the shortest match, though {longer} is in the vocabulary. Try the "
        "longest piece first.": shortest_match,
        f" and misses {longer}. You let a token grow a byte at a time and stop at the first "
        "piece that is not in the vocabulary, but a longer one may be in it again. Try the sizes "
        "from long to short.": grown_match,
        f", which is the longest match from the right. Start at the left: {shortened(right)}.":
            match_from_the_end,
        ": it cuts out the longest token wherever it stands in the text. Greedy looks at one "
        f"place at a time, from left to right: {shortened(right)}.": longest_anywhere,
    })
    if reason:
        return Mistake(yours + reason)
    if all(len(one.answer) == fewest_tokens(*one.inputs) for one in tries
           if len(one.inputs[0]) < 100):
        return Mistake(f"{yours}, the fewest tokens possible. Clever, but greedy never looks "
                       f"ahead: at each place it takes the longest token, {shortened(right)}.")
    limit = max(len(token) for one in tries for token in one.answer)
    if limit < max(len(token) for one in tries for token in one.right):
        return Mistake(f"{yours}, where {longer} is longer than {taken} and fits "
                       f"too. Your longest piece ever has length {limit}: do you start from the "
                       "longest token in the vocabulary?")
    return Mistake(f"{yours}. At token {place} you take {taken} where the longest that "
                   f"fits is {longer}.")


# -------------------------------------------------------------------------------- check_pair_counts

@check("pair counts: every pair of neighbours counted, in order, equal to ours on 42 lists")
def check_pair_counts(student: Student) -> None:
    """Checks `fn(ids: list[int]) -> dict[tuple[int, int], int]`: how often each pair occurs.

    A pair is two neighbours.
    """
    cases = [[], [7], [1, 2, 1, 2, 1]]
    cases += [random.choices(range(4), k=random.randint(2, 20)) for _ in range(30)]
    cases += [large_ids(trial, random.randint(4, 30)) for trial in range(8)]
    cases += [[5] * 300]                            # a count that needs more than 8 bits
    tries = []
    for ids in cases:
        answer = student(ids=ids)
        if not isinstance(answer, dict):
            raise Mistake(f"{student.name} returns {article(answer)}; it should return a dict: "
                          "pair -> how often.")
        if not all(isinstance(key, tuple) and len(key) == 2 for key in answer):
            raise Mistake(f"Of {shortened(ids)} yours makes {shortened(answer)}: the keys should "
                          "be pairs, such as (1, 2).")
        counts = {pair: count for pair, count in answer.items() if count}
        tries.append(Try((ids,), counts, dict(pair_counts(ids))))
    if any(one.wrong for one in tries):
        raise pair_counts_mistake(tries)


def pair_counts(ids: list[int]) -> Counter:
    """The truth."""
    return Counter(pairwise(ids))


def pair_counts_mistake(tries: list[Try]) -> Mistake:
    """Why these counts are wrong."""
    shortest = shortest_wrong(tries)
    ids, answer, right = shortest.inputs[0], shortest.answer, shortest.right
    yours = f"Of {shortened(ids)} yours makes {shortened(answer)}"
    reason = explanation(tries, {
        "the last id counts as a neighbour of the first. A text is no ring: stop one before the "
        "end.": lambda ids: Counter(zip(ids, ids[1:] + ids[:1], strict=True)),
        "it steps over two ids at a time and sees only every second pair. Neighbours overlap.":
            lambda ids: Counter(zip(ids[::2], ids[1::2], strict=False)),
        "(1, 2) and (2, 1) are counted together. Which id comes first matters.":
            lambda ids: Counter(tuple(sorted(pair)) for pair in pairwise(ids)),
        "in a run like 3, 3, 3 it counts (3, 3) once. Every two neighbours count, so it is 2.":
            pairs_apart,
        "each pair is counted once, however often it occurs. Add 1 to what is there.":
            lambda ids: Counter(set(pairwise(ids))),
        "the last pair is missing. range(len(ids) - 1) is what runs over the pairs.":
            lambda ids: Counter(zip(ids[:-1], ids[1:-1], strict=False)),
        "the pairs are the wrong way round: (left, right), as they stand in the text.":
            lambda ids: Counter(zip(ids[1:], ids, strict=False)),
        "the first pair is missing. The pairs begin with (ids[0], ids[1]).":
            lambda ids: Counter(zip(ids[1:], ids[2:], strict=False)),
        "ids that follow themselves are left out. (3, 3) is a pair like any other.":
            lambda ids: Counter((one, two) for one, two in pairwise(ids) if one != two),
        "each id is paired with the next but one. Neighbours stand side by side.":
            lambda ids: Counter(zip(ids, ids[2:], strict=False)),
        "every two ids are paired, wherever they stand. Only neighbours count.":
            lambda ids: Counter(combinations(ids, 2)),
        "pairs that occur once are left out. They count too.":
            lambda ids: {pair: n for pair, n in pair_counts(ids).items() if n > 1},
        "every count is one too high. What is not there yet starts at 0.":
            lambda ids: {pair: n + 1 for pair, n in pair_counts(ids).items()},
        "every count is one too low. The first time counts as 1.":
            lambda ids: {pair: n - 1 for pair, n in pair_counts(ids).items() if n > 1},
    })
    if reason:
        return Mistake(f"{yours}: {reason}")
    pair = next(pair for pair in (*right, *answer) if right.get(pair, 0) != answer.get(pair, 0))
    return Mistake(f"{yours}: {pair} occurs {times(right.get(pair, 0))}, and you count "
                   f"{answer.get(pair, 0)}.")


def times(n: int) -> str:
    """How often, in words."""
    return {0: "nowhere", 1: "once", 2: "twice"}.get(n, f"{n} times")


def pairs_apart(ids: list[int]) -> Counter:
    """What comes of not counting a pair that overlaps the same pair just counted."""
    counts, i = Counter(), 0
    while i + 1 < len(ids):
        counts[ids[i], ids[i + 1]] += 1
        i += 2 if ids[i:i + 2] == ids[i + 1:i + 3] else 1
    return counts


# -------------------------------------------------------------------------------------- check_merge

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


def merge_digits(ids, pair, new_id) -> list[int]:
    """What comes of replacing in the text of the list: "[11, 2]" holds "1, 2"."""
    text = str(ids).replace(f"{pair[0]}, {pair[1]}", str(new_id))
    return [int(number) for number in text.strip("[]").split(",") if number.strip()]


def merge_again(ids, pair, new_id) -> list[int]:
    """What comes of merging until nothing changes, where the pair may hold the new id."""
    while (merged := merge(ids, pair, new_id)) != ids and len(merged) < len(ids):
        ids = merged
    return ids


def merge_apart(ids, pair, new_id) -> list[int]:
    """What comes of removing a left and the next right one, wherever it stands."""
    ids, merged = list(ids), []
    while ids:
        first = ids.pop(0)
        if first == pair[0] and pair[1] in ids:
            ids.remove(pair[1])
            first = new_id
        merged.append(first)
    return merged


@check("merge: every pair replaced, from left to right, nothing else touched, equal to ours on 67 "
       "lists")
def check_merge(student: Student) -> None:
    """Checks `fn(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]`, one merge."""
    cases = [([1, 2, 3], (1, 2)), ([3, 1, 2], (1, 2)), ([], (1, 2)), ([1], (1, 2)),
             ([1, 2], (1, 2)), ([5, 5, 5], (5, 5)), ([1, 2, 1, 2, 1], (1, 2))]
    for _ in range(40):
        left = random.randint(0, 3)
        pair = (left, one_of(left, random.randint(0, 3)))
        cases.append((random.choices(range(4), k=random.randint(3, 20)), pair))
    cases += [([11, 2], (1, 2)), ([1, 21], (1, 2))]             # 1 and 2 as digits
    cases += [([5] * 8, (5, 5)), ([0, 0, 7, 0, 0], (0, 0))]
    cases += [([2, 3, 1], (1, 2)), ([2, 2, 7], (7, 0)), ([7, 4, 7], (7, 7))]   # not round the end
    for trial in range(12):
        ids = large_ids(trial, random.randint(4, 30))
        left, right = one_of((ids[0], ids[1]), (ids[-2], ids[-1]), (ids[0], ids[0]))
        cases.append((ids, (another(left), another(right))))
    cases.append((random.choices(range(3), k=300), (1, 2)))
    tries = []
    for ids, pair in cases:
        new_id = one_of(random.randint(256, 999), 70_000)
        answer, right = student(ids=ids, pair=pair, new_id=new_id), merge(ids, pair, new_id)
        if not isinstance(answer, list):
            raise Mistake(f"{student.name} returns {article(answer)}; it should return a list of "
                          f"ids, such as {shown(right)}.")
        tries.append(Try((ids, pair, new_id), list(answer), right))
    if any(one.wrong for one in tries):
        raise merge_mistake(tries)


def merge_mistake(tries: list[Try]) -> Mistake:
    """Why these ids are wrong."""
    shortest = shortest_wrong(tries)
    (ids, pair, new_id), right = shortest.inputs, shortest.right
    yours = (f"Merging {pair} into {new_id}, yours makes {shortened(shortest.answer)} of "
             f"{shortened(ids)}")
    reason = explanation(tries, {
        "nothing was merged. Compare the pair with (ids[i], ids[i + 1]), a tuple with a tuple.":
            lambda ids, *_: ids,
        "it stops after the first. Go on to the end: every occurrence is merged.": merge_first,
        "in a run of equal ids it merges from the right. Start at the left.": merge_from_the_end,
        "the merged pairs overlap. Once you have merged two ids, go on behind both: i += 2.":
            merge_overlapping,
        "the second id of the pair is still there. After a merge step over both: i += 2.":
            merge_leaving_the_second,
        f"{pair[::-1]} is another pair. Merge the two only in their order.": merge_either_order,
        f"{pair[0]} and {pair[1]} are replaced where they stand alone. Merge them only side by "
        "side.": merge_single_ids,
        "the last id is lost. It has no right neighbour, and has to be copied all the same.":
            merge_without_the_last,
        "the new id is put in, and the pair was not taken out.": merge_and_keep,
        "you work on the ids as one text of digits, in which 11, 2 holds a 1, 2 too. Compare "
        "numbers with numbers.": merge_digits,
        "what you have merged is looked at again. Each id of the input is looked at once, from "
        "left to right.": merge_again,
        "the pair's two ids are swapped for the new one even if something stands between them. "
        "Merge neighbours only.": merge_apart,
    })
    if reason:
        return Mistake(f"{yours}: {reason} Right is {shortened(right)}.")
    if new_id not in right:
        return Mistake(f"{yours}: the pair does not occur, so the list should stay "
                       f"{shortened(right)}.")
    return Mistake(f"{yours}. Right is {shortened(right)}.")


# ------------------------------------------------------------------------------------- check_decode

TEXTS = ("Größe 🙂", "a naïve café", "日本 and 🇫🇷", "plain text", " spaces at both ends \n",
         "\ufeffa mark at the start", "line\r\nends\rof\nthree kinds",
         "cafe\u0301 in two characters", "ﬁ and ①", "\x00\t", "İstanbul ẞ")
BROKEN = ("ok é".encode()[:-1], b"\xff", b"\xa9 first", b"a\xf0\x9f\x99b", "é".encode() + b"\xc3",
          b"\xed\xa0\x80", b"\xef\xbb\xbf\xff")


@check("decode: characters that span several tokens come back whole, and broken bytes become �")
def check_decode(student: Student) -> None:
    """Checks `fn(ids: list[int], vocab: tuple[bytes, ...]) -> str`: ids to text.

    U+FFFD stands for invalid UTF-8.
    """
    for text in [*TEXTS, "", "a", random.choice("éüøλЖ") + random.choice("🙂🐍🚀") + " end"]:
        vocab = shuffled_vocab(80_000 if text == TEXTS[3] else 0, text.encode()[:1])
        ask_for_text(student, "An id is a place in vocab, and its bytes are vocab[id]; those of "
                     "one character may be spread over several tokens.", vocab, text.encode())
    vocab = tuple(BYTES) + (b"the", b" a", b"\xc3", "ß".encode())  # where a byte's id is the byte
    for tokens in ([b"the", b" a"], [b"\xc3", b"\x9f", b"the", "ß".encode()], []):
        ids = [vocab.index(token) for token in tokens]
        answer = student(ids=ids, vocab=vocab)
        if answer != b"".join(vocab[i] for i in ids).decode():
            raise decode_mistake(student.name, answer, b"".join(tokens).decode(), ids, vocab)
    for broken in BROKEN:
        ask_for_text(student,
                     'bytes.decode("utf-8", errors="replace") shows � instead of stopping.',
                     shuffled_vocab(), broken)


def shuffled_vocab(more: int = 0, first: bytes = b"") -> tuple[bytes, ...]:
    """All bytes in any order, some longer tokens, and room before them for `more`.

    So an id is no byte. `first` is what gets the smallest id.
    """
    longer = (b"the", b" a", b"\xc3", "ß".encode(), b"E\r\n ")
    order = sorted(random.sample(BYTES, len(BYTES)), key=lambda token: token != first)
    return (b"unused",) * more + tuple(order) + longer


def ask_for_text(student: Student, hint: str, vocab: tuple[bytes, ...], spelled: bytes) -> None:
    """One try: ids of these bytes, one a byte."""
    place = {token: i for i, token in enumerate(vocab)}
    ids = [place[bytes([value])] for value in spelled]
    right = spelled.decode(errors="replace")
    answer = student(hint, ids=ids, vocab=vocab)
    if answer == right:
        return
    if "�" in right and isinstance(answer, str):
        where = "in the middle of an é" if spelled == BROKEN[0] else f"with {spelled}"
        if answer == spelled.decode(errors="ignore") or spelled == BROKEN[0]:
            raise Mistake(f"The ids end {where}: what is no character should show as �, {right!r}, "
                          f"and yours gives {answer!r}. Decode with errors=\"replace\".")
    raise decode_mistake(student.name, answer, right, ids, vocab)


def decode_mistake(name: str, answer, text: str, ids: list[int],
                   vocab: tuple[bytes, ...]) -> Mistake:
    """Why this is not the text."""
    if not isinstance(answer, str):
        if isinstance(answer, (bytes, bytearray)):
            return Mistake(f"{name} returns bytes, {shown(bytes(answer))}: decode them into a str.")
        return Mistake(f"{name} returns {article(answer)}; it should return a str.")
    tokens = [vocab[i] for i in ids]
    joined = b"".join(tokens)
    yours = f"{text!r} comes back as {answer!r}"
    normalised = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    reasons = {
        "the byte-order mark is lost. It is a character like any other: \"utf-8\", not "
        "\"utf-8-sig\".": joined.decode("utf-8-sig", errors="replace"),
        "each byte was taken for a character. Bytes become characters through UTF-8: join, then "
        "decode.": joined.decode("latin-1"),
        "each token was decoded alone, and half a character is none. Join all bytes first, then "
        "decode once.": "".join(token.decode(errors="replace") for token in tokens),
        "bytes that are no character by themselves were thrown away. Join all bytes first, then "
        "decode once.": "".join(token.decode(errors="ignore") for token in tokens),
        "str() of bytes shows how Python writes them. Use bytes.decode.": str(joined),
        "each token is written as Python writes bytes. Join the bytes, then decode.":
            "".join(map(str, tokens)),
        "spaces have come between the tokens. The tokens carry their own: join with b\"\".":
            b" ".join(tokens).decode(errors="replace"),
        "the ids themselves were taken for characters. An id is a place in vocab: its bytes are "
        "vocab[i].": "".join(map(chr, ids)) if max(ids, default=0) < 0xD800 else None,
        "the ids themselves were taken for bytes. An id is a place in vocab: its bytes are "
        "vocab[i].": bytes(ids).decode(errors="replace") if max(ids, default=0) < 256 else None,
        "the tokens come in reverse order.": b"".join(tokens[::-1]).decode(errors="replace"),
        "the first token is lost.": b"".join(tokens[1:]).decode(errors="replace"),
        "the last token is lost.": b"".join(tokens[:-1]).decode(errors="replace"),
        "what stands at its ends is gone. A space is a character like any other: strip nothing.":
            text.strip(),
        "the line ends are not what they were. Give back every byte: replace nothing.":
            text.replace("\r\n", "\n").replace("\r", "\n"),
        "its characters were normalised. They look alike, and are other bytes: give back what is "
        "there.": answer if answer in normalised else None,
    }
    for reason, wrong in reasons.items():
        if answer == wrong != text:
            return Mistake(f"{yours}: {reason}")
    return Mistake(f"{yours}.")
