"""Train, evaluate and analyse PDE surrogates.

python -m experiments.pdebench --config=configs/flare_elas.py                            train or resume, then evaluate
python -m experiments.pdebench --config=configs/flare_elas.py --config.train.epochs=20   with another option
python -m experiments.pdebench --mode=eval --workdir=out/flare_elas                      evaluate again
python -m experiments.pdebench --mode=analyze --workdir=out/flare_elas                   look at its attention
"""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; nothing is lost: run the same command again to go on")

    from absl import flags

    from experiments import cli

    cli.define_flags(modes=("train", "time", "eval", "analyze"))
    flags.DEFINE_list("eigenvectors", [], "With --mode=analyze: test cases whose eigenvectors and scores are kept.")
    flags.DEFINE_integer("march_from", None, "With --mode=eval of layer series: the first step that is predicted.")
    flags.DEFINE_bool(
        "teacher_forced", False, "With --mode=eval of layer series: predict each step from the true state."
    )
    from experiments.pdebench.main import main

    cli.run(main)
