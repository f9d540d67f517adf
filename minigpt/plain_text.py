"""Files that are no plain text in UTF-8: a sentence for whoever opens the wrong one.

`corpus` asks here before it reads a file, and where it meets a bad byte.
"""

import re
from pathlib import Path

UTF8_BOM = b"\xef\xbb\xbf"      # "byte order mark": Windows programs write it at a file's start
SAVE_AS_TEXT = ("Open it in the program that wrote it and save it as plain text with the encoding "
                "UTF-8.")
UNPACK = "Unpack it, and give the text that is inside."
# How files begin that people take for text files, what such a file is, and what to do with it.
# (Signatures: en.wikipedia.org/wiki/List_of_file_signatures. Where one could begin a text, it is
# taken with a byte behind it that no text has.)
NOT_PLAIN_TEXT = [
    (rb"\xff\xfe\0\0|\0\0\xfe\xff", "text in UTF-32", SAVE_AS_TEXT),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16", SAVE_AS_TEXT),
    (rb"%PDF-", "a PDF document", SAVE_AS_TEXT),
    (rb"PK\x03\x04", "a zip archive, as .docx, .odt and .epub files are", SAVE_AS_TEXT),
    (rb"\{\\rtf", "a document in rich text format", SAVE_AS_TEXT),
    (rb"\xd0\xcf\x11\xe0", "a document of an old Office, as .doc files are", SAVE_AS_TEXT),
    (rb"\x1f\x8b", "compressed with gzip, as .gz files are", UNPACK),
    (rb"\x1f\x9d", "compressed with compress, as .Z files are", UNPACK),
    (rb"BZh[1-9]1AY&SY", "compressed with bzip2, as .bz2 files are", UNPACK),
    (rb"\xfd7zXZ\0", "compressed with xz, as .xz files are", UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed with Zstandard, as .zst files are", UNPACK),
    (rb"\x04\x22\x4d\x18", "compressed with LZ4, as .lz4 files are", UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive, as .7z files are", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive, as .rar files are", UNPACK),
    (rb".{257}ustar(?:\0|  \0)", "a tar archive, as .tar files are", UNPACK),
    (rb"\x89PNG\r\n\x1a\n", "an image (PNG)", ""),
    (rb"\xff\xd8\xff", "an image (JPEG)", ""),
    (rb"GIF8[79]a.{0,6}\0", "an image (GIF)", ""),
    (rb"II\*\0|MM\0\*", "an image (TIFF)", ""),
    (rb"RIFF.{3}\0WEBP", "an image (WebP)", ""),
    (rb"\0\0\0.ftyp(?:heic|avif|mif1)", "an image (HEIC or AVIF)", ""),
    (rb"\0\0\0.ftyp", "a film or a sound file (MP4)", ""),
    (rb"RIFF.{3}.WAVE|OggS\0|fLaC\0|ID3[\2-\4]\0", "a sound file", ""),
    (rb"SQLite format 3\0", "a database (SQLite)", ""),
    (rb".{5}\0\0\0\{\"", "a model, or other tensors (safetensors)", ""),
    (rb"GGUF.\0\0\0", "a model (GGUF)", ""),
    (rb"\x80[\2-\5]", "a pickle of Python objects", ""),
]


def check_beginning(path: Path) -> None:
    """Raise ValueError for a file that is empty, or shows in its first bytes that it is no text."""
    with open(path, "rb") as file:
        beginning = file.read(512)
    if beginning in (b"", UTF8_BOM):
        raise ValueError(f"{path} is empty: there is no text in it")
    for signature, kind, advice in NOT_PLAIN_TEXT:
        if found := re.match(signature, beginning, re.DOTALL):
            first = found[0][:8].hex(" ").upper()
            raise ValueError(f"{path} is {kind} (its first bytes are {first}), not plain text in "
                             f"UTF-8. {advice}".rstrip())


def not_utf8(path: Path) -> ValueError:
    """The error for a file with a byte that text in UTF-8 can't have: where it is, what to do."""
    position = 0
    with open(path, "rb") as file:
        for line in file:       # no other character has the byte "\n" in it: lines decode alone
            before, nul, _ = line.partition(b"\0")
            try:
                before.decode("utf-8")
            except UnicodeDecodeError as error:
                position += error.start
                break
            if nul:
                position += len(before)
                break
            position += len(line)
        file.seek(position)
        bad = file.read(1).hex().upper()
    return ValueError(f"{path} is not plain text in UTF-8: its byte {position} is 0x{bad}. "
                      f"{SAVE_AS_TEXT}")
