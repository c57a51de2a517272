"""The bench runs, takes turns and writes its page. No number of it is judged here, but for the errors."""

import re
import subprocess


def test_the_bench_writes_its_page(program, tmp_path):
    bench = program.parent / "bench" / "bench_evoformer_attention"
    ran = subprocess.run(
        [bench, "--small", "--repeats", "1", "--write", tmp_path], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    (page,) = tmp_path.glob("evoformer-cpu-*.md")
    assert page.read_text() == ran.stdout
    section = ran.stdout.split("## Errors")[1].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section if re.search(r"e-\d+ \|$", line)]
    errors = {(row[0], row[1], row[2]): [float(cell) for cell in row[3:]] for row in rows}
    ours = {key[:2]: values for key, values in errors.items() if key[2] == "longfold"}
    assert {shape.split()[0] for shape, _ in ours} == {"fp32", "bf16", "fp16"}
    for key, values in ours.items():  # the rule of docs/numerics.md
        for value, eager in zip(values, errors[*key, "eager"], strict=True):
            assert 0 < value <= 2 * eager + 1e-6, key


def test_the_bench_refuses_what_it_does_not_know(program):
    bench = program.parent / "bench" / "bench_evoformer_attention"
    ran = subprocess.run([bench, "--repeats", "none"], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.startswith("usage: ")


def test_the_kernels_alone(program):
    bench = program.parent / "bench" / "bench_evoformer_kernels"
    ran = subprocess.run([bench, "--case", "af3_single", "--repeats", "1"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split(" | ")[:3] for line in ran.stdout.splitlines() if line.startswith("| af3_single")]
    assert rows == [["| af3_single", t, p] for t in ("float32", "bfloat16") for p in ("forward", "backward")]
    ran = subprocess.run([bench, "--case", "square"], capture_output=True, text=True)
    assert ran.returncode == 2 and "square" in ran.stderr and "template_triangle" in ran.stderr
    assert subprocess.run([bench, "--dtype", "int8"], capture_output=True).returncode == 2
