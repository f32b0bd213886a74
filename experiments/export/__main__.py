"""Write a trained run as a file that runs without this project: `.jax` with jax alone, `.onnx` with an ONNX runtime.

python -m experiments.export --workdir=out/ellipses --out=model.jax
python -m experiments.export --workdir=out/ellipses --out=model.onnx
"""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; run the same command again")

    from absl import flags

    from experiments import cli

    flags.DEFINE_string("workdir", None, "Folder of the run, or of a saved surrogate, to export.")
    flags.DEFINE_string("out", None, "File to write: NAME.jax for jax.export, NAME.onnx for ONNX.")
    flags.DEFINE_integer("points", 0, "Number of points that the file is for; 0: any number.")
    flags.DEFINE_integer("step", None, "Checkpoint to export; by default the newest.")
    flags.DEFINE_integer("seed", None, "Which of several seeds of the run; by default the first.")
    flags.DEFINE_enum("weights", None, ("ema", "raw"), "Which weights; by default those that the run reports.")
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    from experiments.export.main import main

    cli.run(main)
