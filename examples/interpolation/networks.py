"""Networks that make the frames between two frames, small enough to be trained on a CPU.

All are called as ``network(first, last, times)``: two frames (1, 3, H, W) or more of them, values in [0, 1], and (T,)
times in (0, 1). They return (T, 3, H, W), which is what ``dv.FrameInterpolation("module", module=...)`` needs. Before
training each of them is the blend of the two frames.

- ``AdaptiveConvolution``: each pixel is a weighted sum of the pixels around it in both frames, with weights of its own
  (Niklaus, Mai and Liu, CVPR 2017), by default a row of weights times a column ("adaptive separable convolution",
  ICCV 2017). It makes the middle frame; other times come from halving.
- ``VoxelFlow``: each pixel says from where in both frames it comes, and how the two are blended (Liu et al., ICCV
  2017). One call makes frames at any times.
- ``PhaseBased`` has no weights and needs no training: in each band of frequencies and directions the phase is moved
  (after Meyer et al., CVPR 2015, with bands of full resolution).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

_HALVINGS = 4  # frames of AdaptiveConvolution are exact to 1/16 of the way; between these times they are blended


def convolution(before, after, stride=1):
    """Of 3 x 3 pixels, and then what is positive."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.ReLU())


class Pyramid(nn.Module):
    """Maps of numbers for each pixel, of two frames; convolutions at a half, a quarter, ... of the resolution.

    Args:
        num_maps: numbers for each pixel.
        channels: at a half of the resolution; then 1.5 times as many at each further half.
        levels: halves.
    """

    def __init__(self, num_maps, channels=24, levels=4):
        super().__init__()
        sizes = [round(channels * 1.5**level) for level in range(levels)]
        self.down, before = nn.ModuleList(), 6
        for size in sizes:
            self.down.append(nn.Sequential(convolution(before, size, stride=2), convolution(size, size)))
            before = size
        self.up = nn.ModuleList(convolution(deep, size) for deep, size in zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        self.last = nn.Conv2d(sizes[0], num_maps, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.multiple = 2**levels

    def forward(self, first, last):
        """(N, num_maps, H, W)."""
        height, width = first.shape[-2:]
        pair = torch.cat([(first + last) / 2 - 0.5, 4 * (last - first)], 1)  # what changes is little of what is there
        pair = F.pad(pair, (0, -width % self.multiple, 0, -height % self.multiple), "replicate")
        seen = []
        for down in self.down:
            pair = down(pair)
            seen.append(pair)
        for up, skipped in zip(self.up, seen[-2::-1], strict=True):
            pair = up(F.interpolate(pair, scale_factor=2.0, mode="bilinear")) + skipped
        return F.interpolate(self.last(pair), scale_factor=2.0, mode="bilinear")[..., :height, :width]


class AdaptiveConvolution(nn.Module):
    """The middle of two frames, by weights for each pixel.

    Args:
        taps: rows and columns of pixels that are looked at, odd: half of them is the longest way of anything.
        separable: weights are a row times a column; otherwise all taps * taps are free.
    """

    def __init__(self, taps=13, separable=True):
        super().__init__()
        self.taps, self.separable = taps, separable
        self.pyramid = Pyramid(2 * (2 * taps if separable else taps * taps))
        bias = self.pyramid.last.bias.data.view(2, -1)
        if separable:
            bias[:, taps // 2], bias[:, taps + taps // 2] = 1.0, 0.5
        else:
            bias[:, taps * taps // 2] = 0.5

    def middle(self, first, last):
        """(N, 3, H, W)."""
        maps = self.pyramid(first, last).chunk(2, 1)
        return sum(self.weighted(frame, weights) for frame, weights in zip((first, last), maps, strict=True))

    def weighted(self, frame, weights):
        """The sum of the pixels around each, with its weights, (N, 2 * taps or taps * taps, H, W)."""
        reach, height = self.taps // 2, frame.shape[2]
        columns = F.pad(frame, (reach,) * 4, "replicate").unfold(3, self.taps, 1)  # (N, 3, H + 2 * reach, W, taps)
        rows = [columns[:, :, i : i + height] for i in range(self.taps)]
        if self.separable:
            down, right = weights.chunk(2, 1)
            return sum(down[:, i, None] * torch.einsum("nchwk,nkhw->nchw", row, right) for i, row in enumerate(rows))
        each = weights.chunk(self.taps, 1)
        return sum(torch.einsum("nchwk,nkhw->nchw", row, part) for row, part in zip(rows, each, strict=True))

    def forward(self, first, last, times):
        """(T, 3, H, W), of one pair of frames."""
        made = {0: first, 1 << _HALVINGS: last}
        return torch.cat([self._at(made, float(t) * (1 << _HALVINGS)) for t in times])

    def _at(self, made, place):
        low, high = 0, 1 << _HALVINGS
        while high - low > 1 and place not in (low, high):
            half = (low + high) // 2
            if half not in made:
                made[half] = self.middle(made[low], made[high])
            low, high = (half, high) if place >= half else (low, half)
        share = (place - low) / (high - low)
        return made[low] if share == 0 else (1 - share) * made[low] + share * made[high]


class VoxelFlow(nn.Module):
    """Frames between two frames, by a motion for each pixel."""

    def __init__(self):
        super().__init__()
        self.pyramid = Pyramid(3)

    def middle(self, first, last):
        """(N, 3, H, W)."""
        return self.blended(first, last, self.pyramid(first, last), 0.5)

    def blended(self, first, last, maps, time):
        """Both frames moved to a time, and blended.

        Args:
            first, last: (N, 3, H, W).
            maps: (N, 3, H, W): motion from ``first`` to ``last`` to the right and down, in units of 8 pixels; and by
                how much ``last`` counts for more than its share.
            time: in (0, 1).
        """
        motion, favour = 8 * maps[:, :2], maps[:, 2:]
        share = torch.sigmoid(favour + torch.logit(torch.tensor(time)))
        return (1 - share) * moved(first, -time * motion) + share * moved(last, (1 - time) * motion)

    def forward(self, first, last, times):
        """(T, 3, H, W), of one pair of frames."""
        maps = self.pyramid(first, last)
        return torch.cat([self.blended(first, last, maps, float(t)) for t in times])


def moved(frame, way):
    """Each pixel of a frame from a place of its own, bilinear; what is outside is like the edge.

    Args:
        frame: (N, 3, H, W).
        way: (N, 2, H, W), to the right and down, pixels.
    """
    height, width = frame.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, device=frame.device) for n in (height, width)), indexing="ij")
    at = torch.stack([(x + way[:, 0] + 0.5) * (2 / width) - 1, (y + way[:, 1] + 0.5) * (2 / height) - 1], -1)
    return F.grid_sample(frame, at, padding_mode="border", align_corners=False)


class PhaseBased(nn.Module):
    """Frames between two frames by the phases of a complex steerable pyramid.

    A band of one frequency and direction has in each pixel a phase, which changes evenly with small motions. From
    coarse bands to fine ones, where a motion may be longer than a wave, the difference of phases is that which is
    nearest to twice the one of the coarser band. Where these contradict each other by more than a quarter of a wave,
    the coarser band is followed; so what cannot be matched is blended.

    Args:
        directions: of each frequency.
        border: pixels that are added around the frames, because bands go round.
    """

    def __init__(self, directions=4, border=16):
        super().__init__()
        self.directions, self.border = directions, border

    def filters(self, height, width, device):
        """By frequency: of each level, from coarse to fine, (directions, H, W); and the share of the rest."""
        levels = max(int(math.log2(min(height, width))) - 2, 1)
        y, x = torch.meshgrid(*(2 * torch.fft.fftfreq(n, device=device) for n in (height, width)), indexing="ij")
        radius, angle = torch.hypot(x, y), torch.atan2(y, x)
        octave = torch.log2(radius.clamp(1e-9, 1.0))  # 0 at the highest frequency
        n = self.directions
        scale = math.sqrt(n * math.comb(2 * n - 2, n - 1) / 4 ** (n - 1))
        turns = [torch.cos(angle - math.pi * j / n) for j in range(n)]
        directed = torch.stack([turn.clamp(min=0) ** (n - 1) / scale for turn in turns])
        bands = [torch.cos(math.pi / 2 * (octave + level).abs().clamp(max=1)) * directed for level in range(levels)]
        both = sum(band.square().sum(0) for band in bands)
        both = both + both.flip(0, 1).roll((1, 1), (0, 1))  # of a real picture, the other half follows
        return bands[::-1], 1 - both

    def forward(self, first, last, times):
        """(T, 3, H, W), of one pair of frames."""
        height, width = first.shape[-2:]
        pair = F.pad(torch.cat([first, last]), (self.border,) * 4, "replicate")
        bands, rest = self.filters(*pair.shape[-2:], pair.device)
        spectrum = torch.fft.fft2(pair)
        blended = [(1 - t) * spectrum[0] + t * spectrum[1] for t in times.tolist()]
        made, change = [part * rest for part in blended], None
        for band in bands:
            one, other = torch.fft.ifft2(spectrum[:, None] * band[:, None])  # (directions, 3, H, W) complex
            found = torch.angle(other * one.conj())
            if change is not None:
                expected = 2 * change
                found = found + 2 * math.pi * torch.round((expected - found) / (2 * math.pi))
                found = torch.where((found - expected).abs() > math.pi / 2, expected, found)
            change = found
            for k, t in enumerate(times.tolist()):
                shifted = (1 - t) * one * torch.polar(torch.ones_like(change), t * change)
                shifted = shifted + t * other * torch.polar(torch.ones_like(change), (t - 1) * change)
                made[k] = made[k] + 2 * (torch.fft.fft2(shifted) * band[:, None]).sum(0)
        frames = torch.fft.ifft2(torch.stack(made)).real
        return frames[..., self.border : self.border + height, self.border : self.border + width].clamp(0, 1)


KINDS = {
    "separable": AdaptiveConvolution,
    "adaptive": lambda: AdaptiveConvolution(7, separable=False),
    "flow": VoxelFlow,
}


def save(path, kind, network):
    """Write a network of one of ``KINDS``."""
    torch.save({"kind": kind, "weights": network.state_dict()}, path)


def load(path):
    """The network of a file that ``save`` wrote, for ``dv.register_module``."""
    document = torch.load(path, weights_only=True)
    network = KINDS[document["kind"]]()
    network.load_state_dict(document["weights"])
    return network.eval()
