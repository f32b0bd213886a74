"""Train and evaluate neural PDE surrogates: `python -m experiments.pdebench --config=configs/flare_elas.py`."""

from experiments import cli

if __name__ == "__main__":
    cli.define_flags()
    from experiments.pdebench.main import main

    cli.run(main)
