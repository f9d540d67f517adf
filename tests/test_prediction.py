"""Predictions, their store on disk and its export, driven without a browser."""

import csv
import io
import json
import os
import stat

import pytest

from minigpt.classroom import export_predictions, hints, predict, prediction, predictions, widgets
from minigpt.classroom.questions import bank, hint_bank

HOSTILE = '<img src=x onerror="alert(1)">\u202e'


@pytest.fixture(autouse=True)
def nothing_answered_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "FOLDER", tmp_path / "answers")
    monkeypatch.setattr(prediction, "_unsaved", {})
    monkeypatch.setattr(prediction, "_asked", {})
    monkeypatch.setattr(prediction, "listeners", [])
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


def scale_question():
    return predict("scale", "How large is `q · k` < 100?", {"1": "One entry alone.", "8": True, "64": "The variance."},
                   why="The root of 64.")


def test_a_wrong_answer_is_told_why_it_tempts_and_then_the_right_one_can_be_seen():
    card = scale_question()
    assert card.reveal.layout.display == "none"
    card.buttons["64"].click()
    assert "The variance." in card.verdict.value and "The root of 64" not in card.verdict.value
    assert card.reveal.layout.display is None and card.buttons["64"].description == "✗ 64"
    card.reveal.click()
    assert "8" in card.verdict.value and "The root of 64." in card.verdict.value


def test_a_right_answer_is_told_why_too():
    card = scale_question()
    card.buttons["8"].click()
    assert "✓" in card.verdict.value and "The root of 64." in card.verdict.value
    assert card.reveal.layout.display == "none"


def test_the_first_answer_is_kept_and_the_tries_counted():
    card = scale_question()
    for option in ("64", "1", "8"):
        card.buttons[option].click()
    (record,) = predictions().values()
    assert (record["notebook"], record["question"], record["text"]) == ("notebook", "scale", "How large is `q · k` < 100?")
    assert (record["answer"], record["right"], record["tries"]) == ("64", False, 3)
    assert "64" in predictions()._repr_html_() and "scale: 64 (wrong, 3 tries)" in repr(predictions())


@pytest.mark.parametrize(("answers", "number"), [({"a": True}, 1.0), (None, None), ({"a": "no"}, None),
                                                 ({"a": True, "b": True}, None)])
def test_a_question_needs_exactly_one_right_answer(answers, number):
    with pytest.raises(ValueError, match="answer"):
        predict("key", "?", answers, number=number)


def count_question():
    return predict("count", "How many?", number=100, tolerance=0.5, why="10 × 10.",
                   tempting={55: "With the mask.", 0: "That is nothing."})


def press_enter(card, typed: str):
    """Or the button: the page sends the same message for both, and the text in it."""
    card.box._handle_custom_msg({"committed": typed, "enter": True}, [])


@pytest.mark.parametrize(("typed", "said"), [
    ("100", "10 × 10."), ("100.4", "10 × 10."), (" 1e2 ", "10 × 10."), ("200/2", "10 × 10."), ("55", "With the mask."),
    ("54,9", "With the mask."), ("7", "Too small."), ("1,001", "(It was read as 1001 or 1.001.)"), ("−3", "Too small."),
    ("99,800", "10 × 10."), ("ln 256", "Too small."), ("0.0039", "Too small."), ("0", "That is nothing."),
])
def test_a_typed_number_is_judged(typed, said):
    card = count_question()
    press_enter(card, typed)
    assert said in card.verdict.value
    assert predictions()["notebook/count"]["answer"] == typed.strip()


@pytest.mark.parametrize("typed", ["", "ten", "nan", "inf", "1/0", "1e999", "1/2/3", HOSTILE, "9" * 100_000])
def test_what_is_no_number_is_no_answer(typed):
    card = count_question()
    press_enter(card, typed)
    assert "Type a number" in card.verdict.value and predictions() == {}


def test_enter_answers_as_the_button_does():
    card = count_question()
    card.box.value = "100"
    card.box._handle_custom_msg({"committed": "100", "enter": True}, [])
    assert "10 × 10." in card.verdict.value


