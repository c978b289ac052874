"""What ``dali-vidaug doctor --gpu`` runs: whether everything works on a GPU, and how fast. The loader needs none of it.

``run.py`` has the list, ``pixels.py`` and ``loading.py`` the checks; ``numbered.py`` and ``cases.py`` are what they are
fed, ``device.py`` is what differs between the CPU and a GPU.
"""
