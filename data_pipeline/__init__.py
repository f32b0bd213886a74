# A package of flare_jax (see flare_jax_programs.py).

import flare_jax_programs

flare_jax_programs.check_packages(("runtime",))

from runtime import signals  # noqa: E402

signals.install_in_programs(__name__)
