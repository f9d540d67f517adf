"""A number as people type it: 8, 0.25, 0,25, 10,000, 10 000, 1/3, 2 1/2, 10⁻³, ln 256, 64·65/2.

Each country has its way, and its digits. A comma may end the whole part or stand between thousands.
Where it could be either, both readings are returned: the one who asks knows which of them makes
sense.
"""

import ast
import math
import operator
import re
import unicodedata
import warnings
from itertools import product

LONGEST = 60                    # characters: nobody types more by hand
FUNCTIONS = {
    "ln": math.log,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sqrt": math.sqrt,
    "exp": math.exp,
}
CONSTANTS = {"e": math.e, "pi": math.pi}
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
SIGNS = {
    "−": "-",
    "×": "*",
    "÷": "/",
    "⋅": "·",
    "∙": "·",
    "^": "**",
    "√": "sqrt ",
    "π": "pi",
    "⁄": "/",
    "%": "/100",
}
FRACTIONS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
# Before a number a minus as people type it, a hyphen or a dash. Behind one it marks a range, 3–5.
DASHES = "‐‑‒–—―"
BEHIND_A_NUMBER = rf"[\d)%{FRACTIONS}⁰¹²³⁴-⁹]\s*[{DASHES}]"
APOSTROPHES = "’‘ʼ´`′"              # between thousands
UNSEEN = "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
LOWERED = "₀₁₂₃₄₅₆₇₈₉"             # 101₂ would be read as 1012
ABOUT = r"[≈~∼≃≅=]|(?:ca|circa|about|around|roughly|approx(?:imately)?|etwa|ungefähr)\b\.?"
# What is counted, and has no other unit that it could be converted from, as bits and bytes have.
COUNTED = r"(?:token|time|step|number|parameter|weight|head|layer|word|character|row|column)s?"
# What stands between thousands, and what before decimals: also in Arabic, where it is never open.
SEPARATORS = ((",", "."), (".", ","), ("٬", "٫"), (",", "٫"))
SCALED = r"(?:\s*/100|\s*[*·]\s*10\*\*.*)"          # by % or a power of ten
TIMES = r"(?<=[\d)])(?:\s+|(?<!(?<![\w.,])0))[xX]\s*(?=[\d(])"      # 0x10 is 16
NUMERAL = r"\d[\d.,٬٫]*(?:[eE][+-]?\d+)?|[.,٫]\d+"
HELP = "Type a number, such as 8, 0.25, 1/3, 1e-3 or ln 256."


def readings(text: str) -> list[float]:
    """All finite numbers that `text` may mean, the likeliest first.

    Raises ValueError with a sentence where it is none.
    """
    text = re.sub(UNSEEN, "", text).strip()
    if len(text) > LONGEST:
        raise ValueError(HELP)
    text = _bare(_plain_signs(text))
    text = re.sub(r"(?<=\d)[\s'_](?=\d{3}(?!\d))", "", text)          # 10 000 and 10'000
    found = [value for pointed in _pointed(text) for value in _values(pointed)]
    if not found:
        raise ValueError(HELP)
    return list(dict.fromkeys(found))


def _pointed(text: str) -> list[str]:
    """The same with each middle dot a decimal sign or a product: 0·25 is one, 3·14 may be both.

    Amid arithmetic it is a product, save in 2·5 × 10³.
    """
    text = re.sub(r"(?<![\d.,·])(0+)·(?=\d)", r"\1٫", text)
    alone = re.fullmatch(rf"([+-]?\s*[\d,]+)·(\d+(?:[eE][+-]?\d+)?{SCALED}?)", text)
    decimal = [f"{alone[1]}٫{alone[2]}"] if alone else []
    return [way.replace("·", "*") for way in (*decimal, text)]


def _values(text: str) -> list[float]:
    """Its value in each way to read the numerals in it, where it has one."""
    pieces = re.split(rf"((?<![\w.,٬٫])(?:{NUMERAL}))", text)         # words and numerals, in turn
    choices = [_numerals(piece) if i % 2 else [piece] for i, piece in enumerate(pieces)]
    found = [_evaluate("".join(choice)) for choice in product(*choices)]
    return [value for value in found if value is not None]


