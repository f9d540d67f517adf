"""More answers to 01, along the kinds that slip through: sizes of one example, the smallest cases, 8 and 16 bits, state kept."""

import bisect
import codecs
import io
import itertools
import operator
import re
import unicodedata
from array import array
from collections import Counter, deque

import numpy

from checks_bank import tokenizer as tokenizer_bank
from checks_bank.register import right, wrong
from minigpt.classroom.checks import check_decode, check_longest_match, check_merge, check_pair_counts

# -------------------------------------------------------------------------------------------------------- longest match


@right(check_longest_match)
def the_last_in_the_alphabet(text, vocab):
    """Of the tokens that a text begins with, each begins the next longer one."""
    tokens, start, ordered = [], 0, sorted(vocab, reverse=True)
    while start < len(text):
        tokens.append(next(token for token in ordered if text.startswith(token, start)))
        start += len(tokens[-1])
    return tokens


@right(check_longest_match)
def by_a_tree(text: bytes, vocab: set[bytes]) -> list[bytes]:
    tree = {}
    for token in vocab:
        node = tree
        for value in token:
            node = node.setdefault(value, {})
        node["end"] = True
    tokens, start = [], 0
    while start < len(text):
        node, end = tree, start
        for i in range(start, len(text)):
            node = node.get(text[i])
            if node is None:
                break
            if "end" in node:
                end = i + 1
        tokens.append(text[start:end])
        start = end
    return tokens


def _pieces(text, vocab):
    sizes = sorted(set(map(len, vocab)))
    while text:
        best = b""
        for size in sizes:
            if size <= len(text) and text[:size] in vocab:
                best = text[:size]
        yield best
        text = text.removeprefix(best)


@right(check_longest_match)
def by_a_generator(text, vocab):
    return list(_pieces(text, vocab))


@right(check_longest_match)
def by_first_byte(text, vocab):
    table = {}
    for token in vocab:
        table.setdefault(token[:1], []).append(token)
    tokens, place = [], 0
    while place < len(text):
        fitting = [token for token in table[text[place : place + 1]] if text[place : place + len(token)] == token]
        tokens += [max(fitting, key=len)]
        place += len(tokens[-1])
    return tokens


@right(check_longest_match)
def by_an_index(text, vocab):
    tokens = []
    i = 0
    while i != len(text):
        j = len(text)
        while text[i:j] not in vocab:
            j = j - 1
        tokens.append(text[i:j])
        i = j
    return tokens


def _limited(limit):
    def my_longest_match(text, vocab):
        return tokenizer_bank.from_the_longest_down(text, {token for token in vocab if len(token) <= limit})

    return my_longest_match


def one_less_than_the_longest(text, vocab):
    tokens, longest = [], max(map(len, vocab))
    while text:
        size = next(n for n in range(max(1, longest - 1), 0, -1) if text[:n] in vocab)
        tokens.append(text[:size])
        text = text[size:]
    return tokens


def by_neighbours_in_the_alphabet(text, vocab):
    ordered, tokens = sorted(vocab), []
    while text:
        token = ordered[bisect.bisect_right(ordered, text) - 1]
        if not text.startswith(token):
            token = text[:1]
        tokens.append(token)
        text = text[len(token) :]
    return tokens


def each_token_once(text, vocab):
    return list(dict.fromkeys(tokenizer_bank.from_the_longest_down(text, vocab)))


def of_valid_text_only(text, vocab):
    return tokenizer_bank.from_the_longest_down(text.decode("utf-8", errors="ignore").encode(), vocab)


def of_replaced_text(text, vocab):
    return tokenizer_bank.from_the_longest_down(text.decode("utf-8", errors="replace").encode(), vocab)


def in_small_letters(text, vocab):
    return tokenizer_bank.from_the_longest_down(text.lower(), vocab)


def stripped(text, vocab):
    return tokenizer_bank.from_the_longest_down(text.strip(), vocab)


def line_by_line(text, vocab):
    return [token for line in text.splitlines() for token in tokenizer_bank.from_the_longest_down(line, vocab)]


