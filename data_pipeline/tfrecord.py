"""TFRecord files of `tf.train.Example` messages, read without TensorFlow.

A record is its length (8 bytes, little endian), a masked CRC-32C of the length, the message and a checksum of the
message. The first checksum is verified, which finds every file that is cut or is no TFRecord; the second would take
longer in Python than the reading. An Example is a map from names to lists of bytes, floats or integers in the protocol
buffers' wire format, of which lists of bytes are read here: the form in which numerical arrays are stored.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from data_pipeline.errors import DataError

_BYTES = 2  # wire type of strings, bytes and messages inside messages
_FIXED_SIZES = {1: 8, 5: 4}


def read_examples(path: Path) -> Iterator[dict[str, list[memoryview]]]:
    """Yield the examples of a file one by one, each as {name: list of byte strings}; raises DataError for bad files."""
    try:
        with path.open("rb") as file:
            number = 0
            while (record := _next_record(file, path, number)) is not None:
                try:
                    example = parse_example(memoryview(record))
                except (IndexError, ValueError, UnicodeDecodeError) as error:
                    raise DataError(f"record {number} of {path} is no tf.train.Example; get the file again") from error
                yield example
                number += 1
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); get the file again") from error


def _next_record(file: BinaryIO, path: Path, number: int) -> bytes | None:
    head = file.read(12)
    if not head:
        return None
    length = int.from_bytes(head[:8], "little")
    if len(head) < 12 or int.from_bytes(head[8:], "little") != masked_crc(head[:8]):
        raise DataError(f"{path} is no TFRecord file or is damaged at record {number}; get the file again")
    record = file.read(length)
    if len(record) < length or len(file.read(4)) < 4:
        raise DataError(f"{path} ends in the middle of record {number}; get the file again")
    return record


def parse_example(message: memoryview) -> dict[str, list[memoryview]]:
    """Return the lists of bytes of a serialized `tf.train.Example`."""
    lists: dict[str, list[memoryview]] = {}
    for features in _fields(message, 1):  # Example.features
        for entry in _fields(features, 1):  # Features.feature, a map of key and value
            (key,) = _fields(entry, 1)
            for feature in _fields(entry, 2):
                for values in _fields(feature, 1):  # Feature.bytes_list
                    lists.setdefault(str(key, "utf-8"), []).extend(_fields(values, 1))
    return lists


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the contents of the fields with this number that hold bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in _FIXED_SIZES:
            at += _FIXED_SIZES[kind]
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field is longer than its message")
            if number == wanted:
                yield message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind} is not used by tf.train.Example")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the variable-length integer at byte `at`, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def masked_crc(data: bytes) -> int:
    """Return TFRecord's masked CRC-32C (Castagnoli) of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
