"""Series of VTK files in time, each step of which is a sample with the value `time`."""

from pathlib import Path
from xml.etree import ElementTree

from data_pipeline.custom.readers import Reference
from data_pipeline.errors import DataError

SERIES_SUFFIX = ".pvd"


def steps_of(path: Path) -> list[Reference]:
    """Return the steps of a ParaView collection in its order; raises DataError, also for files in other folders."""
    try:
        entries = list(ElementTree.parse(path).iter("DataSet"))
        times = [float(entry.get("timestep", number)) for number, entry in enumerate(entries)]
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a series ({error}); get the file again") from error
    files = [Path(entry.get("file", "")) for entry in entries]
    strange = next((file for file in files if file.is_absolute() or ".." in file.parts or not file.name), None)
    if strange is not None:
        raise DataError(f"{path} names the file {str(strange)!r}; put the files of a series beside or below it")
    if len(set(times)) < len(times):
        raise DataError(f"{path} has several parts at one time; save each step as one file, such as .vtm")
    pairs = enumerate(zip(files, times, strict=True))
    return [
        Reference(path.parent / file, case=f"{path.stem}_{number:04d}", time=time) for number, (file, time) in pairs
    ]
