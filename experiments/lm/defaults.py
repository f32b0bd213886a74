"""The options of language model experiments."""

from ml_collections import ConfigDict

from experiments.defaults import training_defaults


def lm_defaults(recall: bool) -> ConfigDict:
    """Return the defaults of an experiment on text, or on associative recall, without a model."""
    config = training_defaults("lm")
    config.data = ConfigDict({"name": "recall" if recall else "text", "dir": "data", "source": "files", "length": 256})
    config.data.update({"n_train": 0, "n_test": 0})
    if recall:
        config.data.update({"source": "generated", "pairs": 4, "vocab_size": 8192, "n_train": 100_000})
        config.data.update({"n_test": 3000, "generate_seed": 0})
    else:
        config.data.update({"path": "", "files": "*.txt", "val": "", "test": "", "val_share": 0.0, "test_share": 0.1})
        config.data.update({"tokenizer": "bytes", "vocab_size": 16_384, "reset_documents": False})
    config.train.update({"epochs": 0, "steps": 2000, "batch_size": 32, "ema_decay": 0.0, "dtype": "bfloat16"})
    config.optimizer.update(
        {"learning_rate": 1e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "decay_latents": False}
    )
    # Linear in spirit: two percent of warm-up, then a cosine to a tenth of the peak.
    config.schedule.update({"pct_start": 0.02, "div_factor": 100.0, "final_div_factor": 0.1, "cycle_momentum": False})
    config.eval = ConfigDict({"every": 0, "batch_size": 32, "weights": "raw", "train_samples": 256})
    if not recall:
        config.eval.streaming = False
    return config
