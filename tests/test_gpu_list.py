"""tests/gpu_lines.md lists what only a GPU runs: compared with the sources."""

import io
import re
import tokenize
from pathlib import Path

import pytest

import dali_vidaug

PACKAGE = Path(dali_vidaug.__file__).parent
# What marks a line as one for the GPU. settings.py names the words "gpu" and "cpu" as options, too.
MARKS = re.compile(r"cupy|torch\.cuda|\.gpu\(\)|pin_memory|\"mixed\"|cuda\.|external_source\(.*device=(?!\"cpu\")")
ELSEWHERE = ("device", "commands")  # gpu_lines.md says how these are proven


def listed():
    """(file, line) of each row of the list."""
    text = (Path(__file__).parent / "gpu_lines.md").read_text()
    return re.findall(r"^\| `([\w/]+\.py)` \| `(.+?)` \| .+ \|$", text, re.MULTILINE)


def code_lines(path):
    """The lines of a module that have code, without comments and strings that stand alone."""
    text = path.read_text()
    lines = text.splitlines()
    kept, before = set(), None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        alone = token.type == tokenize.STRING and before in (None, tokenize.NEWLINE, tokenize.INDENT, tokenize.NL)
        if token.type == tokenize.OP or (token.type in (tokenize.NAME, tokenize.STRING, tokenize.NUMBER) and not alone):
            kept.update(range(token.start[0], token.end[0] + 1))
        if token.type != tokenize.COMMENT:
            before = token.type
    return [lines[i - 1].strip() for i in sorted(kept)]


@pytest.mark.parametrize("file, line", listed())
def test_every_listed_line_is_there_once(file, line):
    assert code_lines(PACKAGE / file).count(line) == 1


def test_every_line_for_the_gpu_is_listed():
    known, missing = set(listed()), []
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE))
        if path.relative_to(PACKAGE).parts[0] in ELSEWHERE:
            continue
        for line in code_lines(path):
            if MARKS.search(line) and (file, line) not in known and line != 'cupy = sys.modules["cupy"]':
                missing.append(f"{file}: {line}")
    assert not missing, "\n".join(missing)
    assert len(known) > 10


def test_the_search_finds_code_only(tmp_path):
    module = tmp_path / "m.py"
    module.write_text('"""cupy\nin words"""\nx = 1  # cupy\ny = f(\n    z.gpu(),\n)\n')
    assert code_lines(module) == ["x = 1  # cupy", "y = f(", "z.gpu(),", ")"]
