"""The labelled pairs of tests/filters/math_pairs*.txt, and the answers that hang, swell or crash other graders."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "filters"


def labelled(name: str) -> list[tuple[str, str, bool]]:
    """(reference, answer, equal) of one file, in order."""
    found = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith(("+ ", "- ")):
            reference, answer = line[2:].split(" ## ")
            found.append((reference, answer, line[0] == "+"))
    return found


def hand_written() -> list[tuple[str, str, bool]]:
    names = ("math_pairs", "math_pairs_prose", "math_pairs_fresh1", "math_pairs_fresh2", "math_pairs_fresh3")
    return [pair for name in names for pair in labelled(f"{name}.txt")]


PATHOLOGICAL: tuple[str, ...] = (
    "10**10**10",
    "10^{10^{10}}",
    "2^{2^{2^{100}}}",
    "(10^7)!",
    "((10!)!)!",
    "3^{10^8}+1",
    "\\prod_{k=1}^{1000000} k",
    "\\int_0^{\\infty} e^{-x^{1000}} dx",
    "\\sum_{k=1}^{100000000} \\frac{1}{k^2}",
    "9^{9^{9^{9^{9}}}}",
    "9**9**9**9",
    "\\binom{10000000}{5000000}",
    *("(" * d + "1" + ")" * d for d in (5, 10, 20, 40, 80, 400)),
    *("\\frac{1}{" * d + "2" + "}" * d for d in (16, 40, 200)),
    *("\\sqrt{" * d + "2" + "}" * d for d in (16, 100, 300)),
    *("{" * d + "1" + "}" * d for d in (100, 5_000)),
    " + ".join(str(i) for i in range(400)),
    " + ".join(str(i) for i in range(10_000)),
    "+".join(f"\\sqrt{{{i}}}" for i in range(2, 150)),
    "\\begin{pmatrix}" + " \\\\ ".join(" & ".join(["1"] * 60) for _ in range(60)) + "\\end{pmatrix}",
    "7" * 1_000_000,
    "7" * 290,
    "0." + "3" * 280,
    "a" * 1_000_000,
    "\\boxed{1} " * 100_000,
    "$" * 1_000_000,
    "\\boxed{" * 143_000,
    " " * 1_000_000,
    "(a+b+c+d+e)^{40}",
    "(a+b)^{1000}",
    "x^{x^{x^{x^{x}}}}",
    "n!!!",
    "(n!)!",
    "\\Gamma(10^{20})",
    "\\log(\\log(\\log(\\log(10^{100}))))",
    "\\sin(10^{40})",
    "\\tan(\\frac{\\pi}{2})",
    "1/0",
    "\\frac{1}{\\sqrt{2}-\\sqrt{2}}",
    "0^{0^{0}}",
    "(-1)^{1/10^{9}}",
    "\\gcd(10^{1000}, 3^{2000})",
    "\\lfloor 10^{300}\\pi \\rfloor",
    "\\sum_{a=1}^{400}\\sum_{b=1}^{400}\\sum_{c=1}^{400} abc",
    "1" + ",1" * 400,
    "\\{" * 50 + "\\}" * 50,
    "|" * 500,
    "x_" * 300,
    "\\text{" * 100,
    "\\left" * 2_000,
    "[0,1)" * 100,
    "\\cup".join(f"({i},{i + 1})" for i in range(100)),
    "1<" * 300 + "x",
    "x=" * 300 + "1",
    "\\pm 1 " * 60,
    "(" + ",".join(["\\pm 1"] * 30) + ")",
    "٥ and −5 and ½ x² π √2 ∞ 😀5😀 𠂥",
    "1\u200b5",
    "__import__('os').system('touch /tmp/pwned')",
    "().__class__.__base__.__subclasses__()",
    'open("PWN","w")#\\pi',
)
"""`reference/verifiers.md` section 1.2 and its neighbours."""


def neighbours(count: int = 200) -> Iterator[str]:
    """Fuzzed relatives: pieces of the list above glued, nested, repeated and cut; deterministic."""
    rng = random.Random(20260721)
    short = [p[:120] for p in PATHOLOGICAL]
    wraps = (
        "\\frac{{{}}}{{{}}}",
        "({})^{{{}}}",
        "\\sqrt{{{}}}+{}",
        "\\binom{{{}}}{{{}}}",
        "({})!+{}",
        "{}, {}",
        "\\{{{}\\}} \\cup ({}, 1)",
        "|{}| < {}",
        "x = {} = {}",
    )
    for _ in range(count):
        one, other = rng.choice(short), rng.choice(short)
        text = rng.choice(wraps).format(one, other)
        if rng.random() < 0.3:
            text = rng.choice(wraps).format(text, rng.choice(short))
        if rng.random() < 0.2:
            text = text[: rng.randrange(1, len(text) + 1)]
        yield text


REFERENCES = (
    "7",
    "\\frac{\\sqrt{3}}{2}",
    "x^2+3x+1",
    "[0,\\infty)",
    "(1,2),(2,1)",
    "f(x)=2x",
    "\\text{even}",
    "n!",
    "2^{1009}",
    "\\sin x",
    "x>2",
    "3:30 pm",
    "5 \\text{ cm}",
    "1,2,3",
)

_PIECES = (
    *"0123456789+-*/^_=<>()[]{}|!,.;:%$#&~'\" abcdefnxyzi", "\\frac", "\\sqrt", "\\pi", "\\infty", "\\cup", "\\le", "\\ge", "\\pm", "\\boxed{",
    "\\text{", "\\left(",
    "\\right)", "\\{", "\\}", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "\\sum_{k=1}^{9}", "\\binom", "\\log", "\\sin",
    "and", " or ", "answer is ", "#### ", "<answer>",
    "</answer>", "\n", "π", "√", "²", "½", "∞", "−", "\u200b", "\ud800", "\x00", "😀", "where", "k is an integer",
    "^\\circ", "\\pmod{7}", "\\equiv", "\\in", "\\mathbb{R}",
    "10^{10^{10}}", "999999999", "\\overline{3}", "...", "\\int", "__import__('os')", "one hundred", "cm", "least",
)  # fmt: skip


def fuzzed(count: int) -> Iterator[tuple[str, str]]:
    """(reference, response) of random pieces, a third of them mutated labelled answers."""
    rng = random.Random(7)
    answers = [a for _, a, _ in hand_written()]
    for i in range(count):
        if i % 3:
            text = "".join(rng.choices(_PIECES, k=rng.randrange(1, 40)))
        else:
            text = rng.choice(answers)
            for _ in range(rng.randrange(1, 5)):
                at = rng.randrange(len(text) + 1)
                text = text[:at] + rng.choice(_PIECES) + text[at + rng.randrange(3) :]
        yield (
            rng.choice(REFERENCES),
            rng.choice(("{}", "\\boxed{{{}}}", "#### {}", "The answer is {}.")).replace("{{", "{").replace("}}", "}").replace("{}", text, 1),
        )
