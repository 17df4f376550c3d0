#!/usr/bin/env python3
"""Scores rows with an exported model, with nothing but onnxruntime and numpy.

    score.py FOLDER < rows.json > probabilities.json

rows.json holds the values of each column as PostgreSQL prints them: {"item_id": ["7", null], "seen": ["{1,2}", "{}"]}. Everything else is
told by FOLDER/signature.json: it says of each input which column it is made from and how.
"""

import datetime
import json
import math
import pathlib
import re
import sys

import numpy as np
import onnxruntime

MASK = (1 << 64) - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotated(value, bits):
    return (value << bits | value >> (64 - bits)) & MASK


def mixed(state, lane):
    return rotated((state + lane * P2) & MASK, 31) * P1 & MASK


def xxh64(data, seed):
    """XXH64 as its specification has it; the package xxhash does the same, faster."""
    rest, hash_ = data, (seed + P5) & MASK
    if len(data) >= 32:
        states = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while len(rest) >= 32:
            states = [mixed(state, int.from_bytes(rest[8 * i : 8 * i + 8], "little")) for i, state in enumerate(states)]
            rest = rest[32:]
        hash_ = sum(rotated(state, bits) for state, bits in zip(states, (1, 7, 12, 18))) & MASK
        for state in states:
            hash_ = ((hash_ ^ mixed(0, state)) * P1 + P4) & MASK
    hash_ = (hash_ + len(data)) & MASK
    while len(rest) >= 8:
        hash_ = (rotated(hash_ ^ mixed(0, int.from_bytes(rest[:8], "little")), 27) * P1 + P4) & MASK
        rest = rest[8:]
    if len(rest) >= 4:
        hash_ = (rotated(hash_ ^ int.from_bytes(rest[:4], "little") * P1 & MASK, 23) * P2 + P3) & MASK
        rest = rest[4:]
    for byte in rest:
        hash_ = rotated(hash_ ^ byte * P5 & MASK, 11) * P1 & MASK
    hash_ = (hash_ ^ hash_ >> 33) * P2 & MASK
    hash_ = (hash_ ^ hash_ >> 29) * P3 & MASK
    return hash_ ^ hash_ >> 32


def signed_hash(text, seed):
    value = xxh64(text.encode(), seed) or 1
    return value - (1 << 64) if value >> 63 else value


def ngrams(text):
    """The n-grams of a text in a script that separates words."""
    words = re.findall(r"[^\W_]+", text.lower())
    if len(words) < 3:
        return []
    grams = []
    for position, word in enumerate(words):
        grams.append(signed_hash(word, 1))
        if position:
            grams.append(signed_hash(f"{words[position - 1]} {word}", 1))
    return grams[:256]


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)


def whole(text, sql_type):
    if sql_type == "boolean":
        return int(text == "t")
    if sql_type == "date":
        return (datetime.date.fromisoformat(text) - EPOCH.date()).days
    if sql_type == "time":
        time = datetime.time.fromisoformat(text)
        return datetime.timedelta(hours=time.hour, minutes=time.minute, seconds=time.second, microseconds=time.microsecond) // MICROSECOND
    if sql_type.startswith("timestamp"):
        moment = datetime.datetime.fromisoformat(text)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)) - EPOCH) // MICROSECOND
    return int(text)


def element(text, entry):
    """A value as the input wants it."""
    null = math.nan if entry["null"] == "NaN" else entry["null"]
    if text is None:
        return null
    if entry["encoding"] == "xxh64":
        return signed_hash(text, 0)
    if entry["dtype"] == "str":
        return text
    return float(text) if entry["dtype"].startswith("float") else whole(text, entry["sql_type"].removesuffix("[]"))


def items(text):
    """The values of a list as PostgreSQL prints it."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^,{}]+)', text or "")
    return [re.sub(r"\\(.)", r"\1", quoted) if quoted or not plain else plain for quoted, plain in found]


def tensor(entry, values):
    kind = object if entry["dtype"] == "str" else np.dtype(entry["dtype"])
    if len(entry["shape"]) == 1:
        return np.array([element(value, entry) for value in values], kind)
    if entry["encoding"] == "ngrams":
        lists = [ngrams(value or "") for value in values]
    else:
        lists = [[element(item, entry) for item in items(value)] for value in values]
    padding = element(None, entry)
    length = max(1, *map(len, lists))
    return np.array([list_ + [padding] * (length - len(list_)) for list_ in lists], kind).reshape(len(lists), length)


def main():
    folder = pathlib.Path(sys.argv[1])
    signature = json.loads((folder / "signature.json").read_text())
    rows = json.load(sys.stdin)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {entry["name"]: tensor(entry, rows[entry["column"]]) for entry in signature["inputs"]}
    (probabilities,) = session.run([signature["outputs"][0]["name"]], feeds)
    json.dump(probabilities.tolist(), sys.stdout)


if __name__ == "__main__":
    main()
