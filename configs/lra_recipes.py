"""Settings of the original's runs on token sequences that belong to a backend, whatever the task.

Keys are options of the configuration. Those of a task are in its record (`data_pipeline.sequence.layout.SequenceTask`).
"""

from data_pipeline.sequence.recipe import Settings

# What the original computes, so that results are comparable with its own: padding is pooled and has a random embedding,
# and rotary embeddings are no rotation. Options without effect on a task are dropped.
ORIGINAL: Settings = {
    "model.masked_pool": False,
    "model.zero_pad_embedding": False,
    "model.rope_mode": "reference",
}

# Defaults of the original's command line where those of the constructors differ.
BACKENDS: dict[str, Settings] = {
    "flare": {"model.num_latents": 128},
    "performer": {"model.estimator": "reference"},
    "ema": {"model.masked_ema": False},
    "linear": {"model.kernel": "identity", "model.norm_q": True, "model.norm_k": True},
    "multilinear": {
        "model.num_states": 1,
        "model.norm_q": True,
        "model.norm_k": True,
        "model.num_layers_kv_proj": -1,
        "model.num_layers_ffn": 0,
        "model.ffn_mlp_ratio": 4.0,
    },
    **{
        name: {
            "model.norm_q": True,
            "model.norm_k": True,
            "model.num_layers_kv_proj": -1,
            "model.num_layers_ffn": 0,
            "model.ffn_mlp_ratio": 4.0,
        }
        for name in ("strassen", "triple", "quad")
    },
}

# The recursive model on Sudoku; the original's script trains so for 100 steps only, which shows that it runs.
RECURSIVE: Settings = {"model.num_steps": 5, "model.num_latent_updates": 2, "model.num_recursions": 1}