def up_to_the_first_zero(text, vocab):
    return tokenizer_bank.from_the_longest_down(text.split(b"\0")[0], vocab)


def at_most_256_bytes(text, vocab):
    return tokenizer_bank.from_the_longest_down(text[:256], vocab)


def _remembering():
    longest = []

    def my_longest_match(text, vocab):
        if not longest:
            longest.append(max(map(len, vocab)))
        tokens, start = [], 0
        while start < len(text):
            size = next(n for n in range(longest[0], 0, -1) if text[start : start + n] in vocab)
            tokens.append(text[start : start + size])
            start += size
        return tokens

    return my_longest_match


def _of_the_first_vocabulary():
    first = set()

    def my_longest_match(text, vocab):
        first.update(vocab if not first else ())
        return tokenizer_bank.from_the_longest_down(text, first)

    return my_longest_match


def _growing_list(tokens=[]):  # noqa: B006  (that is the slip)
    def my_longest_match(text, vocab):
        tokens.extend(tokenizer_bank.from_the_longest_down(text, vocab))
        return tokens

    return my_longest_match


def eats_the_vocabulary(text, vocab):
    tokens = tokenizer_bank.from_the_longest_down(text, vocab)
    vocab.discard(b"ab")
    return tokens


def swallows_what_fails(text, vocab):
    tokens, start = [], 0
    try:
        while True:
            size = next(n for n in range(4, 0, -1) if text[start : start + n] in vocab and start + n <= len(text))
            tokens.append(text[start : start + size])
            start += size
    except StopIteration:
        return tokens


def of_bytearrays(text, vocab):
    return [bytearray(token) for token in tokenizer_bank.from_the_longest_down(text, vocab)]


def longest_first_by_replacing(text, vocab):
    parts = [text]
    for token in sorted(vocab, key=len, reverse=True):
        parts = [
            piece
            for part in parts
            for piece in ([part] if part in vocab else re.split(b"(" + re.escape(token) + b")", part))
            if piece
        ]
    return parts


for phrase, answer in (
    ("longest", one_less_than_the_longest),
    ("", _limited(16)),
    ("", _limited(32)),
    ("", _limited(64)),
    ("", _limited(255)),
    ("", by_neighbours_in_the_alphabet),
    ("", each_token_once),
    ("", of_valid_text_only),
    ("", of_replaced_text),
    ("", in_small_letters),
    ("", stripped),
    ("", line_by_line),
    ("", up_to_the_first_zero),
    ("", at_most_256_bytes),
    ("", _remembering()),
    ("", _of_the_first_vocabulary()),
    ("", _growing_list()),
    ("", eats_the_vocabulary),
    ("", swallows_what_fails),
    ("", of_bytearrays),
    ("", longest_first_by_replacing),
):
    wrong(check_longest_match, phrase)(answer)

# ---------------------------------------------------------------------------------------------------------- pair counts


@right(check_pair_counts)
def counts_by_try(ids: list[int]) -> dict[tuple[int, int], int]:
    result: dict[tuple[int, int], int] = {}
    for left, r in zip(ids, ids[1:], strict=False):
        try:
            result[left, r] += 1
        except KeyError:
            result[left, r] = 1
    return result


@right(check_pair_counts)
def counts_by_grouping(ids):
    pairs = sorted(zip(ids, ids[1:], strict=False))
    return {pair: len(list(group)) for pair, group in itertools.groupby(pairs)}


@right(check_pair_counts)
def counts_by_islice(ids):
    return dict(Counter(zip(ids, itertools.islice(ids, 1, None), strict=False)).items())


@right(check_pair_counts)
def counts_with_a_last_id(ids):
    counts, last = {}, None
    for i in ids:
        if last is not None:
            counts[(last, i)] = counts.get((last, i), 0) + 1
        last = i
    return counts


@right(check_pair_counts)
def counts_of_numpys_numbers(ids):
    numbers = numpy.array(ids, dtype=numpy.int64)
    return dict(Counter(zip(numpy.asarray(numbers)[:-1].tolist(), numbers[1:].tolist(), strict=True)))


