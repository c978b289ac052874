import mutate_kernels
import pytest


@pytest.mark.slow
def test_every_mutant_of_the_kernels_is_caught(capsys):
    assert mutate_kernels.main() == 0, capsys.readouterr().out
