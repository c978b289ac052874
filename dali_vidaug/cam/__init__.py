"""Class activation maps: which places of a clip, in space and time, a network takes for a class. See docs/cam.md."""

from __future__ import annotations

from dali_vidaug.cam.activation import Maps, activation, labels
from dali_vidaug.cam.picture import draw, draw_sequences, write_video
from dali_vidaug.cam.source import SourceMaps, on_source

__all__ = ["Maps", "SourceMaps", "activation", "draw", "draw_sequences", "labels", "on_source", "write_video"]
