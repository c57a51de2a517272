"""Models of Hugging Face's transformers here: the same logits and gradients, and the same bits on the way back."""

import gzip
import json
import pathlib
import random
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from runs import metrics
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4  # of logits and gradients, in fp32
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}


def config_of(name):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    common = {"vocab_size": 69, "bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 64}
    neox = lambda **more: transformers.GPTNeoXConfig(**sizes, **common, **more)  # noqa: E731
    llama = lambda **more: transformers.LlamaConfig(**sizes, **common, **more)  # noqa: E731
    gpt2 = lambda **more: transformers.GPT2Config(  # noqa: E731
        **common, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **more
    )
    return {
        "gpt-neox": lambda: neox(),
        "gpt-neox sequential": lambda: neox(
            use_parallel_residual=False, hidden_act="gelu_fast", rope_parameters={"partial_rotary_factor": 0.5}
        ),
        "gpt-neox linear": lambda: neox(rope_parameters=dict(LINEAR), layer_norm_eps=1e-3),
        "gpt-neox tied": lambda: neox(tie_word_embeddings=True),
        "gpt2": lambda: gpt2(),
        "gpt2 untied": lambda: gpt2(tie_word_embeddings=False, n_inner=40, activation_function="gelu"),
        "llama": lambda: llama(),
        "llama grouped": lambda: llama(num_key_value_heads=2, rms_norm_eps=1e-3),
        "llama linear": lambda: llama(rope_parameters=dict(LINEAR), num_key_value_heads=1),
        "llama biased": lambda: llama(attention_bias=True, mlp_bias=True, num_key_value_heads=2),
        "llama tied": lambda: llama(tie_word_embeddings=True),
    }[name]()


MODELS = [
    "gpt-neox",
    "gpt-neox sequential",
    "gpt-neox linear",
    "gpt-neox tied",
    "gpt2",
    "gpt2 untied",
    "llama",
    "llama grouped",
    "llama linear",
    "llama biased",
    "llama tied",
]


@pytest.fixture
def write(tmp_path):
    """write("gpt2") -> a folder that transformers saved, with random values in every parameter."""

    def write_folder(name, dtype=torch.float32, **how):
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config_of(name))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(1 if parameter.dim() == 1 else 0, 0.2)
        model.to(dtype).save_pretrained(tmp_path / "theirs", **how)
        return tmp_path / "theirs"

    return write_folder


@pytest.fixture
def import_(longfold, tmp_path):
    def run(folder, *options, tokenizer="genslm69"):
        return longfold("import", folder, "-o", tmp_path / "ours", *options, "--tokenizer", tokenizer)

    return run


@pytest.fixture
def ours(program, tmp_path):
    """Logits and gradients of the checkpoint ours."""
    probe = program.parent / "tests" / "exchange" / "logits_and_gradients"
    assert probe.exists(), f"{probe} is missing: run `make build`"

    def run(tokens):
        np.array(tokens, dtype=np.int64).tofile(tmp_path / "tokens")
        subprocess.run([probe, tmp_path / "ours", tmp_path / "tokens", tmp_path / "result"], check=True)
        return load_file(tmp_path / "result")

    return run


def transformers_of(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def some_tokens(length=40):
    return [5 + i * i * 7 % 64 for i in range(length)]


def logits_and_gradients(model, tokens):
    logits = model(torch.tensor([tokens])).logits[0]
    torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:])).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if model.config.model_type == "gpt_neox" and "lm_head.weight" in gradients:
        gradients["embed_out.weight"] = gradients.pop("lm_head.weight")  # its name when it is saved
    return {"logits": logits.detach(), **gradients}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert theirs["logits"].abs().max() > 0.5
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        assert (ours[name] - value).abs().max() < TOLERANCE, name


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_transformers(import_, ours, write, name):
    folder = write(name)
    done = import_(folder)
    assert done.code == 0, done.stderr
    assert_same(ours(some_tokens()), logits_and_gradients(transformers_of(folder), some_tokens()))


def test_the_comparison_can_fail(import_, ours, write, tmp_path):
    folder = write("llama")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 9000.0
    (folder / "config.json").write_text(json.dumps(config))
    assert import_(folder).code == 0
    config["rope_parameters"]["rope_theta"] = 10000.0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(AssertionError):
        assert_same(ours(some_tokens()), logits_and_gradients(transformers_of(folder), some_tokens()))


