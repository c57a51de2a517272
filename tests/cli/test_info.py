"""longfold info, and what belongs to no single command."""

import subprocess

import pytest


def test_info_names_every_engine(longfold):
    done = longfold("info")
    assert done.code == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["longfold", "torch", "cpu", "linear", "cuda", "cudnn", "mpi", "nccl"]
    assert all(word in done.stdout for word in ("kernels", "threads", "missing: "))


def test_info_says_which_instruction_set_was_forced(longfold):
    assert "portable kernels" in longfold("info", env={"LONGFOLD_ISA": "portable"}).stdout


def test_a_wrong_instruction_set_is_one_line(longfold):
    done = longfold("info", env={"LONGFOLD_ISA": "sse9"})
    assert done.code == 1
    assert done.stderr == "longfold: [LONGFOLD_ISA] expected portable, neon, avx2, avx512 or avx512_bf16, got 'sse9'\n"


def test_an_unknown_command_is_one_line(longfold):
    assert longfold("trian").one_line_error(2) == "unknown command 'trian', did you mean 'train'?"
    names = "(one of: info, train, plan, prepare, inspect, eval, report, export, import, bench)"
    assert longfold("zzzzzzzz", "--help").one_line_error(2) == f"unknown command 'zzzzzzzz' {names}"


@pytest.mark.parametrize("arguments", [("info",), ("--help",), ("--version",)])
def test_a_full_disk_behind_standard_output_is_an_error(program, arguments):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([program, *arguments], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"longfold: cannot write to standard output (is the disk full?)\n"


def test_several_processes_are_refused_rather_than_run_side_by_side(longfold):
    done = longfold("train", "recipes/phage-lambda.toml", env={"OMPI_COMM_WORLD_SIZE": "4"})
    assert done.code == 2
    without_mpi = "longfold: [mpi] this is one of 4 processes"
    with_another = "longfold: [mpi] 4 processes were started, but MPI knows of 1: "
    assert done.stderr.startswith((without_mpi, with_another))
