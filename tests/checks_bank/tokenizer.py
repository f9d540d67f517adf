"""Answers to the exercises of 01_tokenizer."""

import itertools
from collections import Counter, defaultdict

from checks_bank.register import right, wrong
from minigpt.classroom.checks import check_decode, check_longest_match, check_merge, check_pair_counts

# -------------------------------------------------------------------------------------------------------- longest match


@right(check_longest_match)
def from_the_longest_down(text, vocab):
    tokens, start = [], 0
    longest = max(len(token) for token in vocab)
    while start < len(text):
        for size in range(longest, 0, -1):
            piece = text[start:start + size]
            if piece in vocab:
                tokens.append(piece)
                start += len(piece)
                break
    return tokens


@right(check_longest_match)
def the_longest_that_the_text_starts_with(text, vocab):
    tokens = []
    while text:
        token = max((token for token in vocab if text.startswith(token)), key=len)
        tokens.append(token)
        text = text[len(token):]
    return tokens


@right(check_longest_match)
def recursive(text, vocab):
    if not text:
        return []
    best = max(size for size in range(1, len(text) + 1) if text[:size] in vocab)
    return [text[:best], *recursive(text[best:], vocab)]


@right(check_longest_match)
def with_a_shrinking_end(text, vocab):
    tokens, start, end = [], 0, len(text)
    while start < len(text):
        if text[start:end] in vocab:
            tokens.append(text[start:end])
            start, end = end, len(text)
        else:
            end -= 1
    return tokens


@wrong(check_longest_match, "the shortest match")
def shortest_first(text, vocab):
    tokens, start = [], 0
    while start < len(text):
        size = next(size for size in range(1, len(text) + 1) if text[start:start + size] in vocab)
        tokens.append(text[start:start + size])
        start += size
    return tokens


@wrong(check_longest_match, "the shortest match")
def single_bytes(text, vocab):
    return [text[i:i + 1] for i in range(len(text))]


@wrong(check_longest_match, "stop at the first piece")
def grows_while_in_vocab(text, vocab):
    tokens, start = [], 0
    while start < len(text):
        end = start + 1
        while end < len(text) and text[start:end + 1] in vocab:
            end += 1
        tokens.append(text[start:end])
        start = end
    return tokens


@wrong(check_longest_match, "wherever it stands in the text")
def longest_token_anywhere(text, vocab):
    for token in sorted(vocab, key=len, reverse=True):
        if text and token in text:
            left, _, rest = text.partition(token)
            return longest_token_anywhere(left, vocab) + [token] + longest_token_anywhere(rest, vocab)
    return []


@wrong(check_longest_match, "greedy never looks ahead")
def fewest_tokens(text, vocab):
    best = {0: []}
    for end in range(1, len(text) + 1):
        best[end] = min((best[start] + [text[start:end]] for start in range(end) if text[start:end] in vocab), key=len)
    return best[len(text)]


@wrong(check_longest_match, "from the right")
def backwards(text, vocab):
    tokens = from_the_longest_down(text[::-1], {token[::-1] for token in vocab})
    return [token[::-1] for token in tokens][::-1]


@wrong(check_longest_match, "is missing")
def loses_the_end(text, vocab):
    tokens, start = [], 0
    longest = max(len(token) for token in vocab)
    while start + longest <= len(text):
        size = next(size for size in range(longest, 0, -1) if text[start:start + size] in vocab)
        tokens.append(text[start:start + size])
        start += size
    return tokens


@wrong(check_longest_match, "a number: text[i:i + 1] is bytes")
def numbers(text, vocab):
    return list(text)


@wrong(check_longest_match, "should return a list of bytes")
def joined(text, vocab):
    return b"|".join(from_the_longest_down(text, vocab))


@wrong(check_longest_match, "spaces got lost")
def word_by_word(text, vocab):
    return [token for word in text.split(b" ") for token in from_the_longest_down(word, vocab)]


@wrong(check_longest_match, "go on behind it")
def one_step_at_a_time(text, vocab):
    sizes = range(max(map(len, vocab)), 0, -1)
    return [next(text[start:start + size] for size in sizes if text[start:start + size] in vocab)
            for start in range(len(text))]


