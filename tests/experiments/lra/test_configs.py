"""Every config can be made, holds every option of its model, and the recipes are those of the original's runs."""

from functools import partial

import pytest
from flax import nnx

from configs import lra
from data_pipeline.sequence.registry import TASKS
from experiments.lra import models
from experiments.lra.options import check_lra_options
from flare_jax.models.sequence import BACKENDS, SEQUENCE_MODELS
from flare_jax.models.sequence import TASKS as ORIGINALS


@pytest.mark.parametrize("task", TASKS)
def test_all_backends_on_a_task(task):
    for backend in BACKENDS:
        for variant in ("", ",smoke"):
            if (backend, variant) == ("third_order", ",smoke") and not TASKS[task].short:
                continue
            config = lra.get_config(f"task={task},model={backend}{variant}")
            check_lra_options(config, {})
    models.check_model(lra.get_config(f"task={task},model=flare,smoke"))


def test_recipes_make_models():
    """Every model is made; of those that differ in sizes and rates alone, which its making checks, one is traced."""
    made, traced = set(), set()
    for task in TASKS:
        recursive = [] if task == "retrieval" else ["flare,trm"]
        for variant in [*BACKENDS, *recursive]:
            config = lra.get_config(f"task={task},model={variant}")
            config.model.num_blocks = 1
            # All that the model is made of: the recipes of several tasks are the same model.
            kind, masked = models.task_kind(TASKS[task]), models.has_padding(config)
            recipe = (config.model.to_json(), config.train.dtype, kind, masked)
            way = (variant, masked, kind.documents, config.model.pool, config.model.pos_embed)
            if way not in traced:
                models.check_model(config)
            elif recipe not in made:
                facts = models.TaskFacts(kind, 4, 4, 16, 0 if masked else None)
                nnx.eval_shape(partial(models.build, config, facts, 0))
            made.add(recipe)
            traced.add(way)
    assert len(made) > len(traced) > len(BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_option_can_be_set(backend):
    for switch, model_type in (("", "sequence"), (",trm", "trm")):
        section = lra.get_config(f"task=listops,model={backend}{switch}").model
        options = {*SEQUENCE_MODELS[model_type].options(backend)} - {*lra._NOT_OPTIONS}
        assert set(section) == options | {"type", "backend"}
    models.check_model(lra.get_config(f"task=sudoku,model={backend},trm,smoke"))


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        (
            "task=listops,model=flare",
            {
                "train.steps": 10_000, "train.batch_size": 32, "optimizer.learning_rate": 5e-4,
                "optimizer.weight_decay": 1e-5, "optimizer.beta2": 0.98, "schedule.final_div_factor": 1e-2,
                "model.num_blocks": 4, "model.channel_dim": 128, "model.num_heads": 8, "model.num_latents": 128,
                "model.num_layers_kv_proj": 3, "model.num_layers_ffn": 3, "model.attn_scale": "one",
                "model.pos_embed": "abs", "model.pool": "mean", "train.ema_decay": 0.0, "train.dtype": "bfloat16",
            },
        ),
        (
            "task=image,model=flare",
            {
                "train.steps": 20_000, "optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 5e-2,
                "model.num_blocks": 3, "model.channel_dim": 64, "model.num_heads": 8, "model.num_latents": 256,
                "model.num_layers_kv_proj": 2, "model.num_layers_ffn": 1,
            },
        ),
        (
            "task=listops,model=flarepp",
            {
                "train.steps": 10_000, "optimizer.learning_rate": 2e-4, "optimizer.weight_decay": 3e-5,
                "model.num_latents": 64, "model.ffn_mlp_ratio": 4.0, "model.num_layers_ffn": 0, "model.attn_drop": 0.05,
                "model.rmsnorm": True, "model.num_blocks": 4, "model.channel_dim": 128, "model.num_heads": 8,
                "model.identity_init": True,
            },
        ),
        (
            "task=text,model=flarepp",
            {
                "train.steps": 40_000, "optimizer.learning_rate": 1.4e-5, "model.pool": "cls",
                "model.pos_embed": "rope", "model.emb_drop": 0.08, "model.proj_drop": 0.02, "schedule.pct_start": 0.2,
                "model.num_latents": 128,
            },
        ),
        (
            "task=pathfinder32,model=flarepp",
            {
                "train.clip_norm": 0.5, "train.ema_decay": 0.999, "train.dtype": "float32", "model.ffn_mlp_ratio": 1.0,
                "model.rmsnorm": False, "train.epochs": 200, "optimizer.learning_rate": 3e-4,
            },
        ),
        ("task=image,model=transformer", {"model.mlp_ratio": 2.0, "model.num_heads": 4}),
        ("task=retrieval,model=linformer", {"optimizer.learning_rate": 4.2e-5, "model.k": 128, "model.num_heads": 4}),
        ("task=text,model=transformer", {"model.pool": "cls", "model.pos_embed": "rope", "train.steps": 20_000}),
        ("task=text,model=linear", {"model.kernel": "elu", "model.pos_embed": "abs", "model.norm_q": True}),
        ("task=text,model=flare", {"model.attn_scale": "sqrt", "model.pool": "cls"}),
        (
            "task=pathfinder32,model=transformer",
            {
                "train.epochs": 200, "train.batch_size": 64, "schedule.name": "constant", "train.ema_decay": 0.999,
                "model.rmsnorm": True, "model.emb_drop": 0.05, "optimizer.learning_rate": 6e-4, "train.clip_norm": 1.0,
            },
        ),
        (
            "task=pathfinder32,model=flare",
            {"model.attn_drop": 0.1, "train.clip_norm": 0.5, "train.dtype": "float32", "optimizer.weight_decay": 5e-4},
        ),
        (
            "task=quotient_binary_relation_composition,model=third_order",
            {
                "train.epochs": 3000, "train.batch_size": 2000, "schedule.min_learning_rate": 1e-6,
                "model.channel_dim": 16, "model.num_heads": 1, "model.mlp_ratio": 4.0, "train.dtype": "float32",
            },
        ),
        (
            "task=match3,model=triple",
            {"model.channel_dim": 128, "model.num_layers_kv_proj": -1, "model.num_layers_ffn": 0, "model.norm_q": True},
        ),
        (
            "task=sudoku,model=transformer,trm",
            {
                "model.num_steps": 5, "model.num_latent_updates": 2, "model.num_recursions": 1, "model.num_blocks": 2,
                "model.channel_dim": 256, "optimizer.weight_decay": 1.0, "train.batch_size": 256,
                "schedule.div_factor": 100.0, "train.ema_decay": 0.999,
            },
        ),
    ],
)  # fmt: skip
def test_recipes(argument, wanted):
    config = lra.get_config(argument)
    assert {path: config[path.split(".")[0]][path.split(".")[1]] for path in wanted} == wanted


def test_padding_of_the_composition_tasks_is_masked_where_a_backend_can():
    assert lra.get_config("task=match3,model=linformer").model.masked


def test_kinds_of_the_originals_tasks_are_those_of_the_records():
    """Conversion knows the original's tasks by name, the programs read the records."""
    for name, kind in ORIGINALS.items():
        if name in TASKS:
            task = TASKS[name]
            assert (task.token_level, task.documents, task.mlp_head) == (
                kind.token_level,
                kind.documents,
                kind.mlp_head,
            )
