"""What ``dali-vidaug doctor --gpu`` runs: whether everything works on a GPU, and how fast. The loader needs none of it.

``run.py`` has the list of checks, ``decoding.py``, ``pixels.py`` and ``loading.py`` the checks; ``numbered.py`` and
``cases.py`` are their input, ``context.py`` what they run on and how they compare, ``device.py`` what differs between
the CPU and a GPU.
"""
