#!/bin/sh
# Runs tests alone, each in a process of its own, again and again, and prints which failed how often.
#   tests/steady.sh [TEST...]   names or parts of names, as for cargo test; default: those that start
#                               servers, daemons and processes
# RUNS (30): how often each test runs; AT_ONCE (4): how many run at the same time, since most wait.
# Each round runs every test once, so an interrupted run (Ctrl-C) has run all about equally often.
# The output of each failed run is kept in target/steady.
set -eu
cd "$(dirname "$0")/.."
runs=${RUNS:-30}
at_once=${AT_ONCE:-4}
[ $# -gt 0 ] || set -- faults:: driver:: reconcile:: steps:: controller::
kept=${CARGO_TARGET_DIR:-target}/steady
rm -rf "$kept"
mkdir -p "$kept"

suite=$("${CARGO:-cargo}" test --locked --test suite --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/suite-[^"]*\)".*/\1/p' | tail -n 1)
"$suite" --list --format terse "$@" | sed -n 's/: test$//p' >"$kept/all"
"$suite" --list --format terse --ignored "$@" | sed -n 's/: test$//p' >"$kept/ignored"
grep -vxFf "$kept/ignored" "$kept/all" >"$kept/tests" || [ ! -s "$kept/ignored" ]
: >"$kept/results"

# Runs one test; appends the outcome, the seconds and the name.
cat >"$kept/run" <<'RUN'
#!/bin/sh
kept=$(dirname "$0")
began=$(date +%s)
output=$kept/$(printf %s "$3" | tr : _).$2.log
outcome=ok
# As under cargo.
export CARGO_PKG_NAME=kindler
timeout -k 10 1800 "$1" --exact "$3" >"$output" 2>&1 || outcome=FAILED
echo "$outcome $(($(date +%s) - began)) $3" >>"$kept/results"
[ "$outcome" = FAILED ] || exec rm "$output"
echo "FAILED in round $2: $3, see $output"
RUN
chmod +x "$kept/run"

summary() {
    awk '{ count++ }
        $1 != "ok" { failed[$3]++; failures++ }
        { of[$3]++ }
        END {
            printf "%d runs, %d failures\n", count, failures
            for (test in failed) printf "%d of %d failed: %s\n", failed[test], of[test], test
        }' "$kept/results"
}
trap 'summary; exit 130' INT TERM

echo "$(wc -l <"$kept/tests") tests, $runs times each, $at_once at once"
round=0
while [ "$round" -lt "$runs" ]; do
    round=$((round + 1))
    xargs -n 1 -P "$at_once" "$kept/run" "$suite" "$round" <"$kept/tests"
done
summary
! grep -q '^FAILED' "$kept/results"
