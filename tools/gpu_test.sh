#!/usr/bin/env bash
# Builds longfold for the GPU of this machine and tests it there: the C++ tests of the CUDA kernels, some of them under
# compute-sanitizer, then the Python tests on the device, then the trainer. Logs go to ${OUT:-build/gpu}; a summary comes
# last.
#
#   tools/gpu_test.sh [build] [cpp] [sanitize] [python] [train]   all of them if none is named
#
# Needs nvcc, a compiler, CMake, Ninja and GoogleTest, and PYTHON (python3) with torch, numpy, pytest, expecttest and
# hypothesis; `train` needs what the trainer does (CLI11, toml++, nlohmann-json, zlib). CMAKE_OPTIONS is handed
# to its configuration, as -DCMAKE_PREFIX_PATH=... where a library lies elsewhere.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-build/gpu}
PYTHON=${PYTHON:-python3}
FOLDER=build/gpu-release
JOBS=$(nproc)
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
parts=${*:-build cpp sanitize python train}
summary=() failed=0

wants() { [[ " $parts " == *" $1 "* ]]; }
note() { summary+=("$1"); printf '%s\n' "$1"; }
# run NAME SECONDS COMMAND...: output to $OUT/NAME.log; its verdict joins the summary.
run() {
  local name=$1 limit=$2 begin=$SECONDS code
  shift 2
  timeout -s INT -k 15 "$limit" "$@" >"$OUT/$name.log" 2>&1 # at INT pytest still tells its failures
  code=$?
  if [ $code = 0 ]; then
    note "ok      $name ($((SECONDS - begin)) s): $(tail -n 1 "$OUT/$name.log")"
  else
    failed=1
    [ $code = 124 ] && note "FAILED  $name: ran past $limit s" || note "FAILED  $name: exit status $code ($((SECONDS - begin)) s)"
  fi
  return $code
}
# The first lines of each failure of a log.
show_gtest() { grep -E -A 6 'Failure$|^\[  FAILED  \]|terminate called|what\(\)' "$OUT/$1.log" | head -n "${2:-60}"; }
show_pytest() { grep -E '^(E  |FAILED|ERROR)|^python/tests.*(Error|Failed)' "$OUT/$1.log" | cut -c 1-220 | head -n "${2:-60}"; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || { echo "gpu_test: no GPU here" >&2; exit 2; }
"$PYTHON" -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name(0))' || exit 2
cmake --version | head -n 1
nvcc --version | tail -n 1

if wants build; then
  settings=(-S . -B "$FOLDER" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLONGFOLD_CUDA=ON -DLONGFOLD_TRAINER=OFF -DLONGFOLD_BENCH=OFF
            -DLONGFOLD_INSTALL=OFF -DPython_EXECUTABLE="$(command -v "$PYTHON")")
  if ! compgen -G '/usr/lib*/cmake/GTest' >/dev/null && ! compgen -G '/usr/lib/*/cmake/GTest' >/dev/null &&
    ! compgen -G '/usr/local/lib*/cmake/GTest' >/dev/null && [ -e /usr/src/googletest/CMakeLists.txt ]; then
    settings+=(-DLONGFOLD_GTEST_SOURCE=/usr/src/googletest)
  fi
  run configure 120 cmake "${settings[@]}" || { cat "$OUT/configure.log"; exit 1; }
  grep 'CUDA kernels:' "$OUT/configure.log"
  run build 420 cmake --build "$FOLDER" -j "$JOBS" --target test_cuda longfold_python || { grep -E -A 8 'error|FAILED' "$OUT/build.log" | head -n 80; exit 1; }
fi

if wants cpp; then
  # Most of the time goes into the reference, on one core: four processes share the tests.
  run cpp 240 bash -c 'for i in 0 1 2 3; do
      GTEST_TOTAL_SHARDS=4 GTEST_SHARD_INDEX=$i "$1" --gtest_brief=1 >"$2/cpp.$i" 2>&1 & shards[i]=$!
    done
    for i in 0 1 2 3; do wait "${shards[i]}" || code=1; cat "$2/cpp.$i"; rm "$2/cpp.$i"; done
    exit ${code:-0}' _ "$FOLDER/tests/cuda/test_cuda" "$OUT" || show_gtest cpp
