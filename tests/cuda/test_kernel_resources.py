"""The compiled kernels on tensor cores take no more than kernel_resources.json says. Takes 10 s, needs no GPU."""

import json

import kernel_resources
import pytest
from kernel_resources import Missing, counts, differences, name_of, resources, text_of

TABLE = json.loads(kernel_resources.TABLE.read_text())
REMAKE = "where that is meant: `make build PRESET=ci && python tests/cuda/kernel_resources.py --write`"


def test_no_kernel_takes_more_than_the_table_says():
    try:
        build = kernel_resources.build_folder()
        release = kernel_resources.nvcc_release(build)
        if release != TABLE["nvcc"]:
            pytest.skip(f"the table is of nvcc {TABLE['nvcc']}, this build of {release}")
        found = kernel_resources.read(build)
    except Missing as why:
        pytest.skip(str(why))
    lines = differences(found["kernels"], TABLE["kernels"])
    lines += differences(found["shared_memory"], TABLE["shared_memory"])
    assert not lines, "\n".join([*lines, REMAKE])


def test_the_table_is_as_it_is_written():
    assert text_of(TABLE) == kernel_resources.TABLE.read_text()
    # Three passes by three biases by rows or one row, and the pair bias's gradient; all by products of warps and of
    # warpgroups, which have forward passes of few queries too for head dims up to 32.
    per_instance = 2 * (3 * 3 * 2 + 3)
    assert len(TABLE["kernels"]) == per_instance * len(kernel_resources.INSTANCES) + 3
    assert all(kernel["products"] > 0 and kernel["exponentials"] > 0 for kernel in TABLE["kernels"].values())


def counts_that_the_docs_derive(name):
    """Products and exponentials of a kernel by products of warpgroups: docs/evoformer.md, and its rare part."""
    kernel, of = name.removesuffix(">").removeprefix("wgmma::").split("<")
    deep = int(of.split(", ")[1]) // 16
    both = 2 * (deep + 1)
    per_tile = {"Forward": deep + 1 + 4, "GradQ": both + 12, "GradKV": both + 8, "GradPair": both}
    few = "few queries" in of
    tiles = 2 if (kernel == "GradPair" and deep <= 4) or (kernel == "Forward" and deep <= 2 and not few) else 1
    # Masks that products take care of have code of their own: in the forward pass that of weights alone.
    products, exponentials = 2 * per_tile[kernel], 2 * 32
    if kernel == "Forward":
        # References that move: logits three times 4 x 8 keys by products of a warp; weights, two factors.
        products = per_tile[kernel] + 3 * 4 * deep
        exponentials += 32 + 2
    return {"products": tiles * products, "exponentials": tiles * exponentials}


@pytest.mark.parametrize("name", [name for name in TABLE["kernels"] if name.startswith("wgmma::")])
def test_products_and_exponentials_are_those_that_the_docs_derive(name):
    expected = counts_that_the_docs_derive(name)
    assert {key: TABLE["kernels"][name][key] for key in expected} == expected


@pytest.mark.parametrize("key", next(iter(TABLE["kernels"].values())))
def test_a_change_is_found(key):
    (name, numbers), *_ = TABLE["kernels"].items()
    more, less = ({name: numbers | {key: numbers[key] + by}} for by in (1, -1))
    table = {name: numbers}
    assert differences(table, table) == []
    (line,) = differences(more, table)
    assert line.startswith(f"{name}: [{key}] expected ") and line.endswith(f"{numbers[key]}, got {numbers[key] + 1}")
    assert len(differences(less, table)) == (key not in kernel_resources.LIMITS)


def test_a_kernel_that_comes_or_goes_is_found():
    assert differences({}, {"a": {}}) == ["a: in the table, and not built"]
    assert differences({"a": {}}, {}) == ["a: not in the table"]


def test_local_memory_in_the_loop_around_a_product():
    code = [
        (0x00, "STL", " [R1], R2 "),
        (0x10, "LDL.LU", " R2, [R1] "),  # in the outer loop alone
        (0x20, "LDL", " R2, [R1] "),
        (0x30, "HMMA.16816.F32.BF16", " R4, R8, R12, R4 "),
        (0x40, "BRA", " 0x60 "),
        (0x50, "MUFU.EX2", " R4, R4 "),
        (0x60, "BRA", " P0, 0x20 "),
        (0x70, "BRA", " 0x10 "),
        (0x80, "LDGSTS.E.BYPASS.128", " [R4], [R6] "),
    ]
    assert counts(code) == {
        "local_memory": 3,
        "local_memory_in_loops": 1,
        "products": 1,
        "exponentials": 1,
        "global_loads": 1,
    }


def test_other_architectures_and_other_kernels_are_left_out():
    kernel = "_ZN4cuda3mma11pass_kernelINS2_{}INS0_8bfloat16ELi32ELNS2_8BiasFormE{}EEENS2_14BackwardParamsEEEvT0_"
    assert name_of(kernel.format("8GradPair", "2")) == "GradPair<bfloat16, 32, k32>"
    assert name_of(kernel.format("5GradQ", "1ELb1")) == "GradQ<bfloat16, 32, k16, one row>"
    assert name_of(kernel.format("7Forward", "0ELb0")) == "Forward<bfloat16, 32, kNone, rows>"
    assert name_of(kernel.format("5wgmma5GradQ", "1ELb0")) == "wgmma::GradQ<bfloat16, 32, k16, rows>"
    of_blocks = kernel.format("5wgmma7Forward", "1ELNS3_6BlocksE{}")
    assert name_of(of_blocks.format(0)) == "wgmma::Forward<bfloat16, 32, k16, rows>"
    assert name_of(of_blocks.format(2)) == "wgmma::Forward<bfloat16, 32, k16, few queries>"
    assert name_of("_ZN4cuda17sum_middle_kernelIdEEvNS0_10KernelArgsIT_EE") is None
    usage = "arch = {}\n Function f{}:\n  REG:40 STACK:8 SHARED:0 LOCAL:0 CONSTANT[0]:568\n"
    assert resources(usage.format("sm_80", 1) + usage.format("sm_90a", 2)) == {"f2": {"registers": 40, "stack": 8}}
