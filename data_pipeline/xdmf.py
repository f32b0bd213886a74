"""The files that an XDMF mesh names for its arrays: only those beside it are read, and none that these lead to."""

from pathlib import Path
from xml.etree import ElementTree

import h5py

from data_pipeline import hdf5
from data_pipeline.errors import DataError


def check_data_files(path: Path) -> None:
    """Raise DataError where an `.xdmf` file takes its arrays from another folder, or from where these lead."""
    try:
        items = list(ElementTree.parse(path).iter("DataItem"))
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a mesh ({error}); get the file again") from error
    for item in items:
        text = (item.text or "").strip()
        if item.get("Format", "XML").upper() == "XML" or not text:
            continue
        name, _, place = text.partition(":")
        if Path(name).name != name:
            raise DataError(
                f"{path} takes an array from {name!r}; put that file beside it and name it without a folder"
            )
        if item.get("Format", "").upper() == "HDF":
            with hdf5.open_hdf5(path.with_name(name)) as file:
                array = hdf5.find(file, place)
                if not isinstance(array, h5py.Dataset):
                    raise DataError(f"{path} takes an array from {text!r}, which holds none; get the files again")
                hdf5.check_numbers(array)
