#!/usr/bin/env python3
"""Builds the training text of the `tiny` example.

The text is the English prose that the crates this project depends on carry in their documentation: the doc comments
of their Rust sources (`///` and `//!`) and their Markdown files. Nothing is downloaded here beyond what `cargo` has
fetched already for the build: the crates are found through `cargo metadata`, only crates under a permissive licence
are read, and the list of them (name, version, licence) is written to `sources.txt` as attribution.

The committed `sources.txt` also pins the corpus: exactly the crates named in it are read. If the project has moved on
to other versions, the missing ones are located through a scratch crate that requires precisely the pinned versions.
`--refresh` ignores the list, takes every permissively licensed crate of the project's lock file and rewrites the list.

    python examples/tiny/corpus.py                # -> examples/tiny/build/train.txt, build/heldout.txt

What is kept: paragraphs of plain ASCII prose, one per line; code blocks, tables, headings, link targets, badges and
licence texts are dropped, and so is every repetition of a paragraph. A blank line separates documents (a document is
one source file). Documents are ordered by crate name, version and path. The split is by document: the held-out
documents are those with the smallest hashes among the documents of moderate size, about 60 KB in all.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ALLOWED = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib",
           "Unlicense", "Unicode-3.0", "Unicode-DFS-2016", "0BSD", "BSL-1.0"}
# Left out although their licence would do: much of their prose is a digest of documentation under other terms
# (web platform, operating system manuals), or is generated from tables and repeats itself.
SKIPPED = {"js-sys", "web-sys", "windows-sys", "windows-targets", "windows-link", "r-efi"}

STOPWORDS = set("""the a an of to in is are be and or that this it for as with on by from if not which when can will
    has have was its at you we no any all each into than then but so""".split())
BOILERPLATE = re.compile(
    r"licen[sc]e|copyright|warrant(y|ies)|dual[- ]licensed|code of conduct|contribut|crates\Wio|docs\Wrs|https?:|www\."
    r"|badge|\bMSRV\b|minimum supported rust|pull request|cargo\.toml|merchantab|all rights reserved|changelog",
    re.I)
ASCII = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
                       "\u2026": "...", "\u00a0": " ", "\u2011": "-", "\u2192": "->", "\u00d7": "x", "\t": " "})


# ---------------------------------------------------------------------------------------------------------- the crates

def permissive(expression):
    """True when some alternative of the SPDX expression names allowed licences only (`A/B` is an old form of OR)."""
    if not expression:
        return False
    text = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    tokens = text.replace(" WITH ", "\0").split()

    def term():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            tokens.pop(0)
            return value
        return token.replace("\0", " WITH ") in ALLOWED

    def both():
        value = term()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = term() and value
        return value

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    return either()


def cargo_metadata(manifest):
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", manifest]
    data = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {(p["name"], p["version"]): (p["license"] or "", os.path.dirname(p["manifest_path"]))
            for p in data["packages"] if p["source"]}


def project_manifest():
    folder = HERE
    while not os.path.exists(os.path.join(folder, "Cargo.lock")):
        parent = os.path.dirname(folder)
        if parent == folder:
            sys.exit("no Cargo.lock above examples/tiny: run this inside the project's checkout")
        folder = parent
    return os.path.join(folder, "Cargo.toml")


def scratch_metadata(wanted):
    """Locates pinned crates that the project's lock file no longer has."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "Cargo.toml"), "w") as file:
            file.write('[package]\nname = "tiny-corpus"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "lib.rs"\n'
                       '[workspace]\n[dependencies]\n')
            for i, (name, version) in enumerate(sorted(wanted)):
                file.write(f'c{i} = {{ package = "{name}", version = "={version}", default-features = false }}\n')
        open(os.path.join(folder, "lib.rs"), "w").close()
        return cargo_metadata(os.path.join(folder, "Cargo.toml"))


def crates(sources, refresh):
    found = cargo_metadata(project_manifest())
    if refresh or not os.path.exists(sources):
        return {key: value for key, value in found.items() if permissive(value[0]) and key[0] not in SKIPPED}
    with open(sources) as file:
        wanted = [tuple(line.split()[:2]) for line in file if line.strip() and not line.startswith("#")]
    missing = [key for key in wanted if key not in found]
    if missing:
        print(f"{len(missing)} pinned crates are not in the project's lock file; asking cargo for them")
        found.update(scratch_metadata(missing))
    chosen = {key: found[key] for key in wanted}
    assert all(permissive(licence) for licence, _ in chosen.values())
    return chosen


# ------------------------------------------------------------------------------------------------- Markdown into prose

def doc_blocks(source):
    """The doc comments of a Rust file: runs of lines with the same marker, markers removed."""
    block, marker = [], None
    for line in source.splitlines():
        match = re.match(r"\s*(///(?!/)|//!)(.*)", line)
        if match and (marker is None or match.group(1) == marker):
            marker = match.group(1)
            block.append(match.group(2))
            continue
        if block:
            yield block
        block, marker = ([match.group(2)], match.group(1)) if match else ([], None)
    if block:
        yield block


def dedent(lines):
    return [line[1:] if line.startswith(" ") else line for line in lines]


