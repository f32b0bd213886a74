"""Train and evaluate sequence models: `python -m experiments.lra --config=configs/lra.py:task=listops,model=flare`."""

from experiments import cli
from experiments.lra.main import main

if __name__ == "__main__":
    cli.define_flags()
    cli.run(main)
