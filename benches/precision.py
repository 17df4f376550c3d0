#!/usr/bin/env python3
"""What smaller weights cost and gain: rows/s of the bare scoring graph, and AUC and log loss of held-out rows, by number format.

    precision.py --data DIR             DIR/shop_sessions_train.parquet is trained on; a table, with hardware and date
    precision.py --data DIR --keep      and a line per format in benches/results/precision.csv

A model of the default size is trained through SQL on four of five sessions and exported. The exported graph, which looks values up, scores
the fifth; the graph of one net, which `rows/s` is of, gets numbers that are ready. Both have their weights changed in the same way: int8 is
ONNX Runtime's dynamic quantisation of the matrix products, `int8 + tables` that of the embeddings too; float16 and bfloat16 round every
matrix of weights and are widened when the graph is loaded, so they save space, not time. Without the table the script says so and measures nothing.
The Python needs benches/sql.txt; one that lacks it makes an environment that has it, as run.py does, and goes on there.
"""

import argparse
import importlib.util
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import run
from quality import auc, logloss
from server import Server, export

TABLE = "shop_sessions_train.parquet"
ROWS = "SELECT *, session_id % 5 AS part FROM conversion.shop_sessions"
FEATURES = """administrative, administrative_duration, informational, informational_duration, product_related, product_related_duration,
    bounce_rates, exit_rates, page_values, special_day, month, operating_systems, browser, region, traffic_type, visitor_type, weekend"""
TRAINING = f"SELECT {FEATURES}, revenue FROM ({ROWS}) AS s WHERE part <> 0"
CHUNK, CHUNKS, TURNS = 512, 100, 7
SMALLEST = 64  # A list of fewer weights than this is a bias or a constant.

COLUMNS = ["date", "format", "speed", "rows_per_second", "auc_difference", "logloss_difference", "auc", "logloss", "largest_difference"]
COLUMNS += ["model_bytes", "held_out", "commit", "cpu", "cores", "system"]


def int8(source, target, kinds):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), str(target), op_types_to_quantize=kinds, per_channel=True, reduce_range=False, weight_type=QuantType.QInt8)


def rounded(source, target, kind):
    """Every matrix of float weights as this type, with a cast behind it."""
    import ml_dtypes
    import numpy
    import onnx

    model = onnx.load(str(source))
    smaller = numpy.float16 if kind == onnx.TensorProto.FLOAT16 else ml_dtypes.bfloat16
    casts, kept = [], []
    for weights in model.graph.initializer:
        if weights.data_type != onnx.TensorProto.FLOAT or len(weights.dims) < 2 or numpy.prod(weights.dims) < SMALLEST:
            kept.append(weights)
            continue
        values = onnx.numpy_helper.to_array(weights).astype(smaller)
        stored = f"{weights.name}.stored"
        kept.append(onnx.helper.make_tensor(stored, kind, weights.dims, values.tobytes(), raw=True))
        casts.append(onnx.helper.make_node("Cast", [stored], [weights.name], to=onnx.TensorProto.FLOAT))
    if not casts:
        raise run.Problem(f"{source.name} has no matrix of weights")
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def formats():
    """Name -> what writes the graph in that format from the first path to the second."""
    import onnx

    products = ["MatMul", "Gemm"]
    return {
        "float32": shutil.copy,
        "float16": lambda source, target: rounded(source, target, onnx.TensorProto.FLOAT16),
        "bfloat16": lambda source, target: rounded(source, target, onnx.TensorProto.BFLOAT16),
        "int8": lambda source, target: int8(source, target, products),
        "int8 + tables": lambda source, target: int8(source, target, [*products, "Gather"]),
    }


