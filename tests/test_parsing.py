"""JSON and YAML that would harm or mislead whoever reads them: one line, and no other exception."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bevfusion.parsing import MAX_DEPTH, parse_json, parse_yaml, read_json, read_text, read_yaml
from bevfusion.structures import DataError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


def test_plain_values_are_read() -> None:
    assert parse_json('{"a": [1, -2.5, null, true, "b"], "c": {}}', "it") == {"a": [1, -2.5, None, True, "b"], "c": {}}
    assert parse_yaml("a: [1, 1e-3, yes, b]\nc: {}", "it") == {"a": [1, 0.001, True, "b"], "c": {}}
    assert parse_yaml("base: &one {a: 1}\nother: *one", "it") == {"base": {"a": 1}, "other": {"a": 1}}
    assert parse_json(f"[{2**64 - 1}, {-(2**63)}]", "it") == [2**64 - 1, -(2**63)]
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "it") is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 900 + "]" * 900, f"nested deeper than {MAX_DEPTH}"),
        ('{"a":' * 100 + "1" + "}" * 100, f"nested deeper than {MAX_DEPTH}"),
        (f'{{"a": {"9" * 5000}}}', "thousands of digits"),
        (f'{{"a": {"9" * 4000}}}', "64 bits"),
        (f"[{2**64}]", "64 bits"),
        ('{"a": 1e999}', "a number is inf"),
        ('{"a": NaN}', "a number is nan"),
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
    ],
    ids=range(10),
)
def test_json_that_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as refused:
        parse_json(text, "some.json")
    assert str(refused.value).startswith("some.json: ")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not valid YAML"),
        ("[" * 20_000, "nested too deeply"),
        ("{a: " * 70 + "1" + "}" * 70, f"nested deeper than {MAX_DEPTH}"),
        ("a: " + "9" * 5000, "thousands of digits"),
        ("a: " + "9" * 4000, "64 bits"),
        ("a: 0x" + "f" * 5000, "64 bits"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("? [a, b]\n: 1\n? {c: d}\n: 2", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a: 2024-99-99", "not valid YAML"),
        ("a: &a [*a]", "recursive"),
        (BOMB, "grows to more than"),
    ],
    ids=range(12),
)
def test_yaml_that_is_refused(text: str, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(DataError, match=reason) as refused:
        parse_yaml(text, "some.yaml")
    assert time.process_time() - began < 5.0
    assert str(refused.value).startswith("some.yaml: ")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("read", [read_json, read_yaml, read_text])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"\xff\xfe", "no text in UTF-8"), (b"1" * 101, "more than")],
    ids=["missing", "encoding", "size"],
)
def test_files_that_are_refused(
    tmp_path: Path, read: Callable[[Path, int], Any], content: bytes | None, reason: str
) -> None:
    path = tmp_path / "some.file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as refused:
        read(path, 100)
    assert str(refused.value).startswith(str(path))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
