#!/usr/bin/env bash
# Runs each fuzz target for a while and stops at the first that fails. Needs cargo-fuzz (`cargo install cargo-fuzz`).
#
#   fuzz/run.sh [SECONDS]   per target, default 60; what it has learnt stays in fuzz/corpus/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
command -v cargo-fuzz >/dev/null 2>&1 || {
  echo "cargo-fuzz is not installed: cargo install cargo-fuzz (the bodies of the targets also run in cargo test)" >&2
  exit 1
}
# The sanitizer flags of the compiler are unstable; this lets a stable one take them.
export RUSTC_BOOTSTRAP=1

# The recorded inputs of tests/corpus are where a run begins: a byte that makes the target's choice, then the input.
seed_connections() {
  local number=0 when bytes choice
  mkdir -p fuzz/corpus/packet fuzz/corpus/connection
  while read -r when bytes; do
    case $when in
      first) choice='\x04' ;;
      4) choice='\x02' ;;
      5) choice='\x00' ;;
      *) continue ;;
    esac
    number=$((number + 1))
    bytes=$(printf '%s' "$bytes" | sed 's/ *\([0-9A-F][0-9A-F]\)/\\x\1/g')
    printf '%b' "$choice$bytes" >"fuzz/corpus/connection/recorded-$number"
    printf '%b' "$choice$bytes" >"fuzz/corpus/packet/recorded-$number"
  done <tests/corpus/connections.txt
}

seed_texts() {
  mkdir -p fuzz/corpus/topics fuzz/corpus/configuration
  awk -v RS= '!/^#/ { printf "%s", $0 > ("fuzz/corpus/topics/recorded-" NR) }' tests/corpus/topics.txt
  cp config/edgeway.yaml fuzz/corpus/configuration/
  local file
  for file in examples/*/*.yaml; do
    cp "$file" "fuzz/corpus/configuration/$(printf '%s' "$file" | tr / -)"
  done
}

seed_connections
seed_texts
for target in packet connection topics configuration; do
  echo "== fuzz $target for $seconds s"
  cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
done
