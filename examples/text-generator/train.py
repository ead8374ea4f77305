"""Trains a small word n-gram model with back-off on a folder of texts. Standard library only.

The model file is JSON: {"order", "seed", "vocabulary": [token...], "contexts": {"id id ...": [[id...], [count...]]}}.
The same corpus and seed give the same bytes: the files are read in the order of their names, ties in the order of ids.
"""
import argparse
import json
import pathlib
import random
import re
import sys
from collections import Counter, defaultdict

# A word, a number, a mark, or a line end, each with the blanks before it: joined, tokens give the text back.
TOKEN = re.compile(r"\n+|[ \t]*(?:[A-Za-z_]+|[0-9]+|[^\sA-Za-z0-9_])")
ORDER = 4
MOST_SUCCESSORS = 32


def tokenize(text):
    return TOKEN.findall(text.replace("\r\n", "\n"))


def train(texts, seed, order=ORDER):
    streams = [tokenize(text) for text in texts]
    counts = Counter(token for stream in streams for token in stream)
    vocabulary = sorted(counts, key=lambda token: (-counts[token], token))
    ids = {token: number for number, token in enumerate(vocabulary)}
    successors = defaultdict(Counter)
    for stream in streams:
        numbers = [ids[token] for token in stream]
        for at, number in enumerate(numbers):
            for length in range(min(order - 1, at) + 1):
                successors[tuple(numbers[at - length:at])][number] += 1
    # The seed decides which of equally frequent rare successors stay: another seed is another, equally good model.
    chance = random.Random(seed)
    contexts = {}
    for context in sorted(successors):
        pairs = sorted(successors[context].items())
        chance.shuffle(pairs)
        kept = sorted(pairs, key=lambda pair: -pair[1])[:MOST_SUCCESSORS]
        contexts[" ".join(map(str, context))] = [[number for number, _ in kept], [count for _, count in kept]]
    return {"order": order, "seed": seed, "vocabulary": vocabulary, "contexts": contexts}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="corpus")
    parser.add_argument("--model", default="model.json")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    files = sorted(path for path in pathlib.Path(arguments.corpus).rglob("*") if path.suffix in (".md", ".txt"))
    if not files:
        sys.exit("no .md or .txt file in " + arguments.corpus)
    model = train([path.read_text(encoding="utf-8", errors="replace") for path in files], arguments.seed)
    pathlib.Path(arguments.model).write_text(json.dumps(model, separators=(",", ":"), sort_keys=True), encoding="utf-8")
    print("trained on %d files: %d tokens in the vocabulary, %d contexts" % (len(files), len(model["vocabulary"]), len(model["contexts"])))


if __name__ == "__main__":
    main()
