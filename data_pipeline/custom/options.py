"""The options of a user's data set with their defaults, and the checks that need no file."""

from data_pipeline.custom.folder import EXAMPLE
from data_pipeline.custom.integrals import parse_integrals, parse_reference
from data_pipeline.custom.sample import check_cell_data
from data_pipeline.errors import DataError
from data_pipeline.seeds import check_seed

OPTIONS = {
    "path": "",  # folder of samples, or one HDF5 file
    "files": "",  # pattern of the names of sample files, such as *.vtu, where others are beside them
    "points": "points",  # arrays and columns, see data_pipeline/custom
    "inputs": "",
    "targets": "",
    "cell_data": "",  # what a mesh has at its cells: '' unused | centres: they are the points | nodes: averaged to them
    "time": "",  # of series: '' a step is a sample | input: so, from its time | rollout: the next step from the last
    "prescribed": "",  # in a rollout the field that is not 0 where the state is given at all times
    "integrals": "",  # to report: force:pressure,shear@wall; flux:velocity@outlet; mean:temperature@chip
    "reference": "",  # of force coefficients: density=1.2,speed=40,area=2.1
    "grid": "",  # sizes of a structured grid, such as 64,64, whose points are stored with the last axis fastest
    "split": "",  # shares of train, val, test, such as 0.8,0.1,0.1, or a JSON file with lists of sample names
    "split_seed": 0,  # draws the samples of splits that are in no folders of these
    "n_val": 0,  # samples that choose the best checkpoint; 0: those of the folder val, or none
    "buckets": 4,  # sizes to which clouds are padded, one compilation each
    "stream": "auto",  # auto: stream files of more than memory_gib in all | always | never
    "memory_gib": 8.0,
    "cache": "",  # folder of the streaming cache; by default in cache/ below the data root
}
_TIMES = ("", "input", "rollout")
_STREAMS = ("auto", "always", "never")


def check_options(
    path: str,
    cell_data: str,
    time: str,
    prescribed: str,
    integrals: str,
    reference: str,
    split_seed: int,
    buckets: int,
    stream: str,
    memory_gib: float,
) -> None:
    """Raise DataError for options that are not known, out of range, or do not go with each other."""
    if not path:
        raise DataError(f"data.path='' names no data; set it to a folder of samples, or write example ones: {EXAMPLE}")
    if stream not in _STREAMS:
        raise DataError(f"data.stream={stream!r} is not known; choose one of {', '.join(_STREAMS)}")
    if buckets < 1:
        raise DataError(f"data.buckets={buckets} must be at least 1, which pads every cloud to the largest")
    check_seed("data.split_seed", split_seed)
    if not memory_gib >= 0:
        raise DataError(f"data.memory_gib={memory_gib} must be at least 0, which streams all files")
    check_cell_data(cell_data)
    if time not in _TIMES:
        raise DataError(f"data.time={time!r} is not known; choose one of {', '.join(map(repr, _TIMES))}")
    if prescribed and time != "rollout":
        raise DataError(f"data.prescribed={prescribed!r} marks points of a rollout; set data.time=rollout")
    wanted = parse_integrals(integrals)
    parse_reference(reference)
    if reference and not any(one.kind == "force" for one in wanted):
        raise DataError(f"data.reference={reference!r} is for coefficients of forces; name one in data.integrals")