def test_a_question_reads_without_a_kernel_and_folds_its_answer():
    bundle = scale_question()._repr_mimebundle_()
    page = bundle["text/html"]
    assert widgets.WIDGET_VIEW in bundle
    question, answer = page.split("<details>")
    assert "<code>q · k</code> &lt; 100" in question and "<li>64</li>" in question
    assert "The root of 64." in answer and "The variance." in answer and "The root of 64." not in question
    assert bundle["text/plain"] == "Predict: How large is `q · k` < 100?  [1 | 8 | 64]"


def test_what_is_half_typed_is_never_judged():
    """The page sends what was committed with the click or the Enter that commits it, and nothing before."""
    card = count_question()
    card.box.value = "0"                                # the kernel was busy when the rest was typed
    assert not card.box.follow and card.verdict.value == "" and predictions() == {}
    card.box._handle_custom_msg({"committed": "100", "enter": True}, [])
    assert predictions()["notebook/count"]["answer"] == "100"


# ---- kept on disk

def a_new_kernel(monkeypatch):
    monkeypatch.setattr(prediction, "_unsaved", {})
    monkeypatch.setattr(prediction, "_asked", {})


def test_answers_survive_a_restart_and_the_card_says_so(monkeypatch):
    scale_question().answer("64")
    a_new_kernel(monkeypatch)
    card = scale_question()
    assert "Your first answer: <bdi>64</bdi> ✗" in card.verdict.value and "root" not in card.verdict.value
    card.answer("8")
    assert [(record["answer"], record["tries"]) for record in predictions().values()] == [("64", 2)]


def test_the_same_key_in_two_notebooks_is_two_questions(monkeypatch):
    for name, answer in (("one.ipynb", "1"), ("folder/two.ipynb", "8")):
        a_new_kernel(monkeypatch)
        monkeypatch.setenv("JPY_SESSION_NAME", name)
        scale_question().answer(answer)
        assert len(predictions()) == 1, "a notebook shows its own answers"
    assert [prediction.read_answers(name)["scale"]["answer"] for name in ("one", "two")] == ["1", "8"]


def test_where_nothing_can_be_written_the_answer_is_kept_in_the_kernel_and_a_sentence_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(prediction, "FOLDER", tmp_path / "file" / "answers")
    card = scale_question()
    card.buttons["64"].click()
    assert "The variance." in card.verdict.value and "not on disk" in card.verdict.value
    assert "unfinished" not in card.verdict.value
    card.buttons["8"].click()
    assert predictions()["notebook/scale"]["tries"] == 2
    export = export_predictions(tmp_path / "answers.json")
    assert json.loads(export.read_text())[0]["answer"] == "64"


ODD_TYPES = json.dumps({"scale": {"notebook": "notebook", "question": "scale", "text": "?", "answer": 3, "right": True,
                                  "tries": "1", "time": ""}})


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"scale": {"answer": 3}}', '{"scale": 3}', ODD_TYPES, "[" * 10**5])
def test_a_file_that_is_not_ours_is_named_and_left_alone(tmp_path, content):
    file = tmp_path / "answers" / "notebook.json"
    file.parent.mkdir()
    file.write_text(content)
    card = scale_question()
    assert "does not hold answers" in card.verdict.value and str(file) in card.verdict.value
    card.buttons["8"].click()
    assert "does not hold answers" in card.verdict.value and file.read_text() == content


def test_who_listens_hears_every_answer_and_cannot_disturb(monkeypatch):
    heard = []
    prediction.listeners += [lambda row: 1 / 0, heard.append]
    card = scale_question()
    card.buttons["64"].click()
    card.buttons["8"].click()
    assert "The root of 64." in card.verdict.value
    assert [(row["question"], row["answer"], row["right"], row["tries"]) for row in heard] == [
        ("scale", "64", False, 1), ("scale", "8", True, 2)]
    assert all(tuple(row) == prediction.COLUMNS for row in heard)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_predictions_are_exported_for_the_class_to_compare(tmp_path, monkeypatch, suffix):
    scale_question().answer("64")
    a_new_kernel(monkeypatch)
    monkeypatch.setenv("JPY_SESSION_NAME", "second.ipynb")
    count_question().answer("100")
    path = export_predictions(tmp_path / f"class{suffix}", name="Ada")
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if suffix == ".json" else list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["name", "notebook", "question", "text", "answer", "right", "tries", "time"]
    assert [(row["name"], row["notebook"], row["question"], row["answer"], str(row["right"])) for row in rows] == [
        ("Ada", "notebook", "scale", "64", "False"), ("Ada", "second", "count", "100", "True")]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answers", path.name]


