"""Making a configuration one of minutes on two CPU cores."""

from ml_collections import ConfigDict

from configs.common import update
from configs.pde_recipes import DATASETS, SMOKE_SIZES
from data_pipeline.record import DatasetRecord


def small_source(record: DatasetRecord) -> dict[str, str]:
    """Return where the data of a small run come from: files in data/smoke, generated where they are missing.

    Artificial stand-ins are generated only where they are asked for by the word "generated".
    """
    return {"dir": "data/smoke", "source": "generated" if record.stand_in else "auto"}


def shrink(
    config: ConfigDict, *, n_train: int, n_test: int, epochs: int, batch_size: int = 4, resolution: int = 0
) -> None:
    """Take a small network, few samples (generated in data/smoke where they are missing) and few epochs.

    `resolution` is that of the generated grids; 0 leaves it to the generator.
    """
    config.name += "_smoke"
    update(config.data, {"n_train": n_train, "n_test": n_test})
    record = DATASETS[config.data.name]
    if record.generator is not None:
        number = -(-(n_train + n_test) * 5 // 4)
        update(config.data, {**small_source(record), "num_generate": number, "resolution": resolution})
    update(config.model, {name: size for name, size in SMOKE_SIZES.items() if name in config.model})
    # The run is shorter than the 1000 steps that the average of the full job looks back.
    update(config.train, {"epochs": epochs, "batch_size": batch_size, "ema_decay": 0.9, "dtype": "float32"})
