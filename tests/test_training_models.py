"""The networks of examples/training: each by its name, its blocks, its weights."""

import example_programs  # noqa: F401 (it finds `training`)
import pytest
import torch
from torch import nn
from training import MODELS, Options, checkpoints, load_weights, model
from training.models import depths
from training.optimization import make_optimizer

TINY = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48)
TRANSFORMERS = {"videomae": "VideoMAE", "timesformer": "Timesformer", "vivit": "Vivit"}
NUM_BLOCKS = {"small": 3, "s3d": 12, "mvit_v1_b": 16, "mvit_v2_s": 16, "swin3d_t": 15, **dict.fromkeys(TRANSFORMERS, 3)}


def make(name, num_classes=5, num_frames=8, size=32, **options):
    """A network for small clips, and a small one where that can be."""
    if name in TRANSFORMERS:
        pytest.importorskip("transformers", reason="the extra [train] has transformers")
        options = TINY | options
    return model(name, num_classes, num_frames=num_frames, size=size, **options)


def clips(count=2, shape=(8, 32, 32)):
    return torch.randn(count, 3, *shape, generator=torch.Generator().manual_seed(0))


LARGE = ("mc3_18", "r2plus1d_18", "mvit_v1_b")  # built as others are that are tried each time


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in MODELS])
def test_each_network_gives_scores_uses_all_it_has_and_its_blocks_follow_each_other(name):
    """Blocks (for layer_decay) against the order in which modules are called; unused parameters would stop DDP."""
    before = torch.get_rng_state()
    network = make(name)
    assert torch.equal(torch.get_rng_state(), before)
    called = []
    for module_name, module in network.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        module.register_forward_hook(lambda *_, at=[f"{module_name}.{key}" for key in own]: called.extend(at))
    scores = network(clips())
    assert scores.shape == (2, 5) and scores.dtype == torch.float32
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    of = depths(network)
    assert set(of) == {key for key, _ in network.named_parameters()}
    last = NUM_BLOCKS.get(name, 8) + 1
    assert max(of.values()) == last and {of[key] for key in of if key.startswith(MODELS[name].head)} == {last}
    order = [of[key] for key in called if key in of]
    inner = [depth for depth in order if 0 < depth < last]
    assert inner == sorted(inner) and set(range(1, last)) <= set(order)
    assert all(depth in (0, 1) for depth in order[:1]) and order[-1] == last


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_networks_see_what_their_own_class_sees(name):
    transformers = pytest.importorskip("transformers", reason="the extra [train] has transformers")
    mine = make(name).eval()
    theirs = getattr(transformers, f"{TRANSFORMERS[name]}ForVideoClassification")(mine.config).eval()
    theirs.load_state_dict(mine.state_dict())
    with torch.no_grad():
        assert torch.equal(mine(clips()), theirs(pixel_values=clips().permute(0, 2, 1, 3, 4)).logits)


@pytest.mark.parametrize("name", ["small", "videomae"])
def test_weights_are_those_of_the_seed(name):
    one, same, other = (make(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def rates(network):
    """Of all that is left out at random, by the name of its class; of torchvision's attention without a module, too."""
    found = {}
    for module in network.modules():
        rate = getattr(module, "p", getattr(module, "drop_prob", getattr(module, "dropout", None)))
        if isinstance(rate, float):
            found.setdefault(type(module).__name__, []).append(rate)
    return found


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "swin3d_t", "small", *TRANSFORMERS])
def test_dropout_reaches_the_network(name):
    assert 0.37 in rates(make(name, dropout=0.37))["Dropout"]
    network = make(name, dropout=0.5).train()
    outputs = [network(clips()) for _ in range(2)]
    assert not torch.equal(*outputs)


@pytest.mark.parametrize("name, kind", [("swin3d_t", "StochasticDepth"), ("mvit_v2_s", "StochasticDepth"),
                                        ("timesformer", "TimesformerDropPath")])  # fmt: skip
