"""Train and evaluate sequence models: `python -m experiments.lra --config=configs/lra.py:task=listops,model=flare`."""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; nothing is lost: run the same command again to go on")

    from experiments import cli
    from experiments.lra.main import main

    cli.define_flags()
    cli.run(main)
