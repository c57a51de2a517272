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
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in ran.stdout.splitlines() if "| longfold |" in line
    ]
    errors = [row for row in rows if re.fullmatch(r"[\d.]+e-\d+", row[-1])]
    assert {row[0].split()[0] for row in errors} == {"fp32", "bf16", "fp16"}
    for row in errors:
        bound = 5e-6 if row[0].startswith("fp32") else 2e-2
        assert 0 < float(row[-2]) < bound and 0 < float(row[-1]) < bound, row


def test_the_bench_refuses_what_it_does_not_know(program):
    bench = program.parent / "bench" / "bench_evoformer_attention"
    ran = subprocess.run([bench, "--repeats", "none"], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.startswith("usage: ")
