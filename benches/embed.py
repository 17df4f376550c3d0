#!/usr/bin/env python3
"""Texts of mixed lengths as vectors by all-MiniLM-L6-v2, one line of JSON a call.

    python benches/embed.py --side sql --binary BINARY
    python benches/embed.py --side engine --example EXAMPLE
    python benches/embed.py --side peer --model FOLDER

`sql` asks with ai.embed over a table of the texts, `engine` is the engine alone on the same texts, `peer` is sentence-transformers with all cores.
The texts are made of words by a seed, 3 to 250 words long, half of them below 15.
"""

import argparse
import json
import math
import random
import subprocess
import tempfile
import time
from pathlib import Path

import run

WORDS = (
    "the a this our your my order parcel delivery shop shoes running socks jacket winter summer size blue red small large return refund money card "
    "account email password price offer discount percent today tomorrow week late early never always was is are will can could should please help "
    "quality good great poor broken lovely comfortable tight loose colour picture different arrived sent back again customer service friendly slow "
    "quick answer question support recommend buy bought twice gift daughter friend happy disappointed exactly described material soft warm light"
).split()


def texts(count):
    """Like reviews and questions: many short ones, a few long ones."""
    random.seed(7)
    made = []
    for number in range(count):
        length = min(250, max(3, round(math.exp(random.gauss(math.log(15), 0.9)))))
        made.append(" ".join([str(number), *random.choices(WORDS, k=length)]))
    return made


def told(count, seconds):
    print(json.dumps({"rows": count, "seconds": round(seconds, 2), "sentences_per_second": count / seconds}))


def sql(arguments):
    import pyarrow
    import pyarrow.parquet
    from server import Server

    made = texts(arguments.rows)
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as data:
        table = pyarrow.table({"id": range(len(made)), "text": made})
        pyarrow.parquet.write_table(table, Path(data) / "texts.parquet")
        with Server(arguments.binary, data) as server:
            server.rows("SELECT ai.embed('warm up ' || value) FROM generate_series(1, 64)")
            begin = time.perf_counter()
            found = server.rows("SELECT count(ai.embed(text)) AS n FROM texts")["n"][0]
            seconds = time.perf_counter() - begin
    if found != len(made):
        raise run.Problem(f"{found} of {len(made)} texts have a vector")
    told(found, seconds)


def engine(arguments):
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder:
        file = Path(folder) / "texts.txt"
        file.write_text("\n".join(texts(arguments.rows)) + "\n", encoding="utf-8")
        done = subprocess.run([arguments.example, str(file)], env=run.with_runtime(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise run.Problem(f"{arguments.example} ended with status {done.returncode}")
    print(done.stdout.strip().splitlines()[-1])


def peer(arguments):
    from sentence_transformers import SentenceTransformer

    model, made = SentenceTransformer(arguments.model, device="cpu"), texts(arguments.rows)
    model.encode([f"warm up {number}" for number in range(64)])
    begin = time.perf_counter()
    model.encode(made, batch_size=arguments.batch)
    told(len(made), time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["sql", "engine", "peer"], required=True)
    parser.add_argument("--binary")
    parser.add_argument("--example")
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    try:
        {"sql": sql, "engine": engine, "peer": peer}[arguments.side](arguments)
    except run.Problem as problem:
        raise SystemExit(f"embed: {problem}") from None


if __name__ == "__main__":
    main()
