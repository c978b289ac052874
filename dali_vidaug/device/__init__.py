"""The GPU and its driver: what is there, what is missing, and what its video decoder accepts."""
