"""docs/gpu.md lists what only a GPU runs: held against the sources."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dali_vidaug"
# What marks a line as one for the GPU. settings.py names the words "gpu" and "cpu" as options, too.
MARKS = re.compile(r"cupy|torch\.cuda|\.gpu\(\)|pin_memory|\"mixed\"|cuda\.")
ELSEWHERE = {"gpu.py", "nvdec.py", "doctor.py", "cli.py"}  # docs/gpu.md says how these are proven


def listed():
    text = (ROOT / "docs" / "gpu.md").read_text()
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
        if file in ELSEWHERE or "check" in file:
            continue
        for line in code_lines(path):
            if MARKS.search(line) and (file, line) not in known and line != 'cupy = sys.modules["cupy"]':
                missing.append(f"{file}: {line}")
    assert not missing, "\n".join(missing)
    assert len(known) > 10


def test_the_search_can_find(tmp_path):
    module = tmp_path / "m.py"
    module.write_text('"""cupy\nin words"""\nx = 1  # cupy\ny = f(\n    z.gpu(),\n)\n')
    assert code_lines(module) == ["x = 1  # cupy", "y = f(", "z.gpu(),", ")"]