def all_tensors(folder):
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.float32) for name in MODELS),
        ("gpt-neox", torch.float16),
        ("gpt2", torch.bfloat16),
        ("llama grouped", torch.bfloat16),
        ("llama tied", torch.float16),
    ],
)
def test_there_and_back_gives_the_same_bits(longfold, import_, write, tmp_path, name, dtype):
    folder = write(name, dtype, max_shard_size="10KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert import_(folder).code == 0
    done = longfold("export", tmp_path / "ours", "-o", tmp_path / "back")
    assert done.code == 0, done.stderr
    before, after = all_tensors(folder), all_tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value.float().view(torch.int32), after[key].view(torch.int32)), key
    if dtype != torch.float32:
        return
    same, there = transformers_of(tmp_path / "back"), transformers_of(folder)
    with torch.no_grad():
        tokens = torch.tensor([some_tokens()])
        assert (same(tokens).logits - there(tokens).logits).abs().max() < 1e-5  # gelu_fast has become gelu_new
    assert same.config.max_position_embeddings == there.config.max_position_embeddings


VERSION_4 = {
    "gpt-neox": {
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "gelu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 64,
        "model_type": "gpt_neox",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "rotary_emb_base": 5000,
        "rotary_pct": 0.5,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.24.0",
        "use_cache": True,
        "use_parallel_residual": True,
        "vocab_size": 69,
    },
    "gpt2": {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 50256,
        "embd_pdrop": 0.1,
        "eos_token_id": 50256,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 64,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
        "resid_pdrop": 0.1,
        "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": 69,
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 2.0, "type": "linear"},
        "rope_theta": 20000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0",
        "use_cache": True,
        "vocab_size": 69,
    },
}
BUFFERS = {  # that version 4 wrote beside the weights
    "gpt-neox": {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2),
    },
    "gpt2": {"h.0.attn.bias": torch.ones(1, 1, 64, 64)},
    "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
}


@pytest.mark.parametrize("family", VERSION_4)
def test_what_version_4_wrote(import_, ours, write, family):
    """Rotary values beside each other, buffers among the weights, GPT-2's names without their beginning."""
    folder = write(family)
    (folder / "config.json").write_text(json.dumps(VERSION_4[family]))
    theirs = transformers_of(folder)  # version 5 reads these keys too
    tensors = {name.removeprefix("transformer."): value for name, value in all_tensors(folder).items()}
    save_file(tensors | BUFFERS[family], folder / "model.safetensors")
    done = import_(folder)
    assert done.code == 0, done.stderr
    assert f"left out {len(BUFFERS[family])} tensors that hold no weights" in done.stdout
    assert ("attn_pdrop 0.1 is not kept" in done.stdout) == (family == "gpt2")
    assert_same(ours(some_tokens()), logits_and_gradients(theirs, some_tokens()))