def test_an_export_honours_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = export_predictions(tmp_path / "class.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["notebook.json", "class.json", "class.csv"])
@pytest.mark.parametrize("road", ["straight", "by a link"])
def test_no_export_goes_among_the_answers(tmp_path, name, road):
    scale_question().answer("64")
    before = {file.name: file.read_text() for file in prediction.FOLDER.iterdir()}
    path = prediction.FOLDER / name
    if road == "by a link":
        path = tmp_path / f"link{path.suffix}"
        path.symlink_to(prediction.FOLDER / name)
    with pytest.raises(ValueError, match="path must be outside of .*answers, where the answers are kept, not "):
        export_predictions(path)
    assert {file.name: file.read_text() for file in prediction.FOLDER.iterdir()} == before


@pytest.mark.parametrize(("name", "content"), [
    ("grades.csv", "name,grade\nAda,1\n"), ("grades.csv", "name,notebook\n"),
    ("long.csv", ",".join(prediction.EXPORTED) + "\nAda,,,,,,,,a note\n"), ("grades.csv", "\n"), ("a.csv", "\udcff"),
    ("data.json", "{}"), ("data.json", '[{"name": "Ada"}]'), ("data.json", "[1]"), ("data.json", "half a file"),
    ("data.json", "[" * 10**5)])
def test_a_file_that_is_no_export_is_not_replaced_by_one(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"path must be a new file or an earlier export, and .*{name} is neither"):
        export_predictions(path)
    assert path.read_bytes() == content.encode(errors="surrogateescape")


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_an_export_takes_the_place_of_an_earlier_one_and_of_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"class{suffix}"
    path.touch()
    for answer in ("64", "8"):
        export_predictions(path)
        scale_question().answer(answer)
    assert "64" in export_predictions(path).read_text()


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_an_export_leaves_the_answers_of_others_where_they_are(tmp_path, suffix):
    scale_question().answer("64")
    path = export_predictions(tmp_path / f"class{suffix}", name="Ada")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"class{suffix} holds 1 other row, the first of the name 'Ada': it is left as it is"):
        export_predictions(path, name="Bob")
    assert path.read_bytes() == before
    scale_question().answer("8")
    predict("ends", "Two\r\nlines?", {"a": True}).answer("a")
    for _ in range(2):
        assert export_predictions(path, name="Ada").read_bytes() != before, "one's own, grown"


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_an_export_leaves_rows_that_these_answers_lack_where_they_are(tmp_path, suffix):
    scale_question().answer("64")
    path = export_predictions(tmp_path / f"class{suffix}", name="Ada")
    (prediction.FOLDER / "notebook.json").unlink()
    scale_question().answer("8")
    with pytest.raises(ValueError, match="holds 1 other row, the first of the name 'Ada'"):
        export_predictions(path, name="Ada")
    assert "64" in path.read_text()


def test_a_file_among_the_answers_that_holds_none_is_named_and_left_out(tmp_path, capsys):
    scale_question().answer("64")
    (prediction.FOLDER / "class.json").write_text("[]")
    (prediction.FOLDER / "folder.json").mkdir()
    rows = json.loads(export_predictions(tmp_path / "all.json").read_text())
    assert [row["answer"] for row in rows] == ["64"]
    said = capsys.readouterr().out
    assert said.count("Left out: ") == 2 and str(prediction.FOLDER / "class.json") in said and "folder.json" in said


def test_a_path_that_is_none_is_answered_in_a_sentence_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(prediction, "read_answers", None)
    with pytest.raises(TypeError, match="path must be the path of a file, not None"):
        export_predictions(None)
    with pytest.raises(ValueError, match="path must be the path of a file, not ''"):
        export_predictions("")


