"""What is measured: B = 1 and Lq = Lk, a mask bias and a pair bias. Nothing here needs torch."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    num_rows: int
    length: int
    heads: int
    head_dim: int

    def __str__(self) -> str:
        return f"N{self.num_rows} L{self.length} H{self.heads} D{self.head_dim}"

    @property
    def num_logits(self) -> int:
        return self.num_rows * self.heads * self.length**2

    @property
    def flop(self) -> int:
        """Of the forward pass: two products."""
        return 4 * self.num_logits * self.head_dim

    @property
    def in_plot(self) -> bool:
        """One line of the plot: triangle attention, over L."""
        return self.name.startswith("triangle_")

    def tiny(self) -> "Shape":
        """For a dry run: the same heads, few and short rows."""
        length = max(4, min(self.length // 32, 48))
        return dataclasses.replace(self, num_rows=min(self.num_rows, 3), length=length)


SHAPES = [
    *(Shape(f"triangle_{length}", length, length, 4, 32) for length in (128, 256, 384, 512, 768, 1024, 2048, 3072)),
    Shape("template_triangle", 512, 512, 4, 16),
    Shape("msa_row", 512, 384, 8, 32),
    Shape("extra_msa_row", 1024, 384, 8, 8),
    Shape("af3_single_1024", 1, 1024, 16, 24),
    Shape("af3_single_4096", 1, 4096, 16, 24),
    Shape("af3_diffusion", 5, 1024, 16, 48),
    Shape("head_dim_64", 256, 512, 4, 64),
    Shape("head_dim_128", 128, 512, 4, 128),
    # Rows of the pair bias that are no whole units of 16 bytes, as most real lengths are.
    Shape("odd_255", 255, 255, 4, 32),
    Shape("odd_msa_row_614", 158, 614, 8, 32),
]


def named(names: list[str]) -> list[Shape]:
    """The shapes of these names, in the order of the table; all if none is named."""
    known = [shape.name for shape in SHAPES]
    for name in names:
        if name not in known:
            raise ValueError(f"expected --shapes among {', '.join(known)}, got {name!r}")
    return [shape for shape in SHAPES if not names or shape.name in names]
