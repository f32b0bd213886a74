"""A run as one file for other programs: `python -m experiments.export --workdir=out/ellipses --out=model.jax`."""
