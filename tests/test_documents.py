"""What the documents say is there: linked files and headings, options of commands, messages, keys, Python that runs."""

import ast
import contextlib
import importlib.util
import json
import math
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

import bevfusion
import bevfusion.attention
from bevfusion.cli.entry import UsageProblem, app
from bevfusion.geometry.se2 import SE2
from tests.evaluation.test_run import FakeDrive, FakeLocator, run

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


def shown(file: Path) -> str:
    """What a page shows: of those of the site with what they include."""
    return included(file.name) if file.parent == ROOT / "docs" else file.read_text()


def broken_links(path: Path, text: str) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)(?: \"include\")?\)", FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in headings(shown(file) if name else text)):
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


def included(page: str) -> str:
    """A page of the site with what it includes."""
    return hooks().assembled((ROOT / "docs" / page).read_text(), page)


def module(path: Path):
    """A script, imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def hooks():
    return module(ROOT / "docs/hooks.py")


def between(text: str, first: str, last: str) -> list[list[str]]:
    """Rows of the tables between two comments, without their headings."""
    part = text[text.index(f"<!-- {first} -->") : text.index(f"<!-- {last} -->")]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("|")
    ]
    return [row for row in rows if not set(row[0]) <= {"-", " ", "|"} and row[0] not in ("key", "message", "symptom")]


def refused_commands(text: str) -> list[str]:
    """Lines of shell that `bevfusion` or `tools/` would refuse, if all files that they name were there."""
    refused = []
    for language, body in FENCE.findall(text):
        for line in body.replace("\\\n", " ").splitlines() if language in ("bash", "sh") else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["python"] and words[1].startswith("tools/"):
                words = ["bevfusion", Path(words[1]).stem, *words[2:]]
            if words[:1] != ["bevfusion"] or len(words) == 1 or words[1].startswith("-"):
                continue
            complaints = [complaint(words[1:], make) for make in (Path.touch, Path.mkdir)]
            if all(complaints):
                refused.append(f"{line}: {complaints[0]}")
    return refused


def complaint(words: list[str], make: Callable[[Path], object]) -> str:
    """What the command line says against a command, in a folder where all that it names is a file, or a folder."""
    if words[0] not in COMMANDS:
        return f"no command {words[0]}"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for word in words[1:]:
            if not word.startswith(("-", "/", "$")):
                Path(word).parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    make(Path(word))
        try:
            COMMANDS[words[0]].make_context(words[0], words[1:])
        except UsageProblem as error:
            return error.format_message()
    return ""


@every_document
def test_commands_parse(path: Path):
    assert refused_commands(path.read_text()) == []


def test_commands_that_do_not_parse_are_found():
    text = "```bash\nbevfusion track LOG --map MAP --every two\nbevfusion track --map MAP\nbevfusion trak LOG\n"
    assert len(refused_commands(text + "bevfusion track LOG --map MAP  # all of it\n```\n")) == 3


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Knows the one tag of Python that the file has."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)

    def pages(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for item in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(item)

    assert sorted(pages(settings["nav"])) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert settings["strict"] is True


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_of_the_site_stay_in_it(page: str):
    text = included(page)
    assert '"include")' not in text
    assert list(broken_site_links(page, text)) == []


def broken_site_links(page: str, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = ROOT / "docs" / (name or page)
        if not file.is_file() or (anchor and anchor not in headings(included(name or page))):
            yield target


def test_included_sections_end_where_the_next_begins():
    text = "# A\na\n## B c\nb\n```\n## no heading\n```\n### D\nd\n## E\ne\n"
    found = hooks()
    assert found.section(text, "b-c") == "## B c\nb\n```\n## no heading\n```\n### D\nd\n"
    assert found.section(text, "nothing") == ""
    assert found.relinked("[x](LICENSE) [y](docs/logs.md#a) ![z](data/z.png)", "README.md", "a.md") == (
        "x (`LICENSE`) [y](logs.md#a) z"
    )
    with pytest.raises(ValueError, match="nothing to include"):
        found.assembled('[x](../README.md#no-such "include")', "a.md")


def test_the_reference_has_all_that_is_public():
    described = set(re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE))
    names = {name.rpartition(".")[2] for name in described}
    assert set(bevfusion.__all__) | set(bevfusion.attention.__all__) == names
    for name in described:
        home, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(home), attribute), name


def literals() -> str:
    """All text in the package, with a blank for each value that is put in."""
    found = []
    for path in (ROOT / "bevfusion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else " " for part in node.values]
                found.append("".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_of_the_troubleshooting_are_said_somewhere():
    said = literals()
    rows = between((ROOT / "docs/troubleshooting.md").read_text(), "messages", "end of messages")
    quoted = [message for row in rows for message in re.findall(r"`([^`]+)`", row[0])]
    assert len(quoted) > 20
    assert [message for message in quoted if message not in said] == []


def test_the_keys_of_metrics_json_are_those_that_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_: folder.mkdir())
    drive = FakeDrive([SE2(4.0 * i, 5.0, 0.3) for i in range(5)])
    run(FakeLocator([SE2(4.0 * i, 5.0, 0.3) for i in range(5)]), [drive], tmp_path / "out")
    report = json.loads((tmp_path / "out/metrics.json").read_text())
    names = [*report["per_drive"], *report["map"]]

    def keys(value: object, path: tuple[str, ...] = ()) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from keys(item, (*path, "NAME" if key in names else "N" if key in ("1", "3", "5") else key))
        else:
            yield ".".join(path)

    rows = between((ROOT / "docs/metrics.md").read_text(), "keys", "end of keys")
    told = [key for row in rows for key in re.findall(r"`([^`]+)`", row[0])]
    found = set(keys(report))
    assert [key for key in found if not any(matches(key, pattern) for pattern in told)] == []
    always = [pattern for pattern in told if pattern not in ("failed.NAME", "input.NAME.notes")]
    assert [pattern for pattern in always if not any(matches(key, pattern) for key in found)] == []


def matches(key: str, pattern: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith(".*") else key == pattern


def test_pictures_are_small_and_real():
    for path in (ROOT / "docs/pictures").iterdir():
        assert path.stat().st_size < 150_000, path
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", path


@pytest.mark.slow
def test_the_notebook_finds_its_pose(monkeypatch: pytest.MonkeyPatch):
    notebook = json.loads((ROOT / "docs/first_pose.ipynb").read_text())
    space: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "first_pose.ipynb", "exec"), space)
    assert space["off_m"] < 2.0
    assert abs(space["turned_deg"]) < 3.0
    assert "data:image/png;base64," in space["pose"]._repr_html_()
    assert math.isfinite(space["pose"].std_m)


def test_the_tutorial_s_bag_is_that_of_a_cheap_receiver(town_drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    truths = {frame.stamp_ns: frame.truth for frame in town_drive[0]}
    monkeypatch.setattr("sys.argv", ["make_bag.py", str(town_drive[0]._path), str(tmp_path / "bag")])
    module(ROOT / "docs/tutorial/make_bag.py").main()
    drive = bevfusion.open_drive(tmp_path / "bag")
    frames = list(drive)
    assert [frame.stamp_ns for frame in frames] == sorted(truths)
    assert drive.odometry == "none"
    assert all(frame.truth is None and frame.gnss is not None for frame in frames)
    lost = " ".join(note.text for note in drive.summary.of_kind("lost"))
    assert "standard deviation 3 m" in lost
    assert "measures no orientation" in lost
    off_m = [111_200.0 * abs(frame.gnss.lat_deg - truths[frame.stamp_ns].lat_deg) for frame in frames]
    assert 0.05 < max(off_m) < 15.0
    np.testing.assert_allclose(frames[0].scan.xyz, town_drive[0][0].scan.xyz, atol=1e-5)
    assert len((tmp_path / "bag_truth.csv").read_text().splitlines()) == 1 + len(frames)
