#!/usr/bin/env python3
"""Does a text model of `finetune`, with no setting but text and label, tell classes better than TF-IDF and logistic regression?

    texts.py --binary PATH --set reviews_zh|reviews_en|banking77 [--base ngram|minilm] [--method head|full|lora]

Ends with a JSON object for run.py: macro-F1 in per cent of held-out rows, ours and the peer's. Held out are the rows whose number in the order
of the text's MD5 is a multiple of five; both sides get the others, ours through SQL. The peer is scikit-learn's TfidfVectorizer (1-2 character
n-grams for Chinese, words and pairs of words for English) and LogisticRegression, the better one of C = 1 and C = 10 on the held-out rows.
"""

import argparse
import json
import time

import run
from server import Server

SETS = {
    "reviews_zh": ("SELECT text, positive AS label FROM reviews.reviews_zh_train WHERE text IS NOT NULL AND positive IS NOT NULL", "char"),
    "reviews_en": ("SELECT text, positive AS label FROM reviews.reviews_en_train", "word"),
    "banking77": ("SELECT text, intent AS label FROM support.intents_train WHERE source = 'banking77'", "word"),
}


def peer(train, held):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    analyzer = SETS[arguments.set][1]
    started = time.monotonic()
    words = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 2))
    x, asked = words.fit_transform(train["text"]), words.transform(held["text"])
    found = {}
    for c in (1.0, 10.0):
        model = LogisticRegression(C=c, max_iter=1000).fit(x, train["label"])
        found[c] = 100 * f1_score(held["label"], model.predict(asked), average="macro")
    return max(found.values()), time.monotonic() - started


def main():
    from sklearn.metrics import f1_score

    source, _ = SETS[arguments.set]
    with Server(arguments.binary, run.REPOSITORY.parent / "shared/data") as server:
        server.rows(f"""CREATE TABLE split AS SELECT text, CAST(label AS text) AS label, row_number() OVER (ORDER BY md5(text), label) % 5 = 0 AS held
            FROM ({source}) s WHERE trim(text) <> ''""")
        train, held = (server.rows(f"SELECT text, label FROM split WHERE held = {side} ORDER BY md5(text)") for side in ("false", "true"))
        started = time.monotonic()
        server.rows(f"""SELECT * FROM finetune('texts', $$SELECT text, label FROM split WHERE NOT held$$, 'label', task => 'text_classification',
            base => '{arguments.base}', method => {f"'{arguments.method}'" if arguments.method else 'NULL'})""")
        seconds = time.monotonic() - started
        given = server.rows("SELECT ai.classify(text, model => 'texts') AS label FROM split WHERE held ORDER BY md5(text)")["label"]
    f1 = 100 * f1_score(held["label"], given, average="macro")
    theirs, their_seconds = peer(train, held)
    told = {"rows": len(train["text"]), "held_out": len(given), "macro_f1": f1, "peer": theirs, "seconds": seconds, "peer_seconds": their_seconds}
    print(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--base", default="ngram")
    parser.add_argument("--method")
    arguments = parser.parse_args()
    try:
        main()
    except run.Problem as problem:
        raise SystemExit(f"texts: {problem}") from None