@pytest.fixture
def genome(longfold, tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(">random\n" + "".join(random.Random(1).choices("ACGT", k=120)) + "\n")
    assert longfold("prepare", path, "-o", tmp_path / "genome").code == 0
    return tmp_path / "genome"


def recipe_text(genome, tmp_path, *more, model="", **optimizer):
    rates = {"learning_rate": 0.01, "final_learning_rate": 0.01, "warmup_steps": 0, **optimizer}
    return "\n".join(
        [
            f'[data]\npath = "{genome}"',
            "[optimizer]",
            *(f"{key} = {value}" for key, value in rates.items()),
            f'[train]\noutput = "{tmp_path / "run"}"\nsteps = 2\ninit_from = "{tmp_path / "ours"}"',
            *more,
            "[compute]\nthreads = 1",
            model,
        ]
    )


def test_a_run_begins_with_imported_weights(longfold, import_, write, genome, tmp_path):
    folder = write("llama grouped")
    assert import_(folder).code == 0
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(genome, tmp_path))
    done = longfold("train", path)
    assert done.code == 0, done.stderr
    assert f"weights      those of '{tmp_path / 'ours' / 'step-00000000'}'" in done.stdout
    tokens = np.fromfile(f"{genome}.bin", dtype=np.uint16).astype(np.int64).tolist()
    model = transformers_of(folder)
    logits = model(torch.tensor([tokens])).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]))
    loss.backward()
    norm = torch.sqrt(sum(p.grad.double().square().sum() for p in model.parameters())).item()
    first = metrics(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(norm, rel=1e-4)

    manifest = json.loads((tmp_path / "run" / "step-00000002" / "manifest.json").read_text())
    assert manifest["recipe"]["train"]["init_from"] == str(tmp_path / "ours" / "step-00000000")
    assert manifest["recipe"]["model"]["num_kv_heads"] == 2 and "imported_from" not in manifest
    imported = json.loads((tmp_path / "ours" / "step-00000000" / "manifest.json").read_text())
    assert imported["imported_from"] == str(folder)

    assert longfold("train", path, "--train.steps", 3, "--resume").code == 0
    assert len(metrics(tmp_path / "run")) == 3
    message = longfold("train", path, "--resume", "--train.steps", 4, "--train.init_from", "").one_line_error(2)
    assert "cannot resume" in message

    # A run's own checkpoint is as good; stretched positions and dropout are for the recipe to say.
    again = tmp_path / "again.toml"
    again.write_text(
        recipe_text(genome, tmp_path, model="[model]\nrotary_scaling = 2.0\ndropout = 0.1")
        .replace(str(tmp_path / "run"), str(tmp_path / "again"))
        .replace(str(tmp_path / "ours"), str(tmp_path / "run"))
    )
    assert longfold("train", again).code == 0
    manifest = json.loads((tmp_path / "again" / "step-00000002" / "manifest.json").read_text())
    assert manifest["recipe"]["train"]["init_from"] == str(tmp_path / "run" / "step-00000003")
    assert manifest["recipe"]["model"]["rotary_scaling"] == 2.0


def test_weights_that_are_not_the_recipes_are_refused(longfold, import_, write, genome, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(genome, tmp_path))
    nowhere = longfold("train", path).one_line_error(2)
    assert nowhere == f"expected a checkpoint or a folder with some, got '{tmp_path / 'ours'}'"
    assert import_(write("llama grouped")).code == 0
    message = longfold("train", path, "--model.num_layers", 3).one_line_error(2)
    assert message == (
        f"cannot begin from '{tmp_path / 'ours' / 'step-00000000'}': model.num_layers is 2 there, the recipe says 3 "
        "(left out, it is that of the checkpoint)"
    )
    assert longfold("prepare", tmp_path / "genome.fa", "-o", tmp_path / "bases", "--tokenizer", "nucleotide").code == 0
    message = longfold("train", path, "--data.path", tmp_path / "bases", "--model.vocab_size", 9).one_line_error(2)
    assert "it has tokenizer genslm69 (fnv1a64:" in message and "has nucleotide (" in message
    path.write_text(recipe_text(genome, tmp_path).replace(str(tmp_path / "run"), str(tmp_path / "ours")))
    assert "holds imported weights and no run" in longfold("train", path, "--resume").one_line_error(2)


def test_eval_scores_imported_weights(longfold, import_, write, genome, tmp_path):
    folder = write("gpt2")
    assert import_(folder).code == 0
    message = longfold("eval", tmp_path / "ours").one_line_error(2)
    assert message.startswith("expected --data, a data set to evaluate on")
    message = longfold("eval", tmp_path / "ours", "--data", genome).one_line_error(2)
    assert message.startswith("expected --train, a data set for baselines")
    done = longfold("eval", tmp_path / "ours", "--data", genome, "--order", -1, "--json")
    assert done.code == 0, done.stderr
    tokens = torch.from_numpy(np.fromfile(f"{genome}.bin", dtype=np.uint16).astype(np.int64))[None]
    with torch.no_grad():
        loss = transformers_of(folder)(tokens, labels=tokens).loss.item()
    assert json.loads(done.stdout)["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("llama", {"hidden_act": "relu"}, 'hidden_act is "relu", expected one of "silu", "swish"'),
        ("gpt2", {"activation_function": "silu"}, 'activation_function is "silu", expected one of "gelu_new", "gelu"'),
        ("llama", {"attention_bias": True}, "mlp_bias is false, expected true, as attention_bias is"),
        ("gpt-neox", {"attention_bias": False}, "attention_bias is false, expected true"),
        ("llama", {"head_dim": 16}, "head_dim is 16, expected 8, hidden_size over num_attention_heads"),
        ("llama", {"sliding_window": 128}, "sliding_window is 128, expected null"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is false, expected true"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
            'rope_parameters.rope_type is "yarn", expected "default" or "linear"',
        ),
        (
            "llama",
            {"rope_parameters": None, "rope_scaling": {"type": "llama3", "factor": 8.0}},
            'rope_scaling.type is "llama3", expected "default" or "linear"',
        ),
        ("llama", {"rope_scaling": {"type": "linear"}}, 'is of type "default", rope_scaling of "linear", expected one'),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "the rotary positions are linear, expected a factor"),
        ("llama", {"rope_theta": 500}, "rope_theta is 500, expected 10000.0, as rope_parameters.rope_theta is"),
        ("llama", {"rope_thetas": 1, "rope_thete": 1}, "unknown key 'rope_thete', did you mean 'rope_theta'?"),
        ("llama", {"rms_norm_eps": None}, "rms_norm_eps is missing, expected a number"),
        ("gpt2", {"n_layer": "2"}, 'n_layer is "2", expected a whole number from 1 to 2147483647'),
        ("gpt2", {"n_layer": 2**40}, "n_layer is 1099511627776, expected a whole number from 1 to"),
        ("gpt2", {"n_layer": 2**31 - 1}, "config.json has 2147483647 layers, there are only"),
        ("gpt2", {"n_head": 5}, "model.hidden_size 32 is not divisible by model.num_heads 5"),
        (
            "gpt2",
            {"architectures": ["GPT2Model"]},
            'architectures is "GPT2Model", expected "GPT2LMHeadModel", as model',
        ),
        ("gpt2", {"model_type": "mistral"}, 'model_type is "mistral", expected one of "gpt_neox", "gpt2", "llama"'),
        ("gpt2", {"vocab_size": 70}, "vocab_size is 70, expected 69, that of the tokenizer 'genslm69'"),
        ("gpt2", {"n_positions": 65}, "tensor 'transformer.wpe.weight': expected shape [65,32], as config.json has it"),
        (
            "llama",
            {"num_hidden_layers": 1},
            "not in a model of this config.json: model.layers.1.input_layernorm.weight",
        ),
        ("llama", {"num_hidden_layers": 3}, "missing, as config.json has it: model.layers.2.input_layernorm.weight, "),
        ("llama", {"tie_word_embeddings": True}, "tensor 'lm_head.weight' is not 'model.embed_tokens.weight'"),
        ("gpt2", {"tie_word_embeddings": False}, "missing, as config.json has it: lm_head.weight"),
    ],
)
def test_what_no_model_here_has_is_named(import_, write, tmp_path, name, changes, words):
    folder = write(name)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    message = import_(folder).one_line_error(2)
    assert words in message and str(folder) in message
    assert not (tmp_path / "ours").exists()


