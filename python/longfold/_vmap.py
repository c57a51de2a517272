"""torch.func.vmap of the two ops. Registered from Python, where torch has a public way to do it."""

import torch
from torch import Tensor

_FORWARD = torch.ops.longfold.evoformer_attention.default
_BACKWARD = torch.ops.longfold.evoformer_attention_backward.default


def _examples(batch_size, in_dims, arg):
    """The argument as one value for each example, without copies."""
    if isinstance(arg, (list, tuple)):
        dims = in_dims if isinstance(in_dims, (list, tuple)) else [in_dims] * len(arg)
        columns = [_examples(batch_size, dim, item) for dim, item in zip(dims, arg, strict=True)]
        return [[column[i] for column in columns] for i in range(batch_size)]
    return list(arg.unbind(in_dims)) if isinstance(arg, Tensor) and in_dims is not None else [arg] * batch_size


def _one_by_one(op):
    """Each example is a call of its own: its bits are those of that call, and no argument is copied to be folded."""

    def rule(info, in_dims, *args, **kwargs):
        columns = [_examples(info.batch_size, dim, arg) for dim, arg in zip(in_dims, args, strict=True)]
        results = [op(*example, **kwargs) for example in zip(*columns, strict=True)]
        output = tuple(
            [torch.stack(items) for items in zip(*column, strict=True)]
            if isinstance(column[0], list)
            else torch.stack(column)
            for column in zip(*results, strict=True)
        )
        return output, tuple([0] * len(item) if isinstance(item, list) else 0 for item in output)

    return rule


for _op in (_FORWARD, _BACKWARD):
    torch.library.register_vmap(_op, _one_by_one(_op))
