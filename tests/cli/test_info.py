"""longfold info, and what belongs to no single command."""


def test_info_names_every_engine(longfold):
    done = longfold("info")
    assert done.code == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["longfold", "torch", "cpu", "cuda", "mpi", "nccl"]
    assert all(word in done.stdout for word in ("kernels", "threads", "missing: "))


def test_info_says_which_instruction_set_was_forced(longfold):
    assert "portable kernels" in longfold("info", env={"LONGFOLD_ISA": "portable"}).stdout


def test_a_wrong_instruction_set_is_one_line(longfold):
    done = longfold("info", env={"LONGFOLD_ISA": "sse9"})
    assert done.code == 1
    assert done.stderr == "longfold: [LONGFOLD_ISA] expected portable, avx2 or avx512, got 'sse9'\n"


def test_an_unknown_command_is_one_line(longfold):
    done = longfold("trian")
    assert done.code == 2
    assert done.stderr.count("\n") == 1


def test_several_processes_are_refused_rather_than_run_side_by_side(longfold):
    done = longfold("train", "recipes/phage-lambda.toml", env={"OMPI_COMM_WORLD_SIZE": "4"})
    assert done.code == 2
    assert done.stderr.startswith("longfold: [mpi] this is one of 4 processes")