def test_tensors_are_named(import_, write, tmp_path):
    folder = write("llama")
    good = load_file(folder / "model.safetensors")

    def refusal(change):
        tensors = dict(good)
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        assert not (tmp_path / "ours").exists()
        return import_(folder).one_line_error(2).removeprefix(f"'{folder}': ")

    key = "model.layers.1.self_attn.k_proj.weight"
    assert refusal(lambda tensors: tensors.pop(key)) == f"missing, as config.json has it: {key}"
    assert (
        refusal(lambda tensors: [tensors.pop(name) for name in good if ".mlp." in name or name == key])
        == "missing, as config.json has it: model.layers.0.mlp.gate_proj.weight, model.layers.0.mlp.up_proj.weight, "
        "model.layers.0.mlp.down_proj.weight and 4 more"
    )
    assert refusal(lambda tensors: tensors.update({"x.y": torch.ones(2)})) == (
        "not in a model of this config.json: x.y"
    )
    assert refusal(lambda tensors: tensors.update({key: torch.ones(32, 31)})) == (
        f"tensor '{key}': expected shape [32,32], as config.json has it, got [32,31]"
    )
    assert refusal(lambda tensors: tensors.update({key: good[key].double()})) == (
        f"tensor '{key}': expected F32, F16 or BF16, got F64"
    )


def test_shards_and_their_index(import_, write, tmp_path):
    folder = write("llama", max_shard_size="10KB")
    path = folder / "model.safetensors.index.json"
    good = path.read_text()
    files = list(json.loads(good)["weight_map"].items())
    shard = next(file for _, file in files if sum(file == other for _, other in files) > 1)
    names = [name for name, file in files if file == shard]

    def refusal(change):
        index = json.loads(good)
        change(index["weight_map"])
        path.write_text(json.dumps(index))
        return import_(folder).one_line_error(2)

    message = refusal(lambda names_: names_.pop(names[0]))
    assert f"{shard}': tensor '{names[0]}' is not of this file, says model.safetensors.index.json" in message
    message = refusal(lambda names_: names_.update({names[0]: "../x.safetensors"}))
    assert 'is "../x.safetensors", expected the name of a .safetensors file in this folder' in message
    message = refusal(lambda names_: names_.update({"other": shard}))
    assert f"{shard}': tensor 'other' is missing, which is there according to" in message
    path.write_text(good)
    (folder / "model.safetensors").write_bytes((folder / shard).read_bytes())
    assert "has both 'model.safetensors' and" in import_(folder).one_line_error(2)
    (folder / "model.safetensors").unlink()
    (folder / shard).unlink()
    assert f"cannot read '{folder / shard}'" in import_(folder).one_line_error(2)


