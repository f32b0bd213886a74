"""What every program needs below it: options, whole files, locks on folders, JSON, and an orderly end by signals.

Nothing here imports JAX or NumPy, so that a program can take its signals before it loads either.
"""

# A package of flare_jax (see flare_jax_programs.py).
