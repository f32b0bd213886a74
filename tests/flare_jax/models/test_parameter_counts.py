"""Numbers of parameters of the recorded recipes: those of the original, of its authors' notebooks and of its charts."""

import pytest
from flax import nnx

from configs.pde import get_config
from experiments.pdebench.models import DataFacts, model_options
from flare_jax.models import MODELS, build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import count_parameters, split
from tests.flare_jax.counting import count_of
from tests.flare_jax.models import counts_flarepp

FLARE = {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 64}
PERCEIVER = {"channel_dim": 128, "num_blocks": 8, "num_heads": 8, "num_latents": 512, "mlp_ratio": 4.0}
TRANSFORMER = {"channel_dim": 80, "num_blocks": 8, "num_heads": 5, "mlp_ratio": 4.0}
# Channels of a point, number of points, and grid of the data sets.
DATA = {
    "elasticity": (2, 972, None),
    "darcy": (3, 85 * 85, (85, 85)),
    "airfoil_steady": (2, 221 * 51, (221, 51)),
    "pipe": (2, 129 * 129, (129, 129)),
    "shapenet_car": (3, 32186, None),
    "drivaerml_40k": (3, 40000, None),
    "lpbf": (3, 50000, None),
}


def count(model_type, in_dim, options, out_dim=1):
    """Return the number of parameters of a model."""
    known = MODELS[model_type].options()

    def build(num_blocks):
        changed = {**options, "num_blocks": num_blocks} if "num_blocks" in known else options
        return build_model(model_type, in_dim, out_dim, changed, rngs=ParameterKeys(0))

    return count_of(build, options.get("num_blocks", known["num_blocks"].default) if "num_blocks" in known else 1)


def test_blocks_after_the_first_one_are_alike():
    options = FLARE | {"shared_ffn": True, "num_blocks": 5}
    model = nnx.eval_shape(lambda: build_model("unloopy", 2, 1, options, rngs=ParameterKeys(0)))
    assert count_parameters(split(model)[1]) == count("unloopy", 2, options)


def count_of_recipe(model_type, dataset, switch, changes):
    """Return the number of parameters of the model that configs/pde.py makes for a data set."""
    section = get_config(f"model={model_type},data={dataset}{switch}").model
    in_dim, points, grid = DATA[dataset]
    facts = DataFacts(name=dataset, max_length=points, grid_shape=grid, low=(0.0,) * in_dim, high=(1.0,) * in_dim)
    return count(model_type, in_dim, model_options(section, facts) | changes)


# As in the original, where unified positions take the place of the coordinates.
WITHOUT_INPUT = {"unified_pos_drop_input": True}
RECIPES = [
    ("flare", "elasticity", "", {}, 592_641),
    ("flare", "darcy", "", {}, 691_009),
    ("flare", "airfoil_steady", "", {}, 690_945),
    ("flare", "pipe", "", {}, 625_409),
    ("flare", "drivaerml_40k", "", {}, 691_009),
    ("flare", "lpbf", "", {}, 625_473),
    ("flare_ablations", "elasticity", "", {}, 592_641),
    ("transolver", "elasticity", "", {}, 713_665),
    ("transolver", "shapenet_car", "", {}, 2_807_361),
    ("transolver", "pipe", ",conv2d", {}, 2_810_817),
    ("transolver", "darcy", ",conv2d", WITHOUT_INPUT, 2_826_689),
    # The original has 512 more, in a layer that it never applies.
    ("transolver++", "elasticity", "", {}, 591_305 - 512),
    ("lamo", "elasticity", "", {}, 1_718_257),
    ("lamo", "pipe", ",conv2d", {}, 3_757_377),
    ("lno", "elasticity", "", {}, 1_831_745),
    ("lno", "darcy", "", {}, 762_241),
    ("lno", "pipe", "", {}, 1_291_905),
    ("gnot", "elasticity", "", {}, 4_870_553),
    ("gnot", "darcy", "", WITHOUT_INPUT, 4_904_345),
    ("perceiverio", "elasticity", "", {}, 1_864_833),
    ("upt", "elasticity", "", {}, 2_082_817),
]


@pytest.mark.parametrize(
    ("model_type", "dataset", "switch", "changes", "expected"), RECIPES, ids=[f"{row[0]}-{row[1]}" for row in RECIPES]
)
def test_recorded_counts_of_recipes(model_type, dataset, switch, changes, expected):
    assert count_of_recipe(model_type, dataset, switch, changes) == expected


RECORDED = [
    ("flare_experimental", 2, FLARE, 592_641),
    ("flare_ablations", 2, FLARE | {"shared_latents": True}, 563_969),
    ("flare_ablations", 2, FLARE | {"num_latent_blocks": 1}, 992_513),
    ("perceiverio", 2, PERCEIVER | {"cross_attn": True}, 1_866_881),
    ("upt", 2, {}, 2_082_817),
    ("mesh_graph_net", 3, {}, 1_786_881),
    ("mesh_graph_net", 3, {"channel_dim": 16, "num_blocks": 2}, 4_865),
]