class Program:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("it-ran"),)


def test_a_pickle_is_not_run(longfold, write, tmp_path):
    folder = write("gpt2")
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Program()}, folder / "pytorch_model.bin")
    done = longfold("import", folder, "-o", tmp_path / "ours", cwd=tmp_path)
    assert "is a pickle: reading one runs whatever program it holds" in done.one_line_error(2)
    assert not (tmp_path / "it-ran").exists() and not (tmp_path / "ours").exists()


@pytest.mark.parametrize("file", ["pytorch_model.bin", "25m.pt"])
def test_a_pickle_can_be_converted_as_the_message_says(longfold, import_, ours, write, tmp_path, file):
    folder = write("gpt-neox")
    theirs = transformers_of(folder)
    (folder / "model.safetensors").unlink()
    weights = theirs.state_dict()
    torch.save({"state_dict": weights, "epoch": 1} if file.endswith(".pt") else weights, folder / file)
    given = folder / file if file.endswith(".pt") else folder
    message = longfold("import", given, "-o", tmp_path / "ours").one_line_error(2)
    command = shlex.split(re.search("python -c .*", message)[0])
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert import_(folder).code == 0
    assert_same(ours(some_tokens()), logits_and_gradients(theirs, some_tokens()))


def commands_of_page():
    """The blocks of docs/exchange.md without a language."""
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "exchange.md").read_text()
    return re.findall(r"```\n(.*?)```", page, flags=re.DOTALL), re.findall(
        r"```python\n(.*?)```", page, flags=re.DOTALL
    )


def test_the_commands_of_the_page(longfold, program, write, genome, tmp_path):
    (tmp_path / "build").mkdir()
    assert longfold("prepare", tmp_path / "genome.fa", "-o", tmp_path / "build" / "genes-test").code == 0
    text = recipe_text(genome, tmp_path).replace(str(tmp_path / "run"), "runs/a")
    (tmp_path / "recipe.toml").write_text(text)
    (commands, pickles), (code,) = commands_of_page()
    folder = write("gpt-neox")
    for line in commands.splitlines():
        done = longfold(*line.replace("FOLDER", str(folder)).split()[1:], cwd=tmp_path)
        assert done.code == 0, (line, done.stderr)
    assert len(commands.splitlines()) == 4
    subprocess.run([sys.executable, "-c", code + "assert logits.shape == (1, 5, 69)"], check=True, cwd=tmp_path)

    before = load_file(folder / "model.safetensors")
    torch.save({"state_dict": before}, folder / "25m.pt")
    (folder / "model.safetensors").unlink()
    command = pickles.replace("FOLDER", str(folder)).replace("python -c", f"{sys.executable} -c", 1)
    subprocess.run(["bash", "-c", command], check=True)
    after = load_file(folder / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_folders_that_are_no_models(import_, longfold, tmp_path):
    message = import_(tmp_path / "nowhere").one_line_error(2)
    assert message == f"expected a folder, got '{tmp_path / 'nowhere'}'"
    (tmp_path / "empty").mkdir()
    assert f"cannot read '{tmp_path / 'empty' / 'config.json'}'" in import_(tmp_path / "empty").one_line_error(2)
    (tmp_path / "ours").mkdir()
    assert "is there already: expected a folder to make" in import_(tmp_path / "empty").one_line_error(2)


@pytest.mark.parametrize("tokenizer", ["genslm69", "nucleotide"])
def test_an_exported_tokenizer_gives_the_ids_of_prepare(longfold, import_, write, phage_lambda, tmp_path, tokenizer):
    genome = "".join(gzip.open(phage_lambda, "rt").read().splitlines()[1:])
    folder = write("llama")
    if tokenizer == "nucleotide":
        shrink(folder, 9)
    assert import_(folder, tokenizer=tokenizer).code == 0
    assert longfold("export", tmp_path / "ours", "-o", tmp_path / "back").code == 0
    tokenizer_file = tokenizers.Tokenizer.from_file(str(tmp_path / "back" / "tokenizer.json"))
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "back")
    for number, bases in enumerate([genome, "acgTTTuuuUGANNNRYacgaaAC", "acgt" * 11 + "a", "NNNN", "AC"]):
        path = tmp_path / f"{number}.fa"
        path.write_text(f">r\n{bases}\n")
        done = longfold("prepare", path, "-o", tmp_path / str(number), "--tokenizer", tokenizer)
        ids = np.fromfile(tmp_path / f"{number}.bin", dtype=np.uint16).tolist() if done.code == 0 else []
        assert len(ids) == len(bases) // (3 if tokenizer == "genslm69" else 1)
        assert tokenizer_file.encode(bases).ids == ids
        assert auto(bases).input_ids == ids and fast(bases).input_ids == ids
    assert auto.decode(auto("acguTTGCA").input_ids) == "ACGTTTGCA"
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    assert [auto.unk_token, auto.cls_token, auto.sep_token, auto.pad_token, auto.mask_token] == special
    assert auto.convert_tokens_to_ids(special) == [0, 1, 2, 3, 4]
    assert auto.model_max_length == 64

    # It is known again, as it stands and as transformers saves it.
    auto.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_bytes((tmp_path / "back" / "config.json").read_bytes())
    (tmp_path / "saved" / "model.safetensors").write_bytes((tmp_path / "back" / "model.safetensors").read_bytes())
    for name in ("back", "saved"):
        done = longfold("import", tmp_path / name, "-o", tmp_path / f"again-{name}")
        assert done.code == 0 and f"tokenizer    {tokenizer} (fnv1a64:" in done.stdout, done.stderr


