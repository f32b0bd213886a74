"""Continue prompts with a trained language model.

python -m experiments.generate --workdir=out/lm_recommended_tiny --prompt="To be" [--tokens=200 --temperature=0.8]
"""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; run the same command again")

    from absl import flags

    from experiments import cli

    flags.DEFINE_string("workdir", None, "Folder of the run whose model writes.")
    flags.DEFINE_multi_string("prompt", [], "Text to go on from; given several times, all are continued at once.")
    flags.DEFINE_integer("tokens", 256, "Tokens to write at most.")
    flags.DEFINE_float("temperature", 1.0, "Of the choice of the next token; 0: always the likeliest.")
    flags.DEFINE_integer("top_k", 0, "Choose among so many of the likeliest tokens; 0: among all.")
    flags.DEFINE_float("top_p", 1.0, "Choose among the likeliest tokens of this probability together.")
    flags.DEFINE_integer("seed", 0, "Of the choice; a prompt has the same continuation whatever stands beside it.")
    flags.DEFINE_integer("piece", 512, "Tokens of the prompts that are read at a time.")
    flags.DEFINE_integer("step", None, "Checkpoint to use; by default the newest.")
    flags.DEFINE_integer("run_seed", None, "Which of several seeds of the run; by default the first.")
    flags.DEFINE_enum("weights", None, ("ema", "raw"), "Which weights; by default those that the run reports.")
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    from experiments.generate.main import main

    cli.run(main)
