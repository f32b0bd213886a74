"""The options of language model experiments."""

from ml_collections import ConfigDict

from experiments import sections
from experiments.defaults import training_defaults
from experiments.schema import section


def lm_defaults(recall: bool) -> ConfigDict:
    """Return the defaults of an experiment on text, or on associative recall, without a model."""
    config = training_defaults("lm")
    config.data = section(
        sections.RecallDataOptions if recall else sections.TextDataOptions, name="recall" if recall else "text"
    )
    config.train.update({"epochs": 0, "steps": 2000, "batch_size": 32, "ema_decay": 0.0, "dtype": "bfloat16"})
    config.optimizer.update(
        {"learning_rate": 1e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "decay_latents": False}
    )
    # Linear in spirit: two percent of warm-up, then a cosine to a tenth of the peak.
    config.schedule.update({"pct_start": 0.02, "div_factor": 100.0, "final_div_factor": 0.1, "cycle_momentum": False})
    options = sections.TokenEvalOptions if recall else sections.TextEvalOptions
    config.eval = section(options, batch_size=32, weights="raw", train_samples=256)
    return config