@wrong(check_longest_match, "Your longest piece")
def at_most_three(text, vocab):
    return from_the_longest_down(text, {token for token in vocab if len(token) <= 3})


@wrong(check_longest_match, "is not in the vocabulary")
def pairs_of_bytes(text, vocab):
    return [text[i:i + 2] for i in range(0, len(text), 2)]


# ---------------------------------------------------------------------------------------------------------- pair counts


@right(check_pair_counts)
def counter_of_zip(ids):
    return Counter(zip(ids, ids[1:], strict=False))


@right(check_pair_counts)
def loop_with_get(ids):
    counts = {}
    for i in range(len(ids) - 1):
        pair = (ids[i], ids[i + 1])
        counts[pair] = counts.get(pair, 0) + 1
    return counts


@right(check_pair_counts)
def default_dict(ids):
    counts = defaultdict(int)
    for left, right_id in itertools.pairwise(ids):
        counts[left, right_id] += 1
    return counts


@wrong(check_pair_counts, "text is no ring")
def as_a_ring(ids):
    return dict(Counter((ids[i - 1], ids[i]) for i in range(len(ids))))


@wrong(check_pair_counts, "every second pair")
def without_overlap(ids):
    return dict(Counter(zip(ids[::2], ids[1::2], strict=False)))


@wrong(check_pair_counts, "Which id comes first matters")
def unordered(ids):
    return dict(Counter(tuple(sorted(pair)) for pair in zip(ids, ids[1:], strict=False)))


@wrong(check_pair_counts, "Every two neighbours count")
def runs_counted_apart(ids):
    counts, i = {}, 0
    while i < len(ids) - 1:
        pair = (ids[i], ids[i + 1])
        counts[pair] = counts.get(pair, 0) + 1
        i += 2 if i + 2 < len(ids) and (ids[i + 1], ids[i + 2]) == pair else 1
    return counts


@wrong(check_pair_counts, "each pair is counted once")
def never_added(ids):
    return {pair: 1 for pair in zip(ids, ids[1:], strict=False)}


@wrong(check_pair_counts, "last pair is missing")
def one_short(ids):
    return dict(Counter((ids[i], ids[i + 1]) for i in range(len(ids) - 2)))


@wrong(check_pair_counts, "keys should be pairs")
def single_ids(ids):
    return dict(Counter(ids))


@wrong(check_pair_counts, "it should return a dict")
def as_a_list(ids):
    return list(Counter(zip(ids, ids[1:], strict=False)).items())


@wrong(check_pair_counts, "IndexError")
def over_the_end(ids):
    return dict(Counter((ids[i], ids[i + 1]) for i in range(len(ids))))


# ---------------------------------------------------------------------------------------------------------------- merge


