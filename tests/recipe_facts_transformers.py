"""What was published of transformers, written by hand: rows of ``recipe_facts.FACTS``."""

KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTERED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # value / 127.5 - 1


def spread(frames, stride):
    """SlowFast: linspace over ``frames * stride`` frames, the last one included."""
    return tuple(i * (frames * stride - 1) / (frames - 1) for i in range(frames))


def exact(frames, stride):
    return tuple(range(0, frames * stride, stride))


# VideoMAE's and V-JEPA 2's 16 frames of stride 4: literal, 4.27 apart.
STRETCHED_16X4 = (0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63)
# V-JEPA 2 at 4 frames per second of a video that has 30: stride 7.
AT_4_FPS = (0, 7, 14, 22, 29, 37, 44, 52, 59, 67, 74, 82, 89, 97, 104, 111)


def stretched(frames, stride):
    """linspace(0, frames * stride, frames), whose last one is not reached, rounded down."""
    return (*(i * frames * stride // (frames - 1) for i in range(frames - 1)), frames * stride - 1)


# Masks: tokens along time and in a frame, and the least and the most share of them that is masked.
TUBE = (((8, 14, 14), 176 / 196, 176 / 196),)
DUAL = (((8, 16, 16), 230 / 256, 230 / 256), ((8, 16, 16), 0.5, 0.5))
BLOCKS = 0.3, 0.9  # the union of 8 blocks of 15 %, which were found to cover 35 to 88 % of a frame of 16 x 16 tokens
LARGE = 0.6, 0.999  # of 2 of 70 %: 66 to 100 %, and some context

# Training as MViT, with a flip and without; without mixing.
FULL = (
    "RandAugmentT", "RandomResizedCrop", "RandomHorizontalFlip", "RandomErasing", "OneOf", "LabelSmoothing",
    "Normalize",
)  # fmt: skip
UNFLIPPED = tuple(name for name in FULL if name != "RandomHorizontalFlip")
UNMIXED = tuple(name for name in FULL if name not in ("OneOf", "LabelSmoothing"))
PROBE = ("RandAugmentT", "RandomResizedCrop", "RandomErasing", "Normalize")
SCALED_CROP = ("MultiScaleCrop", "Normalize")
JITTERED = ("ShortSideScale", "RandomCrop", "RandomHorizontalFlip", "Normalize")
VIVIT = ("ShortSideScale", "ScaleJitter", "RandomCrop", "RandomHorizontalFlip")


def rows(facts):
    """The rows, of the class ``Facts``."""

    def tuned(
        frames, views, norm=IMAGENET, steps=None, *, ops=FULL, repeats=2, batch=None, side=224, short=224, **more
    ):
        return facts(
            frames, side, side, side, views, norm, ops, short, flips="RandomHorizontalFlip" in ops, repeats=repeats,
            batch_size=batch, steps=steps, **more,
        )  # fmt: skip

    def pretrained(frames, steps, ops=SCALED_CROP, side=224, **more):
        flips = "RandomHorizontalFlip" in ops
        return facts(frames, side, side, side, (1, 1), IMAGENET, ops, flips=flips, steps=steps, **more)

    def probe(frames, stride, clips, side):
        steps = stretched(frames, stride) if frames * stride < 300 / clips else None
        return tuned(frames, (clips, 3), steps=steps, ops=PROBE, repeats=1, side=side, short=side, train_views=clips)

    table = {
        ("videomae", "base", "kinetics400"): tuned(16, (5, 3), steps=STRETCHED_16X4, batch=384),
        ("videomae", "base", "ssv2"): tuned(16, (2, 3), ops=UNFLIPPED, batch=384),
        ("videomae", "base-800", "kinetics400"): tuned(16, (5, 3), steps=STRETCHED_16X4, batch=512, repeats=1),
        ("videomae", "large", "kinetics400"): tuned(16, (5, 3), steps=STRETCHED_16X4, batch=128),
        ("videomae_pretrain", "base", "kinetics400"): pretrained(16, exact(16, 4), batch_size=2048, masks=TUBE),
        ("videomae_pretrain", "base", "ssv2"): pretrained(16, exact(16, 2), batch_size=2048, masks=TUBE),
        ("videomae_v2", "base", "kinetics400"): tuned(16, (5, 3), steps=STRETCHED_16X4, batch=512),
        ("videomae_v2", "giant", "kinetics400"): tuned(16, (5, 3), steps=STRETCHED_16X4, batch=192),
        ("videomae_v2", "giant", "kinetics710"): tuned(16, (5, 3), steps=STRETCHED_16X4, batch=192),
        ("videomae_v2", "giant", "ssv2"): tuned(16, (2, 3), ops=UNFLIPPED),
        ("videomae_v2_pretrain", "giant", "hybrid"): pretrained(
            16, exact(16, 4), batch_size=2048, repeats=4, small=56, masks=DUAL
        ),
        ("videomae_v2_pretrain", "giant", "ssv2"): pretrained(
            16, exact(16, 2), batch_size=2048, repeats=4, small=56, masks=DUAL
        ),
        ("mvit", "v1-B", "kinetics400"): tuned(16, (5, 1), KINETICS, spread(16, 4), batch=16, short=256),
        ("mvit", "v2-S", "kinetics400"): tuned(16, (5, 1), KINETICS, spread(16, 4), batch=16, short=256),
        ("mvit", "v2-B", "kinetics400"): tuned(32, (5, 1), KINETICS, spread(32, 3), batch=16, short=256),
        ("mvit", "v2-L", "kinetics400"): tuned(
            40, (5, 3), IMAGENET, spread(40, 3), ops=UNMIXED, batch=16, side=312, short=312
        ),
        ("mvit", "v2-S", "ssv2"): tuned(
            16, (1, 3), KINETICS, repeats=1, batch=16, short_sides=(256, 320), jitter="inverse",
            ops=("RandAugmentT", "ShortSideScale", "RandomCrop", *UNFLIPPED[2:]),
        ),
        ("uniformer", "base", "kinetics400"): tuned(16, (4, 1), KINETICS, spread(16, 4), batch=40, short=256),
        **{
            ("video_swin", variant, "kinetics400"): tuned(
                32, (4, 3), steps=exact(32, 2), repeats=1, batch=64, short_sides=(256, 256),
                ops=("Resize", "RandomResizedCrop", "RandomHorizontalFlip", "Normalize"),
            )
            for variant in ("tiny", "small", "base")
        },
        ("video_swin", "base", "ssv2"): tuned(
            32, (1, 3), repeats=1, short_sides=(256, 256),
            ops=("Resize", "RandomResizedCrop", "RandAugmentT", "RandomErasing", "LabelSmoothing", "Normalize"),
        ),
        ("timesformer", "base", "kinetics400"): tuned(
            8, (1, 3), KINETICS, spread(8, 32), ops=JITTERED, repeats=1, batch=8, short_sides=(256, 320)
        ),
        ("timesformer", "base", "ssv2"): tuned(
            8, (1, 3), KINETICS, ops=(*JITTERED[:2], "Normalize"), repeats=1, batch=8, short_sides=(256, 320),
            jitter="inverse",
        ),
        ("timesformer", "high-resolution", "kinetics400"): tuned(
            16, (1, 3), KINETICS, spread(16, 16), ops=JITTERED, repeats=1, batch=8, side=448, short=448,
            short_sides=(448, 512),
        ),
        ("timesformer", "long", "kinetics400"): tuned(
            96, (1, 3), KINETICS, None, ops=JITTERED, repeats=1, batch=8, short_sides=(256, 320)
        ),
        **{
            ("internvideo2", f"1B-{frames}", dataset): tuned(
                frames, (2 if dataset == "ssv2" else 4, 3), ops=UNFLIPPED if dataset == "ssv2" else FULL
            )
            for frames in (8, 16)
            for dataset in ("kinetics400", "kinetics710", "ssv2")
        },
        ("internvideo2_pretrain", "1B", "kinetics710"): pretrained(
            16, None, ("MultiScaleCrop", "RandomHorizontalFlip", "Normalize")
        ),
        ("internvideo2_pretrain", "1B", "ssv2"): pretrained(16, None),
        **{
            ("vivit", variant, dataset): tuned(
                32, (4, 3), CENTERED, exact(32, stride), repeats=1, batch=64, side=side, short=short,
                short_sides=(short, short), average="logits", ops=(*VIVIT, *colors, "Normalize"),
            )
            for variant, dataset, stride, side, short, colors in (
                ("base", "kinetics400", 2, 224, 256, ("ColorJitter", "RandomGrayscale")),
                ("base-fe", "kinetics400", 2, 224, 256, ("ColorJitter", "RandomGrayscale")),
                ("large-fe", "ssv2", 1, 256, 288, ("RandAugmentT", "Cutout", "MixUp", "LabelSmoothing")),
                ("large-fe", "epic_kitchens", 1, 224, 256, ("RandAugmentT", "Cutout", "MixUp", "LabelSmoothing")),
            )
        },
        **{
            ("vjepa2", variant, dataset): probe(frames, stride, clips, side)
            for variant, side in (("large", 256), ("giant-384", 384))
            for dataset, frames, stride, clips in (
                ("kinetics400", 16, 4, 8), ("ssv2", *((16, 4) if side == 256 else (64, 2)), 2),
                ("diving48", 32, 2, 4), ("jester", 32, 2, 4),
            )
        },
        ("vjepa2_pretrain", "main", "mixture"): pretrained(
            16, AT_4_FPS, ("RandomResizedCrop", "RandomHorizontalFlip", "Normalize"), 256, batch_size=24 * 128,
            small=96,
            masks=(((8, 16, 16), *BLOCKS), ((8, 16, 16), *LARGE)),
        ),
        ("vjepa2_pretrain", "cooldown", "mixture"): pretrained(
            64, None, ("RandomResizedCrop", "RandomHorizontalFlip", "Normalize"), 256, batch_size=24 * 128,
            small=96,
            masks=(((32, 16, 16), *BLOCKS), ((32, 16, 16), *LARGE)),
        ),
        ("hiera", "base", "kinetics400"): tuned(16, (5, 3), steps=None, repeats=1, average="logits"),
    }  # fmt: skip
    return table
