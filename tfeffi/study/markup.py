"""HTML and SVG as text: what is not made here is escaped, so a row's name can never be a script."""

import html

_VOID = {"meta", "br", "img", "circle", "line", "path", "rect", "polyline"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        *children: `Markup` stands as it is, anything else is escaped; None is left out.
        **attributes: "class_" is class, "_" is "-"; None is left out; numbers are shortened.

    Example:
        tag("circle", cx=1.50001, r=3, class_="point")  # <circle cx="1.5" r="3" class="point"/>
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Children one after the other, escaped where they are no markup."""
    return Markup("".join(_child(child) for child in children if child is not None))


def _child(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(str(child), quote=False)


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(str(value))