def test_an_export_that_fails_says_so_in_a_sentence_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = export_predictions(tmp_path / "class.json")
    before = path.read_text()
    scale_question().answer("64")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"cannot write .*class\.json: No space left on device; the file that was there"):
        export_predictions(path)
    assert path.read_text() == before
    with pytest.raises(ValueError, match=r"path must end in \.json or \.csv, not 'class\.txt'"):
        export_predictions(tmp_path / "class.txt")
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"cannot write .*class\.csv: No such file or directory$"):
        export_predictions(tmp_path / "nowhere" / "class.csv")


# ---- the doors

@pytest.mark.parametrize(("given", "error", "sentence"), [
    ({"key": None}, TypeError, "key must be a str, not None"),
    ({"question": 5}, TypeError, "question must be a str, not 5"),
    ({"question": None}, ValueError, "question must be given where number is, not None"),
    ({"number": float("nan")}, ValueError, "number must be a finite number, not nan"),
    ({"number": "5"}, TypeError, "number must be a number or None, not '5'"),
    ({"tolerance": float("nan")}, ValueError, "tolerance must be a finite number at least 0, not nan"),
    ({"tolerance": -1}, ValueError, "tolerance must be a finite number at least 0, not -1.0"),
    ({"tempting": {"6": "x"}}, TypeError, "a number in tempting must be a number, not '6'"),
    ({"tempting": {6: None}}, TypeError, r"tempting\[6\] must be a str, not None"),
    ({"tempting": [6]}, TypeError, r"tempting must be a dict, wrong number -> why it is tempting, not \[6\]"),
    ({"answers": ["a", "b"], "number": None}, TypeError, r"answers must be a dict, option -> why .* not \['a', 'b'\]"),
    ({"answers": {"a": True, "b": False}, "number": None}, TypeError, r"answers\['b'\] must be a str that says why .* not False"),
    ({"answers": {5: True}, "number": None}, TypeError, "an option in answers must be a str, not 5"),
    ({"why": None}, TypeError, "why must be a str, not None"),
])
def test_a_question_of_the_wrong_kind_is_answered_in_a_sentence(given, error, sentence):
    with pytest.raises(error, match=sentence):
        predict(**{"key": "count", "question": "How many?", "number": 100} | given)


@pytest.mark.parametrize(("given", "sentence"), [
    ((None,), "key must be a str, not None"), (("x", 5), r"texts\[0\] must be a str, not 5"),
    (("x", "a", None), r"texts\[1\] must be a str, not None")])
def test_hints_of_the_wrong_kind_are_answered_in_a_sentence(given, sentence):
    with pytest.raises(TypeError, match=sentence):
        hints(*given)


# ---- questions of the notebooks, and hints

def test_a_question_of_the_bank_is_asked_by_its_name():
    card = predict("02_attention/scale")
    assert set(card.buttons) == {"1", "8", "64"} and "64 independent entries" in card.words
    card.buttons["8"].click()
    assert list(predictions()) == ["02_attention/scale"]


def test_a_name_that_is_not_there_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match="no questions of the name '02_attention/scales'; there are of '02_attention/scale'"):
        predict("02_attention/scales")
    with pytest.raises(ValueError, match="no hints of the name 'nonsense'"):
        hints("nonsense")


@pytest.mark.parametrize("question", bank().values(), ids=lambda question: question.name)
def test_the_right_answer_is_right_and_each_tempting_one_meets_its_reason(question):
    card = predict(question.name)
    assert card.judge(question.solution) == (True, question.why)
    for answer, reason in question.wrong.items():
        assert card.judge(answer) == (False, reason)
        assert len(reason) > 10
    assert question.text.strip() and question.why.strip()


def test_hints_of_the_bank_are_several_sentences_each():
    assert len(hint_bank()) > 20
    assert all(texts and all(len(text) > 5 for text in texts) for texts in hint_bank().values())
    assert "Hint 1 of" in hints("02_attention/attention").html


def test_each_hint_stands_inside_the_one_before():
    page = hints("attention", "first", "`second` <b>", "third")
    assert page.html.count("<details>") == 3
    assert page.html.index("first") < page.html.index("<code>second</code> &lt;b&gt;") < page.html.index("third")
    opened, _, rest = page.html.partition("Hint 2 of 3")
    assert opened.count("</details>") == 0 and rest.endswith("</details></details></details>")