@right(check_merge)
def with_while(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@right(check_merge)
def looking_back(ids, pair, new_id):
    merged, free = [], False                       # free: the last id of merged may still become part of a pair
    for i in ids:
        if free and (merged[-1], i) == pair:
            merged[-1], free = new_id, False
        else:
            merged.append(i)
            free = True
    return merged


@right(check_merge)
def with_an_iterator(ids, pair, new_id):
    places, skip = [], False
    for i, left in enumerate(ids):
        if skip:
            skip = False
            continue
        skip = ids[i:i + 2] == list(pair)
        places.append(new_id if skip else left)
    return places


@right(check_merge)
def recursive_merge(ids, pair, new_id):
    if len(ids) < 2:
        return list(ids)
    if ids[0] == pair[0] and ids[1] == pair[1]:
        return [new_id] + recursive_merge(ids[2:], pair, new_id)
    return [ids[0]] + recursive_merge(ids[1:], pair, new_id)


@wrong(check_merge, "second id of the pair is still there")
def keeps_the_second(ids, pair, new_id):
    return [new_id if (ids[i], *ids[i + 1:i + 2]) == pair else ids[i] for i in range(len(ids))]


@wrong(check_merge, "merged pairs overlap")
def overlapping(ids, pair, new_id):
    merged = []
    for i in range(len(ids)):
        if tuple(ids[i:i + 2]) == pair:
            merged.append(new_id)
        elif i > 0 and tuple(ids[i - 1:i + 1]) == pair:
            continue
        else:
            merged.append(ids[i])
    return merged


@wrong(check_merge, "merges from the right")
def right_to_left(ids, pair, new_id):
    merged, i = [], len(ids) - 1
    while i >= 0:
        if i > 0 and (ids[i - 1], ids[i]) == pair:
            merged.append(new_id)
            i -= 2
        else:
            merged.append(ids[i])
            i -= 1
    return merged[::-1]


@wrong(check_merge, "Merge the two only in their order")
def either_order(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and {ids[i], ids[i + 1]} == set(pair):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong(check_merge, "it stops after the first")
def first_only(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return ids[:i] + [new_id] + ids[i + 2:]
    return list(ids)


@wrong(check_merge, "the last id is lost")
def forgets_the_last(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong(check_merge, "IndexError")
def looks_over_the_end(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong(check_merge, "changes ids in place and returns None")
def in_place(ids, pair, new_id):
    i = 0
    while i < len(ids):
        if tuple(ids[i:i + 2]) == pair:
            ids[i:i + 2] = [new_id]
        i += 1


@wrong(check_merge, "changes its input ids in place")
def in_place_and_returned(ids, pair, new_id):
    in_place(ids, pair, new_id)
    return ids


@wrong(check_merge, "Merge them only side by side")
def each_alone(ids, pair, new_id):
    return [new_id if i in pair else i for i in ids]


@wrong(check_merge, "nothing was merged")
def compares_list_with_tuple(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if ids[i:i + 2] == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong(check_merge, "was still running")
def never_moves_on(ids, pair, new_id):
    i = 0
    while i < len(ids):
        if tuple(ids[i:i + 2]) == pair:
            i += 2
    return ids


@wrong(check_merge, "should return a list of ids")
def as_a_string(ids, pair, new_id):
    return " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))


@wrong(check_merge, "the pair was not taken out")
def adds_without_removing(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i:i + 2]) == pair:
            merged += [*pair, new_id]
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


# --------------------------------------------------------------------------------------------------------------- decode


@right(check_decode)
def join_then_decode(ids, vocab):
    return b"".join(vocab[i] for i in ids).decode("utf-8", errors="replace")


@right(check_decode)
def with_bytearray(ids, vocab):
    data = bytearray()
    for i in ids:
        data += vocab[i]
    return str(data, "utf-8", "replace")


@right(check_decode)
def with_map(ids, vocab):
    return bytes(itertools.chain.from_iterable(map(vocab.__getitem__, ids))).decode(errors="replace")


@wrong(check_decode, "each token was decoded alone")
def token_by_token(ids, vocab):
    return "".join(vocab[i].decode("utf-8", errors="replace") for i in ids)


@wrong(check_decode, "UnicodeDecodeError")
def token_by_token_strict(ids, vocab):
    return "".join(vocab[i].decode("utf-8") for i in ids)


@wrong(check_decode, "thrown away")
def token_by_token_ignoring(ids, vocab):
    return "".join(vocab[i].decode("utf-8", errors="ignore") for i in ids)


@wrong(check_decode, "each byte was taken for a character")
def byte_is_character(ids, vocab):
    return "".join(chr(value) for i in ids for value in vocab[i])


@wrong(check_decode, "returns bytes")
def still_bytes(ids, vocab):
    return b"".join(vocab[i] for i in ids)


@wrong(check_decode, "how Python writes them")
def str_of_bytes(ids, vocab):
    return str(b"".join(vocab[i] for i in ids))


@wrong(check_decode, "as Python writes bytes")
def str_of_tokens(ids, vocab):
    return "".join(str(vocab[i]) for i in ids)


@wrong(check_decode, "spaces have come between")
def spaced(ids, vocab):
    return b" ".join(vocab[i] for i in ids).decode("utf-8", errors="replace")


@wrong(check_decode, "shows � instead of stopping")
def strict(ids, vocab):
    return b"".join(vocab[i] for i in ids).decode("utf-8")


@wrong(check_decode, "middle of an é")
def ignoring(ids, vocab):
    return b"".join(vocab[i] for i in ids).decode("utf-8", errors="ignore")