@pytest.mark.parametrize(
    ("model_type", "in_dim", "options", "expected"), RECORDED, ids=[f"{row[0]}-{row[-1]}" for row in RECORDED]
)
def test_recorded_counts(model_type, in_dim, options, expected):
    assert count(model_type, in_dim, options) == expected


@pytest.mark.parametrize("num_latent_blocks", [0, 1, 2])
def test_counts_of_the_ablation_chart(num_latent_blocks):
    """The chart names thousands of parameters for 1, 2, 4 and 8 blocks."""
    chart = {0: (96.3, 167.2, 309.0, 592.6), 1: (146.0, 266.8, 508.2, 991.0), 2: (195.8, 366.3, 707.3, None)}
    for num_blocks, thousands in zip((1, 2, 4, 8), chart[num_latent_blocks], strict=True):
        options = FLARE | {"num_blocks": num_blocks, "num_latent_blocks": num_latent_blocks}
        # The chart is older than the biases of query, key and value in the latent blocks.
        biases = 3 * FLARE["channel_dim"] * num_blocks * num_latent_blocks
        found = (count("flare_ablations", 2, options) - biases) / 1000
        assert thousands is None or abs(found - thousands) <= 0.05


def linear(in_dim, out_dim):
    return in_dim * out_dim + out_dim


def wrapper(in_dim, width, num_blocks, block):
    """A stack of blocks between the input and output projections with two inner layers and a norm."""
    inner = 3 * linear(width, width)
    return linear(in_dim, width) + 2 * inner + 2 * width + linear(width, 1) + num_blocks * block


def transformer_block(width, hidden):
    """Two norms, query, key, value and output projection, and the feed-forward part."""
    return 4 * width + linear(width, 3 * width) + linear(width, width) + linear(width, hidden) + linear(hidden, width)


def slice_stack(in_dim, width, num_blocks, block):
    """A stack of blocks with a feed-forward part, between an embedding and a head with a norm."""
    embedding = linear(in_dim, 2 * width) + linear(2 * width, width)
    return embedding + 2 * width + linear(width, 1) + num_blocks * (block + 4 * width + 2 * linear(width, width))


C, M, H, D = 64, 64, 8, 8
FLARE_ATTENTION, FLARE_FFN = C * M + 10 * linear(C, C) + linear(C, C), 5 * linear(C, C)
TS1_ATTENTION = linear(C, 2 * C) + C * M + C * 3 * D + linear(C, C)
TS3_ATTENTION = linear(C, 2 * C) + C * M + (H * M) ** 2 + 5 * C + linear(C, 3 * C) + 2 * linear(C, C)
SMALL_SLICES = {"channel_dim": C, "num_blocks": 8, "num_heads": H, "num_slices": M, "mlp_ratio": 1.0}
# Sizes that no document records, derived from the layers.
DERIVED = [
    ("transformer", 2, TRANSFORMER, wrapper(2, 80, 8, transformer_block(80, 320))),
    (
        "linformer",
        2,
        TRANSFORMER | {"seq_len": 972, "k": 256},
        wrapper(2, 80, 8, transformer_block(80, 320) + 2 * 972 * 256),
    ),
    ("linear", 2, TRANSFORMER, wrapper(2, 80, 8, transformer_block(80, 320))),
    ("loopy", 2, FLARE | {"num_passes": 3}, 592_641),
    ("unloopy", 2, FLARE, 592_641),
    ("unloopy", 2, FLARE | {"shared_ffn": True}, 592_641 - 7 * FLARE_FFN),
    ("unloopy", 2, FLARE | {"shared_att": True}, 592_641 - 7 * FLARE_ATTENTION),
    ("unloopy", 2, FLARE | {"gating": True}, 592_641 + 8 * 5 * linear(C, C)),
    ("ts1_uncond", 2, SMALL_SLICES, slice_stack(2, C, 8, TS1_ATTENTION)),
    ("ts3_uncond", 2, SMALL_SLICES, slice_stack(2, C, 8, TS3_ATTENTION)),
]


@pytest.mark.parametrize(
    ("model_type", "in_dim", "options", "expected"), DERIVED, ids=[f"{row[0]}-{row[-1]}" for row in DERIVED]
)
def test_derived_counts(model_type, in_dim, options, expected):
    assert count(model_type, in_dim, options) == expected


@pytest.mark.parametrize("row", counts_flarepp.ROWS, ids=lambda row: f"{row[0]}-{row[-1]}")
def test_counts_of_the_comparison_of_flarepp(row):
    model_type, in_dim, out_dim, options, expected = row
    assert count(model_type, in_dim, options, out_dim) == expected


def test_every_model_is_counted():
    assert {row[0] for row in [*RECIPES, *RECORDED, *DERIVED, *counts_flarepp.ROWS]} == set(MODELS)
