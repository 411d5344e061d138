"""Texts to try a tokenizer on: whatever Unicode has, and what tokenizers are known to cut up in different ways."""

from gpt2 import TEXT
from hypothesis import strategies as st

ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])  # by the Unicode that this Python knows
ODD = [
    *("'s", "'re", "'LL", "n't", "’s", " '", "<|endoftext|>", "<|endoftext", "_", "__init__", "½", "Ⅻ", "٣", "²"),
    *(
        "👩‍👩‍👧",
        "🙂",
        "🇩🇪",
        "e\u0301",
        "שלום",
        "\u202eabc",
        "و قال",
        "東京",
        "\u200b",
        "\ufeff",
        "\ufffd",
        "\U000e0001",
    ),
    *("\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", "\r\n", "\n\n\n", "\t \t", " " * 70, "the" * 40, "aaaa" * 30),
    "<unk>",
    *TEXT.split(" "),
]
any_text = st.lists(st.sampled_from(ODD) | st.text(ASSIGNED, max_size=8), max_size=12).map("".join)
every_text = st.lists(
    st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=12
).map("".join)  # with what Unicode has not assigned yet
