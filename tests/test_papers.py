"""The papers around the code say what is so: versions, licences, citation, and every number of the model card."""

import re
import tomllib

import pytest
import yaml

import minigpt
from minigpt import GPT, corpus

ROW = re.compile(r"^\| (The \w+ said that) \| (0\.\d{3}) \| (0\.\d{3}) \|$", re.M)


@pytest.fixture(scope="module")
def text(repository):
    return lambda name: (repository / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def card(text):
    return text("docs/model_card.md")


@pytest.fixture(scope="module")
def gpt():
    return GPT.pretrained()


def test_one_version_everywhere(text):
    version = minigpt.__version__
    assert tomllib.loads(text("pyproject.toml"))["project"]["version"] == version
    assert yaml.safe_load(text("CITATION.cff"))["version"] == version
    newest = re.search(r"^## (\S+) · (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"), re.M)
    assert newest[1] == version
    assert newest[2] == str(yaml.safe_load(text("CITATION.cff"))["date-released"])


def test_the_citation_has_what_the_format_requires(text):
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["message"] and citation["title"] and all("name" in author for author in citation["authors"])


def test_code_has_one_licence_and_text_another(text):
    assert text("LICENSE").startswith("MIT License")
    assert "Creative Commons Attribution 4.0 International Public License" in " ".join(text("LICENSE-TEXT").split())
    for page in ("README.md", "CONTRIBUTING.md", "LICENSE-TEXT"):
        assert "CC BY 4.0" in text(page) and "MIT" in text(page), page


def test_the_card_describes_the_model_that_ships(card, gpt):
    config = gpt.model.config
    for words in (f"| weights | {gpt.model.n_parameters:,}, kept in 16 bits",
                  f"| {config.n_layers}, {config.n_heads}, {config.d_model}; feed-forward {config.d_ff} |",
                  f"| context | {config.context_length} tokens", f"{config.vocab_size:,} tokens over bytes",
                  f"{len(corpus.read_text('austen').encode()):,} bytes in all"):
        assert words in card, words


def test_the_card_gives_the_held_out_loss_and_the_readme_the_same(card, gpt, text):
    held_out = corpus.split([corpus.read_text("austen")])[1][0]
    said = re.search(r"held-out loss \| (\d\.\d{3}) nats per byte", card)[1]
    assert abs(gpt.evaluate(held_out) - float(said)) < 0.002
    assert f"**{said} nats per byte**" in text("README.md")


def test_the_context_covers_as_many_bytes_as_the_card_says(card, gpt):
    pages = corpus.split([corpus.read_text("austen")])[1][0][:60_000]
    said = int(re.search(r"about (\d+) bytes of English", card)[1])
    measured = gpt.model.config.context_length * len(pages.encode()) / len(gpt.tokenizer.encode(pages))
    assert abs(measured - said) < 10


def test_what_the_card_says_about_people_is_what_the_model_says(card, gpt):
    rows = ROW.findall(card)
    assert len(rows) == 6
    for prompt, he, she in rows:
        tokens, probabilities = gpt.next_token_probs(prompt)
        found = dict(zip(tokens, probabilities.tolist()))
        assert abs(found[b" he"] - float(he)) < 0.002 and abs(found[b" she"] - float(she)) < 0.002, prompt
    lead = {prompt.split()[1]: float(he) - float(she) for prompt, he, she in rows}
    assert min(lead.values()) > 0, "he leads everywhere"
    assert set(sorted(lead, key=lead.get)[:2]) == {"cook", "governess"}, "least for these two"


def test_the_accessibility_statement_says_what_the_tests_hold(text, repository):
    from minigpt.classroom import plots
    statement = text("docs/accessibility.md")
    assert f"at least {plots.SMALLEST_FONT} points" in statement
    missing = [file for file in re.findall(r"`((?:tests|minigpt)/[\w./]+)`", statement) if not (repository / file).exists()]
    assert not missing
