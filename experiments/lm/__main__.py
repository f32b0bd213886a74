"""Train and evaluate language models: `python -m experiments.lm --config=configs/lm.py:model=recommended,size=tiny`."""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; nothing is lost: run the same command again to go on")

    from experiments import cli
    from experiments.lm.main import main

    cli.define_flags()
    cli.run(main)
