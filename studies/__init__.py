# A package of flare_jax (see flare_jax_programs.py).