def session(graph, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def speeds(graphs):
    """Rows per second and thread of every graph: they take turns, the median counts."""
    import numpy

    sessions = {name: session(graph, 1) for name, graph in graphs.items()}
    found = {name: [] for name in graphs}
    for turn in range(TURNS + 1):
        for name, scoring in sessions.items():
            (entry,) = scoring.get_inputs()
            x = numpy.random.default_rng(0).random((CHUNK, entry.shape[1]), dtype=numpy.float32) - 0.5
            started = time.perf_counter()
            for _ in range(CHUNKS):
                scoring.run(None, {entry.name: x})
            if turn > 0:
                found[name].append(CHUNK * CHUNKS / (time.perf_counter() - started))
    return {name: statistics.median(rates) for name, rates in found.items()}


def feeds(columns, inputs):
    """The held-out rows as the exported graph takes them."""
    import numpy

    found = {}
    for entry in inputs:
        values = [entry["null"] if value is None else value for value in columns[entry["column"]]]
        found[entry["name"]] = numpy.array(values, object if entry["dtype"] == "str" else entry["dtype"])
    return found


def measure(binary, table, folder):
    """A row of the results for every format, but for the circumstances."""
    import numpy

    schema, state, exported = folder / "data" / "conversion", folder / "state", folder / "exported"
    schema.mkdir(parents=True)
    shutil.copy(table, schema / "shop_sessions.parquet")
    with Server(binary, folder / "data", state) as bench:
        bench.rows(f"SELECT * FROM finetune(model => 'sessions', label => 'revenue', query => $${TRAINING}$$)")
        held = bench.rows(f"SELECT {FEATURES}, revenue, predict_ctr('sessions', s) AS p FROM ({ROWS}) AS s WHERE part = 0 ORDER BY session_id")
    export(binary, "sessions", state, exported)
    signature = json.loads((exported / "signature.json").read_text(encoding="utf-8"))
    labels, fed = numpy.asarray(held["revenue"], float), feeds(held, signature["inputs"])
    folds = numpy.zeros(len(labels))
    whole, single = {}, {}
    for name, write in formats().items():
        for graphs, source in ((whole, exported / "model.onnx"), (single, exported / "version" / "scoring.0.onnx")):
            graphs[name] = folder / f"{len(graphs)}.{source.name}"
            write(source, graphs[name])
    scores = {name: session(graph, 0).run(None, fed)[0][:, 0].astype(float) for name, graph in whole.items()}
    apart = numpy.abs(scores["float32"] - numpy.asarray(held["p"], float)).max()
    if apart > 1e-5:
        raise run.Problem(f"the exported graph and predict_ctr differ by {apart:.2g}")
    rates, rows = speeds(single), []
    best = (auc(labels, scores["float32"], folds), logloss(labels, scores["float32"], folds))
    for name in whole:
        figures = (auc(labels, scores[name], folds), logloss(labels, scores[name], folds))
        row = {"format": name, "speed": f"{rates[name] / rates['float32']:.2f}", "rows_per_second": f"{rates[name]:.0f}"}
        row |= {"auc_difference": f"{figures[0] - best[0]:+.5f}", "logloss_difference": f"{figures[1] - best[1]:+.5f}"}
        row |= {"auc": f"{figures[0]:.5f}", "logloss": f"{figures[1]:.5f}"}
        row["largest_difference"] = f"{numpy.abs(scores[name] - scores['float32']).max():.5f}"
        rows.append(row | {"model_bytes": whole[name].stat().st_size, "held_out": len(labels)})
    return rows


def report(rows):
    shown = COLUMNS[1 : COLUMNS.index("commit")]
    widths = [max(len(column), *(len(str(row[column])) for row in rows)) for column in shown]
    run.say("  ".join(f"{column:>{width}}" for column, width in zip(shown, widths)))
    for row in rows:
        run.say("  ".join(f"{row[column]:>{width}}" for column, width in zip(shown, widths)))
    first = rows[0]
    run.say(f"{first['cpu']}, {first['cores']} cores, one of them used for speed, {first['system']}; commit {first['commit']}; {first['date']} UTC")


def main():
    parser = argparse.ArgumentParser(description="Compares number formats of the weights of a click model.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    parser.add_argument("--data", type=Path, required=True, help=f"the folder with {TABLE}")
    parser.add_argument("--keep", action="store_true", help="add the lines to benches/results/precision.csv")
    arguments = parser.parse_args()
    if not (arguments.data / TABLE).is_file():
        run.say(f"precision: SKIPPED, nothing was measured: {arguments.data / TABLE} is missing")
        return
    if any(importlib.util.find_spec(module) is None for module in ("numpy", "onnx", "onnxruntime", "psycopg", "scipy", "sympy")):
        python = run.environment_for("sql.txt")
        os.execv(python, [python, __file__, *sys.argv[1:]])
    logging.disable(logging.WARNING)  # the quantisation recommends other tools
    circumstances = run.circumstances()
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder:
        rows = [row | circumstances for row in measure(arguments.binary, arguments.data / TABLE, Path(folder))]
    report(rows)
    if arguments.keep:
        run.keep("precision", COLUMNS, rows)


if __name__ == "__main__":
    run.reported(main)