fi

if wants sanitize; then
  if command -v compute-sanitizer >/dev/null; then
    small='Shapes/EvoformerAttention.*/two:Shapes/EvoformerAttention.*/mask_and_pair_strided:Shapes/EvoformerAttention.BFloat16/extra_msa_row:Shapes/EvoformerAttention.BFloat16/msa_column:Shapes/AttentionInUnits.BFloat16/bias_of_queries_type*:Shapes/AttentionInUnits.Float16/one*:Shapes/EvoformerAttention.*/head_5:Shapes/EvoformerAttention.BFloat16/every_kind_strided:Shapes/EvoformerAttention.Float32/head_200:EvoformerAttention.SharedPairGradient:HiddenKeys.CountWhereShownOnesAreMasked'
    run memcheck 120 compute-sanitizer --tool memcheck --leak-check no --error-exitcode 9 "$FOLDER/tests/cuda/test_cuda" --gtest_brief=1 --gtest_filter="$small" ||
      grep -E -A 6 'Invalid|Error|Failure' "$OUT/memcheck.log" | head -n 40
    # It follows neither products of warpgroups nor stages on their way through a ring, whose barriers one lane of a warp
    # arrives at, and calls each reuse of a tile a race. The emulator follows them (tests/simt/race_test.cpp).
    run racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 9 "$FOLDER/tests/cuda/test_cuda" --gtest_brief=1 --gtest_filter='Shapes/EvoformerAttention.Float32/two:Shapes/EvoformerAttention.*/head_5' ||
      grep -E -A 6 'hazard|Error|Failure' "$OUT/racecheck.log" | head -n 40
  else
    note "skipped memcheck, racecheck: no compute-sanitizer here"
  fi
fi

if wants python; then
  if "$PYTHON" -c 'import pytest, numpy, expecttest, hypothesis' 2>"$OUT/python.log"; then
    workers=()
    "$PYTHON" -c 'import xdist' 2>/dev/null && workers=(-n 4)
    PYTHONPATH=$PWD/python:${PYTHONPATH:-} run python 300 "$PYTHON" -m pytest -q -p no:cacheprovider "${workers[@]}" --durations=8 -rfE -k cuda python/tests || show_pytest python 80
  else
    failed=1
    note "FAILED  python: $(tail -n 1 "$OUT/python.log"); install the packages of requirements.txt for $PYTHON"
  fi
fi

if wants train; then
  # One folder in the place of `make build`'s, where tests and benches look for the program.
  # Of the kernels for Evoformer attention, which it does not call, the fewest.
  trainer=(-S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DLONGFOLD_CUDA_HEAD_DIMS=64 -DLONGFOLD_CUDA_TYPES=bfloat16 -DLONGFOLD_PYTHON=OFF -DLONGFOLD_BENCH=OFF -DLONGFOLD_INSTALL=OFF
           -DPython_EXECUTABLE="$(command -v "$PYTHON")")
  # shellcheck disable=SC2086 # several options
  if run configure_train 120 cmake "${trainer[@]}" ${CMAKE_OPTIONS:-} &&
    run build_train 420 cmake --build build/release -j "$JOBS" --target longfold test_model test_train; then
    for part in model train; do
      run "${part}_cpp" 120 "build/release/tests/$part/test_$part" --gtest_brief=1 --gtest_filter='*Gpu*' || show_gtest "${part}_cpp"
    done
    run train 240 "$PYTHON" -m pytest -q -p no:cacheprovider tests/cli/test_train_device.py || show_pytest train
  else
    grep -hE -A 8 'error|FAILED|CMake Error' "$OUT"/configure_train.log "$OUT"/build_train.log 2>/dev/null | head -n 60
  fi
fi

printf '\n== summary (%s s, logs in %s)\n' "$SECONDS" "$OUT"
printf '%s\n' "${summary[@]}"
exit $failed
