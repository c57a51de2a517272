#!/usr/bin/env bash
# Installs what longfold builds and runs with. Quick when nothing is missing; asks for what it may not install itself.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }

# Header or program that must be there, and the Debian package that brings it.
needed=(
  "CLI/CLI.hpp libcli11-dev"
  "toml++/toml.h libtomlplusplus-dev"
  "nlohmann/json.hpp nlohmann-json3-dev"
  "zlib.h zlib1g-dev"
  "gtest/gtest.h libgtest-dev"
  "boost/context/fiber.hpp libboost-context-dev"
)
missing=()
command -v "${CXX:-g++}" >/dev/null || missing+=(g++)
command -v mpicxx >/dev/null || missing+=(libopenmpi-dev)
command -v mpirun >/dev/null || missing+=(openmpi-bin)
for line in "${needed[@]}"; do
  read -r header package <<<"$line"
  printf '#if !__has_include(<%s>)\n#error missing\n#endif\n' "$header" | "${CXX:-g++}" -x c++ -E - >/dev/null 2>&1 || missing+=("$package")
done
python3 -c 'import ensurepip, venv' 2>/dev/null || [ -x .venv/bin/python ] || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
  command=(apt-get install -y --no-install-recommends "${missing[@]}" ccache)
  if ! command -v apt-get >/dev/null; then
    say "please install the equivalents of these Debian packages, then run me again: ${missing[*]}"
    exit 2
  elif [ "$(id -u)" = 0 ]; then
    sudo=()
  elif sudo -n true 2>/dev/null; then
    sudo=(sudo)
  else
    say "missing system packages; please run, or ask somebody to run:"
    say "  sudo ${command[*]}"
    exit 2
  fi
  say "installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" "${command[@]}" >/dev/null
fi

stamp=.venv/requirements.installed
if ! cmp -s requirements.txt "$stamp"; then
  say "installing Python packages into .venv (torch is large: some minutes the first time)"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
  cp requirements.txt "$stamp"
fi
