"""The parts of bench/evoformer_cuda.py: reference, verdicts and page; and no contender costs another its results."""

import dataclasses
import math
import pathlib
import queue
import sys

import pytest
import torch

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from comparison import contenders, exact, measure, page, plot, runs, shapes, table, worker  # noqa: E402
from test_evoformer_bench import tables  # noqa: E402

SMALL = shapes.Shape("small", 5, 12, 2, 8)


@pytest.fixture
def small_samples(monkeypatch):
    """Samples and chunks that cut SMALL: 3 of 5 rows, 2 and then 1 at once; 7 of 12 queries, over 3 rows at once."""
    monkeypatch.setattr(exact, "SAMPLED", 3 * 2 * 12 * 12)
    monkeypatch.setattr(exact, "AT_ONCE", 2 * 2 * 12 * 12)


@pytest.mark.parametrize("sampled", [False, True])
def test_the_reference_is_the_formula(sampled, request):
    if sampled:
        request.getfixturevalue("small_samples")
        assert exact.samples(SMALL) == ([0, 2, 4], [0, 2, 4, 6, 7, 9, 11])
    inputs = exact.make_inputs(SMALL, torch.float64, "cpu")
    q, k, v, pair = leaves = [inputs[name] for name in ("q", "k", "v", "pair")]
    logits = torch.einsum("bnihd,bnjhd->bnhij", q, k) * 8**-0.5 + inputs["mask"] + pair
    out = torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1), v)
    grads = torch.autograd.grad(out, leaves, inputs["grad_out"])
    results = {"out": out} | dict(zip(("q", "k", "v", "pair"), grads, strict=True))
    expected = exact.exact_results(inputs, SMALL)
    assert all(error < 1e-14 for error in exact.relative_errors(results, expected, SMALL).values())
    assert (inputs["mask"] == -1e9).any() and (inputs["mask"][..., 0] == 0).all()
    for name, value in results.items():
        wrong = exact.relative_errors({name: value * 1.01}, expected, SMALL)[name]
        assert wrong == pytest.approx(0.01), name
        assert math.isnan(exact.relative_errors({name: value * math.nan}, expected, SMALL)[name])
        swapped = value.flip(2) if name == "pair" else value.flip(3)  # heads
        assert exact.relative_errors({name: swapped}, expected, SMALL)[name] > 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("crowded", [False, True])
def test_a_worker_measures_in_every_type(dtype, crowded):
    class Device(measure.Cpu):
        released = 0

        def crowded(self, extra):
            return crowded

        def release(self):
            Device.released += 1

        def peak(self, call):
            return 1 << 20, call()

    sent = []
    names = ["longfold", "eager", "sdpa"]
    task = {"device": "cpu", "dtype": dtype, "passes": list(table.PASSES), "seconds": 0.01}
    one = worker.Worker(
        task | {"contenders": names, "excluded": {}, "shapes": [dataclasses.asdict(SMALL)]}, sent.append
    )
    one.device = Device()
    one.run()
    results = [event["result"] for event in sent if "result" in event]
    assert [result["contender"] for result in results] == names
    size = {"float32": 4}.get(dtype, 2)
    for result in results:
        assert result["failed"] == {} and all(result["repeats"].values())
        times = result["times_ms"]
        assert set(times) == set(table.PASSES) and all(1 <= len(t) <= worker.ROUNDS for t in times.values())
        assert set(result["errors"]) == {"out", "q", "k", "v", "pair"}
        assert all(0 < error < (1e-6 if size == 4 else 2e-2) for error in result["errors"].values())
        held = 4 * 5 * 12 * 2 * 8 + 2 * 12 * 12  # out and four gradients
        assert result["extra_bytes"] == (1 << 20) - size * held
    assert (Device.released >= 12) == crowded  # once for each call that is timed, two rounds at least


def test_samples_spread():
    assert exact.spread(4, 10) == [0, 3, 6, 9] and exact.spread(99, 3) == [0, 1, 2] and exact.spread(0, 7) == [0]


def test_bits():
    x = torch.tensor([0.0, 1.0, math.nan]).bfloat16()
    assert worker.same_bits(x, x.clone())
    assert not worker.same_bits(x, torch.tensor([-0.0, 1.0, math.nan]).bfloat16())


