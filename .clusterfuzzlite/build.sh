#!/bin/bash -eu
# Builds each target for libFuzzer, with its corpus and its dictionary. There is no unsafe code, so any sanitizer does.
cd "$SRC/tourbillon/fuzz"
cargo fuzz build -O
for target in plan history checker mapping; do
  cp "target/x86_64-unknown-linux-gnu/release/$target" "$OUT/"
  zip -q -j "$OUT/${target}_seed_corpus.zip" "corpus/$target"/*
done
cp history.dict "$OUT/"