@right(check_pair_counts)
def counts_by_deque(ids):
    window, counts = deque(maxlen=2), Counter()
    for i in ids:
        window.append(i)
        if len(window) == 2:
            counts[tuple(window)] += 1
    return counts


def _total():
    counts = Counter()

    def my_pair_counts(ids):
        counts.update(zip(ids, ids[1:], strict=False))
        return dict(counts)

    return my_pair_counts


def _by_length():
    known = {}

    def my_pair_counts(ids):
        if len(ids) not in known:
            known[len(ids)] = tokenizer_bank.loop_with_get(ids)
        return dict(known[len(ids)])

    return my_pair_counts


def counts_in_sixteen_bits(ids):
    return tokenizer_bank.loop_with_get(numpy.array(ids).astype(numpy.uint16).tolist())


def counts_of_eight_bits(ids):
    counts = Counter(zip(ids, ids[1:], strict=False))
    return {pair: int(numpy.array(n).astype(numpy.uint8)) for pair, n in counts.items()}


def counts_below(limit):
    def my_pair_counts(ids):
        return tokenizer_bank.loop_with_get([i for i in ids if i < limit])

    return my_pair_counts


def counts_in_a_table(ids):
    table = numpy.zeros((1024, 1024), dtype=int)
    for left, r in zip(ids, ids[1:], strict=False):
        table[left, r] += 1
    return {(int(i), int(j)): int(table[i, j]) for i, j in numpy.argwhere(table)}


def counts_without_zero(ids):
    return {pair: n for pair, n in tokenizer_bank.loop_with_get(ids).items() if all(pair)}


def counts_in_the_text(ids):
    text = str(ids)
    return {(left, r): text.count(f"{left}, {r}") for left, r in zip(ids, ids[1:], strict=False)}


def counts_of_runs(ids):
    ids = [i for i, _ in itertools.groupby(ids)]
    return tokenizer_bank.loop_with_get(ids)


def counts_of_the_sorted(ids):
    return tokenizer_bank.loop_with_get(sorted(ids))


def counts_of_frozensets(ids):
    return dict(Counter(frozenset(pair) for pair in zip(ids, ids[1:], strict=False)))


def counts_of_strings(ids):
    return dict(Counter(f"{left},{r}" for left, r in zip(ids, ids[1:], strict=False)))


def counts_by_every_pair(ids):
    top = max(ids, default=0) + 1
    pairs = list(zip(ids, ids[1:], strict=False))
    return {(i, j): pairs.count((i, j)) for i in range(top) for j in range(top) if (i, j) in pairs}


def counts_as_shares(ids):
    counts = tokenizer_bank.loop_with_get(ids)
    return {pair: n / len(ids) for pair, n in counts.items()}


def counts_that_sort_the_input(ids):
    counts = tokenizer_bank.loop_with_get(ids)
    ids.sort()
    return counts


def counts_that_pop(ids):
    counts = Counter()
    while len(ids) > 1:
        counts[ids[0], ids[1]] += 1
        ids.pop(0)
    return counts


def counts_of_the_most_common(ids):
    return dict(Counter(zip(ids, ids[1:], strict=False)).most_common(10))


def counts_of_at_most_256(ids):
    return tokenizer_bank.loop_with_get(ids[:256])


def counts_with_padding(ids):
    return dict(Counter(itertools.zip_longest(ids, ids[1:], fillvalue=0)))


def counts_of_identical(ids):
    counts = tokenizer_bank.loop_with_get(ids)
    return {pair: n for pair, n in counts.items() if not (pair[0] is not pair[1] and pair[0] == pair[1])}