def test_reasons_are_one_short_line():
    assert worker.reason(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 33.80 GiB. GPU 0 has")) == (
        "out of memory: asked for 33.80 GiB more"
    )
    assert worker.reason(RuntimeError("\n  a | b\nmore")) == "RuntimeError: a / b"
    assert worker.reason(RuntimeError("inductor raised:\nValueError: D\nmore")) == (
        "RuntimeError: inductor raised: ValueError: D"
    )
    assert len(worker.reason(RuntimeError("x" * 1000))) == worker.REASON


def run_of(times: dict, **more) -> dict:
    """A run of one shape: medians of forward and both by contender; None where it failed."""
    results = []
    for name, pair in times.items():
        ok = {which: [time] for which, time in zip(table.PASSES, pair, strict=True) if time is not None}
        failed = {which: "no" for which, time in zip(table.PASSES, pair, strict=True) if time is None}
        results.append({"shape": "small", "contender": name, "times_ms": ok, "failed": failed})
    machine = {"device": "NVIDIA H100 80GB HBM3"} | more.pop("machine", {})
    fields = {"name": "small", "num_rows": 5, "length": 12, "heads": 2, "head_dim": 8}
    return {
        "date": "2026-01-02", "command": "c", "dry": False, "dtype": "bfloat16", "passes": list(table.PASSES),
        "machine": machine, "versions": {}, "missing": {}, "shapes": [fields], "results": results,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("times", "ahead"),
    [
        ({"longfold": (1, 3), "eager": (2, 4)}, True),
        ({"longfold": (1, 3), "eager": (2, 4), "sdpa": (9, 2.9)}, False),
        ({"longfold": (2, 3), "eager": (2, 4)}, False),
        ({"longfold": (1, 3), "eager": (None, None)}, True),
        ({"longfold": (1, None), "eager": (2, 4)}, False),
        ({"longfold": (None, None)}, False),
        ({"eager": (2, 4)}, False),
    ],
)
def test_ahead_of_every_peer_both_ways(times, ahead):
    run = run_of(times)
    (block,) = table.merge([run])
    assert block.ahead(list(table.PASSES)) == ahead
    assert f"at {int(ahead)} of 1 shapes" in page.summary([run])
    assert ("not at small" in page.summary([run])) != ahead


def test_wrong_results_win_nothing():
    run = run_of({"longfold": (1, 3), "eager": (0.5, 0.5)})
    run["results"][1]["errors"] = {"out": math.nan}
    assert table.merge([run])[0].ahead(["forward"])
    run["results"][0]["errors"] = {"q": 0.2}
    assert not table.merge([run])[0].ahead(["forward"])


def test_errors_beside_the_best_of_torch():
    run = run_of({"longfold": (1, 3), "eager": (2, 4), "sdpa": (2, 4), "trifast": (2, 4)})
    values = [{"out": 3e-3, "q": 1e-3}, {"out": 8e-3, "q": 2e-3}, {"out": 2e-3}, {"out": 1e-9, "q": 1e-9}]
    for result, errors in zip(run["results"], values, strict=True):
        result["errors"] = errors
    assert table.merge([run])[0].error_ratio() == ("out", pytest.approx(1.5))


def test_runs_of_two_devices_are_refused():
    other = run_of({"longfold": (1, 3)}, machine={"device": "NVIDIA A100"})
    with pytest.raises(ValueError, match="expected runs of one device, got NVIDIA A100 and NVIDIA H100 80GB HBM3"):
        table.merge([run_of({"longfold": (1, 3)}), other])


def test_two_types_are_two_blocks():
    blocks = table.merge([run_of({"longfold": (1, 3)}), run_of({"longfold": (2, 4)}, dtype="float16")])
    assert [(block.dtype, block.rows["longfold"].median("forward")) for block in blocks] == [
        ("bfloat16", 1),
        ("float16", 2),
    ]


def test_share_of_the_exp_floor():
    run = run_of({"longfold": (0.002, 3)}, machine={"exp_per_second": 1.44e6})  # 1,440 logits: 1 ms
    run["results"][0]["times_ms"]["forward"] = [4.0]
    _, times, _ = tables(page.render([run]))
    assert times[0]["of the exp floor"] == "25%"


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GB200", "gb200"),
        ("Tesla T4", "t4"),
        ("Quadro", "quadro"),
    ],
)
def test_the_page_is_named_after_the_gpu(device, name):
    assert page.device_name([run_of({}, machine={"device": device})]) == name