def _plain_signs(text: str) -> str:
    """The same in ASCII, as far as it goes: ３, ٣ and ³ are digits, and ½ is a number."""
    text = re.sub(f"[{APOSTROPHES}]", "'", text)
    if re.search(BEHIND_A_NUMBER, text):
        raise ValueError(HELP)
    text = re.sub(f"[{DASHES}]", "-", text)
    text = re.sub("log₂|log₁₀", lambda found: unicodedata.normalize("NFKC", found[0]), text)
    if any(sign in LOWERED for sign in text):
        raise ValueError(HELP)
    text = re.sub(rf"(?<![\d.,])(\d+)\s?([{FRACTIONS}])",                      # 1½
                  lambda found: f"({found[1]}+{unicodedata.numeric(found[2])})", text)
    text = re.sub(f"[{FRACTIONS}]", lambda found: f"({unicodedata.numeric(found[0])})", text)
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda found: f"**({found[0].translate(RAISED)})", text)
    for sign, meaning in SIGNS.items():
        text = text.replace(sign, meaning)
    text = "".join(str(unicodedata.decimal(sign, sign))
                   for sign in unicodedata.normalize("NFKC", text))
    text = re.sub(TIMES, "*", text)                                     # 5 x 10**3
    return text.replace("%", SIGNS["%"])                                # there are wider ones too


def _bare(text: str) -> str:
    """Without "about" before it and "tokens" behind it; 2 1/2 as a sum."""
    text = re.sub(rf"^(?:{ABOUT})\s*", "", text, flags=re.IGNORECASE)
    text = re.sub(rf"(?<=\d)\s+{COUNTED}$", "", text, flags=re.IGNORECASE)
    mixed = re.fullmatch(r"([+-]?)\s*(\d+)\s+(\d\d?)\s*/\s*(\d\d?)", text)
    if mixed and int(mixed[3]) < int(mixed[4]):
        return "{}({}+{}/{})".format(*mixed.groups())
    return text


def _numerals(written: str) -> list[str]:
    """What one numeral may be, as Python writes it.

    "5,545" is 5545 or 5.545, "0,667" only 0.667.
    """
    mantissa, exponent = re.fullmatch(r"([\d.,٬٫]+)(.*)", written).groups()
    meant = []
    for thousands, decimal in SEPARATORS:
        grouped = re.fullmatch(rf"[1-9]\d{{0,2}}(\{thousands}\d{{3}})+(\{decimal}\d+)?", mantissa)
        plain = re.fullmatch(rf"\d*\{decimal}\d+|\d+\{decimal}?", mantissa)
        indian = re.fullmatch(r"[1-9]\d?(,\d\d)+,\d{3}(\.\d+)?", mantissa) and thousands == ","
        if grouped or plain or indian:
            meant.append(mantissa.replace(thousands, "").replace(decimal, "."))
    if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", mantissa):
        meant.sort(key=lambda number: "." not in number)            # 3.142 is seldom three thousand
    return [number + exponent for number in dict.fromkeys(meant)]


def _evaluate(expression: str) -> float | None:
    """Its value if it is arithmetic and finite, else None."""
    names = "|".join(sorted(FUNCTIONS, key=len, reverse=True))
    bare = rf"\b({names})\s*([\d.]+(?:[eE][+-]?\d+)?)"         # ln 256
    expression = re.sub(bare, r"\1(\2)", expression)
    try:
        with warnings.catch_warnings(action="ignore"):          # of "8and 9", say
            value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, TypeError, KeyError, RecursionError,
            MemoryError):
        return None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id=name):
            return CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=ast.BinOp(op=ast.Div()), op=ast.Div()):
            raise ValueError("1/2/3 is not how anybody writes a fraction")
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return FUNCTIONS[name](_value(argument))
    raise ValueError("not arithmetic")
