"""Video files: what their packets say, which of them a clip needs, and how frames come out of them."""
