"""The options every PDE experiment has, with the original's defaults; configs change what differs."""

from ml_collections import ConfigDict, config_dict

from data_pipeline.registry import find_record


def pde_defaults(dataset: str) -> ConfigDict:
    """Return the defaults of a PDE experiment on `dataset`, without a model; raises DataError for an unknown name.

    Sections data and task also have the options of this data set alone.
    """
    record = find_record(dataset)
    config = training_defaults(dataset)
    config.data = ConfigDict(
        {
            "name": dataset,
            "dir": "data",
            "source": "files",  # files: never generate | auto: files, else generated | generated: never public files
            "num_generate": record.num_generate,
            "generate_seed": 0,
            "resolution": 0,  # points per side of generated grids; 0: those of the public data
            "n_train": 1000,
            "n_test": 200,
            **record.options,
        }
    )
    config.task = ConfigDict(record.task_section())
    config.eval.simple_predictors = True  # errors of predictors that take seconds, beside those of the model
    return config


def training_defaults(name: str) -> ConfigDict:
    """Return the defaults of the sections that every experiment has: how it is trained, evaluated and kept."""
    config = ConfigDict()
    config.name = name
    config.train = ConfigDict(
        {
            "seeds": (0,),
            "parallel_seeds": 1,  # seeds that are trained together in one program
            "epochs": 100,  # exactly one of epochs and steps is positive
            "steps": 0,
            "min_steps": 0,  # where the epochs make fewer steps, there are as many more as make these
            "batch_size": 2,
            "accumulation": 1,  # batches averaged per optimizer step
            "clip_norm": 1.0,  # 0: no clipping
            "ema_decay": 0.999,  # 0: no averaged weights
            "dtype": "float32",  # of the computation: float32 | bfloat16; parameters are float32
            "matmul_precision": "default",  # default (TF32 on a GPU) | high | highest
            "init_from": "",  # a run, a converted or saved model, or a safetensors file to begin with
            "init_weights": "",  # of it: ema | raw; empty: those that it reports
            "init_strict": False,
            "init_normalizers": "refit",  # to the data of this run | keep: those of init_from
            "freeze": "",  # patterns of parameters that are not trained
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
    config.eval = ConfigDict({"every": 0, "batch_size": 5, "weights": "ema"})  # weights of the headline: ema | raw
    config.checkpoint = ConfigDict({"every": 0, "keep_last": 2, "keep_best": 1})
    config.mesh = ConfigDict({"data": 1, "points": 1})  # devices along the batch and along the points
    config.figures = True
    return config
