"""Train and evaluate models of token sequences.

python -m experiments.lra --config=configs/lra.py:task=listops,model=flare    train or resume, then evaluate
python -m experiments.lra --mode=eval --workdir=out/FOLDER                    evaluate again
"""

if __name__ == "__main__":
    from runtime import signals

    # Before the imports, which take seconds.
    signals.install("interrupted; nothing is lost: run the same command again to go on")

    from experiments import cli
    from experiments.lra.main import main

    cli.define_flags()
    cli.run(main)
