"""The options every experiment has, with the original's defaults; configs change what differs."""

from typing import Any

from ml_collections import ConfigDict, config_dict


def pde_config(dataset: str) -> ConfigDict:
    """Return the defaults of a steady PDE experiment on `dataset` (spec: command line §1)."""
    config = ConfigDict()
    config.name = dataset
    config.data = ConfigDict(
        {
            "name": dataset,
            "dir": "data",
            "source": "auto",  # auto: files, else generated | files: never generate | generated: never public files
            "num_generate": 2000,
            "generate_seed": 0,
            "n_train": 1000,
            "n_test": 200,
        }
    )
    config.model = flare_model()
    config.train = ConfigDict(
        {
            "seeds": (0,),
            "epochs": 100,  # exactly one of epochs and steps is positive
            "steps": 0,
            "batch_size": 2,
            "accumulation": 1,  # batches averaged per optimizer step
            "clip_norm": 1.0,  # 0: no clipping
            "ema_decay": 0.999,  # 0: no averaged weights
            "dtype": "float32",  # of the computation: float32 | bfloat16; parameters are float32
            "matmul_precision": "default",  # default (TF32 on a GPU) | high | highest
        }
    )
    config.optimizer = ConfigDict(
        {
            "name": "adamw",  # adamw | lion | muon
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
            "beta1": 0.9,  # OneCycle with cycle_momentum replaces it
            "beta2": config_dict.placeholder(float),  # 0.999 for adamw and muon, 0.99 for lion
            "eps": 1e-8,
            "decay_latents": True,
            "muon_learning_rate": 0.02,
            "muon_momentum": 0.95,
        }
    )
    config.schedule = ConfigDict(
        {
            "name": "onecycle",  # onecycle | constant | cosine | cosine_restarts
            "pct_start": 0.1,
            "div_factor": 1e4,
            "final_div_factor": 1e4,
            "min_learning_rate": 0.0,  # > 0: start and end of OneCycle, instead of the two factors
            "three_phase": False,
            "anneal": "cos",
            "cycle_momentum": True,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
        }
    )
    # Cadences are in epochs (in steps where train.steps is set); 0 chooses a tenth of the run for evaluations and a
    # fiftieth for checkpoints.
    config.eval = ConfigDict(
        {"every": 0, "batch_size": 5, "weights": "ema"}
    )  # weights of the headline metric: ema | raw
    config.checkpoint = ConfigDict({"every": 0, "keep_last": 2, "keep_best": 1})
    config.mesh = ConfigDict({"data": 1, "points": 1})  # devices along the batch and along the points
    config.figures = True
    return config


def flare_model() -> ConfigDict:
    """Return model type `flare` with every constructor argument at its default (spec: PDE models §2.1)."""
    return ConfigDict(
        {
            "type": "flare",
            "channel_dim": 64,
            "num_blocks": 8,
            "num_heads": 8,
            "num_latents": 64,
            "act": config_dict.placeholder(str),  # gelu | silu; None is the tanh form of GELU
            "rmsnorm": False,
            "qk_norm": False,
            "out_proj_norm": True,
            "attn_scale": "one",  # one | sqrt | a number
            "num_layers_in_out_proj": 2,
            "num_layers_k_proj": 3,
            "num_layers_v_proj": 3,
            "k_proj_mlp_ratio": 1.0,
            "v_proj_mlp_ratio": 1.0,
            "num_layers_ffn": 3,
            "ffn_mlp_ratio": 1.0,
            # Kernels of the mixer and of the residual MLPs; None chooses by device, dtype and shape.
            "implementation": config_dict.placeholder(str),
            "mlp_implementation": config_dict.placeholder(str),
        }
    )


def parse_argument(argument: str | None, allowed: tuple[str, ...] = ("smoke",)) -> str:
    """Return the variant behind the colon of `--config=path.py:variant`, or the empty string."""
    argument = argument or ""
    if argument and argument not in allowed:
        raise ValueError(f"config variant {argument!r} is not known; choose one of {', '.join(allowed)} or none")
    return argument


def update(section: ConfigDict, values: dict[str, Any]) -> None:
    """Set existing keys of a section; a key that is not there is an error, not a new option."""
    for key, value in values.items():
        if key not in section:
            raise ValueError(f"option {key!r} does not exist; choose one of {', '.join(section)}")
        section[key] = value