for phrase, answer in (
    ("", _total()),
    ("", _by_length()),
    ("", counts_in_sixteen_bits),
    ("", counts_of_eight_bits),
    ("", counts_below(256)),
    ("", counts_below(1000)),
    ("", counts_below(65_536)),
    ("", counts_in_a_table),
    ("", counts_without_zero),
    ("", counts_in_the_text),
    ("", counts_of_runs),
    ("", counts_of_the_sorted),
    ("", counts_of_frozensets),
    ("", counts_of_strings),
    ("", counts_by_every_pair),
    ("", counts_as_shares),
    ("", counts_that_sort_the_input),
    ("", counts_that_pop),
    ("", counts_of_the_most_common),
    ("", counts_of_at_most_256),
    ("", counts_with_padding),
):
    wrong(check_pair_counts, phrase)(answer)

# ---------------------------------------------------------------------------------------------------------------- merge


@right(check_merge)
def merge_of_characters(ids, pair, new_id):
    text = "".join(map(chr, ids)).replace(chr(pair[0]) + chr(pair[1]), chr(new_id))
    return [ord(character) for character in text]


@right(check_merge)
def merge_in_a_deque(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    rest, merged = deque(ids), []
    while rest:
        first = rest.popleft()
        if rest and (first, rest[0]) == pair:
            rest.popleft()
            merged.append(new_id)
        else:
            merged.append(first)
    return merged


@right(check_merge)
def merge_by_a_generator(ids, pair, new_id):
    def merged():
        following = iter([*ids[1:], None])
        for left in (numbers := iter(ids)):
            if (left, next(following)) == pair:
                yield new_id
                next(numbers, None)
                next(following, None)
            else:
                yield left

    return list(merged())


@right(check_merge)
def merge_with_nones(ids, pair, new_id):
    marked = ids[:]
    for i in range(len(marked) - 1):
        if marked[i] == pair[0] and marked[i + 1] == pair[1]:
            marked[i], marked[i + 1] = None, new_id
            if i + 2 < len(marked) and new_id == pair[0]:
                continue
    return [i for i in marked if i is not None]


@right(check_merge)
def merge_by_index(ids, pair, new_id):
    left, r = pair
    out = []
    position = 0
    while True:
        try:
            place = ids.index(left, position)
        except ValueError:
            return out + ids[position:]
        out += ids[position:place]
        if ids[place + 1 : place + 2] == [r]:
            out.append(new_id)
            position = place + 2
        else:
            out.append(left)
            position = place + 1


@right(check_merge)
def merge_by_numpy(ids, pair, new_id):
    numbers, keep, i = numpy.array(ids, dtype=numpy.int64), [], 0
    while i < len(numbers):
        found = i + 1 < len(numbers) and numbers[i] == pair[0] and numbers[i + 1] == pair[1]
        keep.append(new_id if found else numbers[i])
        i += 1 + found
    return keep


def _merge(compare):
    def my_merge(ids, pair, new_id):
        merged, i = [], 0
        while i < len(ids):
            found = i + 1 < len(ids) and compare(ids, i, pair)
            merged.append(new_id if found else ids[i])
            i += 2 if found else 1
        return merged

    return my_merge


def merge_round_the_end(ids, pair, new_id):
    return [
        new_id if (ids[i - 1], ids[i]) == pair else ids[i]
        for i in range(len(ids))
        if i + 1 == len(ids) or (ids[i], ids[i + 1]) != pair
    ]


def merge_with_a_zero_behind(ids, pair, new_id):
    merged, skip = [], False
    for left, r in itertools.zip_longest(ids, ids[1:], fillvalue=0):
        if skip:
            skip = False
            continue
        skip = (left, r) == pair
        merged.append(new_id if skip else left)
    return merged


def merge_of_words(ids, pair, new_id):
    text = f" {' '.join(map(str, ids))} ".replace(f" {pair[0]} {pair[1]} ", f" {new_id} ")
    return list(map(int, text.split()))


def merge_into_256(ids, pair, new_id):
    return tokenizer_bank.with_while(ids, pair, 256)


def merge_in_an_array(ids, pair, new_id):
    return tokenizer_bank.with_while(array("H", ids).tolist(), pair, new_id)


def merge_in_sixteen_bits(ids, pair, new_id):
    return numpy.array(tokenizer_bank.with_while(ids, pair, new_id)).astype(numpy.uint16).tolist()


def merge_ten_times(ids, pair, new_id):
    merged, i, n = [], 0, 0
    while i < len(ids):
        found = n < 10 and tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
        n += found
    return merged


def merge_drops_runs(ids, pair, new_id):
    return [i for i, _ in itertools.groupby(tokenizer_bank.with_while(ids, pair, new_id))]


def _merge_known():
    known = {}

    def my_merge(ids, pair, new_id):
        if pair not in known:
            known[pair] = new_id
        return tokenizer_bank.with_while(ids, pair, known[pair])

    return my_merge


def _merge_into_one_list(merged=[]):  # noqa: B006  (that is the slip)
    def my_merge(ids, pair, new_id):
        merged[:] = tokenizer_bank.with_while(ids, pair, new_id)
        return merged

    return my_merge


def merge_as_a_tuple(ids, pair, new_id):
    return tuple(tokenizer_bank.with_while(ids, pair, new_id))


def merge_never_of_the_first(ids, pair, new_id):
    return ids[:1] + tokenizer_bank.with_while(ids[1:], pair, new_id)


def merge_two_ids_is_no_list(ids, pair, new_id):
    return tokenizer_bank.with_while(ids, pair, new_id) if len(ids) > 2 else list(ids)


def merge_swallows_the_end(ids, pair, new_id):
    merged, i = [], 0
    try:
        while True:
            found = (ids[i], ids[i + 1]) == pair
            merged.append(new_id if found else ids[i])
            i += 2 if found else 1
    except IndexError:
        return merged


def merge_the_left_and_the_next(ids, pair, new_id):
    ids, merged = ids[:], []
    for i in range(len(ids) - 1):
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            ids[i] = new_id
            ids[i + 1] = None
        merged.append(ids[i])
    return [i for i in merged + ids[-1:] if i]


def merge_every_way(ids, pair, new_id):
    if not ids:
        return []
    ways = [ids[:1] + merge_every_way(ids[1:], pair, new_id)]
    if tuple(ids[:2]) == pair:
        ways.append([new_id] + merge_every_way(ids[2:], pair, new_id))
    return min(ways, key=len)


for phrase, answer in (
    ("", _merge(lambda ids, i, pair: ids[i] is pair[0] and ids[i + 1] is pair[1])),
    ("", _merge(lambda ids, i, pair: ids[i] in pair and ids[i + 1] in pair)),
    ("", _merge(lambda ids, i, pair: ids[i] == pair[0])),
    ("", _merge(lambda ids, i, pair: ids[i] + ids[i + 1] == sum(pair))),
    ("", _merge(lambda ids, i, pair: ids[i] and ids[i + 1] and (ids[i], ids[i + 1]) == pair)),
    ("", _merge(lambda ids, i, pair: (ids[i] % 256, ids[i + 1] % 256) == pair)),
    ("", merge_round_the_end),
    ("", merge_with_a_zero_behind),
    ("", merge_of_words),
    ("", merge_into_256),
    ("", merge_in_an_array),
    ("", merge_in_sixteen_bits),
    ("", merge_ten_times),
    ("", merge_drops_runs),
    ("", _merge_known()),
    ("", _merge_into_one_list()),
    ("", merge_as_a_tuple),
    ("", merge_never_of_the_first),
    ("", merge_two_ids_is_no_list),
    ("", merge_swallows_the_end),
    ("", merge_the_left_and_the_next),
    ("", merge_every_way),
):
    wrong(check_merge, phrase)(answer)

# --------------------------------------------------------------------------------------------------------------- decode


@right(check_decode)
def decode_in_a_buffer(ids, vocab):
    buffer = io.BytesIO()
    for i in ids:
        buffer.write(vocab[i])
    return buffer.getvalue().decode("utf-8", "replace")


@right(check_decode)
def decode_step_by_step(ids: list[int], vocab: tuple[bytes, ...]) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = "".join(decoder.decode(vocab[i]) for i in ids)
    return text + decoder.decode(b"", final=True)


@right(check_decode)
def decode_by_a_dictionary(ids, vocab):
    tokens = dict(enumerate(vocab))
    return str(b"".join(tokens[i] for i in ids), encoding="utf-8", errors="replace")


@right(check_decode)
def decode_by_sum(ids, vocab):
    return (
        sum((list(vocab[i]) for i in ids), [])
        and bytes(value for i in ids for value in vocab[i]).decode("utf8", errors="replace")
        or ""
    )


@right(check_decode)
def decode_of_an_array(ids, vocab):
    data = bytearray()
    data.extend(itertools.chain.from_iterable(operator.getitem(vocab, int(i)) for i in numpy.array(ids, dtype=int)))
    return data.decode(encoding="utf-8", errors="replace")


def _decoded(how, tokens=lambda ids, vocab: [vocab[i] for i in ids]):
    def my_decode(ids, vocab):
        return how(b"".join(tokens(ids, vocab)))

    return my_decode


def _utf8(data):
    return data.decode(errors="replace")


def decode_without_the_end(ids, vocab):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return "".join(decoder.decode(vocab[i]) for i in ids)


def decode_strict_or_nothing(ids, vocab):
    try:
        return b"".join(vocab[i] for i in ids).decode()
    except UnicodeDecodeError:
        return "�"


def decode_strict_or_latin(ids, vocab):
    data = b"".join(vocab[i] for i in ids)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_token_by_token_unless_broken(ids, vocab):
    text = ""
    for i in ids:
        try:
            text += vocab[i].decode()
        except UnicodeDecodeError:
            text += "?"
    return text


def _decode_by_the_first_vocabulary():
    tokens = {}

    def my_decode(ids, vocab):
        tokens.update(enumerate(vocab) if not tokens else ())
        return b"".join(tokens.get(i, b"") for i in ids).decode(errors="replace")

    return my_decode


def _decode_keeping_bytes(data=bytearray()):  # noqa: B006, B008  (that is the slip)
    def my_decode(ids, vocab):
        for i in ids:
            data.extend(vocab[i])
        return data.decode(errors="replace")

    return my_decode


for phrase, answer in (
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i % 256] for i in ids])),
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i] for i in numpy.array(ids).astype(numpy.uint16)])),
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i] for i in ids if i])),
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i] for i in ids if i < 65_536])),
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i] for i in dict.fromkeys(ids)])),
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i][:1] for i in ids])),
    ("", _decoded(_utf8, lambda ids, vocab: [vocab[i].strip() for i in ids])),
    ("", _decoded(lambda data: _utf8(data).replace("\0", ""))),
    ("", _decoded(lambda data: _utf8(data).split("\0")[0])),
    ("", _decoded(lambda data: _utf8(data).expandtabs())),
    ("", _decoded(lambda data: _utf8(data).replace("\r\n", "\n"))),
    ("", _decoded(lambda data: _utf8(data).replace("�", "?"))),
    ("", _decoded(lambda data: _utf8(data).replace("�", ""))),
    ("", _decoded(lambda data: unicodedata.normalize("NFKC", _utf8(data)))),
    ("", _decoded(lambda data: _utf8(data).casefold())),
    ("", _decoded(lambda data: "".join(c for c in _utf8(data) if c.isprintable() or c in "\r\n\t"))),
    ("", _decoded(lambda data: data.decode(errors="surrogateescape"))),
    ("", _decoded(lambda data: data.decode(errors="backslashreplace"))),
    ("", _decoded(lambda data: data.decode("utf-8", errors="surrogatepass"))),
    ("", _decoded(lambda data: data.decode("cp1252", errors="replace"))),
    ("", _decoded(lambda data: data.decode("ascii", errors="replace"))),
    ("", decode_without_the_end),
    ("", decode_strict_or_nothing),
    ("", decode_strict_or_latin),
    ("", decode_token_by_token_unless_broken),
    ("", _decode_by_the_first_vocabulary()),
    ("", _decode_keeping_bytes()),
):
    wrong(check_decode, phrase)(answer)
