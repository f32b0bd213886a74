# A package of flare_jax (see flare_jax_programs.py).

import flare_jax_programs

flare_jax_programs.check_packages(("kernels", "runtime", "flare_jax", "data_pipeline"))

from runtime import signals  # noqa: E402

signals.install_in_programs(__name__)
