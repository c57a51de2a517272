# longfold: `make demo` shows it, `make test` proves it. Both set up and build what is missing.
.PHONY: help setup build programs demo test test-nightly test-dev test-tsan test-aarch64 fuzz cuda-all test-gpu bench bench-cuda data-ecoli format clean
.DEFAULT_GOAL := help

VENV := .venv/bin
PRESET ?= release
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## installs system packages (or prints the line to ask for) and .venv
	@bash tools/setup.sh

# $(call build,TARGETS): what the targets name, or all. .venv finds the package in this checkout; a .venv that is a link
# belongs to another one.
define build
	@cmake --preset $(PRESET) --log-level=WARNING
	@cmake --build --preset $(PRESET) $(addprefix --target ,$(1))
	@[ -L .venv ] || echo '$(CURDIR)/python' > "$$($(VENV)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/longfold.pth"
endef

build: setup ## build/release/longfold, the Python package, tests and benches
	$(call build)

programs: setup ## build/release/longfold and the Python package alone: half of the time
	$(call build,longfold longfold_python)

demo: programs ## trains on a whole phage genome, then runs Evoformer attention on a real alignment
	@bash examples/demo.sh

test: build ## builds and passes all tests, then the C++ ones under sanitizers and, where its tools are, for Arm
	python tools/check_includes.py
	ctest --preset $(PRESET)
	python -m pytest -q -n 2 --dist loadfile -m "not nightly" python/tests tests/cli tests/install tests/cuda
	@$(MAKE) --no-print-directory test-dev
	@$(MAKE) --no-print-directory test-tsan
	@if [ -z '$(aarch64_missing)' ]; then $(MAKE) --no-print-directory test-aarch64; \
	else echo 'make test: leaves out test-aarch64, which needs the Debian packages $(aarch64_missing)'; fi

test-nightly: build ## what takes too long for `make test`: all kernels in the emulator and under sanitizers, long tests, slow gradients
	@cmake --preset nightly --log-level=WARNING
	@cmake --build --preset nightly --target test_kernels test_simt
	ctest --preset nightly
	python -m pytest -q -n 2 --dist loadfile -m nightly python/tests tests/cli
	@cmake --preset dev-nightly --log-level=WARNING
	@cmake --build --preset dev-nightly
	ctest --preset dev-nightly
	@cmake --preset tsan-nightly --log-level=WARNING
	@cmake --build --preset tsan-nightly
	ctest --preset tsan-nightly
	@if [ -z '$(aarch64_missing)' ]; then $(MAKE) --no-print-directory test-aarch64 AARCH64_TESTS=aarch64-nightly; fi

# Ops, models, processes, trainer and exchange are torch's own code for the most part, and take longer to build than all the rest;
# kernels for AVX2 and AVX-512 have the source of the portable ones, and take minutes each with both sanitizers. So here
# AVX2's have one, and AVX-512's none: test-nightly has all.
test-dev: setup ## the C++ tests under address and undefined-behaviour sanitizers, but for ops, models, trainer and exchange
	@cmake --preset dev --log-level=WARNING
	@cmake --build --preset dev --target $(foreach folder,base kernels simt memory data,test_$(folder))
	ctest --preset dev

test-tsan: setup ## kernels and base under the thread sanitizer, without OpenMP
	@cmake --preset tsan --log-level=WARNING
	@cmake --build --preset tsan
	ctest --preset tsan

# Debian packages that test-aarch64 needs and that are not here.
aarch64_missing = $(strip $(if $(shell which aarch64-linux-gnu-g++ 2>/dev/null),,g++-aarch64-linux-gnu) \
                          $(if $(shell which qemu-aarch64 2>/dev/null),,qemu-user) \
                          $(if $(wildcard /usr/src/googletest/CMakeLists.txt),,googletest))

AARCH64_TESTS ?= aarch64
test-aarch64: setup ## the kernels for 64-bit Arm, cross-compiled and run under qemu
	@if [ -n '$(aarch64_missing)' ]; then echo 'test-aarch64: needs the Debian packages $(aarch64_missing)' >&2; exit 2; fi
	@cmake --preset aarch64 --log-level=WARNING
	@cmake --build --preset aarch64
	ctest --preset $(AARCH64_TESTS)

# Goes on from what it found before, in build/fuzz/corpus/; bytes that a reader cannot bear are kept in build/fuzz/.
FUZZ_SECONDS ?= 60
fuzz: setup ## libFuzzer looks for bytes that readers cannot bear, FUZZ_SECONDS (60) each; needs clang
	@cmake --preset fuzz --log-level=WARNING
	@cmake --build --preset fuzz
	@for reader in fasta genbank gff index safetensors recipe; do \
	  echo "fuzz: $$reader, $(FUZZ_SECONDS) s" && mkdir -p build/fuzz/corpus/$$reader && \
	  build/fuzz/tests/fuzz/fuzz_$$reader -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -artifact_prefix=build/fuzz/$$reader- \
	    build/fuzz/corpus/$$reader tests/fuzz/seeds/$$reader || exit 1; \
	done

cuda-all: setup ## with CUDA kernels for every GPU since Turing, and PTX for later ones; needs nvcc 13
	@cmake --preset cuda --log-level=WARNING
	@cmake --build --preset cuda

# The Python of the targets for a GPU: PYTHON if it is set, else that of .venv, else python3.
python_here = $${PYTHON:-$$([ -x $(VENV)/python ] && echo $(VENV)/python || echo python3)}

test-gpu: ## builds and tests the CUDA kernels on the GPU of this machine, under compute-sanitizer too
	PYTHON=$(python_here) bash tools/gpu_test.sh

bench: build ## Evoformer attention beside torch, in one run; BENCH_FLAGS="--write docs/results" keeps the page
	build/release/bench/bench_evoformer_attention $(BENCH_FLAGS)

bench-cuda: ## the same on a GPU, beside every kernel that is installed; needs what `make build` or `make test-gpu` built
	@PYTHONPATH=$(CURDIR)/python:$$PYTHONPATH $(python_here) bench/evoformer_cuda.py $(BENCH_FLAGS)

data-ecoli: ## brings annotated E. coli K-12 from its Debian package to build/data/
	@bash tools/ecoli.sh

format: setup ## clang-format and ruff over the tree
	@git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i
	@ruff format -q python tests tools examples bench && ruff check -q --fix python tests tools examples bench

clean: ## removes the build folders
	rm -rf build python/longfold/lib
