"""The options of a user's data set with their defaults, and the checks that need no file."""

from data_pipeline.custom.folder import EXAMPLE
from data_pipeline.custom.integrals import parse_integrals, parse_reference
from data_pipeline.custom.sample import CELL_DATA
from data_pipeline.errors import DataError
from data_pipeline.options import MOST, buckets, seed
from data_pipeline.surface import parse_surface
from runtime.options import declare, option

OPTIONS = declare(
    path=option("", help="your files: a folder, or one HDF5 file with a group per sample"),
    files=option("", help="pattern of the names of sample files, such as *.vtu, where others are beside them"),
    points=option("points", help="array of the coordinates"),
    inputs=option("", help="arrays of what is known beside the coordinates, by commas"),
    targets=option("", help="arrays of the fields to predict, by commas"),
    cell_data=option(
        "",
        help="values at cells of a mesh: empty: unused; centres: they are the points; nodes: averaged there",
        choices=CELL_DATA,
    ),
    time=option(
        "",
        help="of series: empty: every step is a sample; input: so, from its time; rollout: from the last step",
        choices=("", "input", "rollout"),
    ),
    prescribed=option("", help="in a rollout the field that is not 0 at points whose state is given at all times"),
    integrals=option("", help="to report: force:pressure,shear@wall; flux:velocity@outlet; mean:temperature@chip"),
    reference=option("", help="of force coefficients: density=1.2,speed=40,area=2.1"),
    surface=option("", help="pressure and wall shear stress on a surface, PRESSURE,SHEAR, whose errors to report"),
    grid=option(
        "",
        help="sizes of a structured grid, such as 64,64, stored with the last axis fastest; empty: a cloud of points",
    ),
    split=option(
        "", help="how the samples are divided: shares of train, val and test, a JSON file of names, or a named way"
    ),
    split_seed=seed(0, "draws the samples of splits that are in no folders of these"),
    n_val=option(
        0,
        help="validation samples, which choose the best checkpoint; 0: those of the folder val, or none",
        minimum=0,
        maximum=MOST,
    ),
    buckets=buckets(4),
    stream=option("auto", help="read samples from disk while training", choices=("auto", "always", "never")),
    memory_gib=option(
        8.0, help="size of the files from which stream=auto streams", minimum=0, needs=("stream", "auto")
    ),
    cache=option(
        "", help="folder of the converted files; empty: cache/ below the data folder", unless=("stream", "never")
    ),
)


def check_options(path: str, time: str, prescribed: str, integrals: str, reference: str, surface: str) -> None:
    """Raise DataError for options that are missing, not understood, or do not go with each other."""
    if not path:
        raise DataError(f"data.path='' names no data; set it to a folder of samples, or write example ones: {EXAMPLE}")
    if prescribed and time != "rollout":
        raise DataError(f"data.prescribed={prescribed!r} marks points of a rollout; set data.time=rollout")
    if parse_surface(surface) and time == "rollout":
        raise DataError(f"data.surface={surface!r} is of steady fields; leave it out with data.time=rollout")
    wanted = parse_integrals(integrals)
    parse_reference(reference)
    if reference and not any(one.kind == "force" for one in wanted):
        raise DataError(f"data.reference={reference!r} is for coefficients of forces; name one in data.integrals")
