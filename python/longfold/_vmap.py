"""torch.func.vmap of the ops. Registered from Python, where torch has a public way to do it."""

import torch
from torch import Tensor

_OPS = (
    torch.ops.longfold.evoformer_attention.default,
    torch.ops.longfold.evoformer_attention_backward.default,
    torch.ops.longfold.first_keys.default,
)


def _examples(batch_size, in_dims, arg):
    """The argument as one value for each example, without copies."""
    if isinstance(arg, (list, tuple)):
        dims = in_dims if isinstance(in_dims, (list, tuple)) else [in_dims] * len(arg)
        columns = [_examples(batch_size, dim, item) for dim, item in zip(dims, arg, strict=True)]
        return [[column[i] for column in columns] for i in range(batch_size)]
    return list(arg.unbind(in_dims)) if isinstance(arg, Tensor) and in_dims is not None else [arg] * batch_size


def _any_example(in_dims, arg):
    """What one example would look like, where there is none."""
    if isinstance(arg, (list, tuple)):
        dims = in_dims if isinstance(in_dims, (list, tuple)) else [in_dims] * len(arg)
        return [_any_example(dim, item) for dim, item in zip(dims, arg, strict=True)]
    return arg.new_zeros(arg.sum(in_dims).shape) if isinstance(arg, Tensor) and in_dims is not None else arg


def _join(results: tuple, batch_size: int):
    """Stacks of the results of all examples; if there are none, `results` is that of any."""
    if isinstance(results[0], Tensor):
        return torch.stack(results) if batch_size > 0 else results[0].new_empty(0, *results[0].shape)
    return [_join(items, batch_size) for items in zip(*results, strict=True)]


def _one_by_one(op):
    """Each example is a call of its own: its bits are those of that call, and no argument is copied to be folded."""

    def rule(info, in_dims, *args, **kwargs):
        if info.batch_size == 0:
            results = (op(*map(_any_example, in_dims, args), **kwargs),)
        else:
            columns = [_examples(info.batch_size, dim, arg) for dim, arg in zip(in_dims, args, strict=True)]
            results = tuple(op(*example, **kwargs) for example in zip(*columns, strict=True))
        if isinstance(results[0], Tensor):
            return _join(results, info.batch_size), 0
        output = tuple(_join(results, info.batch_size))
        return output, tuple([0] * len(item) if isinstance(item, list) else 0 for item in output)

    return rule


for _op in _OPS:
    torch.library.register_vmap(_op, _one_by_one(_op))
