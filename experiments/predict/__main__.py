"""Predict fields on your own points or mesh with a trained run.

python -m experiments.predict --workdir=out/custom --input=mesh.vtu --output=pred.vtu [--figure=pred.png]
"""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; run the same command again")

    from absl import flags

    from experiments import cli

    flags.DEFINE_string("workdir", None, "Folder of the run whose model predicts.")
    flags.DEFINE_string("input", None, "File with points and inputs; a folder or HDF5 file for several samples.")
    flags.DEFINE_string("output", None, "File to write; for several samples a folder or HDF5 file.")
    flags.DEFINE_string(
        "figure", None, "PNG file with a picture of the (first) sample, or a GIF of the (first) series."
    )
    flags.DEFINE_integer("step", None, "Checkpoint to use; by default the newest.")
    flags.DEFINE_integer("seed", None, "Which of several seeds; by default mean and standard deviation over all.")
    flags.DEFINE_enum("weights", None, ("ema", "raw"), "Which weights; by default those that the run reports.")
    flags.DEFINE_integer(
        "points_per_piece",
        None,
        "Points that a model of FLARE or FLARE++ works on at a time, for large clouds; by default those of the run's "
        "task.points_per_piece, 0: all at once.",
    )
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    from experiments.predict.main import main

    cli.run(main)
