import pytest

from vipa.io.json_files import read_json, read_json_lines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": 1,\n "b": }', "not JSON (Expecting value at line 2, column 7)"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON (no text in UTF-8)"),
        (b"[1]", "an object {...} is expected, it holds a list"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_damaged_file_is_named_with_the_place(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"a\.json: ") as error:
        read_json(path)
    assert words in str(error.value)


def test_lines_are_numbered_and_empty_ones_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"a": 1}\n\n{"a": 2}\r\n')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n\n{"a": ')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3: not JSON .*; one JSON object a line is expected"):
        read_json_lines(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json is missing"):
        read_json(tmp_path / "a.json")