def shrink(folder, vocab_size):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": vocab_size}))
    tensors = load_file(folder / "model.safetensors")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[key] = tensors[key][:vocab_size].clone()
    save_file(tensors, folder / "model.safetensors")


def table(path, vocabulary):
    text = {"format": "longfold tokens", "version": 1, "tokenizer": {"name": "mine", "vocabulary": vocabulary}}
    pathlib.Path(f"{path}.json").write_text(json.dumps(text))
    return path


def test_a_table_of_ones_own(longfold, import_, write, tmp_path):
    folder = write("llama")
    shrink(folder, 7)
    mine = table(tmp_path / "mine", ["[PAD]", "[UNK]", "[END]", "T", "G", "C", "A"])
    assert import_(folder, tokenizer=mine).code == 0
    assert longfold("export", tmp_path / "ours", "-o", f"{tmp_path / 'back'}/").code == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer("acgtN").input_ids == [6, 5, 4, 3, 1] and tokenizer.pad_token_id == 0
    done = longfold("import", tmp_path / "back", "-o", tmp_path / "again")
    assert done.code == 0 and "tokenizer    back (fnv1a64:" in done.stdout
    other = longfold("import", tmp_path / "back", "-o", tmp_path / "x", "--tokenizer", "nucleotide").one_line_error(2)
    assert "has another table than 'nucleotide'" in other


def test_a_table_that_transformers_would_read_otherwise_is_refused(longfold, import_, write, tmp_path):
    folder = write("llama")
    shrink(folder, 7)
    assert import_(folder, tokenizer=table(tmp_path / "mine", ["[PAD]", "[UNK]", "N", "T", "G", "C", "A"])).code == 0
    message = longfold("export", tmp_path / "ours", "-o", tmp_path / "back").one_line_error(2)
    assert message.startswith(
        "the tokenizer 'mine' cannot be a tokenizer.json: its 'N' is no sequence of A, C, G and T"
    )
    assert message.endswith("(--without-tokenizer exports the model alone)") and not (tmp_path / "back").exists()
    assert longfold("export", tmp_path / "ours", "-o", tmp_path / "back", "--without-tokenizer").code == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["config.json", "model.safetensors"]


def test_a_tokenizer_that_longfold_did_not_write(longfold, write, tmp_path):
    folder = write("llama")
    message = longfold("import", folder, "-o", tmp_path / "ours").one_line_error(2)
    assert message == (
        f"'{folder}' has no tokenizer.json: expected --tokenizer, genslm69 or nucleotide or a data set that has the "
        "model's"
    )
    model = tokenizers.models.WordLevel({"[UNK]": 0, "A": 1}, unk_token="[UNK]")
    tokenizers.Tokenizer(model).save(str(folder / "tokenizer.json"))
    message = longfold("import", folder, "-o", tmp_path / "ours").one_line_error(2)
    assert "has a tokenizer.json that longfold did not write: expected --tokenizer" in message
    assert longfold("import", folder, "-o", tmp_path / "ours", "--tokenizer", "genslm69").code == 0
