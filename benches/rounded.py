#!/usr/bin/env python3
"""What 8-bit weights of the installed encoder cost: macro-F1 of a net on its vectors, and how many texts a second become vectors.

    rounded.py --binary PATH --set reviews_en|banking77

Ends with a JSON object for run.py. The encoder is imported as f32 and as int8; rows are held out as texts.py does it.
"""

import argparse
import json
import subprocess
import tempfile
import time

import run
from server import Server
from texts import SETS


def main():
    from sklearn.metrics import f1_score

    source, data = SETS[arguments.set][0], run.REPOSITORY.parent / "shared/data"
    found, speed = {}, {}
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as state:
        for precision in ("f32", "int8"):
            command = [arguments.binary, "models", "import", run.cache_root() / "assets" / "minilm", "--name", precision, "--precision", precision]
            subprocess.run([*command, "--data", data, "--state", state], env=run.with_runtime(), stdout=subprocess.DEVNULL, check=True)
        with Server(arguments.binary, data, state) as server:
            server.rows(f"""CREATE TABLE split AS SELECT text, CAST(label AS text) AS label, row_number() OVER (ORDER BY md5(text), label) % 5 = 0 AS held
                FROM ({source}) s WHERE trim(text) <> ''""")
            held = server.rows("SELECT label FROM split WHERE held ORDER BY md5(text)")["label"]
            for precision in ("f32", "int8"):
                server.rows(f"SELECT count(ai.embed(text, model => '{precision}')) FROM split WHERE held")
                started = time.monotonic()
                rows = server.rows(f"SELECT count(ai.embed(text, model => '{precision}')) AS n FROM split WHERE NOT held")["n"][0]
                speed[precision] = rows / (time.monotonic() - started)
                server.rows(f"""SELECT * FROM finetune('{precision}_head', $$SELECT text, label FROM split WHERE NOT held$$, 'label',
                    task => 'text_classification', base => '{precision}', method => 'head')""")
                given = server.rows(f"SELECT ai.classify(text, model => '{precision}_head') AS label FROM split WHERE held ORDER BY md5(text)")["label"]
                found[precision] = 100 * f1_score(held, given, average="macro")
    told = {"macro_f1": found["int8"], "exact": found["f32"], "texts_per_second": speed["int8"], "exact_per_second": speed["f32"]}
    print(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--set", choices=["reviews_en", "banking77"], default="banking77")
    arguments = parser.parse_args()
    try:
        main()
    except run.Problem as problem:
        raise SystemExit(f"rounded: {problem}") from None