def test_drop_path_rises_to_the_last_block(name, kind):
    found = rates(make(name, drop_path=0.23))[kind]
    assert found == sorted(found) and found[0] < 0.23 and found[-1] == pytest.approx(0.23)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("r3d", {}, "there is no model 'r3d'; there are small, r3d_18, mc3_18"),
        ("small", dict(hidden_size=3), "small: has no option hidden_size, got 3"),
        ("r3d_18", dict(hidden_size=3), "r3d_18: .*hidden_size"),
        ("r3d_18", dict(drop_path=0.1), "r3d_18: has no option drop_path, got 0.1"),
        ("videomae", dict(drop_path=0.1), "videomae: has no option drop_path, got 0.1"),
        ("videomae", dict(hiden_size=3), "videomae: there is no option 'hiden_size' of VideoMAEConfig"),
        ("videomae", dict(hidden_size="wide"), "videomae: .*'hidden_size' expected int, got str"),
        ("videomae", dict(num_frames=9), "videomae: takes multiples of 2 frames, and the recipe's clips have 9"),
        ("vivit", dict(size=40), "vivit: takes multiples of 16 pixels of height, and the recipe's clips have 40"),
        ("timesformer", dict(size=(32, 48)), "timesformer: takes square clips, and the recipe's are 8x32x48"),
        ("mvit_v1_b", dict(size=(32, 48)), "mvit_v1_b: takes multiples of 32 pixels of width, and .* have 48"),
        (
            "s3d",
            dict(num_frames=4),
            "s3d: takes clips of 5 frames of 17x17 pixels or more, and the recipe's are 4x32x32",
        ),
        ("videomae", dict(patch_size=0), "videomae: cannot be made with .*patch_size=0: .*zero"),
        ("videomae", dict(num_labels=7), "videomae: num_labels is that of the classes and clips, and no option"),
        (
            "r3d_18",
            dict(weights="DEFAULT"),
            r"r3d_18: has no option weights; load_weights\(\) and --weights read a file",
        ),
        ("small", dict(dropout=1.0), r"small: dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_what_a_network_cannot_be_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, **options)


def test_s3d_pools_as_torchvision_does_where_its_pooling_fits():
    network = make("s3d", num_frames=16, size=224)
    assert isinstance(network.avgpool, nn.AvgPool3d)
    assert isinstance(make("s3d").avgpool, nn.AdaptiveAvgPool3d)
    of_one_place = torch.randn(1, 8, 2, 7, 7)
    assert torch.allclose(network.avgpool(of_one_place), nn.AdaptiveAvgPool3d(1)(of_one_place), atol=1e-6)


# ---- Weights


def equal(one, other, but=()):
    return all(torch.equal(one[key], other[key]) for key in one if not key.startswith(tuple(but)))


@pytest.mark.parametrize("form", ["state_dict", "model", "module.", "_orig_mod."])
def test_weights_of_any_form_are_loaded(form, tmp_path):
    there, mine = make("small", seed=1), make("small")
    state = there.state_dict()
    if form.endswith("."):
        state = {f"{form}{key}": value for key, value in state.items()}
    torch.save(state if form.endswith(".") or form == "state_dict" else {form: state, "epoch": 3}, tmp_path / "w.pt")
    assert load_weights(mine, tmp_path / "w.pt") == [] and equal(mine.state_dict(), there.state_dict())


@pytest.mark.parametrize("name", ["small", "videomae"])
def test_a_classifier_of_other_classes_begins_anew(name, tmp_path):
    there, mine, fresh = make(name, 7, seed=1), make(name), make(name)
    torch.save(there.state_dict(), tmp_path / "w.pt")
    said = load_weights(mine, tmp_path / "w.pt")
    assert said == ["its classifier is of 7 instead of 5 classes: this one begins with random weights"]
    head = MODELS[name].head
    assert equal(mine.state_dict(), there.state_dict(), but=head)
    assert all(torch.equal(mine.state_dict()[key], fresh.state_dict()[key]) for key in mine.state_dict() if
               key.startswith(head))  # fmt: skip


def test_weights_of_pretraining_lack_a_classifier_and_have_a_decoder(tmp_path, capfd):
    transformers = pytest.importorskip("transformers", reason="the extra [train] has transformers")
    mine = make("videomae")
    small = dict(decoder_hidden_size=24, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
    config = transformers.VideoMAEConfig(image_size=32, num_frames=8, **TINY, **small)
    there = transformers.VideoMAEForPreTraining(config)
    for key, value in there.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(value)  # else all are 0
    there.save_pretrained(tmp_path)  # as safetensors, under the names that such weights are published with
    before = torch.get_rng_state()
    said = load_weights(mine, tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before) and "[transformers]" not in capfd.readouterr().err
    assert said[0] == "it has no classifier: this one begins with random weights"
    assert "of its parameters are not of videomae, such as decoder." in said[1]
    state = {key: value for key, value in there.state_dict().items() if key.startswith("videomae.")}
    assert state and all(torch.equal(mine.state_dict()[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "theirs, message",
    [
        (["b", "a", "c", "d", "e"], r"other classes (class 0 is 'b' instead of 'a')"),
        (["a", "b", "c", "d", "f"], r"other classes (class 4 is 'f' instead of 'e')"),
        (["a", "b", "c", "d", "e"], None),
    ],
)
def test_a_classifier_of_classes_of_other_names_or_order_begins_anew(theirs, message, tmp_path):
    there, mine, fresh = make("small", seed=1), make("small"), make("small").state_dict()
    torch.save({"model": there.state_dict(), "classes": theirs}, tmp_path / "w.pt")
    said = load_weights(mine, tmp_path / "w.pt", list("abcde"))
    begins = [f"its classifier is of {message}: this one begins with random weights"]
    assert said == (begins if message else [])
    found = mine.state_dict()
    assert equal(found, there.state_dict(), but=("6.",) if message else ())
    assert not message or all(torch.equal(found[key], fresh[key]) for key in ("6.weight", "6.bias"))
    assert load_weights(mine, tmp_path / "w.pt") == []  # without names nothing is compared


def test_the_average_is_taken_where_there_is_one(tmp_path):
    """Of a checkpoint of a run with an average: for --weights, evaluate.py and cam.py."""
    last, average, mine = (make("small", seed=seed) for seed in range(3))
    ema = {"n_averaged": torch.tensor(3)} | {f"module.{key}": value for key, value in average.state_dict().items()}
    content = {"model": last.state_dict(), "ema": ema}
    torch.save(content, tmp_path / "checkpoint.pt")
    assert load_weights(mine, tmp_path / "checkpoint.pt") == ["the average of its weights is taken"]
    assert equal(mine.state_dict(), average.state_dict())
    assert equal(checkpoints.best_weights(content), average.state_dict())
    assert equal(checkpoints.best_weights(content | {"ema": None}), last.state_dict())


TABLES = {
    "swin3d_t": {"relative_position_bias_table"},
    "mvit_v2_s": {"rel_pos_h", "rel_pos_w", "rel_pos_t", "class_token"},
    "mvit_v1_b": {"spatial_pos", "temporal_pos", "class_pos", "class_token"},
    "timesformer": {"cls_token", "position_embeddings", "time_embeddings"},
    "vivit": {"cls_token", "position_embeddings"},
    "videomae": set(),
    "r3d_18": set(),
}


@pytest.mark.parametrize("name, tables", TABLES.items())
def test_tables_of_positions_and_class_tokens_do_not_decay(name, tables):
    network = make(name)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    decays = {names[id(p)]: bool(group["weight_decay"]) for group in make_optimizer(network, Options()).param_groups
              for p in group["params"]}  # fmt: skip
    last = {key.rpartition(".")[2] for key, value in decays.items() if not value} - {
        "weight",
        "bias",
        "q_bias",
        "v_bias",
    }
    assert last == tables
    dims = {key: p.ndim for key, p in network.named_parameters()}
    assert all(value == (dims[key] > 1) for key, value in decays.items() if key.endswith(("weight", "bias")))


def test_what_is_not_weights_of_this_network_is_refused(tmp_path):
    mine, path = make("small"), tmp_path / "w.pt"
    with pytest.raises(OSError, match="w.pt: there is no such file"):
        load_weights(mine, path)
    for content, message in (
        (b"", "is not a file of weights"), (b"weights", "is not a file of weights"),
        ({"epoch": 3}, "is not a file of weights: it has no state dict"),
        ({0: torch.ones(2)}, "is not a file of weights: it has no state dict"),
        (nn.Linear(2, 2), "w.pt: is not a file of weights: it is not one that torch.save wrote, or has more"),
        (b"hi", "it is not one that torch.save wrote, or has more in it than tensors and plain values$"),
        (make("r3d_18").state_dict(), "is not of small: it lacks 21 of 23, such as 0.0.weight"),
        (nn.Sequential(nn.Sequential(nn.Conv3d(3, 8, 1))).state_dict(), r"0.0.weight is \(8, 3, 1, 1, 1\) instead of"),
    ):  # fmt: skip
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load_weights(mine, path)
    torch.save(make("small").state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"w.pt: is not a file of weights"):
        load_weights(mine, path)
