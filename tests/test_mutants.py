import mutate_kernels
import pytest


@pytest.mark.slow
def test_every_eighth_mutant_of_the_kernels_is_caught(capsys):
    """All of them, which take much longer: ``python tests/mutate_kernels.py``."""
    assert mutate_kernels.main(step=8) == 0, capsys.readouterr().out
