"""Train, evaluate and analyse PDE surrogates: `python -m experiments.pdebench --config=configs/flare_elas.py`."""

from absl import flags

from experiments import cli

if __name__ == "__main__":
    cli.define_flags(modes=("train", "eval", "analyze"))
    flags.DEFINE_integer("eigenvectors", None, "With --mode=analyze: test case whose eigenvectors are saved too.")
    from experiments.pdebench.main import main

    cli.run(main)
