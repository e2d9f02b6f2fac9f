"""What the documents say is there: linked files and headings, options of commands, Python that compiles."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bevfusion.cli.entry import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "bevfusion/*/README.md")
    for path in ROOT.glob(pattern)
)
COMMANDS = typer.main.get_command(app).commands
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, text: str) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in headings(text if not name else file.read_text())):
            broken.append(target)
    return broken


def snippets(text: str) -> Iterator[str]:
    """Each command in fences and between backticks."""
    for language, body in FENCE.findall(text):
        if language in ("", "bash", "sh"):
            yield from body.replace("\\\n", " ").splitlines()
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)))


def unknown_options(text: str) -> list[str]:
    unknown = []
    for snippet in snippets(text):
        for command in re.split(r"&&|\||;|#", snippet):
            words = [word.rstrip(",.)") for word in command.split()]
            tool = next((at for at, word in enumerate(words) if re.fullmatch(r"tools/\w+\.py", word)), None)
            if tool is not None:
                if not (ROOT / words[tool]).is_file():
                    unknown.append(words[tool])
                name, rest = Path(words[tool]).stem, words[tool + 1 :]
            elif words[:1] == ["bevfusion"] and len(words) > 1 and words[1].islower():
                name, rest = words[1], words[2:]
                if name not in COMMANDS:
                    unknown.append(f"bevfusion {name}")
            elif words and words[0] in COMMANDS:
                name, rest = words[0], words[1:]
            else:
                continue
            if name in COMMANDS:
                known = {"--help"}.union(*((*one.opts, *one.secondary_opts) for one in COMMANDS[name].params))
                options = [word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)]
                unknown += [f"{name} {option}" for option in options if option not in known]
    return unknown


def python_errors(text: str) -> list[str]:
    errors = []
    for language, body in FENCE.findall(text):
        if language == "python":
            try:
                compile(body, "snippet", "exec")
            except SyntaxError as error:
                errors.append(f"{error.msg}: {error.text}")
    return errors


@every_document
def test_links_lead_somewhere(path: Path):
    assert broken_links(path, path.read_text()) == []


@every_document
def test_options_exist(path: Path):
    assert unknown_options(path.read_text()) == []


@every_document
def test_python_compiles(path: Path):
    assert python_errors(path.read_text()) == []


def test_what_is_wrong_is_found():
    page = ROOT / "README.md"
    assert broken_links(page, "# A b\n[x](#a-b) [y](LICENSE) [z](https://a.b)") == []
    assert broken_links(page, "# A b\n[x](#a-c) [y](LICENCE) [z](README.md#no-such)") == [
        "#a-c", "LICENCE", "README.md#no-such",
    ]  # fmt: skip
    assert unknown_options("`track LOG --smooth`\n```bash\ntools/train.py X --set a=1 \\\n  --output b\n```") == []
    assert unknown_options("`track LOG --smoth`\n```bash\npython tools/nothing.py && bevfusion lokate a\n```") == [
        "tools/nothing.py", "bevfusion lokate", "track --smoth",
    ]  # fmt: skip
    assert python_errors("```python\na = 1\n```\n```python\na = = 1\n```") != []