def test_places_on_logarithmic_axes():
    axis = plot.Axis(10, 1000, 0, 200)
    assert [axis.place(x) for x in (10, 100, 1000)] == pytest.approx([0, 100, 200])
    svg = plot.draw("a < b", {"one": [plot.Line("x", [(1, 2), (10, 20)], "#000")], "none": []})
    assert "a &lt; b" in svg and svg.count("<polyline") == 1 and ">none<" not in svg
    assert plot.draw("nothing", {"one": []}) == ""


def fake_workers(monkeypatch, *scripts):
    """Workers that send these events and end; the tasks that they got."""
    tasks = []

    class Process:
        pid = 0

        def wait(self):
            return 0

    def start(options, run, left, excluded):
        tasks.append(([shape.name for shape in left], {name: list(who) for name, who in excluded.items()}))
        events = queue.Queue()
        for event in [*scripts[len(tasks) - 1], None]:
            events.put(event)
        return Process(), events

    monkeypatch.setattr(runs, "start", start)
    monkeypatch.setattr(runs, "stop", lambda process: None)
    return tasks


def options(*names):
    chosen = [shapes.Shape(name, 1, 8, 1, 8) for name in names]
    players = contenders.named(["longfold", "eager"])
    return runs.Options(chosen, players, ["longfold", "eager"], "cuda", "bfloat16", ["forward"], 1, 10, "c")


def task(shape, contender, what="forward"):
    return {"task": {"shape": shape, "contender": contender, "what": what}}


def result(shape, contender):
    return {"result": {"shape": shape, "contender": contender, "times_ms": {"forward": [1.0]}}}


def test_a_contender_that_ends_the_worker_is_left_out_of_that_shape(monkeypatch):
    done = {"medians": {}}
    tasks = fake_workers(
        monkeypatch,
        [
            *(task("a", "longfold"), result("a", "longfold"), result("a", "eager"), done | {"done": "a"}),
            *(task("b", "longfold"), result("b", "longfold"), task("b", "eager")),
            {"broken": {"failed": {"forward": "illegal access"}}},
        ],
        [
            *(task("b", "longfold"), result("b", "longfold"), done | {"done": "b"}),
            *(task("c", "eager", "timing forward"), result("c", "longfold")),
        ],
        [
            *(task("c", "longfold"), result("c", "longfold"), done | {"done": "c"}),
            *(task("d", "eager"), result("d", "eager"), done | {"done": "d"}),
        ],
    )
    kept = []
    run = runs.measure(options(*"abcd"), lambda run: kept.append(len(run["results"])), lambda line: None)
    excluded = {"b": ["eager"]}
    assert tasks == [(list("abcd"), {}), (list("bcd"), excluded), (list("cd"), excluded | {"c": ["eager"]})]
    found = [(r["shape"], r["contender"], r.get("failed", {})) for r in run["results"]]
    assert found == [
        *(("a", "longfold", {}), ("a", "eager", {})),
        ("b", "eager", {"forward": "leaves the GPU unusable: illegal access (forward)"}),
        ("b", "longfold", {}),
        ("c", "eager", {"forward": "ended its process with status 0 (timing forward)"}),
        *(("c", "longfold", {}), ("d", "eager", {})),
    ]
    assert kept == [2, 4, 6, 7]


def test_a_device_that_fails_between_calls_ends_the_worker():
    class Device(measure.Cpu):
        def synchronize(self):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    sent = []
    one = worker.Worker({"device": "cpu", "dtype": "float32", "passes": ["forward"]}, sent.append)
    one.device = Device()
    entry = worker.Entry(contenders.named(["longfold"])[0], SMALL, exact.make_inputs(SMALL, torch.float32, "cpu"))
    with pytest.raises(worker.Broken):
        one.guarded(entry, "forward", entry.calls["forward"])
    (event,) = sent
    assert event["broken"]["failed"] == {
        "forward": "RuntimeError: CUDA error: an illegal memory access was encountered"
    }


def test_every_contender_but_longfold_and_torch_may_be_absent():
    for contender in contenders.CONTENDERS:
        words = contender.missing()
        assert words == "" or words == f"not installed (no Python module {contender.module})"
    assert contenders.custom("x=no_such_module_at_all:f").missing()


def test_the_shapes_are_those_of_models():
    by_name = {shape.name: str(shape) for shape in shapes.SHAPES}
    assert len(by_name) == len(shapes.SHAPES) == 18
    assert by_name["extra_msa_row"] == "N1024 L384 H8 D8" and by_name["triangle_3072"] == "N3072 L3072 H4 D32"
    assert shapes.SHAPES[0].flop == 4 * 128**3 * 4 * 32
