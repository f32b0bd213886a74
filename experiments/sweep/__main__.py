"""Run a study, `python -m experiments.sweep --study=studies/num_blocks.py`: all its runs, its tables, its figures."""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; nothing is lost: run the same command again to go on")

    from experiments import cli
    from experiments.sweep.main import define_flags, main

    define_flags()
    cli.run(main)
