# A package of flare_jax (see flare_jax_programs.py).

from runtime import signals

signals.install_in_programs(__name__)