def paragraphs(lines):
    """Markdown paragraphs and list items as single lines; code, tables, headings and HTML left out."""
    current, fence, blank, in_list = [], None, True, False

    def flush():
        nonlocal current
        if current:
            yield " ".join(current)
        current = []

    for raw in lines:
        line = raw.rstrip()
        text = line.strip()
        opening = re.match(r"(```+|~~~+)", text)
        if fence:
            if opening and text.startswith(fence):
                fence = None
            continue
        if opening:
            yield from flush()
            fence = opening.group(1)
            continue
        if not text:
            yield from flush()
            blank = True
            continue
        indent = len(line) - len(line.lstrip())
        if blank and indent >= 4 and not in_list:
            continue  # an indented code block
        if indent == 0:
            in_list = False
        if re.match(r"(#{1,6}\s|\||\[[^\]]+\]:|<|={3,}|-{3,}|\*{3,}|!\[|\[!\[|\+[-=+]+)", text):
            yield from flush()
            continue
        item = re.match(r"([-*+]|\d+[.)])\s+(.*)", text)
        if item:
            yield from flush()
            in_list = True
            text = item.group(2)
        current.append(text.lstrip("> "))
        blank = False
    yield from flush()


def plain(text):
    text = text.translate(ASCII)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|!\[[^\]]*\]\[[^\]]*\]", "", text)
    text = re.sub(r"\[([^\[\]]+)\]\([^()]*(\([^()]*\))?[^()]*\)", r"\1", text)
    text = re.sub(r"\[([^\[\]]+)\]\[[^\[\]]*\]", r"\1", text)
    text = re.sub(r"\[(`[^`\[\]]+`|[A-Za-z][^\[\]`]*)\](?!\()", r"\1", text)
    text = re.sub(r"</?[a-z][^<>`]*>", "", text)
    text = re.sub(r"\*\*([^*]+)\*\*|__([^_]+)__", lambda m: m.group(1) or m.group(2), text)
    text = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])|(?<![\w`])_([^_\s][^_`]*)_(?![\w`])",
                  lambda m: m.group(1) or m.group(2), text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"\\([\[\]<>*_#`])", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def prose(text):
    """True for a paragraph of English sentences."""
    if not 40 <= len(text) <= 2000 or not text.isascii() or not text.isprintable():
        return False
    if not re.match(r"[A-Z`\"(]", text) or text[-1] not in ".!?:)\"":
        return False
    if text.count("`") % 2 or BOILERPLATE.search(text):
        return False
    bare = re.sub(r"`[^`]*`", "", text)
    if len(bare) < 0.55 * len(text):
        return False
    words = re.findall(r"[A-Za-z][a-z']*", bare)
    if len(words) < 7 or sum(w.lower() in STOPWORDS for w in words) < 0.2 * len(words):
        return False
    letters = sum(c.isalpha() or c == " " for c in bare)
    return letters >= 0.9 * len(bare) and not re.search(r"[{}|=;#@~^$%&]{2}|\b[0-9A-F]{6,}\b|/\d|\S{40}", bare)


def documents(found):
    exact, shapes = set(), {}
    for (name, version), (_, folder) in sorted(found.items()):
        files = []
        for root, folders, names in os.walk(folder):
            folders[:] = [f for f in folders if f not in ("target", ".git", "node_modules")]
            files += [os.path.relpath(os.path.join(root, n), folder) for n in names]
        for path in sorted(f.replace(os.sep, "/") for f in files):
            if path.endswith(".md"):
                if re.search(r"licen[sc]e|changelog|changes|releases|history|conduct|contributing|security|copying", path, re.I):
                    continue
            elif not path.endswith(".rs"):
                continue
            with open(os.path.join(folder, path), encoding="utf-8", errors="replace") as file:
                content = file.read()
            blocks = map(dedent, doc_blocks(content)) if path.endswith(".rs") else [content.splitlines()]
            kept = []
            for block in blocks:
                for paragraph in paragraphs(block):
                    text = plain(paragraph)
                    if not prose(text):
                        continue
                    key = re.sub(r"[^a-z]+", "", text.lower())
                    # Documentation written from a template differs in the quoted names alone: four of each are enough.
                    shape = re.sub(r"[^a-z]+", " ", re.sub(r"`[^`]*`|\b[A-Z]\w*[A-Z0-9]\w*\b", "", text).lower())
                    if key in exact or shapes.get(shape, 0) >= 4:
                        continue
                    exact.add(key)
                    shapes[shape] = shapes.get(shape, 0) + 1
                    kept.append(text)
            if kept:
                yield f"{name}-{version}/{path}", "\n".join(kept) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(HERE, "build"), help="output folder (default: build beside this file)")
    parser.add_argument("--sources", default=os.path.join(HERE, "sources.txt"))
    parser.add_argument("--refresh", action="store_true", help="take the crates of the lock file and rewrite sources.txt")
    parser.add_argument("--heldout-bytes", type=int, default=60_000)
    args = parser.parse_args()

    found = crates(args.sources, args.refresh)
    docs = list(documents(found))
    candidates = sorted((hashlib.sha256(name.encode()).hexdigest(), name, text) for name, text in docs
                        if 400 <= len(text) <= 6000)
    held, size = set(), 0
    for _, name, text in candidates:
        if size + len(text) + 1 <= args.heldout_bytes:
            held.add(name)
            size += len(text) + 1
    os.makedirs(args.out, exist_ok=True)
    for file, part in (("train.txt", [t for n, t in docs if n not in held]), ("heldout.txt", [t for n, t in docs if n in held])):
        data = "\n".join(part).encode()
        with open(os.path.join(args.out, file), "wb") as out:
            out.write(data)
        print(f"{file}: {len(part)} documents, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if args.refresh or not os.path.exists(args.sources):
        used = {n.split("/")[0] for n, _ in docs}
        with open(args.sources, "w") as out:
            out.write("# Crates whose documentation is the training text: name, version, licence. Written by corpus.py.\n")
            for (name, version), (licence, _) in sorted(found.items()):
                if f"{name}-{version}" in used:
                    out.write(f"{name} {version} {licence}\n")


if __name__ == "__main__":
    main()
